import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Lifecycle } from "./lifecycle.ts"

/** Works on a layer until the process is told to stop; a signal is then the ordinary end. */
export const hold = <A, E, R, E2 = never, R2 = never>(
  layer: Layer.Layer<A, E, R>,
  work: Effect.Effect<unknown, E2, R2> = Effect.never
) =>
  Effect.gen(function*() {
    const lifecycle = yield* Lifecycle
    lifecycle.serves = true
    const context = yield* Layer.build(layer)
    const drain = Effect.onInterrupt(Effect.never, () =>
      lifecycle.signal === undefined ? Effect.void : Effect.logInfo("draining; a second signal ends it at once"))
    return yield* Effect.raceFirst(Effect.provideContext(work, context), drain)
  }).pipe(Effect.scoped)
