/**
 * The attempts to prepare skills: at most one at a time for each skill as it is now, begun when somebody follows or asks for
 * the skill, ended when it changed or went, and begun again when it failed a while ago or the cache lost what it made. What took
 * long to fail waits longer, so that no skill keeps a server busy with attempts.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Dependencies from "../Dependencies.ts"
import type * as Cache from "./dependenciesCache.ts"
import * as Environments from "./dependenciesEnvironments.ts"
import * as Plan from "./dependenciesPlan.ts"
import * as Requirements from "./dependenciesRequirements.ts"

export interface Options {
  readonly obtain: Environments.Environments["obtain"]
  readonly cache: Pick<Cache.Cache, "release" | "isComplete">
  readonly toError: (skill: string) => (failure: Environments.Failure) => Dependencies.DependenciesError
  /** How long after a failure another attempt is begun at the earliest. */
  readonly retryAfterMs: number
}

type Skill = Dependencies.Skill
type State = Dependencies.State

const ready: State = { status: "ready" }
const preparing: State = { status: "preparing" }

/** How many times as long as a failed attempt took no other is begun. */
const restShare = 10

/** Skills that nobody follows and that are remembered. */
const maxRemembered = 1_024

/** A skill that is or was prepared. */
interface Held {
  readonly digest: string
  readonly done: Deferred.Deferred<Dependencies.Prepared, Dependencies.DependenciesError>
  fiber: Fiber.Fiber<void> | undefined
  exit: Exit.Exit<Dependencies.Prepared, Dependencies.DependenciesError> | undefined
  beganAt: number
  endedAt: number
  keys: ReadonlyArray<string>
  followers: number
}

export const make = Effect.fnUntraced(function*({ cache, obtain, retryAfterMs, toError }: Options) {
  const scope = yield* Effect.scope
  const held = new Map<string, Held>()
  const states = yield* SubscriptionRef.make<ReadonlyMap<string, State>>(new Map())

  const tell = (root: string, state: State | undefined) =>
    SubscriptionRef.update(states, (before) => {
      const after = new Map(before)
      if (state === undefined) after.delete(root)
      else after.set(root, state)
      return after
    })

  const letGo = (keys: ReadonlyArray<string>) => Effect.sync(() => keys.forEach(cache.release))

  const gone = (skill: Skill) => toError(skill.name)(new Requirements.Refused("the skill is gone"))

  const work = (skill: Skill, one: Held, before: Held | undefined) =>
    obtain(skill, {
      detail: (detail) => tell(skill.root, { status: "preparing", detail }),
      acquired: (key) => {
        one.keys = [...one.keys, key]
      }
    }).pipe(
      Effect.mapError(toError(skill.name)),
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
      beganAt: yield* Clock.currentTimeMillis,
      endedAt: 0,
      keys: [],
      followers: before?.followers ?? 0
    }
    held.set(skill.root, one)
    if (!Plan.mayNeed(skill)) {
      one.exit = Exit.succeed(Environments.nothing)
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
    const pauseMs = Math.max(retryAfterMs, restShare * (one.endedAt - one.beganAt))
    const isLate = (yield* Clock.currentTimeMillis) - one.endedAt >= pauseMs
    return mayHelp && isLate ? yield* begin(skill) : one
  })

  const prepare: Dependencies.Dependencies["Service"]["prepare"] = (skill) =>
    Effect.flatMap(current(skill), (one) => one.exit ?? Deferred.await(one.done))

  const follow: Dependencies.Dependencies["Service"]["follow"] = (skills) =>
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

  return {
    prepare,
    follow,
    state: ({ root }: Pick<Skill, "root">) => SubscriptionRef.getUnsafe(states).get(root) ?? preparing,
    changes: SubscriptionRef.changes(states)
  }
})
