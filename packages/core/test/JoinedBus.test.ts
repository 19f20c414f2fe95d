import * as Bus from "@skillscale/core/Bus"
import * as JoinedBus from "@skillscale/core/JoinedBus"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { eventually, suite } from "./busSuite.ts"

const bytes = (text: string): Uint8Array => Buffer.from(text)
const textOf = ({ frames }: Bus.Message): string => Buffer.concat(frames).toString()

suite(
  "a joined one",
  Effect.map(Effect.all([Bus.makeHub(), Bus.makeHub()]), ([one, other]): { connect: Bus.Hub["connect"] } => {
    // Publishers are with either; subscribers hear both.
    let turn = 0
    return {
      connect: Effect.gen(function*() {
        const buses = [yield* one.connect, yield* other.connect] as const
        const joined = yield* JoinedBus.make(...buses)
        const single = buses[turn++ % 2] ?? buses[0]
        return Bus.make({ publish: single.publish, subscription: joined.subscription })
      })
    }
  })
)

/** A bus that works, one that accepts nothing, and how many messages wait for that. */
const withStuck = Effect.gen(function*() {
  const hub = yield* Bus.makeHub()
  const open = yield* hub.connect
  let waiting = 0
  const stuck = Bus.make({
    publish: () => Effect.andThen(Effect.sync(() => waiting += 1), Effect.never),
    subscription: open.subscription
  })
  return { open, stuck, waiting: () => waiting }
})

describe("a joined bus", () => {
  const two = Effect.gen(function*() {
    const hubs = [yield* Bus.makeHub(), yield* Bus.makeHub()] as const
    const [left, right] = [yield* hubs[0].connect, yield* hubs[1].connect]
    const joined = yield* JoinedBus.make(yield* hubs[0].connect, yield* hubs[1].connect)
    const heard: Array<string> = []
    for (const [name, bus] of [["left", left], ["right", right]] as const) {
      const messages = yield* bus.subscription(["REPLY"])
      yield* Effect.forkScoped(
        Stream.runForEach(messages, (message) => Effect.sync(() => heard.push(`${name} ${textOf(message)}`)))
      )
    }
    return { heard, joined, left, right }
  })

  it.live("answers through the bus by which a message came, and publishes to all", () =>
    Effect.gen(function*() {
      const { heard, joined, left, right } = yield* two
      const messages = yield* joined.subscription(["ASK"])
      yield* Effect.forkScoped(
        Stream.runForEach(messages, ({ reply = joined.publish, ...message }) =>
          Effect.ignore(reply("REPLY", bytes(`to ${textOf(message)}`))))
      )
      yield* left.publish("ASK", bytes("one"))
      yield* right.publish("ASK", bytes("two"))
      yield* eventually("both answers", () =>
        heard.length === 2)
      assert.sameMembers(heard, ["left to one", "right to two"])
      heard.length = 0
      yield* joined.publish("REPLY", bytes("all"))
      yield* eventually("both copies", () => heard.length === 2)
      assert.sameMembers(heard, ["left all", "right all"])
    }))

  it.live("does not wait for a bus that accepts nothing, fails when none does, and bounds what waits for it", () =>
    Effect.gen(function*() {
      const { open, stuck, waiting } = yield* withStuck
      const failing = Bus.make({
        publish: () =>
          Effect.fail(
            new Bus.BusError({ operation: "publish", reason: new Bus.Unreachable({ address: "x", cause: null }) })
          ),
        subscription: open.subscription
      })
      const joined = yield* JoinedBus.make(stuck, open)
      for (let count = 0; count < 1100; count++) yield* joined.publish("A", bytes("x"))
      assert.strictEqual(waiting(), 1000)
      const none = yield* JoinedBus.make(failing, failing)
      assert.strictEqual((yield* Effect.flip(none.publish("A", bytes("x")))).reason._tag, "Unreachable")
      const full = yield* JoinedBus.make(stuck, failing)
      const filling = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 1000 }), () => full.publish("A", bytes("x")), { concurrency: "unbounded" })
      )
      yield* eventually("a full bus", () => waiting() === 2000)
      assert.strictEqual((yield* Effect.flip(full.publish("A", bytes("x")))).reason._tag, "Unreachable")
      filling.interruptUnsafe()
    }))

  it.live("drops what is more than 64 MiB on its way to one bus, for that alone", () =>
    Effect.gen(function*() {
      const { open, stuck, waiting } = yield* withStuck
      const joined = yield* JoinedBus.make(stuck, open)
      const large = new Uint8Array(16 * 1024 * 1024)
      for (let count = 0; count < 6; count++) yield* joined.publish("A", large)
      assert.strictEqual(waiting(), 4)
    }))

  it.live("tells every bus when a message expires", () =>
    Effect.gen(function*() {
      const hub = yield* Bus.makeHub()
      const { subscription } = yield* hub.connect
      const told: Array<Bus.PublishOptions | undefined> = []
      const member = Bus.make({
        publish: (_topic, _payload, options) => Effect.sync(() => void told.push(options)),
        subscription
      })
      const joined = yield* JoinedBus.make(member, member)
      yield* joined.publish("A", bytes("x"), { expiresInMs: 5 })
      assert.deepStrictEqual(told, [{ expiresInMs: 5 }, { expiresInMs: 5 }])
    }))

  it.live("publishes nothing after its close", () =>
    Effect.gen(function*() {
      const hub = yield* Bus.makeHub()
      const buses = [yield* hub.connect, yield* hub.connect] as const
      const joined = yield* Effect.scoped(JoinedBus.make(...buses))
      assert.strictEqual((yield* Effect.flip(joined.publish("A", bytes("x")))).reason._tag, "Closed")
    }))

  it.live("is the bus itself when there is one", () =>
    Effect.gen(function*() {
      const bus = yield* (yield* Bus.makeHub()).connect
      assert.strictEqual(yield* JoinedBus.make(bus), bus)
    }))
})
