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
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Executor from "./Executor.ts"
import * as Build from "./internal/dependenciesBuild.ts"
import * as Cache from "./internal/dependenciesCache.ts"
import * as Plan from "./internal/dependenciesPlan.ts"
import * as Requirements from "./internal/dependenciesRequirements.ts"

/**
 * What the skill asks for cannot be read, is not for a skill to ask for, or is too much. Only a change of the skill helps.
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

const maxReason = 500

/** Where a tool says why; the hints of the tools are for whom runs them by hand. npm begins with the reason, others end with it. */
const lastWords = (tool: string, output: string): string => {
  const lines = output.split("\n").map((line) => line.trim()).filter((line) =>
    line !== "" && !/^(?:\[notice\]|hint:|npm error A complete log|WARNING: Retrying|npm warn)/.test(line)
  )
  const errors = lines.filter((line) => /error|failed|×|╰|no matching|not found|cannot|unable/i.test(line))
  const said = errors.length > 0 ? errors : lines
  const broken = /broken by '([^\n]+?)': \//.exec(output)?.[1]
  const parts = [...tool.startsWith("npm") ? said.slice(0, 4) : said.slice(-4), ...broken === undefined ? [] : [broken]]
  return parts.join("; ").slice(0, maxReason)
}

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
    const said = lastWords(reason.tool, reason.output)
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
  /**
   * Whether installing may run code of packages: install scripts of npm, source packages of Python, and packages that do not
   * come from an index. Default: false.
   */
  readonly installScripts?: boolean | undefined
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
export const nothing: Prepared = { python: () => undefined, nodeModules: {}, path: () => [], readable: [] }
/**
 * Tells whether a run finds nothing but what the machine has.
 *
 * @category guards
 * @since 0.1.0
 */
export const isNothing = (prepared: Prepared): boolean => prepared === nothing

const ready: State = { status: "ready" }
const preparing: State = { status: "preparing" }

/** Skills that nobody follows and that are remembered. */
const maxRemembered = 1_024

const readVerified = (skill: Skill) => {
  const known = new Map(skill.files.map((file) => [file.path, file]))
  return (path: string): string | undefined => {
    const file = known.get(path)
    if (file === undefined) return undefined
    if (file.size > Plan.maxFileBytes) {
      throw new Requirements.Refused(`${path} is larger than ${Plan.maxFileBytes} bytes`)
    }
    const bytes = Fs.readFileSync(Path.join(skill.root, path))
    if (createHash("sha256").update(bytes).digest("hex") !== file.sha256) throw new Error(`${path} was changed`)
    return bytes.toString("utf8")
  }
}

const hasOwnPython = (skill: Skill): boolean => Fs.existsSync(Path.join(skill.root, ".venv", "bin", "python"))

type Failure = Build.Failed | Build.Missing | Cache.Busy | Cache.Unusable | Requirements.Refused

const reasonOf = (failure: Failure): DependenciesError["reason"] => {
  if (failure instanceof Build.Failed) {
    return new BuildFailed({ tool: failure.tool, how: failure.how, output: failure.output })
  }
  if (failure instanceof Build.Missing) return new NotInstalled({ detail: failure.detail })
  if (failure instanceof Requirements.Refused) return new Refused({ detail: failure.message })
  return new CacheUnusable({ detail: failure.message })
}

const refusing = <A>(read: () => A): Effect.Effect<A, Requirements.Refused | Cache.Unusable> =>
  Effect.try({
    try: read,
    catch: (error) =>
      error instanceof Requirements.Refused
        ? error
        : new Cache.Unusable(`cannot read the skill: ${error instanceof Error ? error.message : String(error)}`)
  })

/** An environment to be acquired: its key, what to say meanwhile, and how to build it. */
interface Piece {
  readonly key: string
  readonly what: string
  readonly build: (folder: string) => Effect.Effect<void, Build.Failed | Build.Missing>
}

interface Pieces {
  readonly python: ReadonlyArray<Piece>
  readonly pythonOf: Plan.Plan["pythonOf"]
  readonly node: ReadonlyMap<string, Piece>
}

/** A skill that is or was prepared. */
interface Held {
  readonly digest: string
  readonly done: Deferred.Deferred<Prepared, DependenciesError>
  fiber: Fiber.Fiber<void> | undefined
  exit: Exit.Exit<Prepared, DependenciesError> | undefined
  endedAt: number
  keys: ReadonlyArray<string>
  followers: number
}

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
  const scope = yield* Effect.scope
  const limits = { scripts: options.installScripts ?? false }
  const timeout = options.timeout ?? "10 minutes"
  const patience = 2 * Duration.toMillis(timeout)
  const retryAfter = Duration.toMillis(options.retryAfter ?? "1 minute")
  const cache = yield* Cache.make({ directory: options.directory, maxBytes: options.maxBytes ?? 10 * 1024 ** 3 })
  const build = Build.make(executor, { env: options.env ?? process.env, timeout, ...limits })
  const builders = Semaphore.makeUnsafe(options.concurrency ?? 2)
  const held = new Map<string, Held>()
  const states = yield* SubscriptionRef.make<ReadonlyMap<string, State>>(new Map())

  const tell = (root: string, state: State | undefined) =>
    SubscriptionRef.update(states, (before) => {
      const after = new Map(before)
      if (state === undefined) after.delete(root)
      else after.set(root, state)
      return after
    })

  const planned = Effect.fnUntraced(function*(skill: Skill): Effect.fn.Return<Pieces | undefined, Failure> {
    if (!Plan.mayNeed(skill)) return undefined
    const plan = yield* refusing(() =>
      Plan.make(skill, readVerified(skill), { ...limits, hasPython: hasOwnPython(skill) })
    )
    if (plan.python.length === 0 && plan.node.size === 0) return undefined
    const python: Array<Piece> = []
    for (const needs of plan.python) {
      // Throws for what cannot be read, once and here.
      yield* refusing(() => Requirements.admits(needs.python, "3.0"))
      const base = yield* build.pythonFor(needs.python, (version) => Requirements.admits(needs.python, version))
      const count = needs.packages.length
      python.push({
        key: build.keyOfPython(base, needs),
        what: `installing ${count} Python ${count === 1 ? "package" : "packages"}`,
        build: (folder) => build.buildPython(folder, base, needs)
      })
    }
    const node = Array.from(plan.node, ([at, wanted]): readonly [string, Piece] => [at, {
      key: build.keyOfNode(wanted),
      what: "installing packages of Node",
      build: (folder) => build.buildNode(folder, wanted)
    }])
    return { python, pythonOf: plan.pythonOf, node: new Map(node) }
  })

  const toPrepared = (pieces: Pieces): Prepared => {
    const bins = pieces.python.map(({ key }) => Path.join(cache.folderOf(key), "venv", "bin"))
    const binOf = (script: string): string | undefined => {
      const index = pieces.pythonOf(script)
      return index === undefined ? undefined : bins[index]
    }
    const modules = Array.from(
      pieces.node,
      ([at, { key }]): readonly [string, string] => [at, Path.join(cache.folderOf(key), "node_modules")]
    )
    return {
      python: (script) => {
        const bin = binOf(script)
        return bin === undefined ? undefined : Path.join(bin, "python")
      },
      nodeModules: Object.fromEntries(modules),
      path: (script) => {
        const bin = binOf(script)
        return [...bin === undefined ? [] : [bin], ...modules.map(([, folder]) => Path.join(folder, ".bin"))]
      },
      readable: [...pieces.python, ...pieces.node.values()].map(({ key }) => cache.folderOf(key))
    }
  }

  const all = ({ node, python }: Pieces): ReadonlyArray<Piece> => [...python, ...node.values()]

  const obtain = Effect.fnUntraced(function*(skill: Skill, one: Held) {
    const pieces = yield* planned(skill)
    if (pieces === undefined) return nothing
    let built = false
    for (const { build: make, key, what } of all(pieces)) {
      const waits = (pid: string) => tell(skill.root, { status: "preparing", detail: `waiting for process ${pid}` })
      const work = (folder: string) =>
        Effect.suspend(() => {
          built = true
          return Effect.andThen(
            tell(skill.root, { status: "preparing", detail: what }),
            builders.withPermit(make(folder))
          )
        })
      yield* Effect.uninterruptibleMask((restore) =>
        Effect.andThen(
          restore(cache.acquire(key, patience, waits, work)),
          Effect.sync(() => void (one.keys = [...one.keys, key]))
        )
      )
    }
    if (built) yield* Effect.forkIn(cache.trim, scope)
    return toPrepared(pieces)
  })

  const letGo = (keys: ReadonlyArray<string>) => Effect.sync(() => keys.forEach(cache.release))

  const gone = (skill: Skill) =>
    new DependenciesError({ skill: skill.name, reason: new Refused({ detail: "the skill is gone" }) })

  const work = (skill: Skill, one: Held, before: Held | undefined) =>
    obtain(skill, one).pipe(
      Effect.mapError((failure) => new DependenciesError({ skill: skill.name, reason: reasonOf(failure) })),
      Effect.tapError((error) =>
        Effect.logWarning("a skill's dependencies are not there").pipe(
          Effect.annotateLogs({ skill: skill.name, reason: error.message })
        )
      ),
      Effect.withSpan("Dependencies.prepare", { attributes: { skill: skill.name } }),
      Effect.onExit((exit) =>
        Effect.gen(function*() {
          if (held.get(skill.root) !== one) return
          one.exit = exit
          one.endedAt = yield* Clock.currentTimeMillis
          const failure = Exit.isSuccess(exit) ? undefined : Exit.findErrorOption(exit)
          const detail = failure === undefined || Option.isNone(failure) ? "it was interrupted" : failure.value.message
          yield* tell(skill.root, failure === undefined ? ready : { status: "failed", detail })
        })
      ),
      Effect.ensuring(before === undefined ? Effect.void : Effect.suspend(() => letGo(before.keys))),
      Deferred.into(one.done),
      Effect.asVoid
    )

  /** Ends an attempt; who waits for it hears what comes of the next one. */
  const end = Effect.fnUntraced(function*(skill: Skill, one: Held, next: Held | undefined) {
    const outcome = next === undefined ? Effect.fail(gone(skill)) : Deferred.await(next.done)
    // First, so that the interruption is not what the waiting ones hear.
    if (one.exit === undefined) yield* Deferred.completeWith(one.done, outcome)
    if (one.fiber !== undefined) yield* Fiber.interrupt(one.fiber)
  })

  const forget = Effect.fnUntraced(function*(skill: Skill) {
    const one = held.get(skill.root)
    if (one === undefined) return
    held.delete(skill.root)
    yield* tell(skill.root, undefined)
    yield* end(skill, one, undefined)
    yield* letGo(one.keys)
  })

  const begin = Effect.fnUntraced(function*(skill: Skill) {
    const before = held.get(skill.root)
    const one: Held = {
      digest: skill.digest,
      done: Deferred.makeUnsafe(),
      fiber: undefined,
      exit: undefined,
      endedAt: 0,
      keys: [],
      followers: before?.followers ?? 0
    }
    held.set(skill.root, one)
    if (!Plan.mayNeed(skill)) {
      one.exit = Exit.succeed(nothing)
      Deferred.doneUnsafe(one.done, one.exit)
    }
    yield* tell(skill.root, one.exit === undefined ? preparing : ready)
    if (before !== undefined) {
      yield* end(skill, before, one)
      if (one.exit !== undefined) yield* letGo(before.keys)
    }
    if (one.exit === undefined) {
      one.fiber = yield* Effect.forkIn(work(skill, one, before), scope, { startImmediately: true })
    }
    for (const [root, other] of held) {
      if (held.size <= maxRemembered) break
      if (other.followers === 0 && other.exit !== undefined) yield* forget({ ...skill, root })
    }
    return one
  }, Effect.uninterruptible)

  const isThere = (one: Held): boolean => one.keys.every(cache.isComplete)

  /** The attempt that counts for a skill as it is now, which is begun where there is none. */
  const current = Effect.fnUntraced(function*(skill: Skill) {
    const one = held.get(skill.root)
    if (one === undefined || one.digest !== skill.digest) return yield* begin(skill)
    if (one.exit === undefined) return one
    if (Exit.isSuccess(one.exit)) return isThere(one) ? one : yield* begin(skill)
    const failure = Exit.findErrorOption(one.exit)
    const mayHelp = Option.isNone(failure) || failure.value.isRetryable
    const isLate = (yield* Clock.currentTimeMillis) - one.endedAt >= retryAfter
    return mayHelp && isLate ? yield* begin(skill) : one
  })

  const prepare: Dependencies["Service"]["prepare"] = (skill) =>
    Effect.flatMap(current(skill), (one) => one.exit ?? Deferred.await(one.done))

  const follow: Dependencies["Service"]["follow"] = (skills) =>
    Effect.suspend(() => {
      const followed = new Map<string, Skill>()
      const leave = Effect.fnUntraced(function*(skill: Skill) {
        followed.delete(skill.root)
        const one = held.get(skill.root)
        if (one === undefined) return
        one.followers -= 1
        if (one.followers === 0) yield* forget(skill)
      })
      const enter = Effect.fnUntraced(function*(skill: Skill) {
        const isNew = !followed.has(skill.root)
        followed.set(skill.root, skill)
        const one = held.get(skill.root)
        const now = one === undefined || one.digest !== skill.digest ? yield* begin(skill) : one
        if (isNew) now.followers += 1
      })
      return Stream.runForEach(skills, (listed) =>
        Effect.gen(function*() {
          const roots = new Set(listed.map(({ root }) => root))
          for (const skill of [...followed.values()]) if (!roots.has(skill.root)) yield* leave(skill)
          for (const skill of listed) yield* enter(skill)
        })).pipe(
          Effect.ensuring(Effect.suspend(() => Effect.forEach([...followed.values()], leave, { discard: true })))
        )
    })

  const inspect: Dependencies["Service"]["inspect"] = (skill) =>
    planned(skill).pipe(
      Effect.map((pieces): Inspection => {
        if (pieces === undefined) return { status: "none" }
        const seen = new Set(all(pieces).map(({ key }) => cache.inspect(key)))
        return { status: seen.has("building") ? "preparing" : seen.has("absent") ? "absent" : "ready" }
      }),
      Effect.catch((failure) =>
        Effect.succeed<Inspection>({
          status: "failed",
          detail: new DependenciesError({ skill: skill.name, reason: reasonOf(failure) }).message
        })
      )
    )

  yield* Effect.forkScoped(cache.trim)

  return Dependencies.of({
    environments: Cache.environmentsOf(options.directory),
    prepare,
    state: ({ root }) => SubscriptionRef.getUnsafe(states).get(root) ?? preparing,
    changes: SubscriptionRef.changes(states),
    follow,
    inspect
  })
})

/**
 * Prepares skills in the given cache.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Dependencies, never, Executor.Executor> =>
  Layer.effect(Dependencies, make(options))

/**
 * Prepares skills as `SKILLSCALE_INSTALL_SCRIPTS`, `SKILLSCALE_MAX_CACHE` and `SKILLSCALE_PREPARE_TIMEOUT` say, in a cache that
 * `prepareDirectory` made.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  directory: string
): Layer.Layer<Dependencies, Config.ConfigError, Executor.Executor> =>
  Layer.unwrap(Effect.gen(function*() {
    return layer({
      directory,
      maxBytes: yield* Settings.maxCache,
      timeout: yield* Settings.prepareTimeout,
      installScripts: (yield* Settings.installScripts) === "on"
    })
  }))
