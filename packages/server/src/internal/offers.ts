/**
 * Asks a caller whether a call may start here, just before it does. A grant holds for one lease from when it was asked for, by
 * this server's own clock: the caller gives the call to nobody else that long, and a server that was stopped meanwhile finds
 * its grant too old and starts nothing.
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Answer from "./answer.ts"
import { type Address, keyOf, type Replies } from "./replies.ts"

export interface Options {
  readonly id: string
  readonly leaseMs: number
  readonly replies: Pick<Replies, "sendSign">
}

const maxOffers = 4

interface Offered {
  /** The call may run twice, and the caller is only asked whether it still waits. */
  readonly mayRepeat: boolean
  /** When each offer was sent, by its number, in milliseconds. */
  readonly sent: Map<number, number>
  /** When the offer was sent that was granted last. */
  granted: number
  heard: Deferred.Deferred<void>
}

export const make = ({ id, leaseMs, replies }: Options) => {
  // No two offers have the same number: an old grant must not be one of a request that came again.
  let count = 0
  const open = new Map<string, Offered>()

  const offer = (address: Address, offered: Offered) =>
    Effect.flatMap(Monotonic.millis, (sentAt) => {
      const number = count++
      offered.sent.set(number, sentAt)
      return replies.sendSign(
        address.replyTo,
        Answer.ofAttempt(address, Answer.offer(address.requestId, id, leaseMs, number, offered.mayRepeat))
      )
    })

  /** Succeeds as soon as there is a grant that still holds, and offers again while there is none. */
  const granted = Effect.fnUntraced(function*(address: Address, offered: Offered) {
    for (let round = 0; round < maxOffers; round++) {
      if (round > 0) yield* offer(address, offered)
      yield* Effect.timeoutOption(Deferred.await(offered.heard), leaseMs / maxOffers)
      if ((yield* Monotonic.millis) < offered.granted + leaseMs) return
      offered.heard = Deferred.makeUnsafe()
    }
    return yield* Effect.fail(Answer.notGranted(id, leaseMs))
  })

  return {
    /** Offers a call, and returns what waits for the grant. */
    begin: Effect.fnUntraced(function*(address: Address, mayRepeat: boolean) {
      const key = keyOf(address)
      const offered = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const made: Offered = {
            mayRepeat,
            sent: new Map(),
            granted: Number.NEGATIVE_INFINITY,
            heard: Deferred.makeUnsafe()
          }
          open.set(key, made)
          return made
        }),
        () => Effect.sync(() => open.delete(key))
      )
      yield* offer(address, offered)
      return granted(address, offered)
    }),
    /** The number of the next offer. */
    next: () => count,
    grant: (address: Address, number: number): void => {
      const offered = open.get(keyOf(address))
      const sentAt = Option.fromUndefinedOr(offered?.sent.get(number))
      if (offered === undefined || Option.isNone(sentAt)) return
      offered.granted = Math.max(offered.granted, sentAt.value)
      Deferred.doneUnsafe(offered.heard, Effect.void)
    }
  }
}

export type Offers = ReturnType<typeof make>
