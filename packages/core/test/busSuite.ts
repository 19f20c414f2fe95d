/**
 * What every bus does, run once per implementation.
 */
import * as Bus from "@skillscale/core/Bus"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** Buses that reach each other. */
export interface Net {
  readonly connect: Effect.Effect<Bus.Bus["Service"], Bus.BusError, Scope.Scope>
}

const bytes = (text: string): Uint8Array => Buffer.from(text)
const textOf = (message: Bus.Message): string => Buffer.concat(message.frames).toString()

/** Waits until `condition` holds, and dies with `what` when it does not within ten seconds. */
export const eventually = (what: string, condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.fail(what)).pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error(`never: ${what}`)) }),
    Effect.orDie
  )

let probes = 0

/** Publishes probes until `heard` says that one arrived. Subscriptions of a remote peer take effect a little later. */
const probe = (net: Net, topic: string, heard: () => boolean) =>
  Effect.gen(function*() {
    const bus = yield* net.connect
    yield* bus.publish(topic, bytes("probe")).pipe(
      Effect.andThen(Effect.suspend(() => heard() ? Effect.void : Effect.fail("not yet"))),
      Effect.retry(Schedule.spaced("10 millis")),
      Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error("no subscription")) })
    )
  }).pipe(Effect.scoped, Effect.orDie)

/** Subscribes, and collects everything that comes. Live when it returns. */
export const collect = Effect.fnUntraced(function*(net: Net, ...topics: ReadonlyArray<string>) {
  const bus = yield* net.connect
  const probeTopic = `PROBE_${process.pid}_${probes++}`
  const stream = yield* bus.subscription([...topics, probeTopic])
  const messages: Array<Bus.Message> = []
  let isLive = false
  yield* stream.pipe(
    Stream.runForEach((message) =>
      Effect.sync(() => {
        if (message.topic === probeTopic) {
          isLive = true
        } else {
          messages.push(message)
        }
      })
    ),
    Effect.forkScoped
  )
  yield* probe(net, probeTopic, () => isLive)
  return messages
})

/** Subscribes without pulling. Live when it returns. */
export const subscribeIdle = Effect.fnUntraced(function*(net: Net, topic: string) {
  const bus = yield* net.connect
  const stream = yield* bus.subscription([topic])
  let isLive = false
  const first = yield* stream.pipe(
    Stream.take(1),
    Stream.runDrain,
    Effect.tap(() =>
      Effect.sync(() => {
        isLive = true
      })
    ),
    Effect.forkScoped
  )
  yield* probe(net, topic, () => isLive)
  void first
  return stream
})

/** What a net does beyond publish and subscribe. */
export interface Capabilities {
  /** Gives a message on a skill topic to one of its subscriptions. */
  readonly replicas: boolean
}

/** Runs the suite on nets that `makeNet` builds, one per test. */
export const suite = <E>(
  name: string,
  makeNet: Effect.Effect<Net, E, Scope.Scope>,
  capabilities: Capabilities = { replicas: true }
): void => {
  describe(`${name}: a bus`, () => {
    it.live("delivers to exact topics only", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const messages = yield* collect(net, "TOPIC_A")
        for (const topic of ["TOPIC_", "TOPIC_AB", "TOPIC", "topic_a", "TOPIC_A"]) {
          yield* bus.publish(topic, bytes(topic))
        }
        yield* eventually("one message", () => messages.length > 0)
        assert.deepStrictEqual(messages.map((message) => [message.topic, textOf(message)]), [["TOPIC_A", "TOPIC_A"]])
      }))

    it.live("keeps the order of one publisher", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const messages = yield* collect(net, "TOPIC_A", "TOPIC_B")
        const sent = Array.from({ length: 2000 }, (_, index) => String(index))
        yield* Effect.forEach(sent, (text, index) => bus.publish(index % 3 === 0 ? "TOPIC_B" : "TOPIC_A", bytes(text)))
        yield* eventually("2,000 messages", () => messages.length >= sent.length)
        assert.deepStrictEqual(messages.map(textOf), sent)
      }))

    it.live("delivers to every subscriber, each its own topics", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const one = yield* collect(net, "A")
        const both = yield* collect(net, "A", "B")
        const other = yield* collect(net, "B")
        yield* bus.publish("A", bytes("1"))
        yield* bus.publish("B", bytes("2"))
        yield* eventually("every message", () => one.length + both.length + other.length >= 4)
        assert.deepStrictEqual([one, both, other].map((messages) => messages.map(textOf)), [["1"], ["1", "2"], ["2"]])
      }))

    it.live("carries any bytes of any size", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const messages = yield* collect(net, "TOPIC_A")
        const payloads = [0, 1, 255, 256, 65_536, 1024 * 1024, 16 * 1024 * 1024].map((size) =>
          Buffer.alloc(size, Buffer.from([0, 255, 128, 10, size & 255]))
        )
        yield* Effect.forEach(payloads, (payload) => bus.publish("TOPIC_A", payload))
        yield* eventually("every payload", () => messages.length >= payloads.length)
        messages.forEach((message, index) => {
          assert.strictEqual(message.frames.length, 1)
          assert.isTrue(Buffer.from(message.frames[0] ?? []).equals(payloads[index] ?? Buffer.alloc(1)), String(index))
        })
      }))

    it.live("delivers once to a topic that was named twice, in any script", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const messages = yield* collect(net, "ΘΕΜΑ ✓", "ΘΕΜΑ ✓")
        yield* bus.publish("ΘΕΜΑ ✓", bytes("1"))
        yield* bus.publish("ΘΕΜΑ ✓", bytes("2"))
        yield* eventually("the second message", () => messages.some((message) => textOf(message) === "2"))
        assert.deepStrictEqual(messages.map((message) => [message.topic, textOf(message)]), [
          ["ΘΕΜΑ ✓", "1"],
          ["ΘΕΜΑ ✓", "2"]
        ])
      }))

    it.live("divides a subscription among those who pull it, without loss", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const stream = yield* subscribeIdle(net, "NEWS")
        const heard: Array<string> = []
        const pull = stream.pipe(Stream.runForEach((message) => Effect.sync(() => heard.push(textOf(message)))))
        yield* Effect.forEach([0, 1, 2], () => Effect.forkScoped(pull))
        const sent = Array.from({ length: 500 }, (_, index) => String(index))
        yield* Effect.forEach(sent, (text) => bus.publish("NEWS", bytes(text)), { discard: true })
        const heardSent = () => heard.filter((text) => text !== "probe").sort((a, b) => Number(a) - Number(b))
        yield* eventually("500 messages", () => heardSent().length >= sent.length)
        assert.deepStrictEqual(heardSent(), sent)
      }))

    it.live("an interrupted publish happened once or not at all", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const messages = yield* collect(net, "NEWS")
        const sent = Array.from({ length: 300 }, (_, index) => String(index))
        yield* Effect.forEach(sent, (text) =>
          Effect.gen(function*() {
            const publish = yield* Effect.forkChild(bus.publish("NEWS", bytes(text)))
            yield* Number(text) % 2 === 0 ? Effect.yieldNow : Effect.void
            yield* Fiber.interrupt(publish)
          }))
        yield* bus.publish("NEWS", bytes("last"))
        yield* eventually("the last message", () => messages.some((message) => textOf(message) === "last"))
        const heard = messages.map(textOf).filter((text) => text !== "last")
        assert.deepStrictEqual(heard, sent.filter((text) => heard.includes(text)))
      }))

    it.live("ends a subscription with its scope", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const kept = yield* collect(net, "NEWS")
        const scope = yield* Scope.make()
        const ended = yield* collect(net, "NEWS").pipe(Scope.provide(scope))
        yield* bus.publish("NEWS", bytes("1"))
        yield* eventually("both heard it", () => kept.length === 1 && ended.length === 1)
        yield* Scope.close(scope, Exit.void)
        yield* bus.publish("NEWS", bytes("2"))
        yield* eventually("the other heard it", () => kept.length === 2)
        assert.deepStrictEqual(ended.map(textOf), ["1"])
      }))

    if (capabilities.replicas) {
      it.live("gives a message on a skill topic to one of its subscriptions, all of which get some", () =>
        Effect.gen(function*() {
          const net = yield* makeNet
          const bus = yield* net.connect
          const replicas = [
            yield* collect(net, "TOPIC_A"),
            yield* collect(net, "TOPIC_A"),
            yield* collect(net, "TOPIC_A")
          ]
          const sent = Array.from({ length: 30 }, (_, index) => String(index))
          yield* Effect.forEach(sent, (text) => bus.publish("TOPIC_A", bytes(text)), { discard: true })
          yield* eventually("all of them", () => replicas.flat().length >= sent.length)
          // A subscription that comes or goes elsewhere may begin the round anew.
          assert.isTrue(
            replicas.every((messages) => messages.length >= 5),
            String(replicas.map((messages) => messages.length))
          )
          const heard = replicas.flat().map(textOf).sort((a, b) => Number(a) - Number(b))
          assert.deepStrictEqual(heard, sent)
        }))
    }

    it.live("loses nothing to interrupted pulls", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const stream = yield* subscribeIdle(net, "TOPIC_A")
        const sent = Array.from({ length: 300 }, (_, index) => String(index))
        // At the pace at which pulls are interrupted, so that messages come at the moment of an interruption.
        yield* Effect.forEach(sent, (text, index) =>
          Effect.andThen(bus.publish("TOPIC_A", bytes(text)), index % 7 === 0 ? Effect.sleep("1 millis") : Effect.void))
          .pipe(Effect.forkScoped)
        const heard: Array<string> = []
        let interrupted = 0
        const deadline = Date.now() + 10_000
        while (heard.length < sent.length && Date.now() < deadline) {
          const next = yield* stream.pipe(Stream.take(1), Stream.runHead, Effect.timeoutOption("1 millis"))
          if (Option.isNone(next)) {
            interrupted += 1
          } else if (Option.isSome(next.value) && textOf(next.value.value) !== "probe") {
            heard.push(textOf(next.value.value))
          }
        }
        assert.deepStrictEqual(heard, sent)
        assert.isAbove(interrupted, 0)
      }))

    it.live("fails with Closed after its close, and ends its subscriptions", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const scope = yield* Scope.make()
        const bus = yield* net.connect.pipe(Scope.provide(scope))
        const stream = yield* bus.subscription(["TOPIC_A"])
        let isPulled = false
        const running = yield* stream.pipe(
          Stream.runForEach(() =>
            Effect.sync(() => {
              isPulled = true
            })
          ),
          Effect.flip,
          Effect.forkScoped
        )
        yield* probe(net, "TOPIC_A", () => isPulled)
        yield* Scope.close(scope, Exit.void)
        const publish = yield* Effect.flip(bus.publish("TOPIC_A", bytes("1")))
        const subscribe = yield* Effect.flip(bus.subscription(["TOPIC_A"]))
        yield* eventually("the stream ends", () => running.pollUnsafe() !== undefined)
        const ended = running.pollUnsafe()
        assert.strictEqual(publish.reason._tag, "Closed")
        assert.strictEqual(subscribe.reason._tag, "Closed")
        assert.isTrue(ended !== undefined && Exit.isSuccess(ended) && ended.value.reason._tag === "Closed")
      }))

    it.live("loses nothing to a clean close", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const messages = yield* collect(net, "TOPIC_A")
        const sent = Array.from({ length: 1000 }, (_, index) => String(index).padEnd(500, "."))
        yield* Effect.scoped(Effect.gen(function*() {
          const bus = yield* net.connect
          yield* Effect.forEach(sent, (text) => bus.publish("TOPIC_A", bytes(text)), { discard: true })
        }))
        yield* eventually("1,000 messages", () => messages.length >= sent.length)
        assert.deepStrictEqual(messages.map(textOf), sent)
      }))

    it.live("takes concurrent publishes", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const messages = yield* collect(net, "TOPIC_A")
        const sent = Array.from({ length: 500 }, (_, index) => String(index))
        yield* Effect.forEach(sent, (text) => bus.publish("TOPIC_A", bytes(text)), { concurrency: "unbounded" })
        yield* eventually("500 messages", () => messages.length >= sent.length)
        assert.deepStrictEqual(messages.map(textOf).sort(), [...sent].sort())
      }))

    it.live("does not let a consumer that never pulls hold up the others", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const stuck = yield* subscribeIdle(net, "NEWS")
        const messages = yield* collect(net, "NEWS")
        const sent = Array.from({ length: 5000 }, (_, index) => String(index).padEnd(200, "."))
        yield* Effect.forEach(sent, (text) => bus.publish("NEWS", bytes(text)), { discard: true })
        yield* eventually("5,000 messages", () => messages.length >= sent.length)
        const first = yield* stuck.pipe(Stream.filter((message) => textOf(message) !== "probe"), Stream.runHead)
        assert.deepStrictEqual(Option.map(first, textOf), Option.some(sent[0]))
      }))

    it.live("refuses a payload over the limit", () =>
      Effect.gen(function*() {
        const net = yield* makeNet
        const bus = yield* net.connect
        const error = yield* Effect.flip(bus.publish("TOPIC_A", new Uint8Array(Bus.maxMessageBytes + 1)))
        assert.strictEqual(error.reason._tag, "TooLarge")
      }))
  })
}
