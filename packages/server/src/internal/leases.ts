/**
 * Signs of life: tells each caller, four times within a lease, which of its calls this server has in hand. One message tells
 * of all calls of one caller.
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
  /** By reply topic. */
  const held = new Map<string, Set<string>>()
  const ticking = yield* FiberHandle.make<void>()

  const signs = () =>
    Array.from(held).flatMap(([replyTo, requests]) => {
      const all = Array.from(requests)
      const count = Math.ceil(all.length / maxCallsPerSign)
      return Array.from({ length: count }, (_, index) => ({
        replyTo,
        response: Answer.alive(id, leaseMs, all.slice(index * maxCallsPerSign, (index + 1) * maxCallsPerSign))
      }))
    })

  const tick = Effect.sleep(leaseMs / signsPerLease).pipe(
    Effect.andThen(
      Effect.suspend(() =>
        Effect.forEach(signs(), ({ replyTo, response }) => replies.send(replyTo, response), { discard: true })
      )
    ),
    Effect.repeat({ while: () => held.size > 0 }),
    Effect.asVoid
  )

  const acknowledge = ({ replyTo, requestId }: Address) =>
    replies.send(replyTo, Answer.accepted(requestId, id, leaseMs))

  return {
    /** Tells the caller that its call is in hand here, now and until it is released. */
    hold: (address: Address) =>
      Effect.suspend(() => {
        const requests = held.get(address.replyTo)
        if (requests === undefined) held.set(address.replyTo, new Set([address.requestId]))
        else requests.add(address.requestId)
        return Effect.andThen(acknowledge(address), FiberHandle.run(ticking, tick, { onlyIfMissing: true }))
      }),
    release: ({ replyTo, requestId }: Address): void => {
      const requests = held.get(replyTo)
      if (requests?.delete(requestId) === true && requests.size === 0) held.delete(replyTo)
    },
    /** Tells the caller once more, if it was told. */
    remind: (address: Address) =>
      Effect.suspend(() =>
        held.get(address.replyTo)?.has(address.requestId) === true ? acknowledge(address) : Effect.void
      )
  }
})

export type Leases = Effect.Success<ReturnType<typeof make>>
