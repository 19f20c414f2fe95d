import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds since some moment, which neither jump nor go back when somebody sets the time of day. */
export const millis: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)
