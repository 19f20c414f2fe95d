import * as Bus from "@skillscale/core/Bus"
import * as FailoverBus from "@skillscale/core/FailoverBus"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { eventually, suite } from "./busSuite.ts"

const bytes = (text: string): Uint8Array => Buffer.from(text)
const textOf = ({ frames }: Bus.Message): string => Buffer.concat(frames).toString()
const quiet = Effect.provideService(References.MinimumLogLevel, "None")

suite(
  "one of two",
  Effect.map(Effect.all([Bus.makeHub(), Bus.makeHub()]), ([hub]): { connect: Bus.Hub["connect"] } => ({
    connect: Effect.orDie(
      FailoverBus.make([{ name: "one", connect: hub.connect }, { name: "same", connect: hub.connect }])
    )
  }))
)

/** A bus that can be cut off: nothing that is published arrives anywhere, and nobody is told. */
const faulty = Effect.gen(function*() {
  const hub = yield* Bus.makeHub()
  const state = { cut: false, connected: 0, published: 0 }
  const connect = Effect.map(hub.connect, (bus) => {
    state.connected += 1
    return Bus.make({
      publish: (topic, payload) =>
        Effect.suspend(() => {
          state.published += 1
          return state.cut ? Effect.void : bus.publish(topic, payload)
        }),
      subscription: bus.subscription
    })
  })
  return { hub, state, connect }
})

/** Two of them, the first of which comes first, and what is heard on it. */
const pair = (options?: FailoverBus.Options) =>
  Effect.gen(function*() {
    const [one, other] = [yield* faulty, yield* faulty]
    const bus = yield* FailoverBus.make([
      { name: "one", connect: one.connect },
      { name: "other", connect: other.connect }
    ], options).pipe(
      Effect.provideService(Random.Random, {
        ...yield* Random.Random,
        nextIntUnsafe: () => 0,
        nextDoubleUnsafe: () => 0
      })
    )
    const heard: Array<string> = []
    let restored = 0
    yield* Effect.forkScoped(Stream.runForEach(bus.restored, () => Effect.sync(() => restored += 1)))
    const messages = yield* bus.subscription(["A"])
    yield* Effect.forkScoped(
      Stream.runForEach(messages, (message) => Effect.sync(() => heard.push(textOf(message))))
    )
    return { bus, heard, one, other, restored: () => restored }
  })

const pass = (ms: number) =>
  Effect.forEach(Array.from({ length: ms / 50 }), () => TestClock.adjust(50), { discard: true })

describe("a bus with another one to fall back on", () => {
  it.effect("changes to it when it falls silent, hears there, and tells", () =>
    Effect.gen(function*() {
      const { bus, heard, one, other, restored } = yield* pair()
      yield* pass(500)
      yield* bus.publish("A", bytes("first"))
      yield* pass(500)
      assert.deepStrictEqual(heard, ["first"])
      one.state.cut = true
      yield* bus.publish("A", bytes("lost"))
      yield* pass(700)
      assert.strictEqual(other.state.connected, 0)
      yield* pass(800)
      assert.deepStrictEqual([heard, restored(), other.state.connected], [["first"], 1, 1])
      yield* bus.publish("A", bytes("second"))
      yield* pass(100)
      assert.deepStrictEqual(heard, ["first", "second"])
    }).pipe(quiet))

  it.effect("changes to it when nothing that is published comes back, though others are heard", () =>
    Effect.gen(function*() {
      const { bus, heard, one, other } = yield* pair()
      const peer = yield* one.hub.connect
      yield* bus.publish("A", bytes("first"))
      yield* Effect.forkScoped(Effect.repeat(peer.publish("A", bytes("other")), Schedule.spaced(100)))
      yield* pass(20_000)
      assert.strictEqual(other.state.connected, 0)
      one.state.cut = true
      yield* pass(3900)
      assert.strictEqual(other.state.connected, 0)
      yield* pass(2200)
      assert.strictEqual(other.state.connected, 1)
      yield* bus.publish("A", bytes("second"))
      yield* pass(100)
      assert.strictEqual(heard.at(-1), "second")
    }).pipe(quiet))

  it.live("changes to it at once when its connection ends, if it ever heard there", () =>
    Effect.gen(function*() {
      const hub = yield* Bus.makeHub()
      const other = yield* faulty
      const ends = new Set<(why: string) => void>()
      const end = () => ends.forEach((tell) => tell("it ended"))
      const broken = Stream.callback<string>((queue) =>
        Effect.sync(() => ends.add((why) => void Queue.offerUnsafe(queue, why)))
      )
      let isDeaf = true
      const one = Effect.map(hub.connect, (bus) =>
        Bus.make({
          publish: (topic, payload) => Effect.suspend(() => isDeaf ? Effect.void : bus.publish(topic, payload)),
          subscription: bus.subscription,
          broken
        }))
      const bus = yield* FailoverBus.make([
        { name: "one", connect: one },
        { name: "other", connect: other.connect }
      ], { silence: "1 minute" }).pipe(
        Effect.provideService(Random.Random, {
          ...yield* Random.Random,
          nextIntUnsafe: () => 0,
          nextDoubleUnsafe: () => 0
        })
      )
      const heard: Array<string> = []
      const messages = yield* bus.subscription(["A"])
      yield* Effect.forkScoped(
        Stream.runForEach(messages, (message) => Effect.sync(() => heard.push(textOf(message))))
      )
      yield* eventually("it listens", () => ends.size > 0)
      end()
      isDeaf = false
      yield* bus.publish("A", bytes("1"))
      yield* eventually("the first message", () => heard.length === 1)
      assert.strictEqual(other.state.connected, 0)
      // The message was heard, and so was what came before it.
      yield* Effect.suspend(() => {
        end()
        return other.state.connected === 0 ? Effect.fail("it stays") : Effect.void
      }).pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("5 seconds"))
      yield* eventually("it hears there", () => other.state.published > 0)
      yield* bus.publish("A", bytes("2"))
      yield* eventually("the second message", () => heard.length === 2)
    }).pipe(quiet))

  it.effect("comes back when the other falls silent, too", () =>
    Effect.gen(function*() {
      const { bus, heard, one, other } = yield* pair()
      yield* pass(500)
      one.state.cut = true
      yield* pass(2000)
      other.state.cut = true
      one.state.cut = false
      yield* pass(2000)
      yield* bus.publish("A", bytes("again"))
      yield* pass(100)
      assert.deepStrictEqual(heard, ["again"])
    }).pipe(quiet))

  it.effect("takes the time that a bus needed to refuse from the time that the message has", () =>
    Effect.gen(function*() {
      const hub = yield* Bus.makeHub()
      const told: Array<number | undefined> = []
      const refuse = new Bus.BusError({ operation: "publish", reason: new Bus.Backpressure({ timeoutMs: 300 }) })
      const member = (name: string, refuses: boolean): FailoverBus.Member => ({
        name,
        connect: Effect.map(hub.connect, ({ publish, subscription }) =>
          Bus.make({
            publish: (topic, payload, options) => {
              if (topic !== "A") return publish(topic, payload)
              told.push(options?.expiresInMs)
              return refuses ? Effect.andThen(Effect.sleep(300), Effect.fail(refuse)) : Effect.void
            },
            subscription
          }))
      })
      const bus = yield* FailoverBus.make([member("one", true), member("two", true), member("three", false)]).pipe(
        Effect.provideService(Random.Random, {
          ...yield* Random.Random,
          nextIntUnsafe: () => 0,
          nextDoubleUnsafe: () => 0
        })
      )
      yield* Effect.forkScoped(
        bus.publish("A", bytes("x"), { expiresInMs: 500 }),
        { startImmediately: true }
      )
      yield* pass(700)
      assert.deepStrictEqual(told, [500, 200, 0])
      yield* bus.publish("A", bytes("x"))
      assert.deepStrictEqual(told, [500, 200, 0, undefined])
    }).pipe(quiet))

  it.effect("stays while there are signs of life, and asks for none when nothing is said for 10 s", () =>
    Effect.gen(function*() {
      const { one, other } = yield* pair()
      yield* pass(9000)
      assert.isAbove(one.state.published, 20)
      yield* pass(5000)
      const { published } = one.state
      yield* pass(60_000)
      assert.deepStrictEqual([one.state.published - published, other.state.connected], [0, 0])
    }).pipe(quiet))

  it.effect("notices after a silence of its own what happened meanwhile", () =>
    Effect.gen(function*() {
      const { bus, heard, one, restored } = yield* pair()
      yield* pass(30_000)
      one.state.cut = true
      yield* pass(30_000)
      assert.strictEqual(restored(), 0)
      yield* bus.publish("A", bytes("lost"))
      yield* pass(1500)
      assert.deepStrictEqual([heard, restored()], [[], 1])
    }).pipe(quiet))

  it.effect("is patient for as long as it is told", () =>
    Effect.gen(function*() {
      const { one, other } = yield* pair({ silence: "5 seconds" })
      yield* pass(500)
      one.state.cut = true
      yield* pass(4500)
      assert.strictEqual(other.state.connected, 0)
      yield* pass(1000)
      assert.strictEqual(other.state.connected, 1)
    }).pipe(quiet))

  it.effect("does not fail as closed what waited in buses that were left meanwhile", () =>
    Effect.gen(function*() {
      const hub = yield* Bus.makeHub()
      const back = Latch.makeUnsafe(false)
      const taken: Array<string> = []
      /** What is published waits until the proxy is back, or the bus is closed. */
      const connect = Effect.gen(function*() {
        const bus = yield* hub.connect
        const left = yield* Deferred.make<never, Bus.BusError>()
        const closed = new Bus.BusError({ operation: "publish", reason: new Bus.Closed() })
        yield* Effect.addFinalizer(() => Deferred.fail(left, closed))
        return Bus.make({
          publish: (topic, payload) =>
            Effect.raceFirst(Deferred.await(left), back.await).pipe(
              Effect.andThen(Effect.sync(() => topic === "A" && taken.push(Buffer.from(payload).toString()))),
              Effect.andThen(bus.publish(topic, payload))
            ),
          subscription: bus.subscription
        })
      })
      const bus = yield* FailoverBus.make([{ name: "one", connect }, { name: "two", connect }])
      yield* Effect.forkScoped(Stream.runDrain(yield* bus.subscription(["A"])))
      const publishing = yield* Effect.forkChild(bus.publish("A", bytes("x")), { startImmediately: true })
      // One is left after a second of silence, the other after 2 s.
      yield* pass(4000)
      back.openUnsafe()
      yield* pass(500)
      assert.deepStrictEqual(publishing.pollUnsafe(), Exit.void)
      assert.deepStrictEqual(taken, ["x"])
      back.closeUnsafe()
      const failing = yield* Effect.forkChild(Effect.flip(bus.publish("A", bytes("y"))), { startImmediately: true })
      yield* pass(20_000)
      assert.strictEqual((yield* Fiber.join(failing)).reason._tag, "Unreachable")
    }).pipe(quiet))

  it.effect("comes first as often as each of the others", () =>
    Effect.gen(function*() {
      const chosen: Array<string> = []
      const hub = yield* Bus.makeHub()
      const members = ["one", "two", "three"].map((name): FailoverBus.Member => ({
        name,
        connect: Effect.tap(hub.connect, () => Effect.sync(() => chosen.push(name)))
      }))
      const [first = assert.fail(), ...others] = members
      for (const share of [0, 0.32, 0.34, 0.66, 0.67, 0.999]) {
        yield* Effect.scoped(FailoverBus.make([first, ...others])).pipe(
          Effect.provideService(Random.Random, {
            ...yield* Random.Random,
            nextIntUnsafe: () => 0,
            nextDoubleUnsafe: () => share
          })
        )
      }
      assert.deepStrictEqual(chosen, ["one", "one", "two", "two", "three", "three"])
    }).pipe(quiet))

  it.live("publishes to the next what one refuses, and says so when all do", () =>
    Effect.gen(function*() {
      const hub = yield* Bus.makeHub()
      const said: Array<string> = []
      const refuse = new Bus.BusError({
        operation: "publish",
        reason: new Bus.Unreachable({ address: "x", cause: null })
      })
      const refusing = Effect.map(hub.connect, (bus) =>
        Bus.make({ publish: () => Effect.fail(refuse), subscription: bus.subscription }))
      const logger = Logger.make(({ message }) =>
        void said.push(String(message))
      )
      yield* Effect.gen(function*() {
        const bus = yield* FailoverBus.make([
          { name: "bad", connect: refusing },
          { name: "good", connect: hub.connect }
        ])
        const heard: Array<string> = []
        const messages = yield* (yield* hub.connect).subscription(["A"])
        yield* Effect.forkScoped(
          Stream.runForEach(messages, (message) => Effect.sync(() => heard.push(textOf(message))))
        )
        yield* bus.publish("A", bytes("1"))
        yield* eventually("the message", () => heard.length === 1)
        const none = yield* FailoverBus.make([{ name: "bad", connect: refusing }, { name: "worse", connect: refusing }])
        assert.strictEqual(yield* Effect.flip(none.publish("A", bytes("2"))), refuse)
        assert.include(said, "changing the proxy")
      }).pipe(Effect.provide(Logger.layer([logger])))
    }))
})
