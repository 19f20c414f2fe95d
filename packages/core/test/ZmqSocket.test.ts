import * as ZmqSocket from "@skillscale/core/ZmqSocket"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"

const loopback = ["tcp://127.0.0.1:0"]

/** A publisher and a subscriber of everything, connected. */
const pair = Effect.fnUntraced(function*(options: ZmqSocket.Options = {}) {
  const pub = yield* ZmqSocket.xpublisher({ ...options, bind: loopback })
  const sub = yield* ZmqSocket.subscriber({ ...options, connect: [pub.endpoint] })
  yield* sub.subscribe("")
  const subscription = yield* pub.take
  assert.deepStrictEqual(subscription.map((frame) => [...frame]), [[1]])
  return { pub, sub }
})

const texts = (frames: ZmqSocket.Frames) => frames.map((frame) => Buffer.from(frame).toString())

describe("ZmqSocket", () => {
  it.live("tells the port that it bound", () =>
    Effect.gen(function*() {
      const any = yield* ZmqSocket.publisher({ bind: ["tcp://*:0"] })
      assert.match(any.endpoint, /^tcp:\/\/0\.0\.0\.0:[1-9]\d+$/)
    }))

  it.live("classifies what goes wrong with an address", () =>
    Effect.gen(function*() {
      const first = yield* ZmqSocket.publisher({ bind: loopback })
      const cases: ReadonlyArray<readonly [ZmqSocket.Options, string, string]> = [
        [{ bind: [first.endpoint] }, "bind", "AddressInUse"],
        [{ bind: ["tcp://192.0.2.1:0"] }, "bind", "InvalidAddress"],
        [{ bind: ["nonsense"] }, "bind", "InvalidAddress"],
        [{ connect: ["foo://x"] }, "connect", "InvalidAddress"],
        [{ connect: ["tcp://127.0.0.1"] }, "connect", "InvalidAddress"]
      ]
      for (const [options, operation, reason] of cases) {
        const error = yield* Effect.flip(ZmqSocket.publisher(options))
        assert.deepStrictEqual([error.operation, error.reason._tag], [operation, reason])
        assert.strictEqual(error.address, [...options.bind ?? [], ...options.connect ?? []][0])
      }
    }))

  it("classifies by code and operation, Unknown last", () => {
    const reason = (code: string | undefined, operation: ZmqSocket.ZmqError["operation"]) =>
      ZmqSocket.classify(operation, Object.assign(new Error("x"), { code }))._tag
    assert.strictEqual(reason("EAGAIN", "send"), "Backpressure")
    assert.strictEqual(reason("EAGAIN", "receive"), "Closed")
    assert.strictEqual(reason("EBADF", "send"), "Closed")
    assert.strictEqual(reason("EMFILE", "open"), "TooManySockets")
    assert.strictEqual(reason("EINVAL", "send"), "Unknown")
    assert.strictEqual(reason("EINVAL", "bind"), "InvalidAddress")
    assert.strictEqual(reason("EACCES", "bind"), "AccessDenied")
    assert.strictEqual(reason("EHOSTUNREACH", "send"), "Unreachable")
    assert.strictEqual(reason("EBUSY", "send"), "Unknown")
    assert.strictEqual(ZmqSocket.classify("send", "text")._tag, "Unknown")
  })

  it.live("sends concurrently without EBUSY and in order", () =>
    Effect.gen(function*() {
      const { pub, sub } = yield* pair()
      const sent = Array.from({ length: 3000 }, (_, index) => String(index))
      const sends = yield* Effect.forEach(sent, (text) => pub.send([Buffer.from(text), Buffer.alloc(200)]), {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.forkScoped)
      const heard: Array<string | undefined> = []
      while (heard.length < sent.length) {
        heard.push(texts(yield* sub.take)[0])
      }
      yield* Fiber.join(sends)
      assert.deepStrictEqual(heard, sent)
    }))

  it.live("an interrupted take loses nothing", () =>
    Effect.gen(function*() {
      const { pub, sub } = yield* pair()
      for (let index = 0; index < 50; index++) {
        const taking = yield* sub.take.pipe(Effect.timeoutOption("1 millis"))
        assert.isTrue(Option.isNone(taking))
        const fiber = yield* Effect.forkChild(sub.take, { startImmediately: true })
        yield* pub.send([Buffer.from(String(index))])
        yield* Fiber.interrupt(fiber)
        const frames = fiber.pollUnsafe()
        const heard = frames !== undefined && Exit.isSuccess(frames) ? frames.value : yield* sub.take
        assert.deepStrictEqual(texts(heard), [String(index)])
      }
    }))

  it.live("a full queue is backpressure, an interrupted send sends nothing, and the socket stays usable", () =>
    Effect.gen(function*() {
      const limits = { sendHighWaterMark: 2, receiveHighWaterMark: 2, capacity: 1, sendTimeout: "1 second" } as const
      const { pub, sub } = yield* pair(limits)
      const payload = Buffer.alloc(512 * 1024)
      let accepted = 0
      const error = yield* Effect.suspend(() => pub.send([Buffer.from(`n${accepted}`), payload])).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            accepted += 1
          })
        ),
        Effect.forever,
        Effect.flip
      )
      assert.deepStrictEqual(error.reason, new ZmqSocket.Backpressure({ timeoutMs: 1000 }))
      const begun = performance.now()
      const interrupted = yield* pub.send([Buffer.from("interrupted")]).pipe(Effect.timeoutOption("20 millis"))
      assert.isTrue(Option.isNone(interrupted))
      assert.isBelow(performance.now() - begun, 500)
      const last = yield* pub.send([Buffer.from("last")]).pipe(
        Effect.retry(Schedule.spaced("1 millis")),
        Effect.forkScoped
      )
      const heard: Array<string | undefined> = []
      while (heard.at(-1) !== "last") {
        heard.push(texts(yield* sub.take)[0])
      }
      yield* Fiber.join(last)
      assert.deepStrictEqual(heard, [...Array.from({ length: accepted }, (_, index) => `n${index}`), "last"])
    }))

  it.live("refuses what is too large", () =>
    Effect.gen(function*() {
      const { pub } = yield* pair({ maxMessageBytes: 1000 })
      const error = yield* Effect.flip(pub.send([Buffer.alloc(1), Buffer.alloc(1000)]))
      assert.deepStrictEqual(error.reason, new ZmqSocket.TooLarge({ bytes: 1001, maxBytes: 1000 }))
    }))

  it.live("closing ends pending and later operations with Closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { pub, sub } = yield* pair().pipe(Scope.provide(scope))
      const pending = yield* Effect.forkScoped(Effect.flip(sub.take), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(pending)).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(sub.take)).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(pub.send([Buffer.from("x")]))).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(sub.subscribe("x"))).reason._tag, "Closed")
    }))

  it.live("an XSUB subscribes by sending, and stops at a prefix that it left", () =>
    Effect.gen(function*() {
      const pub = yield* ZmqSocket.xpublisher({ bind: loopback })
      const sub = yield* ZmqSocket.xsubscriber({ connect: [pub.endpoint] })
      yield* sub.send([Buffer.from("\u0001A")])
      assert.deepStrictEqual(texts(yield* pub.take), ["\u0001A"])
      yield* pub.send([Buffer.from("B"), Buffer.from("1")])
      yield* pub.send([Buffer.from("AB"), Buffer.from("2")])
      assert.deepStrictEqual(texts(yield* sub.take), ["AB", "2"])
      yield* sub.send([Buffer.from("\u0000A")])
      assert.deepStrictEqual(texts(yield* pub.take), ["\u0000A"])
    }))
})
