/**
 * How many calls to one topic are under way at a time. When servers refuse calls because they are full, it is halved as far as
 * servers have not told that they have them, and it grows again with every answer; further calls wait here, where they cost
 * nobody anything, instead of being sent and refused over and over. What a server has may take long, and tells nothing of how
 * full the others are: so where nothing moves, one of those that wait goes all the same, now and then.
 */
import * as Effect from "effect/Effect"

/** The part of one call in it. */
export interface Place {
  /** Waits until the call may be sent. */
  readonly enter: Effect.Effect<void>
  /** A server has the call. */
  readonly onTaken: () => void
  /** A server was full, and the place is given up. `now` is in milliseconds. */
  readonly onRefused: (now: number) => void
  /** Gives the place to the next call. Does nothing without one. */
  readonly leave: () => void
}

export interface Pace {
  readonly place: () => Place
  /** A server answered a call. */
  readonly onAnswered: () => void
  /** Time passes. `now` is in milliseconds. */
  readonly onTick: (now: number) => void
  readonly limit: () => number
}

/** Before anything is known of a topic. */
export const firstLimit = 256
const mostLimit = 10_000
/** Refusals that come together are one. */
const onceMs = 200
/** After how long one goes all the same; twice as long each time, until a server takes or answers a call. */
const firstTrialMs = 100
const longestTrialMs = 1000

/**
 * `isTold` says whether the servers tell when they have a call. Others are silent until they have answered, so that nothing
 * could raise the limit while calls are long; they are sent everything until one is full.
 */
export const make = (isTold: () => boolean): Pace => {
  let limit = firstLimit
  /** Until a server was full it doubles with every round. */
  let isRising = true
  let active = 0
  /** Those of which a server told that it has them. */
  let taken = 0
  let cutAt = Number.NEGATIVE_INFINITY
  let trialMs = firstTrialMs
  /** Since when somebody waits and nobody was let go. */
  let stuckAt: number | undefined
  const line = new Set<() => void>()

  const isFull = (): boolean => active >= Math.floor(limit) && (isTold() || !isRising)
  const admit = (): void => {
    for (const grant of line) {
      if (isFull()) return
      line.delete(grant)
      stuckAt = undefined
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
      let isTaken = false
      const waiting = new Set<() => void>()
      const grant = (): void => {
        active += 1
        hasPlace = true
        for (const resume of waiting) resume()
        waiting.clear()
      }
      const leave = (): void => {
        if (!hasPlace) return
        hasPlace = false
        active -= 1
        if (isTaken) taken -= 1
        isTaken = false
        admit()
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
        onTaken: () => {
          if (!hasPlace || isTaken) return
          isTaken = true
          taken += 1
          trialMs = firstTrialMs
          if (isRising) raise(1)
        },
        onRefused: (now) => {
          if (isTaken) taken -= 1
          isTaken = false
          isRising = false
          if (now - cutAt >= onceMs) {
            cutAt = now
            limit = Math.max(1, (taken + Math.min(limit, active)) / 2)
          }
          leave()
        },
        leave
      }
    },
    onAnswered: () => {
      trialMs = firstTrialMs
      raise(isRising ? 1 : 1 / limit)
    },
    onTick: (now) => {
      if (line.size === 0) {
        stuckAt = undefined
        return
      }
      stuckAt ??= now
      if (now - stuckAt < trialMs) return
      trialMs = Math.min(longestTrialMs, trialMs * 2)
      limit = Math.max(limit, active + 1)
      admit()
    }
  }
}
