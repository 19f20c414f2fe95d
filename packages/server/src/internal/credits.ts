/**
 * How much output of each call may be on its way to a caller that tells what it has read. A call waits while there is too
 * much, and with it its script, whose pipe is not read meanwhile.
 *
 * A caller that says twice that it read less than was sent, and nothing new for a second, did not get it: no more is sent then,
 * and the rest comes with the final response.
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Address, keyOf } from "./replies.ts"

/** After so many milliseconds nothing is on its way any more. */
const lostMs = 1000

interface Flow {
  sent: number
  sentAt: number
  isLost: boolean
  read: number
  heard: Deferred.Deferred<void>
}

/** Waits until an event of so many bytes may be sent, and tells whether it may: not any more when that took too long. */
export type Take = (bytes: number) => Effect.Effect<boolean>

export const make = ({ limitMs }: { readonly limitMs: number }) => {
  const open = new Map<string, Flow>()

  const waitFor = (flow: Flow, window: number, bytes: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const underWay = flow.sent - flow.read
      // Callers tell what they read when it is half of the window: below that they may have nothing left to tell.
      if (flow.isLost || underWay <= window / 2 || underWay + bytes <= window) return Effect.void
      flow.heard = Deferred.makeUnsafe()
      return Effect.andThen(Deferred.await(flow.heard), waitFor(flow, window, bytes))
    })

  return {
    begin: (address: Address, window: number): Effect.Effect<Take, never, Scope.Scope> =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const flow: Flow = { sent: 0, sentAt: 0, isLost: false, read: 0, heard: Deferred.makeUnsafe() }
          open.set(keyOf(address), flow)
          return flow
        }),
        () => Effect.sync(() => open.delete(keyOf(address)))
      ).pipe(Effect.map((flow): Take => {
        let isOver = false
        return (bytes) =>
          Effect.suspend(() => {
            if (isOver) return Effect.succeed(false)
            const waited = Effect.timeoutOption(waitFor(flow, window, bytes), limitMs)
            return Effect.zipWith(waited, Monotonic.millis, (waited, now) => {
              isOver = Option.isNone(waited) || flow.isLost
              if (isOver) return false
              flow.sent += bytes
              flow.sentAt = now
              return true
            })
          })
      })),
    /** The caller has read so many bytes since the call began. `now` is in milliseconds. */
    read: (address: Address, bytes: number, now: number): void => {
      const flow = open.get(keyOf(address))
      if (flow === undefined || bytes < flow.read) return
      if (bytes === flow.read) flow.isLost ||= bytes < flow.sent && now - flow.sentAt >= lostMs
      flow.read = bytes
      Deferred.doneUnsafe(flow.heard, Effect.void)
    }
  }
}

export type Credits = ReturnType<typeof make>
