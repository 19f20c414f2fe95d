/**
 * Prepares what the scripts of skills depend on, once, when a skill is loaded: Python packages of inline metadata (PEP 723)
 * and of `requirements.txt`, and packages of Node from `package.json`.
 *
 * Environments are kept in a folder by what they are made from, so that a skill that did not change, another skill with the same
 * needs, and another server find them there. Where this service is not provided, skills run with what the machine has. How a
 * run finds its environment is left to `Interpreter` and `WorkingView`. `docs/dependencies.md` describes what is read and kept.
 *
 * @since 0.1.0
 */
import * as Settings from "@skillscale/core/Settings"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Path from "node:path"
import * as Executor from "./Executor.ts"
import * as Attempts from "./internal/dependenciesAttempts.ts"
import * as Build from "./internal/dependenciesBuild.ts"
import * as Cache from "./internal/dependenciesCache.ts"
import * as Environments from "./internal/dependenciesEnvironments.ts"
import * as Requirements from "./internal/dependenciesRequirements.ts"
import * as Tools from "./internal/dependenciesTools.ts"
import * as NativeExecutor from "./NativeExecutor.ts"
import * as Sandbox from "./Sandbox.ts"

/**
 * What the skill asks for cannot be read, is not for a skill to ask for, or is too much: also for the memory, the processes, the CPU
 * time or the files that a build may have. Only a change of the skill helps.
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { detail: Schema.String }) {}

/**
 * A program that is needed, or the version of it, is not on this machine.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotInstalled extends Schema.TaggedError<NotInstalled>()("NotInstalled", { detail: Schema.String }) {}

/**
 * The program that fetches and installs packages failed, or did not end in time. Tried again when the skill is called after a
 * while, since the network may have been the cause.
 *
 * @category errors
 * @since 0.1.0
 */
export class BuildFailed extends Schema.TaggedError<BuildFailed>()("BuildFailed", {
  /** Such as `uv pip install`. */
  tool: Schema.String,
  /** Such as `exited with 1`. */
  how: Schema.String,
  /** The last 64 KiB of what it printed, without credentials. */
  output: Schema.String
}) {}

/**
 * The cache cannot be used, or another process holds an environment for too long.
 *
 * @category errors
 * @since 0.1.0
 */
export class CacheUnusable extends Schema.TaggedError<CacheUnusable>()("CacheUnusable", { detail: Schema.String }) {}

/**
 * The only error of this module; `reason` says why the dependencies of a skill are not there.
 *
 * @category errors
 * @since 0.1.0
 */
export class DependenciesError extends Schema.TaggedError<DependenciesError>()("DependenciesError", {
  skill: Schema.String,
  reason: Schema.Union([Refused, NotInstalled, BuildFailed, CacheUnusable])
}) {
  override readonly cause = this.reason
  /** Whether trying again can help although the skill is the same. */
  get isRetryable() {
    return this.reason._tag !== "Refused"
  }
  override get message() {
    const { reason } = this
    if (reason._tag !== "BuildFailed") return `its dependencies cannot be prepared: ${reason.detail}`
    const said = Tools.lastWords(reason.tool, reason.output)
    return `its dependencies cannot be prepared: ${reason.tool} ${reason.how}${said === "" ? "" : `: ${said}`}`
  }
}

/**
 * Where a skill is: `ready` to run, `preparing`, or `failed`. `detail` says what is being done, or why it failed.
 *
 * @category models
 * @since 0.1.0
 */
export interface State {
  readonly status: "ready" | "preparing" | "failed"
  readonly detail?: string | undefined
}

/**
 * What the cache has for a skill: `none` when the skill needs nothing, `absent` when something has still to be prepared.
 *
 * @category models
 * @since 0.1.0
 */
export interface Inspection {
  readonly status: "none" | "ready" | "preparing" | "absent" | "failed"
  readonly detail?: string | undefined
}

/**
 * What a run of a skill finds besides the skill's own files.
 *
 * @category models
 * @since 0.1.0
 */
export interface Prepared {
  /** The Python for a script, absolute; none when it needs no packages. */
  readonly python: (script: string) => string | undefined
  /** Folders with packages of Node, absolute, by where they appear in the skill: `node_modules`, `scripts/node_modules`. */
  readonly nodeModules: Readonly<Record<string, string>>
  /** Folders that go before `PATH`, for scripts that start other programs. */
  readonly path: (script: string) => ReadonlyArray<string>
  /** Folders that the run has to be able to read, absolute. */
  readonly readable: ReadonlyArray<string>
}

/**
 * What is read of a skill.
 *
 * @category models
 * @since 0.1.0
 */
export type Skill = Pick<SkillDiscovery.Skill, "name" | "root" | "digest" | "files" | "scripts">

/**
 * Where environments are kept, and what building one may do and take.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The cache, as `prepareDirectory` gave it. */
  readonly directory: string
  /** All environments together, in bytes; those in use stay even beyond it. Default: 10 GiB. */
  readonly maxBytes?: number | undefined
  /** The longest that one program of a build may run. Default: 10 minutes. */
  readonly timeout?: Duration.Input | undefined
  /** Memory of one program of a build with all that it starts, in bytes. Default: 2 GiB. */
  readonly memoryBytes?: number | undefined
  /** Its processes and threads at a time. Default: 256. */
  readonly processes?: number | undefined
  /** Its CPU time, rounded up to seconds. Default: 10 minutes. */
  readonly cpuTime?: Duration.Input | undefined
  /** The largest file that it may write, in bytes. Default: 4 GiB. */
  readonly fileBytes?: number | undefined
  /**
   * Whether installing may run code of packages: install scripts of npm, source packages of Python, and packages that do not
   * come from an index. Default: false.
   */
  readonly installScripts?: boolean | undefined
  /**
   * Whether what fetches and installs packages is confined to the environment that it makes, where the executor confines; else it can
   * do what the server can. Default: `on`.
   */
  readonly sandbox?: "on" | "off" | undefined
  /** Builds at the same time. Default: 2. */
  readonly concurrency?: number | undefined
  /** How long after a failure a call begins another attempt. Default: 1 minute. */
  readonly retryAfter?: Duration.Input | undefined
  /**
   * Where `PATH` is that uv, npm and Python are looked for in, and the settings for proxies and indexes; nothing else of it
   * reaches a build. Default: the server's environment.
   */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
}

/**
 * Prepares skills.
 *
 * @category services
 * @since 0.1.0
 */
export class Dependencies extends Context.Service<Dependencies, {
  /** Absolute; the folder with all environments, which runs have to be able to read. */
  readonly environments: string
  /** Prepares a skill, or waits until it is prepared, and tells what its runs find. */
  readonly prepare: (skill: Skill) => Effect.Effect<Prepared, DependenciesError>
  /** Where a skill is now; `preparing` also when that has not begun. */
  readonly state: (skill: Pick<Skill, "root">) => State
  /** Emits where all skills are, by root, now and whenever that changes. */
  readonly changes: Stream.Stream<ReadonlyMap<string, State>>
  /** Prepares skills as they come and change, and forgets those that went, for as long as it runs. */
  readonly follow: (skills: Stream.Stream<ReadonlyArray<Skill>>) => Effect.Effect<void>
  /** Tells what the cache has for a skill, and prepares nothing. */
  readonly inspect: (skill: Skill) => Effect.Effect<Inspection>
}>()("@skillscale/server/Dependencies") {}

/**
 * What a run finds that needs nothing.
 *
 * @category constants
 * @since 0.1.0
 */
export const nothing: Prepared = Environments.nothing

/**
 * Tells whether a run finds nothing but what the machine has.
 *
 * @category guards
 * @since 0.1.0
 */
export const isNothing = (prepared: Prepared): boolean => prepared === nothing

const reasonOf = (failure: Environments.Failure): DependenciesError["reason"] => {
  if (failure instanceof Tools.Failed) {
    return new BuildFailed({ tool: failure.tool, how: failure.how, output: failure.output })
  }
  if (failure instanceof Build.Missing) return new NotInstalled({ detail: failure.detail })
  if (
    failure instanceof Requirements.Refused || failure instanceof Cache.Outgrown || failure instanceof Tools.Exceeded
  ) {
    return new Refused({ detail: failure.message })
  }
  return new CacheUnusable({ detail: failure.message })
}

const toError = (skill: string) => (failure: Environments.Failure): DependenciesError =>
  new DependenciesError({ skill, reason: reasonOf(failure) })

/**
 * Makes the folder of a cache where it is not there, and checks that nobody else can write it. Fails with a sentence that
 * says what is wrong. The answer is without links.
 *
 * @category constructors
 * @since 0.1.0
 */
export const prepareDirectory = (directory: string): Effect.Effect<string, DependenciesError> =>
  Effect.try({
    try: () => Cache.open(Path.resolve(directory)),
    catch: (error) =>
      new DependenciesError({
        skill: "",
        reason: new CacheUnusable({ detail: error instanceof Error ? error.message : String(error) })
      })
  })

/**
 * Lists what runs have to be able to read of a cache.
 *
 * @category getters
 * @since 0.1.0
 */
export const readable = (directory: string): ReadonlyArray<string> => [Cache.environmentsOf(directory)]

/**
 * Makes the service; its scope ends what is being built, and its use of the cache.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Dependencies["Service"], never, Executor.Executor | Scope.Scope> {
  const executor = yield* Executor.Executor
  const limits = { scripts: options.installScripts ?? false }
  const confined = options.sandbox !== "off" && executor.capabilities.confines
  const timeout = options.timeout ?? "10 minutes"
  const isOther = confined && process.getuid?.() === 0
  const builder = isOther ? { uid: NativeExecutor.nobody, gid: NativeExecutor.nobody } : undefined
  const cache = yield* Cache.make({
    directory: options.directory,
    maxBytes: options.maxBytes ?? 10 * 1024 ** 3,
    canShow: confined ? executor.canShow : undefined,
    builder
  })
  const held = {
    memoryBytes: options.memoryBytes ?? 2 * 1024 ** 3,
    processes: options.processes ?? 256,
    cpuSeconds: Math.max(1, Math.ceil(Duration.toSeconds(options.cpuTime ?? "10 minutes"))),
    fileBytes: options.fileBytes ?? 4 * 1024 ** 3
  }
  const environments = yield* Environments.make({
    build: Build.make(executor, {
      env: options.env ?? process.env,
      timeout,
      confined,
      builder,
      limits: held,
      ...limits
    }),
    cache,
    limits,
    patienceMs: 2 * Duration.toMillis(timeout),
    concurrency: options.concurrency ?? 2
  })
  const attempts = yield* Attempts.make({
    obtain: environments.obtain,
    cache,
    toError,
    retryAfterMs: Duration.toMillis(options.retryAfter ?? "1 minute")
  })

  const inspect: Dependencies["Service"]["inspect"] = (skill) =>
    environments.inspect(skill).pipe(
      Effect.map((status): Inspection => ({ status })),
      Effect.catch((failure) =>
        Effect.succeed<Inspection>({ status: "failed", detail: toError(skill.name)(failure).message })
      )
    )

  yield* Effect.forkScoped(cache.trim)

  return Dependencies.of({ environments: Cache.environmentsOf(options.directory), ...attempts, inspect })
})

/**
 * Provides an executor for builds in a cache, that `prepareDirectory` made. Its confined runs are whom those of skills are, 65534
 * where the server is root, and find what runs find, the settings of the system for programs that fetch packages, and, with
 * `cells`, of the cache nothing but what they build. Where the native executor is not available builds are not confined.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerExecutor = (
  options: Pick<Options, "directory" | "env"> & {
    /** Whether to use cells where the kernel has them. Default: true. */
    readonly cells?: boolean | undefined
  }
): Layer.Layer<Executor.Executor, never, ChildProcessSpawner.ChildProcessSpawner> =>
  Layer.unwrap(Effect.suspend(() => {
    const env = options.env ?? process.env
    const extra = Tools.readable(env).filter((path) => !`${options.directory}/`.startsWith(`${path}/`))
    return Effect.map(Sandbox.readable({ path: env["PATH"], extra }), (readable) =>
      NativeExecutor.layerOrNode({
        concurrency: 16,
        warm: 1,
        idle: 1,
        prestart: 0,
        sandbox: { readable, open: Cache.shownOf(options.directory), cells: options.cells }
      }))
  }))

/**
 * Prepares skills in the given cache, by `layerExecutor` or one whose confined runs are 65534 where the server is root.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Dependencies, never, Executor.Executor> =>
  Layer.effect(Dependencies, make(options))

/**
 * Prepares skills as `SKILLSCALE_INSTALL_SCRIPTS`, `SKILLSCALE_MAX_CACHE` and the settings `SKILLSCALE_PREPARE_…` say, in a cache
 * that `prepareDirectory` made.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  directory: string,
  sandbox?: Options["sandbox"]
): Layer.Layer<Dependencies, Config.ConfigError, Executor.Executor> =>
  Layer.unwrap(Effect.gen(function*() {
    return layer({
      directory,
      sandbox,
      maxBytes: yield* Settings.maxCache,
      timeout: yield* Settings.prepareTimeout,
      memoryBytes: yield* Settings.prepareMemory,
      processes: yield* Settings.prepareProcesses,
      cpuTime: yield* Settings.prepareCpu,
      fileBytes: yield* Settings.prepareFile,
      installScripts: (yield* Settings.installScripts) === "on"
    })
  }))
