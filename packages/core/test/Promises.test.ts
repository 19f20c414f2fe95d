import * as Promises from "@skillscale/core/Promises"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

const caught = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => "it succeeded", (reason) => reason)

describe("Promises.run", () => {
  it("resolves with the value, and rejects with the error and the defect as they are", async () => {
    const error = { _tag: "Mine" }
    const defect = new Error("broken")
    assert.strictEqual(await Promises.run(Effect.succeed(1)), 1)
    assert.strictEqual(await caught(Promises.run(Effect.fail(error))), error)
    assert.strictEqual(await caught(Promises.run(Effect.die(defect))), defect)
  })

  it("rejects with the signal's reason, once the effect has ended", async () => {
    const aborting = new AbortController()
    const reason = new Error("left")
    let hasEnded = false
    const work = Effect.onInterrupt(Effect.never, () => Effect.sync(() => hasEnded = true))
    const running = caught(Promises.run(work, aborting.signal))
    aborting.abort(reason)
    assert.strictEqual(await running, reason)
    assert.isTrue(hasEnded)
  })

  it("begins nothing when the signal has fired, and keeps the error of what failed by itself", async () => {
    let hasBegun = false
    const reason = new Error("left")
    const work = Effect.sync(() => hasBegun = true)
    assert.strictEqual(await caught(Promises.run(work, AbortSignal.abort(reason))), reason)
    assert.isFalse(hasBegun)
    const aborting = new AbortController()
    const failing = Effect.andThen(Effect.sync(() => aborting.abort(reason)), Effect.fail("mine"))
    assert.strictEqual(await caught(Promises.run(Effect.uninterruptible(failing), aborting.signal)), "mine")
  })
})

describe("Promises.iterable", () => {
  it("loops over a stream, and ends it when the loop is left", async () => {
    let hasEnded = false
    const stream = Stream.ensuring(
      Stream.concat(Stream.make(1, 2, 3), Stream.never),
      Effect.sync(() => hasEnded = true)
    )
    const seen: Array<number> = []
    for await (const value of Promises.iterable(stream)) {
      seen.push(value)
      if (value === 3) break
    }
    assert.deepStrictEqual(seen, [1, 2, 3])
    assert.isTrue(hasEnded)
  })

  it("rejects with the stream's error, and with the signal's reason", async () => {
    const drain = async (stream: Stream.Stream<unknown, unknown>, signal?: AbortSignal) => {
      for await (const value of Promises.iterable(stream, signal)) assert.fail(String(value))
    }
    assert.strictEqual(await caught(drain(Stream.fail("mine"))), "mine")
    const aborting = new AbortController()
    const waiting = caught(drain(Stream.never, aborting.signal))
    aborting.abort("left")
    assert.strictEqual(await waiting, "left")
    assert.strictEqual(await caught(drain(Stream.never, AbortSignal.abort("before"))), "before")
  })
})
