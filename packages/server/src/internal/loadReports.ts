import type * as Bus from "@skillscale/core/Bus"
import * as Load from "@skillscale/core/Load"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Admission from "../Admission.ts"

/** What is told in this many milliseconds is told as one. */
export const intervalMs = 20

/** How often it is told at least: a proxy that was started meanwhile, or did not know the server yet, heard no load. */
export const beatMs = 1000

/** Whose load is told, and where. */
export interface Options {
  readonly bus: Bus.Bus["Service"]
  readonly topic: string
  readonly id: string
  readonly workers: number
}

const count = (value: number): number => Math.min(value, Load.maxCount)

/** Collects what changes and tells it to the proxy, at once when it begins, and now and then what has not changed. A load that cannot be sent is told later. */
export const make = (options: Options) => {
  const changed = Latch.makeUnsafe(false)
  let current: Admission.Load = { running: 0, queued: 0 }
  let received = 0
  let workers = count(options.workers)

  const tell = Effect.suspend(() => {
    changed.closeUnsafe()
    const load = { running: count(current.running), queued: count(current.queued), workers, received }
    return Effect.orDie(Effect.fromResult(Load.encode(load)))
  }).pipe(
    Effect.flatMap((payload) => options.bus.publish(Topic.load(options.topic, options.id), payload)),
    Effect.retry({ while: (error) => error.reason._tag !== "Closed", schedule: Schedule.spaced("1 second") })
  )

  const tellChanges = tell.pipe(
    Effect.andThen(changed.await),
    Effect.andThen(Effect.sleep(intervalMs)),
    Effect.forever,
    Effect.ignore
  )
  const beat = Effect.sleep(beatMs - intervalMs).pipe(
    Effect.andThen(Effect.forever(Effect.andThen(changed.open, Effect.sleep(beatMs))))
  )

  return {
    load: (load: Admission.Load): void => {
      current = load
      changed.openUnsafe()
    },
    received: (): void => {
      received += 1
      changed.openUnsafe()
    },
    /** From now on the server takes no more. */
    retire: (): void => {
      workers = 0
      changed.openUnsafe()
    },
    /** Tells the load until the bus is closed. */
    run: Effect.raceFirst(tellChanges, beat)
  }
}
