/**
 * Follows the catalog: hears what servers announce, and asks those whose catalog is another one than before.
 *
 * Servers that announce nothing are asked together with all others, now and then. One that has announced itself and falls
 * silent is gone when a survey says so, and not before: while nobody can be asked, what was known stays.
 */
import * as Announcement from "@skillscale/core/Announcement"
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberMap from "effect/FiberMap"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import type * as Catalog from "./catalog.ts"
import type * as Connection from "./connection.ts"
import * as Fleet from "./fleet.ts"

/** What is announced in this many milliseconds is asked for together. */
const togetherMs = 20
/** How many servers are asked at a time, and how many of these may be new. */
const maxAsked = 64
const maxNewAsked = 16

/** Emits the catalog now, and every one that differs from the one before. Fails when there is none at first. */
export const make = (
  connection: Connection.Connection,
  catalog: Catalog.Catalog
): Stream.Stream<ReadonlyArray<SkillClient.CatalogEntry>, ClientError.Reason> =>
  Stream.unwrap(Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const now = () => Monotonic.millisOf(clock)
    const fleet = Fleet.make(now)
    const isNews = Latch.makeUnsafe(false)
    const asking = yield* FiberMap.make<string>()
    let ended: ClientError.Reason | undefined
    let emitted: string | undefined

    const onMessage = (message: Connection.Told): boolean => {
      if (message === "restored") {
        fleet.doubt()
        return true
      }
      const decoded = Announcement.decode(message.frames)
      return Result.isSuccess(decoded) && fleet.hear(decoded.success)
    }

    const messages = yield* connection.listen(Topic.announcements)
    yield* Stream.runForEach(messages, (message) =>
      Effect.sync(() => {
        if (onMessage(message)) isNews.openUnsafe()
      })).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : Option.none()
            ended = Option.getOrElse(failure, () => new ClientError.Closed())
            isNews.openUnsafe()
          })
        ),
        Effect.ignoreCause,
        Effect.forkScoped({ startImmediately: true })
      )

    const ask = (member: Fleet.Member) =>
      catalog.ask(member.server, member.topic).pipe(
        Effect.match({
          onSuccess: (reply) => fleet.answer(member, reply),
          onFailure: () => fleet.answer(member, undefined)
        }),
        Effect.ensuring(Effect.sync(() => isNews.openUnsafe()))
      )

    const askStale = Effect.gen(function*() {
      let places = maxAsked - (yield* FiberMap.size(asking))
      let newPlaces = maxNewAsked - Array.from(asking).filter(([key]) => !fleet.isKnown(key)).length
      for (const member of fleet.stale()) {
        if (FiberMap.hasUnsafe(asking, member.key)) continue
        const isNew = !fleet.isKnown(member.key)
        if (places <= 0 || isNew && newPlaces <= 0) break
        places -= 1
        if (isNew) newPlaces -= 1
        yield* FiberMap.run(asking, member.key, ask(member))
      }
    })

    const survey = Effect.suspend(() => {
      const began = now()
      return catalog.survey.pipe(
        Effect.tap((found) => Effect.sync(() => fleet.survey(began, found))),
        Effect.tapError(() => Effect.sync(() => fleet.survey(began, undefined)))
      )
    })

    const changed = Effect.gen(function*() {
      if (emitted === undefined) yield* survey
      for (;;) {
        const revision = fleet.revision()
        if (revision !== emitted) {
          emitted = revision
          return fleet.entries()
        }
        const isTold = yield* Effect.timeoutOption(isNews.await, Math.max(0, fleet.dueAt() - now()))
        if (ended !== undefined) return yield* Effect.fail(ended)
        if (Option.isSome(isTold)) yield* Effect.sleep(togetherMs)
        isNews.closeUnsafe()
        yield* askStale
        if (fleet.surveyAt() <= now()) yield* Effect.ignore(survey)
      }
    })
    return Stream.fromEffectRepeat(changed)
  }))
