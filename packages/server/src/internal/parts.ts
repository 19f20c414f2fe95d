/**
 * Large final responses, in parts, one response to a caller after the other. As many parts are under way as do not wait long for each
 * other, so that signs of life and other answers are not held up behind them, however slow the way to the caller is. The caller
 * tells how many parts it has in a row; what it does not confirm in time is sent again from there.
 *
 * What waits for a caller is bounded: a caller with much of it gets no worker for its further calls until it has taken some, and
 * where all callers together have too much, the one that has taken nothing for longest loses its latest.
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Protocol from "@skillscale/core/Protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Answer from "./answer.ts"
import { type Address, keyOf, type Replies } from "./replies.ts"

export interface Options {
  readonly id: string
  readonly replies: Pick<Replies, "send">
  readonly partBytes: number
  /** While so many bytes wait for one caller, none of its calls is begun. */
  readonly callerBytes: number
  /** How many bytes may wait for all callers. */
  readonly totalBytes: number
  /** Something waits for a caller no more. */
  readonly onTaken: () => void
}

/** A final response as JSON in parts. */
export interface Parts {
  readonly texts: ReadonlyArray<string>
  readonly bytes: number
  readonly caller: string
  /** Done when it is given up. */
  readonly isGivenUp: Deferred.Deferred<void>
}

/** A response of more parts than these is not sent as one message. */
const wholeParts = 4
/** How many parts are under way: at first, and at most. */
const firstWindow = 4
const longestWindow = 64
/** A part that takes so much longer than twice the least waits for others. */
const waitMs = 150
/** After how much silence of the caller parts are sent again; after four times what they take where that is more; twice as long each time. */
const firstQuietMs = 1000
const longestQuietMs = 8000
/** What was sent so shortly before is not sent again because the caller asks. */
const leastAskMs = 100
/** How often in a row they are sent again in vain: about a minute. */
const maxRounds = 10
/** How much is encoded until others have their turn. */
const encodeBytes = 512 * 1024
/** JSON writes a character with six bytes at most. */
const mostBytesOfCharacter = 6

interface Flow {
  readonly attempt: number
  confirmed: number
  /** Of those on their way: less than what was ever sent after something was sent again. */
  sent: number
  mostSent: number
  /** The caller asks for it, and may have lost what was under way. */
  isAsked: boolean
  heard: Deferred.Deferred<void>
}

interface Line {
  readonly turn: Semaphore.Semaphore
  users: number
}

/** What waits for one caller. */
interface Waiting {
  bytes: number
  takenAt: number
  readonly parts: Set<Parts>
}

/** How many bytes the JSON of a response has at most, but for what is always small. */
const mostBytesOf = ({ artifacts = [], content, stdout }: Protocol.Response): number =>
  artifacts.reduce((sum, { data }) => sum + data.byteLength * 2, content.length * mostBytesOfCharacter) +
  (stdout?.byteLength ?? 0) * 2

/** How many bytes JSON makes of a text. */
const bytesWithin = (text: string): number =>
  text.includes("\"") || text.includes("\\") ? Buffer.byteLength(JSON.stringify(text)) - 2 : Buffer.byteLength(text)

const isWithinPair = (text: string, at: number): boolean => (text.charCodeAt(at - 1) & 0xfc00) === 0xd800

/** Cuts a text into pieces of which JSON makes no more than half as many bytes again as they should have. */
function* cut(text: string, bytes: number): Generator<string> {
  if (text.length < 4 || bytesWithin(text) <= bytes * 1.5) {
    yield text
    return
  }
  const half = text.length >> 1
  const at = isWithinPair(text, half) ? half + 1 : half
  yield* cut(text.slice(0, at), bytes)
  yield* cut(text.slice(at), bytes)
}

const tooLarge = (bytes: number) =>
  new Protocol.ProtocolError({
    reason: "TooLarge",
    detail: `the message has more than ${bytes} bytes, the limit of ${Protocol.maxBytes}`
  })

export const make = ({ callerBytes, id, onTaken, partBytes, replies, totalBytes }: Options) => {
  const flows = new Map<string, Flow>()
  const lines = new Map<string, Line>()
  /** By caller. */
  const waiting = new Map<string, Waiting>()
  let total = 0

  /** Of the caller that has taken nothing for longest, the latest. */
  const oneOfTheSlowest = (): Parts | undefined => {
    let slowest: Waiting | undefined
    for (const other of waiting.values()) {
      if (slowest === undefined || other.takenAt < slowest.takenAt) slowest = other
    }
    return Array.from(slowest?.parts ?? []).findLast(({ isGivenUp }) => !Deferred.isDoneUnsafe(isGivenUp))
  }

  const enter = (parts: Parts, now: number): void => {
    const own = waiting.get(parts.caller) ?? { bytes: 0, takenAt: now, parts: new Set<Parts>() }
    waiting.set(parts.caller, own)
    own.parts.add(parts)
    own.bytes += parts.bytes
    total += parts.bytes
    let left = total
    while (left > totalBytes) {
      const least = oneOfTheSlowest()
      if (least === undefined) return
      Deferred.doneUnsafe(least.isGivenUp, Effect.void)
      left -= least.bytes
    }
  }

  const leave = (parts: Parts): void => {
    const own = waiting.get(parts.caller)
    if (own?.parts.delete(parts) !== true) return
    own.bytes -= parts.bytes
    total -= parts.bytes
    if (own.parts.size === 0) waiting.delete(parts.caller)
    onTaken()
  }

  /** Answers to one caller go one after the other. */
  const inTurn = <A, E>(replyTo: string, work: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const line = lines.get(replyTo) ?? { turn: Semaphore.makeUnsafe(1), users: 0 }
        line.users += 1
        lines.set(replyTo, line)
        return line
      }),
      ({ turn }) => turn.withPermits(1)(work),
      (line) => Effect.sync(() => --line.users === 0 && lines.delete(replyTo))
    )

  const sendOne = ({ replyTo, requestId }: Address, { texts }: Parts, { attempt }: Flow, part: number) =>
    replies.send(
      replyTo,
      Answer.ofAttempt({ attempt }, Answer.part(requestId, id, texts[part] ?? "", part, texts.length))
    )

  /** Sends until everything is confirmed, and tells whether it is. */
  const run = Effect.fnUntraced(function*(address: Address, parts: Parts, flow: Flow) {
    const count = parts.texts.length
    const sentAt: Array<number> = []
    let window = firstWindow
    /** Until parts had to wait for each other it doubles with every round, from then on it is one larger. */
    let isRising = true
    /** What is told of the parts before this one was before the window was narrowed. */
    let narrowedAt = 0
    let least = Number.POSITIVE_INFINITY
    let usual = 0
    let rounds = 0
    let lastSentAt = yield* Monotonic.millis
    let since = lastSentAt
    for (;;) {
      const before = flow.confirmed
      while (flow.sent < count && flow.sent - flow.confirmed < Math.floor(window)) {
        const part = flow.sent++
        flow.mostSent = Math.max(flow.mostSent, flow.sent)
        sentAt[part] = lastSentAt = yield* Monotonic.millis
        yield* sendOne(address, parts, flow, part)
      }
      // Whole, as timers are: one of less than a millisecond could be over before its time.
      const quiet = Math.min(longestQuietMs, Math.ceil(Math.max(firstQuietMs, 4 * usual) * 2 ** rounds))
      const left = since + quiet - (yield* Monotonic.millis)
      yield* Effect.timeoutOption(Deferred.await(flow.heard), Math.max(0, left))
      flow.heard = Deferred.makeUnsafe()
      if (flow.confirmed >= count) return true
      const now = yield* Monotonic.millis
      const isAsked = flow.isAsked && now - lastSentAt >= Math.max(leastAskMs, 2 * usual)
      flow.isAsked = false
      if (flow.confirmed > before) {
        const took = now - (sentAt[flow.confirmed - 1] ?? now)
        least = Math.min(least, took)
        usual = usual === 0 ? took : (3 * usual + took) / 4
        if (took <= 2 * least + waitMs) {
          const more = flow.confirmed - before
          window = Math.min(longestWindow, window + (isRising ? more : more / window))
        } else if (flow.confirmed > narrowedAt) {
          isRising = false
          window = Math.max(1, window * 0.75)
          narrowedAt = flow.sent
        }
        since = now
        rounds = 0
      } else if (isAsked || now - since >= quiet) {
        rounds += 1
        if (rounds >= maxRounds) return false
        flow.sent = flow.confirmed
        window = 1
        since = now
      }
    }
  })

  return {
    /** Encodes a response that is too large for one message; undefined for others. */
    encode: Effect.fnUntraced(function*(caller: string, response: Protocol.Response) {
      if (mostBytesOf(response) <= wholeParts * partBytes) return undefined
      const texts: Array<string> = []
      let bytes = 0
      let text = ""
      let sinceTurn = 0
      for (const piece of yield* Effect.fromResult(Protocol.encodeResponsePieces(response))) {
        const size = Buffer.byteLength(piece)
        bytes += size
        sinceTurn += size
        if (bytes > Protocol.maxBytes) return yield* tooLarge(bytes)
        text += piece
        while (text.length > partBytes) {
          const end = isWithinPair(text, partBytes) ? partBytes + 1 : partBytes
          texts.push(...cut(text.slice(0, end), partBytes))
          text = text.slice(end)
        }
        if (sinceTurn >= encodeBytes) {
          sinceTurn = 0
          yield* Effect.yieldNow
        }
      }
      if (text !== "") texts.push(...cut(text, partBytes))
      if (bytes <= wholeParts * partBytes) return undefined
      const parts: Parts = { texts, bytes, caller, isGivenUp: Deferred.makeUnsafe() }
      return parts
    }),
    /** Has an answer wait for its caller, until the scope ends. */
    keep: (parts: Parts): Effect.Effect<void, never, Scope.Scope> =>
      Effect.acquireRelease(
        Effect.map(Monotonic.millis, (now) => enter(parts, now)),
        () => Effect.sync(() => leave(parts))
      ),
    /** Whether a caller may have another answer made for it. */
    hasRoomFor: (caller: string): boolean => (waiting.get(caller)?.bytes ?? 0) < callerBytes,
    /** Sends all parts, as far as the caller confirms them, and tells whether it has confirmed the last. */
    deliver: (address: Address, parts: Parts): Effect.Effect<boolean> => {
      const delivered = Effect.acquireUseRelease(
        Effect.sync(() => {
          const { attempt = 0 } = address
          const heard = Deferred.makeUnsafe<void>()
          const made: Flow = { attempt, confirmed: 0, sent: 0, mostSent: 0, isAsked: false, heard }
          flows.set(keyOf(address), made)
          return made
        }),
        (made) => run(address, parts, made),
        () => Effect.sync(() => flows.delete(keyOf(address)))
      )
      return Effect.raceFirst(inTurn(address.replyTo, delivered), Effect.as(Deferred.await(parts.isGivenUp), false))
    },
    /** The caller has so many parts in a row. `now` is in milliseconds. */
    received: (address: Address, attempt: number, count: number, now: number): void => {
      const flow = flows.get(keyOf(address))
      if (flow === undefined || flow.attempt !== attempt || count <= flow.confirmed || count > flow.mostSent) return
      flow.confirmed = count
      flow.sent = Math.max(flow.sent, count)
      const own = waiting.get(address.replyTo)
      if (own !== undefined) own.takenAt = now
      Deferred.doneUnsafe(flow.heard, Effect.void)
    },
    /** The caller asks for the call. */
    remind: (address: Address): void => {
      const flow = flows.get(keyOf(address))
      if (flow === undefined) return
      flow.isAsked = true
      Deferred.doneUnsafe(flow.heard, Effect.void)
    }
  }
}

export type AnswerParts = ReturnType<typeof make>
