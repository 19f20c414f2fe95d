import * as Effect from "effect/Effect"

const latestMs = 20

/**
 * Work on the file system that nobody waits for. It competes with opening views, so it is done while a program that was
 * started just now runs, and at the latest after `latestMs`, on the machine's clock.
 */
export const make = () => {
  const waiting = new Set<() => void>()
  return {
    begun: () => {
      setImmediate(() => setImmediate(() => waiting.forEach((go) => go())))
    },
    wait: Effect.callback<void>((resume) => {
      const go = () => {
        clearTimeout(timer)
        waiting.delete(go)
        resume(Effect.void)
      }
      const timer = setTimeout(go, latestMs)
      waiting.add(go)
    })
  }
}
