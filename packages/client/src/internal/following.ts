/**
 * Follows the catalog: hears what servers announce, and asks those whose catalog is another one than before.
 *
 * Servers that announce nothing are asked together with all others, now and then. One that has announced itself and falls
 * silent is gone when a survey says so, and not before: while nobody can be asked, what was known stays.
 */
import * as Announcement from "@skillscale/core/Announcement"
import type * as Control from "@skillscale/core/Control"
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
import * as CatalogAnswers from "./catalogAnswers.ts"
import type * as Connection from "./connection.ts"

/** What is announced in this many milliseconds is asked for together. */
const togetherMs = 20
/** A server that was not heard for so long may be gone. */
const silentMs = 3 * Announcement.intervalMs
/** How often everybody is asked at least. */
const surveyMs = 60_000
/** How long a server that did not answer is not asked again, at first; then twice as long each time. */
const pauseMs = 250
/** How long nobody is asked again when not everybody answered. */
const surveyPauseMs = 5000
/** How many servers are asked at a time, and how many of these may be new. */
const maxAsked = 64
const maxNewAsked = 16
/** Further servers that announce themselves are known by surveys alone. */
const maxServers = 4096

/** What a server announced last. */
interface Announced {
  readonly server: string
  readonly topic: string
  /** Undefined for one that took leave. */
  revision: string | undefined
  /** When that was. */
  at: number
  /** When it may be asked. */
  askAt: number
  /** How often it did not answer in a row. */
  failures: number
}

type Entries = ReadonlyArray<SkillClient.CatalogEntry>

/** Emits the catalog now, and every one that differs from the one before. Fails when there is none at first. */
export const make = (
  connection: Connection.Connection,
  catalog: Catalog.Catalog
): Stream.Stream<Entries, ClientError.Reason> =>
  Stream.unwrap(Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const now = () => Monotonic.millisOf(clock)
    const announced = new Map<string, Announced>()
    const known = new Map<string, Control.CatalogReply>()
    const isNews = Latch.makeUnsafe(false)
    let ended: ClientError.Reason | undefined
    let emitted: string | undefined
    let surveyedAt = Number.NEGATIVE_INFINITY
    let isComplete = false

    const onMessage = (message: Connection.Told): void => {
      if (message === "restored") {
        surveyedAt = Number.NEGATIVE_INFINITY
        isNews.openUnsafe()
        return
      }
      const decoded = Announcement.decode(message.frames)
      if (Result.isFailure(decoded)) return
      const { revision, server, topic } = decoded.success
      const key = CatalogAnswers.serverOf(decoded.success)
      const entry = announced.get(key)
      if (entry === undefined && (revision === undefined || announced.size >= maxServers)) return
      if (entry === undefined) announced.set(key, { server, topic, revision, at: now(), askAt: 0, failures: 0 })
      else Object.assign(entry, { revision, at: now() })
      if (entry === undefined || known.get(key)?.revision !== revision) isNews.openUnsafe()
    }

    const messages = yield* connection.listen(Topic.announcements)
    yield* Stream.runForEach(messages, (message) => Effect.sync(() => onMessage(message))).pipe(
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

    const take = (key: string, reply: Control.CatalogReply): void => {
      known.set(key, reply)
      const entry = announced.get(key)
      if (entry !== undefined) Object.assign(entry, { revision: reply.revision, at: now(), failures: 0 })
    }

    const drop = (key: string): void => {
      announced.delete(key)
      known.delete(key)
    }

    /** Asks everybody, and drops who is not there if everybody answered. */
    const survey = Effect.gen(function*() {
      const began = now()
      const { answered, replies, servers } = yield* catalog.survey
      for (const reply of replies) take(CatalogAnswers.serverOf(reply), reply)
      isComplete = servers === undefined ? answered > 0 : answered >= servers
      if (!isComplete) return
      const there = new Set(replies.map(CatalogAnswers.serverOf))
      // Where nobody counts the servers, one may have answered too late.
      const heardBefore = servers === undefined ? began - silentMs : began
      for (const key of known.keys()) {
        if (!there.has(key) && (announced.get(key)?.at ?? Number.NEGATIVE_INFINITY) < heardBefore) drop(key)
      }
    }).pipe(Effect.ensuring(Effect.sync(() => surveyedAt = now())))

    const surveyAt = (): number => {
      let at = surveyedAt + (isComplete ? surveyMs : surveyPauseMs)
      for (const entry of announced.values()) {
        at = Math.min(at, Math.max(entry.at + silentMs, surveyedAt + surveyPauseMs))
      }
      return at
    }

    const isStale = (key: string, entry: Announced): boolean =>
      entry.revision !== undefined && entry.revision !== known.get(key)?.revision

    const asking = yield* FiberMap.make<string>()

    const ask = (key: string, entry: Announced) =>
      catalog.ask(entry.server, entry.topic).pipe(
        Effect.match({
          onSuccess: (reply) => take(key, reply),
          onFailure: () => {
            entry.failures += 1
            entry.askAt = now() + Math.min(silentMs, pauseMs * 2 ** (entry.failures - 1))
          }
        }),
        Effect.ensuring(Effect.sync(() => isNews.openUnsafe()))
      )

    /** Those whose catalog is to be asked for; the ones that were there before come first. */
    const stale = (): ReadonlyArray<readonly [string, Announced]> =>
      Array.from(announced)
        .filter(([key, entry]) => isStale(key, entry) && !FiberMap.hasUnsafe(asking, key))
        .sort(([one], [other]) => Number(known.has(other)) - Number(known.has(one)))

    const askStale = Effect.gen(function*() {
      let places = maxAsked - (yield* FiberMap.size(asking))
      let newPlaces = maxNewAsked - Array.from(asking).filter(([key]) => !known.has(key)).length
      for (const [key, entry] of stale()) {
        if (entry.askAt > now()) continue
        const isNew = !known.has(key)
        if (places <= 0 || isNew && newPlaces <= 0) break
        places -= 1
        if (isNew) newPlaces -= 1
        yield* FiberMap.run(asking, key, ask(key, entry))
      }
    })

    const refresh = Effect.gen(function*() {
      for (const [key, { revision }] of announced) if (revision === undefined) drop(key)
      yield* askStale
      if (surveyAt() <= now()) yield* Effect.catchIf(survey, (reason) => reason._tag !== "Closed", () => Effect.void)
    })

    /** When there is something to do that nobody tells. */
    const dueAt = (): number => {
      const later = stale().map(([, { askAt }]) => askAt).filter((at) => at > now())
      return Math.min(surveyAt(), ...later)
    }

    const changed = Effect.gen(function*() {
      if (emitted === undefined) yield* survey
      for (;;) {
        const current = JSON.stringify(
          Array.from(known, ([key, reply]) => [key, reply.revision ?? reply.skills]).sort()
        )
        if (current !== emitted) {
          emitted = current
          return CatalogAnswers.merge(known.values())
        }
        const isTold = yield* Effect.timeoutOption(isNews.await, Math.max(0, dueAt() - now()))
        if (ended !== undefined) return yield* Effect.fail(ended)
        if (Option.isSome(isTold)) yield* Effect.sleep(togetherMs)
        isNews.closeUnsafe()
        yield* refresh
      }
    })
    return Stream.fromEffectRepeat(changed)
  }))
