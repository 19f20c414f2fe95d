import * as NodeServices from "@effect/platform-node/NodeServices"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Interpreter from "@skillscale/server/Interpreter"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Secrets from "@skillscale/server/Secrets"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as WorkingView from "@skillscale/server/WorkingView"
import type * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as Exit from "./exit.ts"

export interface Options {
  readonly skills: string
  readonly workers: number
  readonly queue: number
  readonly timeout: Duration.Duration
  readonly requireNative: boolean
}

/** All that running skills takes, short of the bus. */
export const layer = (options: Options) => {
  const executor = options.requireNative
    ? Exit.layerOrUnavailable(NativeExecutor.layer())
    : NativeExecutor.layerOrNode()
  return SkillRunner.layer().pipe(
    Layer.provide(Interpreter.layer),
    Layer.provide(Layer.mergeAll(Exit.layerOrUsage(Secrets.layerConfig), Exit.layerOrUnavailable(WorkingView.layer()))),
    Layer.provideMerge(executor),
    Layer.provideMerge(Exit.layerOrUsage(SkillDiscovery.layer({ directory: options.skills }))),
    Layer.provide(NodeServices.layer)
  )
}
