import type * as Bus from "@skillscale/core/Bus"
import * as Protocol from "@skillscale/core/Protocol"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Answer from "./answer.ts"
import type { ReplyRoutes } from "./replyRoutes.ts"
import type { ServerMetrics } from "./serverMetrics.ts"

/** Where to answer one request. */
export interface Address {
  readonly requestId: string
  readonly replyTo: string
  /** How often the request was sent before. */
  readonly attempt?: number | undefined
}

/** One name for the call of one caller. */
export const keyOf = ({ replyTo, requestId }: Address): string => `${replyTo}\0${requestId}`

/** While so many bytes wait to be taken by the bus, no further answers should be made. */
const maxWaitingBytes = 64 * 1024 * 1024

/** Publishes responses. What cannot be sent is counted and logged; nothing fails. `onRoom` hears when there is room again. */
export const make = (routes: ReplyRoutes, id: string, metrics: ServerMetrics, onRoom: () => void) => {
  let waitingBytes = 0

  const leave = (bytes: number): void => {
    const wasFull = waitingBytes >= maxWaitingBytes
    waitingBytes -= bytes
    if (wasFull && waitingBytes < maxWaitingBytes) onRoom()
  }

  const publish = Effect.fnUntraced(function*(
    { replyTo, requestId }: Address,
    payload: Uint8Array,
    options?: Bus.PublishOptions
  ) {
    metrics.sent(payload.byteLength)
    waitingBytes += payload.byteLength
    yield* routes.publish(replyTo, payload, options).pipe(
      Effect.catch((error) => {
        metrics.dropped("reply")
        return Effect.logError("cannot send a reply", error.message).pipe(Effect.annotateLogs({ requestId, replyTo }))
      }),
      Effect.ensuring(Effect.sync(() => leave(payload.byteLength)))
    )
  })

  /** Sends a response and returns what was sent. */
  const send = Effect.fnUntraced(function*(to: string, response: Protocol.Response, options?: Bus.PublishOptions) {
    const encoded = Protocol.encodeResponse(response)
    const payload = yield* Effect.fromResult(
      Result.orElse(encoded, (error) => Protocol.encodeResponse(Answer.unsendable(response, error)))
    ).pipe(Effect.orDie)
    yield* publish({ replyTo: to, requestId: response.requestId }, payload, options)
    return payload
  })

  /** Tells that a call is in hand, ahead of what waits to be sent. */
  const sendSign = (to: string, response: Protocol.Response) => send(to, response, { isUrgent: true })

  /** A final response with the time and the server's name. */
  const signed = (response: Protocol.Response) =>
    Effect.map(
      Clock.currentTimeMillis,
      (now): Protocol.Response => ({ ...response, timestamp: now / 1000, v: 2, server: id })
    )

  /** Sends a final response with the time and the server's name, and returns what was sent. */
  const sendFinal = (to: string, response: Protocol.Response) =>
    Effect.flatMap(signed(response), (response) => send(to, response))

  /** Answers with a refusal and counts it for the skill. */
  const refuse = (address: Address, skill: string, refusal: Answer.Refusal) =>
    Effect.suspend(() => {
      metrics.request(skill, refusal.code)
      return sendFinal(address.replyTo, Answer.refusal(address.requestId, refusal))
    })

  /** Whether the bus takes what is published, so that more may be made. */
  const hasRoom = (): boolean => waitingBytes < maxWaitingBytes

  return { publish, send, sendSign, signed, sendFinal, refuse, hasRoom }
}

export type Replies = ReturnType<typeof make>
