/**
 * Asks every server for its skills, and finds the topic of a skill from what they say.
 *
 * The proxy tells how many servers heard the question, in any order with their answers; once that many answered, the
 * catalog is complete. A proxy that began lately may not have all of them back: it is asked again until it has settled. Without
 * such a count the catalog is complete when nobody has answered for a while. Finding a topic does
 * not wait for a server that hangs: it takes what was heard a quiet time after the first answer that has the skill, while
 * the gathering goes on to fill the cache.
 */
import * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Suggestion from "@skillscale/core/Suggestion"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import * as CatalogAnswers from "./catalogAnswers.ts"
import type * as Connection from "./connection.ts"
import * as request from "./request.ts"
import * as Settling from "./settling.ts"

export interface Options {
  readonly ttl: Duration.Duration
  readonly firstAnswer: Duration.Duration
  readonly quiet: Duration.Duration
  readonly timeout: Duration.Duration
}

/** The topic of a skill. `forget` drops what told it, because an answer contradicted it. */
export interface Located {
  readonly topic: string
  readonly forget: Effect.Effect<void>
}

/** A survey with what each server said. */
export interface Survey extends SkillClient.Survey {
  readonly replies: ReadonlyArray<Control.CatalogReply>
}

export interface Catalog {
  readonly survey: Effect.Effect<Survey, ClientError.Reason>
  /** Asks one replica for its skills. */
  readonly ask: (server: string, topic: string) => Effect.Effect<Control.CatalogReply, ClientError.Reason>
  readonly locate: (skill: string, digest?: string) => Effect.Effect<Located, ClientError.Reason>
}

/** One question to every server. */
interface Gathering {
  readonly answers: CatalogAnswers.CatalogAnswers
  /** Which question it is, from 0. */
  readonly order: number
  readonly forget: Effect.Effect<void>
  servers: number | undefined
  endedAt: number
  isContradicted: boolean
}

interface Running {
  readonly gathering: Gathering
  readonly fiber: Fiber.Fiber<void, ClientError.Reason>
}

type Heard =
  | { readonly _tag: "Fanout"; readonly count: number; readonly settleMs?: number | undefined }
  /** Messages may have been lost. */
  | { readonly _tag: "Restored" }
  | { readonly _tag: "Answer"; readonly reply: Control.CatalogReply | undefined }

const decodeReply = Schema.decodeUnknownResult(Schema.fromJsonString(Control.CatalogReply))
const unreadable: Heard = { _tag: "Answer", reply: undefined }
const restored: Heard = { _tag: "Restored" }
const nobody: Heard = { _tag: "Fanout", count: 0 }

const interpret = (response: Protocol.Response): Heard | undefined => {
  if (response.event === "fanout") {
    const { content, settleMs } = response
    return /^\d{1,9}$/.test(content) ? { _tag: "Fanout", count: Number(content), settleMs } : undefined
  }
  if (response.event !== undefined) return undefined
  if (response.status === "error") return response.code === "NoServer" ? nobody : unreadable
  return Result.match(decodeReply(response.content), {
    onFailure: () => unreadable,
    onSuccess: (reply): Heard => ({ _tag: "Answer", reply })
  })
}

/** Asks every server, and lets `listen` hear the answers for as long as it runs, and ask again. */
const ask = (
  connection: Connection.Connection,
  listen: (
    heard: Queue.Dequeue<Heard, ClientError.Reason>,
    again: Effect.Effect<void, ClientError.Reason>
  ) => Effect.Effect<void, ClientError.Reason>
): Effect.Effect<void, ClientError.Reason> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const heard = yield* Queue.unbounded<Heard, ClientError.Reason>()
      const send = request.command(Topic.everyServer, (address) => ({ kind: "catalog", ...address }))
      const opened = connection.open(send, {
        onAnswer: (response) => {
          const message = interpret(response)
          if (message !== undefined) Queue.offerUnsafe(heard, message)
          return false
        },
        onMalformed: () => !Queue.offerUnsafe(heard, unreadable),
        onFailure: (reason) => void Queue.failCauseUnsafe(heard, Cause.fail(reason)),
        onRestored: () => void Queue.offerUnsafe(heard, restored)
      })
      const address = yield* Effect.fromResult(opened)
      const transmit = connection.transmit(send, address, 0)
      yield* restore(Effect.andThen(transmit, listen(heard, transmit))).pipe(
        Effect.ensuring(connection.close(send, address, false))
      )
    })
  )

/** Waits until everybody answered, or until the others had their time after the first that has the skill. */
const settled = (
  { fiber, gathering }: Running,
  quiet: Duration.Duration,
  skill: string,
  digest: string | undefined
): Effect.Effect<void, ClientError.Reason> => {
  const complete = Effect.flatMap(
    Fiber.await(fiber),
    (exit) => Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Effect.fail(new ClientError.Closed()) : exit
  )
  const enough = Effect.gen(function*() {
    const at = yield* gathering.answers.heard(skill, digest)
    const left = at + Duration.toMillis(quiet) - (yield* Monotonic.millis)
    if (left > 0) yield* Effect.sleep(left)
  })
  return Effect.raceFirst(complete, enough)
}

export const make = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  options: Options
): Effect.fn.Return<Catalog, never, Scope.Scope> {
  const scope = yield* Effect.scope
  let asked = 0
  let cached: Gathering | undefined
  let running: Running | undefined

  const begin = (): Gathering => {
    const gathering: Gathering = {
      answers: CatalogAnswers.make(),
      order: asked++,
      forget: Effect.sync(() => {
        gathering.isContradicted = true
        if (cached === gathering) cached = undefined
        if (running?.gathering === gathering) running = undefined
      }),
      servers: undefined,
      endedAt: Infinity,
      isContradicted: false
    }
    return gathering
  }

  const collect = Effect.fnUntraced(function*(
    gathering: Gathering,
    heard: Queue.Dequeue<Heard, ClientError.Reason>,
    again: Effect.Effect<void, ClientError.Reason>
  ) {
    const { answers } = gathering
    const timeoutMs = Duration.toMillis(options.timeout)
    let end = (yield* Monotonic.millis) + timeoutMs
    /** When to ask again a proxy that has not settled. */
    let askAt: number | undefined
    let asked = 0
    let isCounted = false
    const onFanout = (count: number, settleMs: number | undefined, now: number): void => {
      isCounted = true
      gathering.servers = settleMs === undefined ? count : undefined
      if (settleMs !== undefined && asked === 0) {
        end = Math.max(end, now + Math.min(settleMs, timeoutMs) + Duration.toMillis(options.quiet))
      }
      askAt = settleMs === undefined ? undefined : now + Settling.pauseMs(settleMs, asked++)
    }
    const wait = (now: number): number => {
      if (isCounted) return Math.min(end, askAt ?? Infinity) - now
      return Math.min(end - now, Duration.toMillis(answers.count() === 0 ? options.firstAnswer : options.quiet))
    }
    while (answers.count() < (gathering.servers ?? Infinity)) {
      const ms = wait(yield* Monotonic.millis)
      const next = ms <= 0 ? Option.none<Heard>() : yield* Effect.timeoutOption(Queue.take(heard), ms)
      const now = yield* Monotonic.millis
      const isDue = Option.isNone(next) ? askAt !== undefined && askAt < end : next.value._tag === "Restored"
      if (isDue) {
        askAt = undefined
        answers.again()
        yield* again.pipe(Effect.timeoutOption(Math.max(0, end - now)), Effect.ignore)
      } else if (Option.isNone(next)) break
      else if (next.value._tag === "Fanout") onFanout(next.value.count, next.value.settleMs, now)
      else if (next.value._tag === "Answer") answers.add(next.value.reply, now)
    }
    gathering.endedAt = yield* Monotonic.millis
    if (!gathering.isContradicted && (cached === undefined || cached.order < gathering.order)) cached = gathering
  })

  const gather = (gathering: Gathering) => ask(connection, (heard, again) => collect(gathering, heard, again))

  /** One gathering for all who look for a skill; it belongs to the client, so that none of them can interrupt it. */
  const join = Effect.gen(function*() {
    if (running === undefined || running.fiber.pollUnsafe() !== undefined) {
      const gathering = begin()
      const fiber = yield* Effect.forkIn(gather(gathering), scope, { startImmediately: true })
      running = { gathering, fiber }
    }
    return running
  })

  const locate = Effect.fnUntraced(function*(skill: string, digest?: string) {
    const now = yield* Monotonic.millis
    const fresh = cached !== undefined && now - cached.endedAt < Duration.toMillis(options.ttl) ? cached : undefined
    const known = fresh?.answers.topicOf(skill, digest)
    if (fresh !== undefined && known !== undefined) return { topic: known, forget: fresh.forget }
    const current = yield* join
    yield* settled(current, options.quiet, skill, digest)
    const { answers, forget } = current.gathering
    const topic = answers.topicOf(skill, digest)
    if (topic !== undefined) return { topic, forget }
    if (answers.count() === 0) {
      const detail = "no server answered the catalog; start a skill server, or name the topic " +
        "(servers of version 1 are in no catalog)"
      return yield* new ClientError.NoServer({ topic: Topic.everyServer, detail })
    }
    const available = Array.from(new Set(answers.entries().map(({ name }) => name)))
    return yield* new ClientError.SkillNotFound({ skill, near: Suggestion.near(skill, available), available })
  })

  return {
    survey: Effect.suspend(() => {
      const gathering = begin()
      return Effect.map(gather(gathering), () => ({
        skills: gathering.answers.entries(),
        replies: gathering.answers.replies(),
        answered: gathering.answers.count(),
        servers: gathering.servers
      }))
    }),
    ask: Effect.fnUntraced(function*(server, topic) {
      const on = Topic.worker(topic, server)
      const question = request.command(on, (address) => ({ kind: "catalog", ...address }))
      const response = yield* connection.exchange(question).pipe(
        Effect.timeoutOrElse({
          duration: options.timeout,
          orElse: () =>
            Effect.fail(
              new ClientError.Timeout({ timeoutMs: Duration.toMillis(options.timeout), retryable: true })
            )
        })
      )
      if (response.status === "error") {
        const { code = "", error, retryable = false } = response
        return yield* new ClientError.ServerError({ code, detail: error, retryable })
      }
      return yield* Effect.mapError(
        Effect.fromResult(decodeReply(response.content)),
        (error) => new ClientError.ProtocolError({ detail: error.message.slice(0, 500) })
      )
    }),
    locate
  }
})
