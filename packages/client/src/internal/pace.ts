/**
 * How many calls to one topic are under way at a time. When servers refuse calls because they are full, it is halved, and it grows
 * again with every answer; further calls wait here, where they cost nobody anything, instead of being sent and refused over
 * and over.
 */
import * as Effect from "effect/Effect"

/** The part of one call in it. */
export interface Place {
  /** Waits until the call may be sent. */
  readonly enter: Effect.Effect<void>
  /** Gives the place to the next call. Does nothing without one. */
  readonly leave: () => void
}

export interface Pace {
  readonly place: () => Place
  /** A server has a call. */
  readonly onTaken: () => void
  /** A server answered a call. */
  readonly onAnswered: () => void
  /** A server was full. `now` is in milliseconds. */
  readonly onRefused: (now: number) => void
  readonly limit: () => number
}

/** Before anything is known of a topic. */
export const firstLimit = 256
const mostLimit = 10_000
/** Refusals that come together are one. */
const onceMs = 200

/**
 * `isTold` says whether the servers tell when they have a call. Others are silent until they have answered, so that nothing
 * could raise the limit while calls are long; they are sent everything until one is full.
 */
export const make = (isTold: () => boolean): Pace => {
  let limit = firstLimit
  /** Until a server was full it doubles with every round. */
  let isRising = true
  let active = 0
  let cutAt = Number.NEGATIVE_INFINITY
  const line = new Set<() => void>()

  const isFull = (): boolean => active >= Math.floor(limit) && (isTold() || !isRising)
  const admit = (): void => {
    for (const grant of line) {
      if (isFull()) return
      line.delete(grant)
      grant()
    }
  }
  const raise = (by: number): void => {
    limit = Math.min(mostLimit, limit + by)
    admit()
  }

  return {
    limit: () => Math.floor(limit),
    place: () => {
      let hasPlace = false
      const waiting = new Set<() => void>()
      const grant = (): void => {
        active += 1
        hasPlace = true
        for (const resume of waiting) resume()
        waiting.clear()
      }
      return {
        enter: Effect.callback<void>((resume) => {
          if (hasPlace) return resume(Effect.void)
          const enter = () => resume(Effect.void)
          waiting.add(enter)
          line.add(grant)
          admit()
          return Effect.sync(() => {
            waiting.delete(enter)
            if (waiting.size === 0) line.delete(grant)
          })
        }),
        leave: () => {
          if (!hasPlace) return
          hasPlace = false
          active -= 1
          admit()
        }
      }
    },
    onTaken: () => {
      if (isRising) raise(1)
    },
    onAnswered: () => raise(isRising ? 1 : 1 / limit),
    onRefused: (now) => {
      isRising = false
      if (now - cutAt < onceMs) return
      cutAt = now
      limit = Math.max(1, Math.min(limit, active) / 2)
    }
  }
}
