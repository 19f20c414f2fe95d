/**
 * Signs of life: tells each caller, four times within a lease, which of its calls this server has in hand. One message tells
 * of all calls of one caller. A call that is over before the first of them needs none: its reply says the same, and a message
 * more would cost as much as the reply. A caller whose calls have leases shows in turn that it is there, by whatever it sends;
 * of one that does not, the calls are given up.
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as FiberMap from "effect/FiberMap"
import * as Answer from "./answer.ts"
import { type Address, keyOf, type Replies } from "./replies.ts"

export interface Options {
  readonly id: string
  readonly topic: string
  readonly leaseMs: number
  readonly replies: Pick<Replies, "sendSign">
  /** The caller of this call is gone. */
  readonly onAbandoned: (address: Address) => void
}

const signsPerLease = 4
/** A call that is over in so many milliseconds is not acknowledged, whatever its caller wants to see of it. */
const soonMs = 10
const maxCallsPerSign = 1000

interface Held {
  /** Whether the caller was told of it. */
  isTold: boolean
  readonly attempt: number
  /** How many signs may go unanswered. Counted, so that the time for which this server was stopped is nobody's silence. */
  readonly patience: number
}

interface Caller {
  readonly calls: Map<string, Held>
  /** Signs since it was heard. */
  unanswered: number
}

export const make = Effect.fnUntraced(function*({ id, leaseMs, onAbandoned, replies, topic }: Options) {
  /** By reply topic. */
  const callers = new Map<string, Caller>()
  const ticking = yield* FiberHandle.make<void>()
  const telling = yield* FiberMap.make<string, void>()
  const tickMs = leaseMs / signsPerLease
  let tickedAt = Number.POSITIVE_INFINITY
  let pausedUntil = Number.NEGATIVE_INFINITY

  const acknowledge = ({ replyTo, requestId }: Address) =>
    Effect.suspend(() => {
      const held = callers.get(replyTo)?.calls.get(requestId)
      if (held !== undefined) held.isTold = true
      return replies.sendSign(replyTo, Answer.ofAttempt(held ?? {}, Answer.accepted(requestId, id, leaseMs)))
    })

  const giveUp = (replyTo: string, { calls, unanswered }: Caller): void => {
    for (const [requestId, { patience }] of calls) {
      if (unanswered > patience) onAbandoned({ replyTo, requestId })
    }
  }

  const tell = ([replyTo, caller]: readonly [string, Caller]) =>
    Effect.suspend(() => {
      caller.unanswered += 1
      giveUp(replyTo, caller)
      const requests = Array.from(caller.calls)
      const told = requests.filter(([, { isTold }]) => isTold).map(([requestId]) => requestId)
      const signs = Array.from(
        { length: Math.ceil(told.length / maxCallsPerSign) },
        (_, index) =>
          Answer.alive(id, topic, leaseMs, told.slice(index * maxCallsPerSign, (index + 1) * maxCallsPerSign))
      )
      return Effect.andThen(
        Effect.forEach(signs, (sign) => replies.sendSign(replyTo, sign), { discard: true }),
        Effect.forEach(
          requests.filter(([, { isTold }]) => !isTold),
          ([requestId]) => acknowledge({ replyTo, requestId }),
          { discard: true }
        )
      )
    })

  const isLate = (now: number): boolean => now - tickedAt > 2 * tickMs

  /** A tick that comes so late tells that this server was stopped, and has not read yet what came meanwhile. */
  const onTick = (now: number): void => {
    if (isLate(now)) pausedUntil = now + leaseMs
    tickedAt = now
  }

  const tick = Effect.sleep(tickMs).pipe(
    Effect.andThen(Effect.map(Monotonic.millis, onTick)),
    Effect.andThen(Effect.suspend(() => Effect.forEach(Array.from(callers), tell, { discard: true }))),
    Effect.repeat({ while: () => callers.size > 0 }),
    Effect.ensuring(Effect.sync(() => tickedAt = Number.POSITIVE_INFINITY)),
    Effect.asVoid
  )

  /** Tells the caller now, or once more. */
  const remind = (address: Address) =>
    Effect.suspend(() =>
      callers.get(address.replyTo)?.calls.has(address.requestId) === true ? acknowledge(address) : Effect.void
    )

  return {
    /** Tells the caller that its call is in hand here, until it is released: after a moment, or within a quarter of a lease. */
    hold: (request: Address & Pick<Protocol.Request, "leaseMs">, isSoon: boolean) =>
      Effect.suspend(() => {
        const { attempt = 0, replyTo, requestId } = request
        const caller = callers.get(replyTo) ?? { calls: new Map<string, Held>(), unanswered: 0 }
        callers.set(replyTo, caller)
        if (!caller.calls.has(requestId)) {
          const patience = Math.ceil(Math.max(request.leaseMs ?? Number.POSITIVE_INFINITY, leaseMs) / tickMs)
          caller.calls.set(requestId, { isTold: false, attempt, patience })
        }
        const ticks = Effect.andThen(
          Effect.map(Monotonic.millis, (now) => tickedAt = Math.min(tickedAt, now)),
          FiberHandle.run(ticking, tick, { onlyIfMissing: true })
        )
        if (!isSoon) return ticks
        const told = Effect.andThen(Effect.sleep(soonMs), remind(request))
        return Effect.andThen(FiberMap.run(telling, keyOf(request), told), ticks)
      }),
    release: ({ replyTo, requestId }: Address): void => {
      const calls = callers.get(replyTo)?.calls
      if (calls?.delete(requestId) === true && calls.size === 0) callers.delete(replyTo)
    },
    /** Whether this server was stopped lately, so that callers may have given up what they still seem to wait for. */
    wasPaused: (now: number): boolean => now < pausedUntil || isLate(now),
    /** Something came from the caller. */
    heard: (replyTo: string): void => {
      const caller = callers.get(replyTo)
      if (caller !== undefined) caller.unanswered = 0
    },
    remind
  }
})

export type Leases = Effect.Success<ReturnType<typeof make>>
