import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Catalog } from "../SkillDiscovery.ts"
import type { Diagnostic } from "../SkillManifest.ts"
import type { Scan } from "./skillScan.ts"
import * as SkillWatch from "./skillWatch.ts"

export interface Options<E> {
  readonly scan: (previous: Scan | undefined) => Effect.Effect<Scan, E>
  /** The diagnostic of an empty catalog when a failed scan means that no skill is there any more. */
  readonly gone: (error: E) => Option.Option<Diagnostic>
  readonly watch: boolean
  readonly debounce: Duration.Duration
  readonly rescan: Duration.Duration
}

export interface Live<E> {
  readonly catalog: SubscriptionRef.SubscriptionRef<Catalog>
  readonly refresh: Effect.Effect<Catalog, E>
}

/** How often the disk is scanned while it cannot be watched completely, unless `rescan` is shorter. */
const unwatched = Duration.seconds(1)
const maxDebounces = 20

export const make = Effect.fnUntraced(function*<E>(options: Options<E>): Effect.fn.Return<Live<E>, E, Scope.Scope> {
  const reported = yield* Queue.sliding<void>(1)
  const watchers = options.watch
    ? yield* Effect.acquireRelease(
      Effect.sync(() => SkillWatch.make(() => Queue.offerUnsafe(reported, undefined))),
      (watchers) => Effect.sync(() => watchers.close())
    )
    : undefined
  let isWatched = true
  let previous = yield* options.scan(undefined)
  const catalog = yield* SubscriptionRef.make(previous.catalog)
  const lock = yield* Semaphore.make(1)

  const watch = Effect.fnUntraced(function*(scan: Scan) {
    if (watchers === undefined) {
      return
    }
    const { added, failure } = watchers.update(scan.folders)
    if (added) {
      Queue.offerUnsafe(reported, undefined)
    }
    if (failure !== undefined && isWatched) {
      yield* Effect.logWarning("cannot watch every folder of skills, scanning them regularly instead").pipe(
        Effect.annotateLogs({ cause: String(failure), every: Duration.format(Duration.min(unwatched, options.rescan)) })
      )
    }
    isWatched = failure === undefined
  })

  const publish = Effect.fnUntraced(function*(next: Catalog) {
    const before = yield* SubscriptionRef.get(catalog)
    if (before !== next) {
      yield* report(before, next)
      yield* SubscriptionRef.set(catalog, next)
    }
    return next
  })

  const commit = Effect.fnUntraced(function*(scan: Scan) {
    previous = scan
    yield* watch(scan)
    return yield* publish(scan.catalog)
  }, Effect.uninterruptible)

  const empty = (diagnostic: Diagnostic): Scan => {
    const unchanged = previous.folders.length === 0
    return unchanged
      ? previous
      : { catalog: { skills: [], diagnostics: [diagnostic] }, entries: new Map(), folders: [] }
  }

  const refresh = Effect.suspend(() => options.scan(previous)).pipe(
    Effect.flatMap(commit),
    Effect.tapError((error) =>
      Option.match(options.gone(error), {
        onNone: () => Effect.void,
        onSome: (diagnostic) => commit(empty(diagnostic))
      })
    ),
    lock.withPermit
  )

  const quiet = Queue.take(reported).pipe(
    Effect.timeoutOption(options.debounce),
    Effect.repeat({ while: Option.isSome, times: maxDebounces })
  )

  let failure = ""
  const turn = Effect.suspend(() => {
    const isComplete = isWatched && previous.folders.length > 0
    return Queue.take(reported).pipe(
      Effect.timeoutOption(isComplete ? options.rescan : Duration.min(unwatched, options.rescan)),
      Effect.tap((report) => Option.isSome(report) ? quiet : Effect.void),
      Effect.andThen(refresh),
      Effect.matchEffect({
        onSuccess: () =>
          Effect.sync(() => {
            failure = ""
          }),
        onFailure: (error) => {
          // A directory that is gone was reported as the diagnostic of the empty catalog.
          const isNew = failure !== String(error) && Option.isNone(options.gone(error))
          failure = String(error)
          return isNew ? Effect.logWarning("cannot scan the skills", error) : Effect.void
        }
      })
    )
  })

  yield* report(none, previous.catalog)
  if (options.watch) {
    yield* Effect.uninterruptible(watch(previous))
    yield* turn.pipe(
      Effect.catchDefect((defect) =>
        Effect.andThen(Effect.logError("cannot scan the skills", defect), Effect.sleep(unwatched))
      ),
      Effect.forever,
      Effect.forkScoped
    )
  }
  return { catalog, refresh }
})

const none: Catalog = { skills: [], diagnostics: [] }

/** Logs what changed between two catalogs, and every finding that is new. */
const report = Effect.fnUntraced(function*(before: Catalog, after: Catalog) {
  const known = new Map(before.skills.map((skill) => [skill.name, skill]))
  const names = new Set(after.skills.map(({ name }) => name))
  const added = after.skills.filter(({ name }) => !known.has(name)).map(({ name }) => name)
  const changed = after.skills.filter((skill) => known.has(skill.name) && known.get(skill.name) !== skill)
  const removed = before.skills.filter(({ name }) => !names.has(name)).map(({ name }) => name)
  if (added.length + changed.length + removed.length > 0) {
    yield* Effect.logInfo("skills changed").pipe(
      Effect.annotateLogs({ added, changed: changed.map(({ name }) => name), removed })
    )
  }
  const old = new Set(before.diagnostics.map((diagnostic) => JSON.stringify(diagnostic)))
  for (const diagnostic of after.diagnostics) {
    if (!old.has(JSON.stringify(diagnostic))) {
      const { code, file, line, message, severity } = diagnostic
      const log = severity === "error" ? Effect.logWarning : Effect.logDebug
      yield* log(severity === "error" ? "skill left out" : "skill has a flaw").pipe(
        Effect.annotateLogs({ file, line, code, problem: message })
      )
    }
  }
})
