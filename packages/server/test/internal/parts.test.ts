import * as Monotonic from "@skillscale/core/Monotonic"
import * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Parts from "../../src/internal/parts.ts"
import type { Address } from "../../src/internal/replies.ts"

const start = (options: Partial<Parts.Options> = {}) => {
  const sent: Array<readonly [to: string, part: number | undefined, attempt: number | undefined]> = []
  let taken = 0
  const parts = Parts.make({
    id: "srv",
    partBytes: 10,
    callerBytes: 100,
    totalBytes: 1000,
    onTaken: () => taken += 1,
    replies: {
      send: (to, { attempt, part }) =>
        Effect.sync(() => {
          sent.push([to, part, attempt])
          return new Uint8Array()
        })
    },
    ...options
  })
  /** Confirms after so much time. */
  const received = (address: Address, count: number, attempt = 0) =>
    Effect.flatMap(Monotonic.millis, (now) => Effect.sync(() => parts.received(address, attempt, count, now)))
  const encode = (response: Protocol.Response) => parts.encode("AGENT_REPLY_x", response)
  return {
    parts,
    received,
    encode,
    sent: () => sent.splice(0).map(([, part]) => part),
    sentAll: () => sent.splice(0),
    taken: () => taken
  }
}

const answer = (fields: Partial<Protocol.Response>): Protocol.Response => ({
  requestId: "r",
  status: "success",
  content: "",
  error: "",
  ...fields
})
const call = (requestId: string, replyTo = "AGENT_REPLY_x") => ({ requestId, replyTo })
const ofParts = (count: number, caller = "AGENT_REPLY_x", bytes = count): Parts.Parts => ({
  texts: Array.from({ length: count }, String),
  bytes,
  caller,
  isGivenUp: Deferred.makeUnsafe()
})
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)
/** Lets fibers run as far as they can. */
const turn = TestClock.adjust(0)

describe("an answer", () => {
  it.effect("of up to four parts is not sent in parts", () =>
    Effect.gen(function*() {
      const { encode } = start({ partBytes: 100 })
      const others = Buffer.byteLength(JSON.stringify({ request_id: "r", status: "success", error: "", content: "" }))
      assert.isUndefined(yield* encode(answer({ content: "x".repeat(400 - others) })))
      assert.isDefined(yield* encode(answer({ content: "x".repeat(401 - others) })))
    }))

  it.effect("is the same in parts as it is whole, and no part takes half as many bytes again as it should", () =>
    Effect.gen(function*() {
      const { encode } = start({ partBytes: 20 })
      const content = "né\"\\\u0000 😀😀😀😀 \n漢字漢字漢字漢字漢字漢字漢字漢字".repeat(9)
      const data = Buffer.from(range(0, 256))
      const response = answer({
        content,
        stdout: data,
        artifacts: [{ path: "a/b", size: 256, sha256: "0".repeat(64), mime: "text/plain", data }],
        server: "srv",
        v: 2
      })
      const { texts = [] } = (yield* encode(response)) ?? {}
      const whole = yield* Effect.fromResult(Protocol.encodeResponse(response))
      assert.deepStrictEqual(JSON.parse(texts.join("")), JSON.parse(Buffer.from(whole).toString()))
      for (const text of texts) assert.isAtMost(Buffer.byteLength(JSON.stringify(text)) - 2, 30)
      // A pair of surrogates is not parted.
      for (const text of texts) assert.strictEqual(Buffer.from(text).toString(), text)
    }))

  it.effect("of more than 64 MiB is refused", () =>
    Effect.gen(function*() {
      const { encode } = start({ partBytes: 64 * 1024 })
      const encoding = encode(answer({ content: "x".repeat(Protocol.maxBytes) }))
      assert.strictEqual((yield* Effect.flip(encoding)).reason, "TooLarge")
    }))
})

describe("parts", () => {
  it.effect("are sent as they are confirmed, four at first, and 64 on their way at most", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      const delivering = yield* Effect.forkChild(parts.deliver(call("a"), ofParts(200)))
      yield* turn
      assert.deepStrictEqual(sent(), range(0, 4))
      let confirmed = 0
      let most = 0
      for (let underWay = 4; confirmed + underWay < 200;) {
        yield* TestClock.adjust(10)
        confirmed += underWay
        yield* received(call("a"), confirmed)
        yield* turn
        underWay = sent().length
        most = Math.max(most, underWay)
      }
      assert.strictEqual(most, 64)
      yield* received(call("a"), 199)
      yield* turn
      assert.isUndefined(delivering.pollUnsafe())
      yield* received(call("a"), 200)
      assert.isTrue(yield* Fiber.join(delivering))
    }))

  it.effect("are fewer on their way where they wait for each other, so that all of them take no longer than a few do", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      yield* Effect.forkChild(parts.deliver(call("a"), ofParts(300)))
      yield* turn
      // A way that carries one part in 100 ms.
      let underWay = sent().length
      for (let confirmed = 1; confirmed < 200; confirmed++) {
        yield* TestClock.adjust(100)
        yield* received(call("a"), confirmed)
        yield* turn
        underWay += sent().length - 1
        if (confirmed > 20) assert.isAtMost(underWay, 5)
        assert.isAtLeast(underWay, 1)
      }
    }))

  it.effect("are as many as ever where the way is long, and wide", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      yield* Effect.forkChild(parts.deliver(call("a"), ofParts(1000)))
      yield* turn
      let confirmed = 0
      let underWay = sent().length
      for (let round = 0; round < 10; round++) {
        yield* TestClock.adjust(400)
        confirmed += underWay
        yield* received(call("a"), confirmed)
        yield* turn
        underWay = sent().length
      }
      assert.strictEqual(underWay, 64)
    }))

  it.effect("that are not confirmed within a second are sent again, one at first, and given up after a minute", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      const delivering = yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      yield* received(call("a"), 2)
      yield* turn
      assert.deepStrictEqual(sent(), range(0, 8))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(sent(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sent(), [2])
      yield* received(call("a"), 3)
      yield* turn
      assert.deepStrictEqual(sent(), [3, 4])
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(sent(), [3, 3, 3, 3, 3, 3, 3, 3, 3])
      assert.isUndefined(delivering.pollUnsafe())
      yield* TestClock.adjust("1 minute")
      assert.isFalse(yield* Fiber.join(delivering))
      assert.deepStrictEqual(sent(), [])
    }))

  it.effect("that take long are given four times that until they are sent again", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      yield* Effect.forkChild(parts.deliver(call("a"), ofParts(30)))
      yield* TestClock.adjust(900)
      yield* received(call("a"), 1)
      yield* turn
      sent()
      yield* TestClock.adjust(3599)
      assert.deepStrictEqual(sent(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sent(), [1])
    }))

  it.effect("that are sent again are not, as far as the caller had them", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      yield* received(call("a"), 4)
      yield* turn
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(sent(), [...range(0, 9), 4])
      yield* received(call("a"), 8)
      yield* turn
      assert.deepStrictEqual(sent(), [8])
    }))

  it.effect("are sent again to a caller that asks, unless they just were, and not for ever", () =>
    Effect.gen(function*() {
      const { parts, received, sent } = start()
      const delivering = yield* Effect.forkChild(parts.deliver(call("a"), ofParts(9)))
      yield* turn
      yield* received(call("a"), 3)
      yield* turn
      sent()
      yield* TestClock.adjust(99)
      parts.remind(call("a"))
      yield* turn
      assert.deepStrictEqual(sent(), [])
      yield* TestClock.adjust(1)
      parts.remind(call("a"))
      yield* turn
      assert.deepStrictEqual(sent(), [3])
      let asked = 0
      for (; delivering.pollUnsafe() === undefined; asked++) {
        yield* TestClock.adjust(200)
        parts.remind(call("a"))
        yield* turn
      }
      assert.isFalse(yield* Fiber.join(delivering))
      assert.strictEqual(asked, 9)
      assert.deepStrictEqual(sent(), [3, 3, 3, 3, 3, 3, 3, 3])
    }))

  it.effect("are not confirmed by what is said of another sending of the request, of parts not sent, or twice", () =>
    Effect.gen(function*() {
      const { parts, received, sentAll } = start()
      const delivering = yield* Effect.forkChild(parts.deliver({ ...call("a"), attempt: 2 }, ofParts(9)))
      yield* turn
      assert.deepStrictEqual(sentAll().map(([, , attempt]) => attempt), [2, 2, 2, 2])
      yield* received(call("a"), 4, 1)
      yield* received(call("a"), 9, 2)
      yield* received(call("b"), 4, 2)
      yield* turn
      assert.deepStrictEqual(sentAll(), [])
      yield* received(call("a"), 1, 2)
      yield* received(call("a"), 1, 2)
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
      yield* Effect.forkChild(parts.deliver(call("c", "AGENT_REPLY_y"), ofParts(3, "AGENT_REPLY_y")))
      yield* turn
      const told = () => sentAll().map(([to, part]) => `${to.at(-1)}${part}`)
      assert.deepStrictEqual(told(), ["x0", "x1", "x2", "x3", "y0", "y1", "y2"])
      yield* Fiber.interrupt(first)
      yield* turn
      assert.deepStrictEqual(told(), ["x0", "x1", "x2"])
    }))
})

describe("answers that wait", () => {
  it.effect("leave a caller no room for more while they are many, and others have theirs", () =>
    Effect.gen(function*() {
      const { parts, taken } = start()
      const kept = yield* Scope.make()
      yield* Scope.provide(parts.keep(ofParts(1, "AGENT_REPLY_x", 99)), kept)
      assert.isTrue(parts.hasRoomFor("AGENT_REPLY_x"))
      yield* Scope.provide(parts.keep(ofParts(1, "AGENT_REPLY_x", 1)), kept)
      assert.deepStrictEqual(["x", "y"].map((name) => parts.hasRoomFor(`AGENT_REPLY_${name}`)), [false, true])
      assert.strictEqual(taken(), 0)
      yield* Scope.close(kept, Exit.void)
      assert.isTrue(parts.hasRoomFor("AGENT_REPLY_x"))
      assert.strictEqual(taken(), 2)
    }))

  it.effect("are given up when they are too many in all: the latest of the caller that took nothing for longest", () =>
    Effect.gen(function*() {
      const { parts, received } = start()
      const slow = [ofParts(9, "AGENT_REPLY_s", 300), ofParts(9, "AGENT_REPLY_s", 300)] as const
      const quick = [ofParts(9, "AGENT_REPLY_q", 300), ofParts(9, "AGENT_REPLY_q", 300)] as const
      const deliver = Effect.fnUntraced(function*(name: string, of: Parts.Parts) {
        yield* parts.keep(of)
        return yield* Effect.forkChild(parts.deliver(call(name, of.caller), of))
      })
      const first = yield* deliver("a", slow[0])
      const second = yield* deliver("b", slow[1])
      yield* TestClock.adjust(10)
      const third = yield* deliver("c", quick[0])
      yield* turn
      yield* received(call("c", "AGENT_REPLY_q"), 1)
      const fourth = yield* deliver("d", quick[1])
      assert.isFalse(yield* Fiber.join(second))
      assert.deepStrictEqual([first, third, fourth].map((fiber) => fiber.pollUnsafe()), [
        undefined,
        undefined,
        undefined
      ])
    }))
})
