import * as Announcement from "@skillscale/core/Announcement"
import type * as Bus from "@skillscale/core/Bus"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"

/** Who announces what, and when it may have changed. */
export interface Options {
  readonly bus: Bus.Bus["Service"]
  readonly topic: string
  readonly id: string
  readonly revision: Effect.Effect<string>
  readonly changes: Stream.Stream<unknown>
}

/** Tells who follows the catalog which revision of it this server has: at once when it changes, and now and then. */
export const make = ({ bus, changes, id, revision, topic }: Options) => {
  let announced: string | undefined

  const publish = (revision?: string) =>
    Effect.orDie(
      Effect.fromResult(Announcement.encode({ server: id, topic, ...revision === undefined ? {} : { revision } }))
    ).pipe(Effect.flatMap((payload) => bus.publish(Topic.announcements, payload)))

  const announce = Effect.suspend(() => publish(announced)).pipe(
    Effect.retry({ while: (error) => error.reason._tag !== "Closed", schedule: Schedule.spaced("1 second") })
  )

  const onChange = Effect.flatMap(revision, (current) => {
    const hasChanged = announced !== current
    announced = current
    return hasChanged ? announce : Effect.void
  })

  const beat = Effect.sleep(Announcement.intervalMs).pipe(Effect.andThen(announce), Effect.forever)

  return {
    /** Announces until the bus is closed. */
    run: onChange.pipe(
      Effect.andThen(Effect.raceFirst(Stream.runForEach(changes, () => onChange), beat)),
      Effect.ignore
    ),
    /** Takes leave, if the bus accepts that within a second. */
    leave: Effect.ignore(Effect.timeoutOption(publish(), "1 second"))
  }
}
