/**
 * A bus in the hand of a test: what passes is seen, and can be lost, repeated and held back, in both directions, whatever
 * carries it.
 */
import * as Bus from "@skillscale/core/Bus"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** A message on its way out of a peer, or into it. */
export interface Passing {
  readonly way: "out" | "in"
  readonly topic: string
  readonly message: Readonly<Record<string, unknown>>
}

export interface Wire {
  readonly bus: Bus.Bus["Service"]
  /** All that was to pass, in order, what was lost included. */
  readonly seen: ReadonlyArray<Passing>
  /** How many copies of a message arrive: 0 loses it. It may freeze the wire, and then holds this message back, too. */
  rule: (passing: Passing) => number
  /** From now on messages are held back, in both directions. */
  readonly freeze: () => void
  /** Lets all of them go, in their order. */
  readonly thaw: Effect.Effect<void>
  /** Nothing passes any more, and the connections end, as when the peer's process is killed. */
  readonly cut: Effect.Effect<void>
}

const read = (payload: Uint8Array | undefined): Readonly<Record<string, unknown>> =>
  JSON.parse(Buffer.from(payload ?? "").toString())

/** Connects through a wire. */
export const make = Effect.fnUntraced(function*<E>(
  connect: Effect.Effect<Bus.Bus["Service"], E, Scope.Scope>
): Effect.fn.Return<Wire, E, Scope.Scope> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const bus = yield* Scope.provide(connect, scope)
  const seen: Array<Passing> = []
  const flowing = Latch.makeUnsafe(true)
  let held: Array<Effect.Effect<void, Bus.BusError>> | undefined
  let isCut = false

  const copiesOf = (way: Passing["way"], topic: string, payload: Uint8Array | undefined): number => {
    const passing = { way, topic, message: read(payload) }
    seen.push(passing)
    return isCut ? 0 : wire.rule(passing)
  }

  const through = (publish: Bus.Publish): Bus.Publish => (topic, payload, options) =>
    Effect.suspend(() => {
      const copies = copiesOf("out", topic, payload)
      const send = Effect.forEach(
        Array.from({ length: copies }),
        () => isCut ? Effect.void : publish(topic, payload, options),
        { discard: true }
      )
      if (held === undefined) return send
      held.push(send)
      return Effect.void
    })

  const arrive = (message: Bus.Message) =>
    Effect.suspend(() => {
      const copies = copiesOf("in", message.topic, message.frames[0])
      const whole = message.reply === undefined ? message : { ...message, reply: through(message.reply) }
      return Effect.map(flowing.await, () => Array.from({ length: isCut ? 0 : copies }, () => whole))
    })

  const wire: Wire = {
    bus: Bus.make({
      publish: through(bus.publish),
      subscription: (topics) =>
        Effect.map(
          bus.subscription(topics),
          (messages) => messages.pipe(Stream.mapEffect(arrive), Stream.flatMap((copies) => Stream.fromIterable(copies)))
        ),
      restored: bus.restored,
      broken: bus.broken
    }),
    seen,
    rule: () => 1,
    freeze: () => {
      held ??= []
      flowing.closeUnsafe()
    },
    thaw: Effect.suspend(() => {
      const sends = held ?? []
      held = undefined
      return Effect.andThen(Effect.ignore(Effect.forEach(sends, (send) => send, { discard: true })), flowing.open)
    }),
    cut: Effect.suspend(() => {
      isCut = true
      return Effect.andThen(flowing.open, Scope.close(scope, Exit.void))
    })
  }
  yield* Effect.addFinalizer(() => wire.thaw)
  return wire
})
