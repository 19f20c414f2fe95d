import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Layer from "effect/Layer"
import * as NodeExecutor from "@skillscale/server/NodeExecutor"
import { suite } from "./executorSuite.ts"

suite("NodeExecutor", NodeExecutor.layer.pipe(Layer.provide(NodeServices.layer)), NodeExecutor.capabilities)
