import * as Bus from "@skillscale/core/Bus"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { suite } from "./busSuite.ts"

suite("memory", Bus.makeHub())

it.effect("a full subscription drops for itself alone", () =>
  Effect.gen(function*() {
    const hub = yield* Bus.makeHub({ capacity: 2 })
    const bus = yield* hub.connect
    const stream = yield* bus.subscription(["A"])
    yield* Effect.forEach(["1", "2", "3"], (text) => bus.publish("A", Buffer.from(text)))
    const kept = yield* stream.pipe(Stream.take(2), Stream.runCollect)
    yield* bus.publish("A", Buffer.from("4"))
    const next = yield* stream.pipe(Stream.take(1), Stream.runCollect)
    assert.deepStrictEqual([...kept, ...next].map((message) => Buffer.concat(message.frames).toString()), [
      "1",
      "2",
      "4"
    ])
  }))

it.effect("subscribe lives as long as its stream", () =>
  Effect.gen(function*() {
    const bus = yield* Bus.Bus
    const fiber = yield* bus.subscribe("A").pipe(
      Stream.take(1),
      Stream.runCollect,
      Effect.forkChild({ startImmediately: true })
    )
    yield* Effect.yieldNow
    yield* bus.publish("A", Buffer.from("1"))
    yield* Effect.yieldNow
    assert.isDefined(fiber.pollUnsafe())
  }).pipe(Effect.provide(Bus.layerMemory)))

it.effect("errors say what failed and with which value", () =>
  Effect.sync(() => {
    const error = new Bus.BusError({ operation: "publish", reason: new Bus.TooLarge({ bytes: 9, maxBytes: 8 }) })
    assert.strictEqual(error.message, "cannot publish: 9 bytes are more than the limit of 8")
  }))
