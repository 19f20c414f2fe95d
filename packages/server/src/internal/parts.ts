/**
 * Large final responses, in parts. Of all answers to one caller at most 1 MiB is under way, one answer after the other, so that
 * signs of life are not held up behind them, and nothing between here and the caller has to keep more. The caller tells how many
 * parts it has in a row; what it does not confirm in time is sent again from there, and less of it at once.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import * as Answer from "./answer.ts"
import { type Address, keyOf, type Replies } from "./replies.ts"

export interface Options {
  readonly id: string
  readonly replies: Pick<Replies, "send">
  readonly partBytes: number
}

/** A final response as JSON in parts. */
export interface Parts {
  readonly texts: ReadonlyArray<string>
  readonly bytes: number
}

/** A response of more parts than these is not sent as one message. */
const wholeParts = 4
/** How many parts are under way: at first, and at most. */
const firstWindow = 4
const longestWindow = 16
/** After how much silence of the caller parts are sent again; twice as long each time. */
const firstQuietMs = 1000
const longestQuietMs = 8000
/** How often in a row they are sent again in vain: about a minute. */
const maxRounds = 10
/** How much is encoded until others have their turn. */
const encodeBytes = 512 * 1024

interface Flow {
  readonly attempt: number
  confirmed: number
  /** Of those on their way: less than what was ever sent after something was sent again. */
  sent: number
  mostSent: number
  heard: Deferred.Deferred<void>
  /** The caller asks for it, and may have lost what was under way. */
  isAsked: boolean
}

interface Line {
  readonly turn: Semaphore.Semaphore
  users: number
}

/** About how many bytes the JSON of a response has. */
const sizeOf = ({ artifacts = [], content, stdout }: Protocol.Response): number =>
  artifacts.reduce((sum, { data }) => sum + data.byteLength, content.length + (stdout?.byteLength ?? 0))

const isWithinPair = (text: string, at: number): boolean => (text.charCodeAt(at - 1) & 0xfc00) === 0xd800

const tooLarge = (bytes: number) =>
  new Protocol.ProtocolError({
    reason: "TooLarge",
    detail: `the message has more than ${bytes} bytes, the limit of ${Protocol.maxBytes}`
  })

export const make = ({ id, partBytes, replies }: Options) => {
  const flows = new Map<string, Flow>()
  const lines = new Map<string, Line>()

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
  const flow = Effect.fnUntraced(function*(address: Address, parts: Parts, flow: Flow) {
    const count = parts.texts.length
    let window = firstWindow
    for (let round = 0; round < maxRounds;) {
      const before = flow.confirmed
      while (flow.sent < count && flow.sent - flow.confirmed < window) {
        flow.sent += 1
        flow.mostSent = Math.max(flow.mostSent, flow.sent)
        yield* sendOne(address, parts, flow, flow.sent - 1)
      }
      const heard = yield* Effect.timeoutOption(
        Deferred.await(flow.heard),
        Math.min(longestQuietMs, firstQuietMs * 2 ** round)
      )
      flow.heard = Deferred.makeUnsafe()
      if (flow.confirmed >= count) return true
      if (Option.isNone(heard) || flow.isAsked) {
        flow.isAsked = false
        flow.sent = flow.confirmed
        window = 1
        round += Option.isNone(heard) ? 1 : 0
      } else if (flow.confirmed > before) {
        window = Math.min(longestWindow, window + flow.confirmed - before)
        round = 0
      }
    }
    return false
  })

  return {
    /** Encodes a response that is too large for one message; undefined for others. */
    encode: Effect.fnUntraced(function*(response: Protocol.Response) {
      if (sizeOf(response) <= wholeParts * partBytes) return undefined
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
          texts.push(text.slice(0, end))
          text = text.slice(end)
        }
        if (sinceTurn >= encodeBytes) {
          sinceTurn = 0
          yield* Effect.yieldNow
        }
      }
      if (text !== "") texts.push(text)
      return { texts, bytes }
    }),
    /** Sends all parts, as far as the caller confirms them, and tells whether it has confirmed the last. */
    deliver: (address: Address, parts: Parts): Effect.Effect<boolean> =>
      inTurn(
        address.replyTo,
        Effect.acquireUseRelease(
          Effect.sync(() => {
            const made: Flow = {
              attempt: address.attempt ?? 0,
              confirmed: 0,
              sent: 0,
              mostSent: 0,
              heard: Deferred.makeUnsafe(),
              isAsked: false
            }
            flows.set(keyOf(address), made)
            return made
          }),
          (made) => flow(address, parts, made),
          () => Effect.sync(() => flows.delete(keyOf(address)))
        )
      ),
    /** The caller has so many parts in a row. */
    received: (address: Address, attempt: number, parts: number): void => {
      const flow = flows.get(keyOf(address))
      if (flow === undefined || flow.attempt !== attempt || parts <= flow.confirmed || parts > flow.mostSent) return
      flow.confirmed = parts
      flow.sent = Math.max(flow.sent, parts)
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
