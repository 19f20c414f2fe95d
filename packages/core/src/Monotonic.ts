/**
 * Time for budgets, leases and queues: it neither jumps nor goes back when somebody sets the time of day.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/**
 * Milliseconds since some moment, by this clock.
 *
 * @category getters
 * @since 0.1.0
 */
export const millisOf = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/**
 * Milliseconds since some moment.
 *
 * @category getters
 * @since 0.1.0
 */
export const millis: Effect.Effect<number> = Effect.map(Clock.Clock, millisOf)
