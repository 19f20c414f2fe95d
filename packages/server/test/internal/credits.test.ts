import { assert, describe, it } from "@effect/vitest"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as Credits from "../../src/internal/credits.ts"

const address = { requestId: "r", replyTo: "AGENT_REPLY_1" }

const event = (seq: number): Protocol.Response => ({ requestId: "r", status: "success", content: "", error: "", seq })

const begun = Effect.gen(function*() {
  const credits = Credits.make({ limitMs: 30_000 })
  const take = yield* credits.begin(address, 1000)
  let now = 0
  return {
    pass: (ms: number) => Effect.andThen(TestClock.adjust(ms), Effect.sync(() => now += ms)),
    /** The numbers of the events to send again. */
    read: (bytes: number, next?: number) => credits.read(address, { bytes, next }, now).map(({ seq }) => seq),
    take: (bytes: number) => Effect.forkChild(take(bytes, event), { startImmediately: true })
  }
})

/** Whether it may be sent, once that is known. */
const taken = (fiber: Fiber.Fiber<Protocol.Response | undefined>) => {
  const exit = fiber.pollUnsafe()
  return exit?._tag === "Success" ? exit.value !== undefined : undefined
}

describe("the output on its way to a caller", () => {
  it.effect("is bounded by its window until that reads", () =>
    Effect.gen(function*() {
      const { pass, read, take } = yield* begun
      assert.isTrue(taken(yield* take(900)))
      const waiting = yield* take(200)
      yield* pass(10_000)
      assert.isUndefined(taken(waiting))
      read(500)
      yield* pass(0)
      assert.isTrue(taken(waiting))
      assert.isUndefined(taken(yield* take(500)))
    }))

  it.effect("is sent again from where the caller stands still, after twice as long each time", () =>
    Effect.gen(function*() {
      const { pass, read, take } = yield* begun
      for (let count = 0; count < 3; count++) assert.isTrue(taken(yield* take(100)))
      yield* pass(249)
      // It may be on its way.
      assert.deepStrictEqual(read(100, 1), [])
      assert.isTrue(taken(yield* take(100)))
      yield* pass(1)
      assert.deepStrictEqual(read(100, 1), [1, 2])
      yield* pass(499)
      assert.deepStrictEqual(read(100, 1), [])
      yield* pass(1)
      assert.deepStrictEqual(read(100, 1), [1, 2, 3])
      yield* pass(250)
      assert.deepStrictEqual(read(200, 2), [2, 3])
      yield* pass(10_000)
      assert.deepStrictEqual(read(400, 4), [])
    }))

  it.effect("is sent again to a caller that only says twice what it read", () =>
    Effect.gen(function*() {
      const { pass, read, take } = yield* begun
      for (let count = 0; count < 3; count++) yield* take(300)
      yield* pass(2000)
      assert.deepStrictEqual(read(300), [])
      assert.deepStrictEqual(read(300), [1, 2])
      assert.deepStrictEqual(read(900), [])
      assert.deepStrictEqual(read(900), [])
    }))

  it.effect("is not waited for any longer when it is not read however often it is sent", () =>
    Effect.gen(function*() {
      const { pass, read, take } = yield* begun
      yield* take(900)
      const waiting = yield* take(200)
      for (let times = 0; times < 5; times++) {
        yield* pass(250 * 2 ** times)
        assert.deepStrictEqual(read(0, 0), [0])
      }
      yield* pass(7999)
      assert.deepStrictEqual(read(0, 0), [])
      assert.isUndefined(taken(waiting))
      yield* pass(1)
      assert.deepStrictEqual(read(0, 0), [])
      yield* pass(0)
      assert.isFalse(taken(waiting))
      assert.isFalse(taken(yield* take(1)))
    }))

  it.effect("is kept for one caller up to 16 MiB", () =>
    Effect.gen(function*() {
      const credits = Credits.make({ limitMs: 30_000 })
      const take = yield* credits.begin(address, 1024 ** 3)
      for (let count = 0; count < 40; count++) yield* take(1024 ** 2, event)
      assert.lengthOf(credits.read(address, { bytes: 24 * 1024 ** 2, next: 24 }, 1000), 16)
      assert.isDefined(yield* take(1, event))
      assert.lengthOf(credits.read(address, { bytes: 24 * 1024 ** 2, next: 23 }, 10_000), 0)
      assert.isUndefined(yield* take(1, event))
    }).pipe(Effect.scoped))

  it.effect("ends when it waited for as long as the run may last", () =>
    Effect.gen(function*() {
      const { pass, take } = yield* begun
      yield* take(900)
      const waiting = yield* take(200)
      yield* pass(30_000)
      assert.isFalse(taken(waiting))
    }))
})
