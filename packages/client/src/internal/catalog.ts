/**
 * Asks every server for its skills, and finds the topic of a skill from what they said.
 *
 * The proxy tells how many servers heard the question, in any order with their answers; once that many answered, the
 * catalog is complete. Without such a count it is complete when nobody has answered for a while.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
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
import type * as Connection from "./connection.ts"
import * as request from "./request.ts"

export interface Options {
  readonly ttl: Duration.Duration
  readonly firstAnswer: Duration.Duration
  readonly quiet: Duration.Duration
  readonly timeout: Duration.Duration
}

export interface Catalog {
  readonly refresh: Effect.Effect<ReadonlyArray<SkillClient.CatalogEntry>, ClientError.Reason>
  readonly topicOf: (skill: string, digest?: string) => Effect.Effect<string, ClientError.Reason>
  /** Forgets what is cached, because an answer contradicted it. */
  readonly forget: Effect.Effect<void>
}

interface Gathered {
  readonly at: number
  readonly servers: number
  readonly skills: ReadonlyArray<SkillClient.CatalogEntry>
}

type Heard =
  | { readonly _tag: "Fanout"; readonly count: number }
  | { readonly _tag: "Answer"; readonly reply: Protocol.CatalogReply | undefined }
  | { readonly _tag: "Nobody" }

const decodeReply = Schema.decodeUnknownResult(Schema.fromJsonString(Protocol.CatalogReply))
const unreadable: Heard = { _tag: "Answer", reply: undefined }

const interpret = (response: Protocol.Response): Heard | undefined => {
  if (response.event === "fanout") {
    return /^\d{1,9}$/.test(response.content) ? { _tag: "Fanout", count: Number(response.content) } : undefined
  }
  if (response.event !== undefined) return undefined
  if (response.status === "error") return response.code === "NoServer" ? { _tag: "Nobody" } : unreadable
  return Result.match(decodeReply(response.content), {
    onFailure: () => unreadable,
    onSuccess: (reply): Heard => ({ _tag: "Answer", reply })
  })
}

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

/** One entry per topic, name and digest, so that replicas with different versions stay visible. */
const merge = (replies: Iterable<Protocol.CatalogReply>): ReadonlyArray<SkillClient.CatalogEntry> => {
  const entries = new Map<string, { readonly info: Protocol.SkillInfo; readonly servers: Set<string> }>()
  for (const { server, skills } of replies) {
    for (const info of skills) {
      const key = JSON.stringify([info.topic, info.name, info.digest])
      const entry = entries.get(key)
      if (entry === undefined) entries.set(key, { info, servers: new Set([server]) })
      else entry.servers.add(server)
    }
  }
  return Array.from(entries.values(), ({ info, servers }) => ({ ...info, servers: Array.from(servers).sort(compare) }))
    .sort((a, b) => compare(a.topic, b.topic) || compare(a.name, b.name) || compare(a.digest, b.digest))
}

const distance = (a: string, b: string): number => {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const current = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      current.push(Math.min(substituted, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1))
    }
    previous = current
  }
  return previous[b.length] ?? 0
}

/** The known names that resemble one, the most similar first, at most three. */
export const near = (name: string, known: ReadonlyArray<string>): ReadonlyArray<string> => {
  const asked = name.toLowerCase().slice(0, 64)
  return known
    .map((other) => ({
      other,
      score: asked.length > 2 && (other.includes(asked) || asked.includes(other)) ? 0 : distance(asked, other)
    }))
    .filter(({ score }) => score <= Math.max(2, Math.floor(asked.length / 3)))
    .sort((a, b) => a.score - b.score || compare(a.other, b.other))
    .slice(0, 3)
    .map(({ other }) => other)
}

const find = (
  { skills }: Gathered,
  skill: string,
  digest: string | undefined
): SkillClient.CatalogEntry | undefined => {
  const named = skills.filter(({ name }) => name === skill)
  return named.find((entry) => entry.digest === digest) ?? named[0]
}

export const make = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  options: Options
): Effect.fn.Return<Catalog, never, Scope.Scope> {
  const scope = yield* Effect.scope
  let cached: Gathered | undefined
  let refreshing: Fiber.Fiber<Gathered, ClientError.Reason> | undefined

  const collect = Effect.fnUntraced(function*(heard: Queue.Dequeue<Heard, ClientError.Reason>) {
    const replies = new Map<string, Protocol.CatalogReply>()
    const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(options.timeout)
    let unread = 0
    let expected = Infinity
    while (replies.size + unread < expected) {
      const left = end - (yield* Clock.currentTimeMillis)
      const patience = replies.size + unread === 0 ? options.firstAnswer : options.quiet
      const wait = expected < Infinity ? left : Math.min(left, Duration.toMillis(patience))
      const next = wait <= 0 ? Option.none<Heard>() : yield* Effect.timeoutOption(Queue.take(heard), wait)
      if (Option.isNone(next) || next.value._tag === "Nobody") break
      if (next.value._tag === "Fanout") expected = next.value.count
      else if (next.value.reply === undefined) unread += 1
      else replies.set(JSON.stringify([next.value.reply.server, next.value.reply.topic]), next.value.reply)
    }
    const at = yield* Clock.currentTimeMillis
    return { at, servers: replies.size + unread, skills: merge(replies.values()) }
  })

  const gather: Effect.Effect<Gathered, ClientError.Reason> = Effect.uninterruptibleMask((restore) =>
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
        onFailure: (reason) => void Queue.failCauseUnsafe(heard, Cause.fail(reason))
      })
      const address = yield* Effect.fromResult(opened)
      return yield* restore(Effect.andThen(connection.transmit(send, address), collect(heard))).pipe(
        Effect.ensuring(connection.close(send, address, false))
      )
    })
  )

  const refresh = Effect.tap(gather, (gathered) =>
    Effect.sync(() => {
      cached = gathered
    }))

  /** One refresh for all who wait; it belongs to the client, so that none of them can interrupt it for the others. */
  const refreshShared = Effect.gen(function*() {
    if (refreshing === undefined || refreshing.pollUnsafe() !== undefined) {
      refreshing = yield* Effect.forkIn(refresh, scope, { startImmediately: true })
    }
    const exit = yield* Fiber.await(refreshing)
    const isClosed = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    return yield* isClosed ? Effect.fail(new ClientError.Closed()) : exit
  })

  const topicOf = Effect.fnUntraced(function*(skill: string, digest?: string) {
    const now = yield* Clock.currentTimeMillis
    const fresh = cached !== undefined && now - cached.at < Duration.toMillis(options.ttl) ? cached : undefined
    const known = fresh && find(fresh, skill, digest)
    if (known !== undefined) return known.topic
    const gathered = yield* refreshShared
    const found = find(gathered, skill, digest)
    if (found !== undefined) return found.topic
    if (gathered.servers === 0) {
      const detail = "no server answered the catalog; start a skill server, or name the topic " +
        "(servers of version 1 are in no catalog)"
      return yield* new ClientError.NoServer({ topic: Topic.everyServer, detail })
    }
    const available = Array.from(new Set(gathered.skills.map(({ name }) => name)))
    return yield* new ClientError.SkillNotFound({ skill, near: near(skill, available), available })
  })

  return {
    refresh: Effect.map(refresh, ({ skills }) => skills),
    topicOf,
    forget: Effect.sync(() => {
      cached = undefined
    })
  }
})
