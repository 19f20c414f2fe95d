/**
 * Signs of life: tells each caller, four times within a lease, which of its calls this server has in hand. One message tells
 * of all calls of one caller. A call that is over before the first of them needs none: its reply says the same, and a message
 * more would cost as much as the reply.
 */
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Answer from "./answer.ts"
import type { Address, Replies } from "./replies.ts"

export interface Options {
  readonly id: string
  readonly leaseMs: number
  readonly replies: Replies
}

const signsPerLease = 4
const maxCallsPerSign = 1000

export const make = Effect.fnUntraced(function*({ id, leaseMs, replies }: Options) {
  /** By reply topic the requests, and whether the caller was told of each. */
  const held = new Map<string, Map<string, boolean>>()
  const ticking = yield* FiberHandle.make<void>()

  const acknowledge = ({ replyTo, requestId }: Address) =>
    Effect.suspend(() => {
      held.get(replyTo)?.set(requestId, true)
      return replies.send(replyTo, Answer.accepted(requestId, id, leaseMs))
    })

  const requestsOf = (requests: ReadonlyMap<string, boolean>, told: boolean): ReadonlyArray<string> =>
    Array.from(requests).filter(([, isTold]) => isTold === told).map(([requestId]) => requestId)

  const tell = ([replyTo, requests]: readonly [string, ReadonlyMap<string, boolean>]) => {
    const told = requestsOf(requests, true)
    const signs = Array.from(
      { length: Math.ceil(told.length / maxCallsPerSign) },
      (_, index) => Answer.alive(id, leaseMs, told.slice(index * maxCallsPerSign, (index + 1) * maxCallsPerSign))
    )
    return Effect.andThen(
      Effect.forEach(signs, (sign) => replies.send(replyTo, sign), { discard: true }),
      Effect.forEach(requestsOf(requests, false), (requestId) => acknowledge({ replyTo, requestId }), { discard: true })
    )
  }

  const tick = Effect.sleep(leaseMs / signsPerLease).pipe(
    Effect.andThen(Effect.suspend(() => Effect.forEach(Array.from(held), tell, { discard: true }))),
    Effect.repeat({ while: () => held.size > 0 }),
    Effect.asVoid
  )

  return {
    /** Tells the caller that its call is in hand here, until it is released: at once, or within a quarter of a lease. */
    hold: (address: Address, isAtOnce: boolean) =>
      Effect.suspend(() => {
        const requests = held.get(address.replyTo) ?? new Map<string, boolean>()
        held.set(address.replyTo, requests)
        if (!requests.has(address.requestId)) requests.set(address.requestId, false)
        const ticks = FiberHandle.run(ticking, tick, { onlyIfMissing: true })
        return isAtOnce ? Effect.andThen(acknowledge(address), ticks) : ticks
      }),
    release: ({ replyTo, requestId }: Address): void => {
      const requests = held.get(replyTo)
      if (requests?.delete(requestId) === true && requests.size === 0) held.delete(replyTo)
    },
    /** Tells the caller now, or once more. */
    remind: (address: Address) =>
      Effect.suspend(() =>
        held.get(address.replyTo)?.has(address.requestId) === true ? acknowledge(address) : Effect.void
      )
  }
})

export type Leases = Effect.Success<ReturnType<typeof make>>
