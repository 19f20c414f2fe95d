/**
 * The time of a simulation: what happens later in it, and the clocks of its processes, which stand still while these do.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"

/** Does things later, those of one moment in the order in which they were asked for. */
export const makeAgenda = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const run = yield* FiberSet.makeRuntime<never>()
  const due = new Map<number, Array<() => void>>()
  const now = () => clock.currentTimeMillisUnsafe()
  const at = (time: number, action: () => void): void => {
    const moment = Math.max(Math.ceil(time), now() + 1)
    const known = due.get(moment)
    if (known !== undefined) return void known.push(action)
    const actions = [action]
    due.set(moment, actions)
    run(Effect.map(clock.sleep(Duration.millis(moment - now())), () => {
      due.delete(moment)
      for (const act of actions) act()
    }))
  }
  return { clock, now, at }
})

/** The clock of a process that is halted until then. `onSleep` hears when a timer begins, as 1, and when it is over, as -1. */
export const clockOf = (
  clock: Clock.Clock,
  haltedUntil: () => number,
  onSleep: (change: number) => void
): Clock.Clock => {
  const awake: Effect.Effect<void> = Effect.suspend(() => {
    const ms = Math.ceil(haltedUntil() - clock.currentTimeMillisUnsafe())
    return ms <= 0 ? Effect.void : Effect.andThen(clock.sleep(Duration.millis(ms)), awake)
  })
  return {
    ...clock,
    sleep: (duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => onSleep(1)),
        () => Effect.andThen(clock.sleep(duration), awake),
        () => Effect.sync(() => onSleep(-1))
      )
  }
}
