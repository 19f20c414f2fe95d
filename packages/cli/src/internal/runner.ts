import * as NodeServices from "@effect/platform-node/NodeServices"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Dependencies from "@skillscale/server/Dependencies"
import * as Executor from "@skillscale/server/Executor"
import * as Interpreter from "@skillscale/server/Interpreter"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as SandboxSupport from "@skillscale/server/SandboxSupport"
import * as Secrets from "@skillscale/server/Secrets"
import * as Sandbox from "@skillscale/server/Sandbox"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as WorkingView from "@skillscale/server/WorkingView"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { realpathSync } from "node:fs"
import * as Path from "node:path"
import * as Cache from "./cache.ts"
import * as Exit from "./exit.ts"

export interface Options {
  readonly skills: string
  readonly workers: number
  readonly queue: number
  readonly timeout: Duration.Duration
  readonly requireNative: boolean
  readonly sandbox: "on" | "off"
  readonly requireSandbox: boolean
  readonly allowNetwork: ReadonlyArray<string> | "all"
  readonly maxMemory: number
  readonly maxDisk: number
  readonly maxProcesses: number
  readonly readable: ReadonlyArray<string>
  readonly warm: "on" | "standard" | "off"
  readonly prestart: number
}

const realPath = (path: string): string => {
  try {
    return realpathSync(path)
  } catch {
    return Path.resolve(path)
  }
}

/** Says once what is missing, or refuses to go on without it. Tells whether all is there. */
const checkSandbox = Effect.fnUntraced(function*(options: Options) {
  if (options.sandbox === "off") {
    if (options.requireSandbox) return yield* Exit.usage("--require-sandbox and --sandbox off exclude each other")
    yield* Effect.logWarning("skills are not confined: they can do all that this server can")
    return false
  }
  const mechanisms = yield* Effect.result(SandboxSupport.probe())
  if (Result.isFailure(mechanisms)) {
    if (options.requireSandbox) return yield* Exit.unavailable(mechanisms.failure)
    yield* Effect.logWarning("skills are not confined", mechanisms.failure.message)
    return false
  }
  const missing = mechanisms.success.filter(({ isRequired, isThere }) => isRequired && !isThere)
  if (missing.length === 0) return true
  const names = missing.map(({ answer, name }) => `${name} (${answer})`).join(", ")
  if (options.requireSandbox) {
    return yield* Exit.usage(`this machine lacks what --require-sandbox asks for: ${names}; see skillscale doctor`)
  }
  yield* Effect.logWarning("skills are confined with less than everything; see skillscale doctor").pipe(
    Effect.annotateLogs({ missing: names })
  )
  return false
})

/** What `doctor` cannot see: where the server is root, a cell takes skills from file systems whose owners can be mapped. */
const checkFolders = Effect.fnUntraced(function*(options: Options, folders: readonly [skills: string, copies: string]) {
  const { canOverlay } = yield* Executor.Executor
  if (folders.some(canOverlay)) return
  const names = folders.join(" and ")
  if (options.requireSandbox) {
    return yield* Exit.usage(
      `--require-sandbox asks for namespaces of their own, which neither skills nor copies of them in ${names} can have: ` +
        "most often their file systems have no mounts with mapped owners; put the skills or TMPDIR on another one"
    )
  }
  yield* Effect.logWarning("skills run in copies and not in namespaces of their own; see --require-sandbox")
    .pipe(
      Effect.annotateLogs({ folders: names })
    )
})

/** The executor is told where the skills and the inputs of runs are, since it shows them to runs in its own way. */
const executor = (options: Options, cache: string | undefined) =>
  Layer.unwrap(Effect.gen(function*() {
    const { base } = yield* WorkingView.WorkingView
    const prepared = cache === undefined ? [] : Dependencies.readable(cache)
    const readable = yield* Sandbox.readable({ extra: [...options.readable, ...prepared] })
    const folders = [realPath(options.skills), base] as const
    const sandbox = { readable, folders }
    const isComplete = yield* checkSandbox(options)
    const layer = options.requireNative || options.requireSandbox
      ? Exit.layerOrUnavailable(NativeExecutor.layer({ sandbox, prestart: options.prestart }))
      : NativeExecutor.layerOrNode({ sandbox, prestart: options.prestart })
    return isComplete ? Layer.provideMerge(Layer.effectDiscard(checkFolders(options, folders)), layer) : layer
  }))

/** All that running skills takes, short of the bus. */
export const layer = (options: Options) =>
  Layer.unwrap(Effect.map(Cache.directoryOfServer(options.sandbox), (cache) => {
    const runner = SkillRunner.layer({
      warm: options.warm,
      sandbox: options.sandbox === "off" ? "off" : {
        network: options.allowNetwork,
        memoryBytes: options.maxMemory,
        diskBytes: options.maxDisk,
        processes: options.maxProcesses
      }
    })
    const prepares = cache === undefined
      ? runner
      : Layer.provideMerge(
        runner,
        Exit.layerOrUsage(Dependencies.layerConfig(cache, options.sandbox)).pipe(
          Layer.provide(Dependencies.layerExecutor({ directory: cache }))
        )
      )
    return prepares.pipe(
      Layer.provide(Interpreter.layer),
      Layer.provideMerge(executor(options, cache)),
      Layer.provide(
        Layer.mergeAll(Exit.layerOrUsage(Secrets.layerConfig), Exit.layerOrUnavailable(WorkingView.layer()))
      ),
      Layer.provideMerge(Exit.layerOrUsage(SkillDiscovery.layer({ directory: options.skills }))),
      Layer.provide(NodeServices.layer)
    )
  }))
