/**
 * The output of each call that is on its way to a caller that tells what it has read. A call waits while there is too much,
 * and with it its script, whose pipe is not read meanwhile.
 *
 * What the caller may not have read is kept, and given out again when it says that it stands still. One that does not get it
 * however often is sent no more: the rest comes with the final response.
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Address, keyOf } from "./replies.ts"

/** After so many milliseconds an event may be sent again, and after twice as many each further time. */
const againMs = 250
const mostTimes = 5
/** What is kept for one caller, whatever its window. */
const keptBytes = 16 * 1024 * 1024

interface Sent {
  readonly event: Protocol.Response
  readonly seq: number
  /** What was sent in all, with it. */
  readonly upTo: number
  sentAt: number
  times: number
}

interface Flow {
  sent: number
  /** How many events. */
  count: number
  kept: Array<Sent>
  isLost: boolean
  read: number
  heard: Deferred.Deferred<void>
}

/**
 * Numbers the next event, which is of so many bytes, once it may be sent, and tells what to send: nothing any more when that
 * took too long.
 */
export type Take = (
  bytes: number,
  make: (seq: number) => Protocol.Response
) => Effect.Effect<Protocol.Response | undefined>

/** For a caller that does not tell what it reads. */
export const unbounded = (): Take => {
  let count = 0
  return (_, make) => Effect.sync(() => make(count++))
}

const keep = (flow: Flow, event: Protocol.Response, now: number): void => {
  const { count: seq, kept, sent: upTo } = flow
  kept.push({ event, seq, upTo, sentAt: now, times: 0 })
  while (kept.length > 1 && upTo - (kept[0]?.upTo ?? upTo) > keptBytes) kept.shift()
}

const forgetRead = (flow: Flow): void => {
  const unread = flow.kept.findIndex(({ upTo }) => upTo > flow.read)
  flow.kept = unread === -1 ? [] : flow.kept.slice(unread)
}

/** What is to be sent again to a caller that waits for the event of this number. */
const again = (flow: Flow, next: number, now: number): ReadonlyArray<Protocol.Response> => {
  const missing = flow.kept.filter(({ seq }) => seq >= next)
  const [first] = missing
  if (first === undefined || now - first.sentAt < againMs * 2 ** first.times) return []
  if (first.seq > next || first.times === mostTimes) {
    flow.isLost = true
    return []
  }
  first.times += 1
  const due = missing.filter(({ sentAt }) => now - sentAt >= againMs)
  for (const sent of due) sent.sentAt = now
  return due.map(({ event }) => event)
}

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
          const flow: Flow = { sent: 0, count: 0, kept: [], isLost: false, read: 0, heard: Deferred.makeUnsafe() }
          open.set(keyOf(address), flow)
          return flow
        }),
        () => Effect.sync(() => open.delete(keyOf(address)))
      ).pipe(Effect.map((flow): Take => {
        let isOver = false
        return (bytes, make) =>
          Effect.suspend(() => {
            if (isOver) return Effect.succeed(undefined)
            const waited = Effect.timeoutOption(waitFor(flow, window, bytes), limitMs)
            return Effect.zipWith(waited, Monotonic.millis, (waited, now) => {
              isOver = Option.isNone(waited) || flow.isLost
              if (isOver) return undefined
              flow.sent += bytes
              const event = make(flow.count)
              keep(flow, event, now)
              flow.count += 1
              return event
            })
          })
      })),
    /**
     * The caller has read so many bytes since the call began, and waits for the event with the number `next` when it stands
     * still; one that does not tell the number, and reads nothing new, waits for what it has not read. Returns what to send
     * again. `now` is in milliseconds.
     */
    read: (
      address: Address,
      { bytes, next }: { readonly bytes: number; readonly next?: number | undefined },
      now: number
    ): ReadonlyArray<Protocol.Response> => {
      const flow = open.get(keyOf(address))
      if (flow === undefined || bytes < flow.read) return []
      const isStill = bytes === flow.read
      flow.read = bytes
      forgetRead(flow)
      const from = next ?? (isStill ? flow.kept[0]?.seq : undefined)
      const missed = from === undefined ? [] : again(flow, from, now)
      Deferred.doneUnsafe(flow.heard, Effect.void)
      return missed
    }
  }
}

export type Credits = ReturnType<typeof make>
