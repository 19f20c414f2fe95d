import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as Credits from "../../src/internal/credits.ts"

const address = { requestId: "r", replyTo: "AGENT_REPLY_1" }

const begun = Effect.gen(function*() {
  const credits = Credits.make({ limitMs: 30_000 })
  const take = yield* credits.begin(address, 1000)
  let now = 0
  return {
    pass: (ms: number) => Effect.andThen(TestClock.adjust(ms), Effect.sync(() => now += ms)),
    read: (bytes: number) => credits.read(address, bytes, now),
    take: (bytes: number) => Effect.forkChild(take(bytes), { startImmediately: true })
  }
})

const taken = (fiber: Fiber.Fiber<boolean>) => {
  const exit = fiber.pollUnsafe()
  return exit?._tag === "Success" ? exit.value : undefined
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

  it.effect("is not waited for any longer when the caller says twice that it did not come", () =>
    Effect.gen(function*() {
      const { pass, read, take } = yield* begun
      yield* take(900)
      const waiting = yield* take(200)
      yield* pass(999)
      // It may be on its way.
      read(0)
      yield* pass(0)
      assert.isUndefined(taken(waiting))
      yield* pass(1)
      read(0)
      yield* pass(0)
      assert.isFalse(taken(waiting))
      assert.isFalse(taken(yield* take(1)))
    }))

  it.effect("is not taken for lost while there is news, or nothing left to read", () =>
    Effect.gen(function*() {
      const { pass, read, take } = yield* begun
      yield* take(900)
      yield* pass(2000)
      read(100)
      assert.isUndefined(taken(yield* take(500)))
      read(1400)
      yield* pass(2000)
      read(1400)
      assert.isTrue(taken(yield* take(100)))
    }))

  it.effect("ends when it waited for as long as the run may last", () =>
    Effect.gen(function*() {
      const { pass, take } = yield* begun
      yield* take(900)
      const waiting = yield* take(200)
      yield* pass(30_000)
      assert.isFalse(taken(waiting))
    }))
})
