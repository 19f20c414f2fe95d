import * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as Parts from "../../src/internal/parts.ts"

const start = (partBytes = 10) => {
  const sent: Array<readonly [to: string, part: number | undefined, attempt: number | undefined]> = []
  const parts = Parts.make({
    id: "srv",
    partBytes,
    replies: {
      send: (to, { attempt, part }) =>
        Effect.sync(() => {
          sent.push([to, part, attempt])
          return new Uint8Array()
        })
    }
  })
  return { parts, sent: () => sent.splice(0).map(([, part]) => part), sentAll: () => sent.splice(0) }
}

const answer = (fields: Partial<Protocol.Response>): Protocol.Response => ({
  requestId: "r",
  status: "success",
  content: "",
  error: "",
  ...fields
})
const call = (requestId: string, replyTo = "AGENT_REPLY_x") => ({ requestId, replyTo })
const ofParts = (count: number) => ({ texts: Array.from({ length: count }, String), bytes: count })
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)
/** Lets fibers run as far as they can. */
const turn = TestClock.adjust(0)

describe("an answer", () => {
  it.effect("of up to four parts is not sent in parts", () =>
    Effect.gen(function*() {
      const { parts } = start()
      assert.isUndefined(yield* parts.encode(answer({ content: "x".repeat(40) })))
      assert.isDefined(yield* parts.encode(answer({ content: "x".repeat(41) })))
    }))

  it.effect("is the same in parts as it is whole, and no part is longer than it may be", () =>
    Effect.gen(function*() {
      const { parts } = start(7)
      const content = "né\"\\\u0000 😀😀😀😀 ".repeat(9)
      const data = Buffer.from(range(0, 256))
      const response = answer({
        content,
        stdout: data,
        artifacts: [{ path: "a/b", size: 256, sha256: "0".repeat(64), mime: "text/plain", data }],
        server: "srv",
        v: 2
      })
      const { texts = [] } = (yield* parts.encode(response)) ?? {}
      const whole = yield* Effect.fromResult(Protocol.encodeResponse(response))
      assert.deepStrictEqual(JSON.parse(texts.join("")), JSON.parse(Buffer.from(whole).toString()))
      // A pair of surrogates is not parted.
      for (const text of texts) assert.isAtMost(Array.from(text).length, 7)
      for (const text of texts) assert.strictEqual(Buffer.from(text).toString(), text)
    }))

  it.effect("of more than 64 MiB is refused", () =>
    Effect.gen(function*() {
      const { parts } = start(64 * 1024)
      const encoding = parts.encode(answer({ content: "x".repeat(Protocol.maxBytes) }))
      assert.strictEqual((yield* Effect.flip(encoding)).reason, "TooLarge")
    }))
})

describe("parts", () => {
  it.effect("are sent as they are confirmed, four at first, and 16 on their way at most", () =>
    Effect.gen(function*() {
      const { parts, sent } = start()
      const delivering = yield* Effect.forkChild(parts.deliver(call("a"), ofParts(40)))
      yield* turn
      assert.deepStrictEqual(sent(), range(0, 4))
      parts.received(call("a"), 0, 4)
      yield* turn
      assert.deepStrictEqual(sent(), range(4, 12))
      parts.received(call("a"), 0, 12)
      yield* turn
      assert.deepStrictEqual(sent(), range(12, 28))
      parts.received(call("a"), 0, 28)
      yield* turn
      assert.deepStrictEqual(sent(), range(28, 40))
      parts.received(call("a"), 0, 39)
      yield* turn
      assert.isUndefined(delivering.pollUnsafe())
      parts.received(call("a"), 0, 40)
      assert.isTrue(yield* Fiber.join(delivering))
    }))

  it.effect("that are not confirmed within a second are sent again, one at first, and given up after a minute", () =>
    Effect.gen(function*() {
      const { parts, sent } = start()
      const delivering = yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      parts.received(call("a"), 0, 2)
      yield* turn
      assert.deepStrictEqual(sent(), range(0, 8))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(sent(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sent(), [2])
      parts.received(call("a"), 0, 3)
      yield* turn
      assert.deepStrictEqual(sent(), [3, 4])
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(sent(), [3, 3, 3, 3, 3, 3, 3, 3, 3])
      assert.isUndefined(delivering.pollUnsafe())
      yield* TestClock.adjust("1 minute")
      assert.isFalse(yield* Fiber.join(delivering))
      assert.deepStrictEqual(sent(), [])
    }))

  it.effect("that are sent again are not, as far as the caller had them", () =>
    Effect.gen(function*() {
      const { parts, sent } = start()
      yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      parts.received(call("a"), 0, 4)
      yield* turn
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(sent(), [...range(0, 9), 4])
      parts.received(call("a"), 0, 8)
      yield* turn
      assert.deepStrictEqual(sent(), [8])
    }))

  it.effect("are sent again at once to a caller that asks", () =>
    Effect.gen(function*() {
      const { parts, sent } = start()
      yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      parts.received(call("a"), 0, 3)
      yield* turn
      sent()
      parts.remind(call("a"))
      yield* turn
      assert.deepStrictEqual(sent(), [3])
    }))

  it.effect("are not confirmed by what is said of another sending of the request, of parts not sent, or twice", () =>
    Effect.gen(function*() {
      const { parts, sentAll } = start()
      const delivering = yield* Effect.forkChild(parts.deliver({ ...call("a"), attempt: 2 }, ofParts(9)))
      yield* turn
      assert.deepStrictEqual(sentAll().map(([, , attempt]) => attempt), [2, 2, 2, 2])
      parts.received(call("a"), 1, 4)
      parts.received(call("a"), 2, 9)
      parts.received(call("b"), 2, 4)
      yield* turn
      assert.deepStrictEqual(sentAll(), [])
      parts.received(call("a"), 2, 1)
      parts.received(call("a"), 2, 1)
      yield* turn
      assert.deepStrictEqual(sentAll().map(([, part]) => part), [4, 5])
      assert.isUndefined(delivering.pollUnsafe())
    }))

  it.effect("of one caller go one answer after the other, and no caller waits for another", () =>
    Effect.gen(function*() {
      const { parts, sentAll } = start()
      const first = yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      yield* Effect.forkChild(parts.deliver(call("b"), ofParts(3)))
      yield* Effect.forkChild(parts.deliver(call("c", "AGENT_REPLY_y"), ofParts(3)))
      yield* turn
      const told = () => sentAll().map(([to, part]) => `${to.at(-1)}${part}`)
      assert.deepStrictEqual(told(), ["x0", "x1", "x2", "x3", "y0", "y1", "y2"])
      yield* Fiber.interrupt(first)
      yield* turn
      assert.deepStrictEqual(told(), ["x0", "x1", "x2"])
    }))
})
