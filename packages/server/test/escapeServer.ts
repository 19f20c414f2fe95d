/**
 * A server that was started with a descriptor that its children inherit: `escapeServer.ts CODE` prints what a confined run
 * of a Python program says, and then what a process says that no executor started.
 */
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as Executor from "../src/Executor.ts"
import * as NativeExecutor from "../src/NativeExecutor.ts"
import { python } from "./escapeKit.ts"

const args = ["-c", process.argv[2] ?? ""]

const inside = Effect.flatMap(
  Executor.Executor,
  ({ run }) => run({ file: python, args, cwd: "/", confinement: { network: false, systemCalls: "deny", writable: [] } })
)

const { stdout } = await Effect.runPromise(Effect.provide(inside, NativeExecutor.layer()))
const outside = spawnSync(python, args)
process.stdout.write(JSON.stringify([Buffer.from(stdout).toString(), outside.stdout.toString()]))
