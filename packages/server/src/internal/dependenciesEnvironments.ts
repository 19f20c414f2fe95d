/**
 * The environments that a skill needs: which they are, how they get into the cache, and what a run finds of them.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as Dependencies from "../Dependencies.ts"
import type * as Build from "./dependenciesBuild.ts"
import * as Cache from "./dependenciesCache.ts"
import * as Plan from "./dependenciesPlan.ts"
import * as Requirements from "./dependenciesRequirements.ts"
import type * as Tools from "./dependenciesTools.ts"
import * as OwnEnvironment from "./ownEnvironment.ts"

export type Failure =
  | Tools.Failed
  | Tools.Exceeded
  | Build.Missing
  | Cache.Busy
  | Cache.Outgrown
  | Cache.Unusable
  | Requirements.Refused

export interface Options {
  readonly build: Build.Build
  readonly cache: Cache.Cache
  readonly limits: Requirements.Options
  /** How long another process may hold an environment. */
  readonly patienceMs: number
  /** Builds at the same time. */
  readonly concurrency: number
}

/** Hears how far it is. */
export interface Progress {
  readonly detail: (detail: string) => Effect.Effect<void>
  /** Once for each environment that was acquired, and that somebody has to release. */
  readonly acquired: (key: string) => void
}

/** An environment to be acquired: its key, what to say meanwhile, and how to build it. */
interface Piece {
  readonly key: string
  readonly what: string
  readonly build: (
    place: Cache.Place
  ) => Effect.Effect<void, Tools.Failed | Tools.Exceeded | Build.Missing | Requirements.Refused>
}

interface Pieces {
  readonly python: ReadonlyArray<Piece>
  readonly pythonOf: Plan.Plan["pythonOf"]
  readonly node: ReadonlyMap<string, Piece>
}

/** What a run finds that needs nothing. */
export const nothing: Dependencies.Prepared = {
  python: () => undefined,
  nodeModules: {},
  path: () => [],
  readable: []
}

const readVerified = (skill: Plan.Skill) => {
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

const hasOwnPython = (skill: Plan.Skill): boolean => Fs.existsSync(OwnEnvironment.pythonOf(skill.root))

const refusing = <A>(read: () => A): Effect.Effect<A, Requirements.Refused | Cache.Unusable> =>
  Effect.try({
    try: read,
    catch: (error) =>
      error instanceof Requirements.Refused
        ? error
        : new Cache.Unusable(`cannot read the skill: ${error instanceof Error ? error.message : String(error)}`)
  })

const all = ({ node, python }: Pieces): ReadonlyArray<Piece> => [...python, ...node.values()]

export const make = Effect.fnUntraced(function*({ build, cache, concurrency, limits, patienceMs }: Options) {
  const scope = yield* Effect.scope
  const builders = Semaphore.makeUnsafe(concurrency)

  const piecesOf = Effect.fnUntraced(function*(skill: Plan.Skill): Effect.fn.Return<Pieces | undefined, Failure> {
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
        build: (place) => build.buildPython(place, base, needs)
      })
    }
    const node = Array.from(plan.node, ([at, wanted]): readonly [string, Piece] => [at, {
      key: build.keyOfNode(wanted),
      what: "installing packages of Node",
      build: (place) => build.buildNode(place, wanted)
    }])
    return { python, pythonOf: plan.pythonOf, node: new Map(node) }
  })

  const toPrepared = (pieces: Pieces): Dependencies.Prepared => {
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
      readable: all(pieces).map(({ key }) => cache.folderOf(key))
    }
  }

  /** Acquires all that a skill needs, and builds what is not there. */
  const obtain = Effect.fnUntraced(function*(skill: Plan.Skill, progress: Progress) {
    const pieces = yield* piecesOf(skill)
    if (pieces === undefined) return nothing
    let built = false
    for (const { build: make, key, what } of all(pieces)) {
      const waits = (pid: string) => progress.detail(`waiting for process ${pid}`)
      const work = (place: Cache.Place) =>
        Effect.suspend(() => {
          built = true
          return Effect.andThen(progress.detail(what), builders.withPermit(make(place)))
        })
      yield* Effect.uninterruptibleMask((restore) =>
        Effect.andThen(
          restore(cache.acquire(key, patienceMs, waits, work)),
          Effect.sync(() => progress.acquired(key))
        )
      )
    }
    if (built) yield* Effect.forkIn(cache.trim, scope)
    return toPrepared(pieces)
  })

  /** Tells what the cache has for a skill. */
  const inspect = Effect.fnUntraced(function*(skill: Plan.Skill) {
    const pieces = yield* piecesOf(skill)
    if (pieces === undefined) return "none"
    const seen = new Set(all(pieces).map(({ key }) => cache.inspect(key)))
    return seen.has("building") ? "preparing" : seen.has("absent") ? "absent" : "ready"
  })

  return { obtain, inspect }
})

export type Environments = Effect.Success<ReturnType<typeof make>>
