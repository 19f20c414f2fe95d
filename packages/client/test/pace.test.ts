import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Pace from "../src/internal/pace.ts"

/** Calls that enter as far as they may. */
const crowd = Effect.fnUntraced(function*(pace: Pace.Pace, count: number) {
  const entered: Array<Pace.Place> = []
  const fibers = yield* Effect.forEach(Array.from({ length: count }), () => {
    const place = pace.place()
    return Effect.forkChild(Effect.map(place.enter, () => entered.push(place)), { startImmediately: true })
  })
  return { entered, fibers }
})

describe("the pace of calls to a topic", () => {
  it.effect("lets 256 go at once, twice as many with each round of answers, and 10,000 at most", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered } = yield* crowd(pace, 600)
      yield* Effect.yieldNow
      assert.lengthOf(entered, 256)
      for (let count = 0; count < 256; count++) pace.onTaken()
      yield* Effect.yieldNow
      assert.lengthOf(entered, 512)
      for (let count = 0; count < 20_000; count++) pace.onAnswered()
      assert.strictEqual(pace.limit(), 10_000)
    }))

  it.effect("is not bounded for servers that do not tell when they have a call, until one is full", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => false)
      assert.lengthOf((yield* crowd(pace, 1000)).entered, 1000)
      pace.onRefused(0)
      assert.isEmpty((yield* crowd(pace, 1)).entered)
    }))

  it.effect("is halved when servers are full, once for refusals that come together, and rises by one a round then", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered } = yield* crowd(pace, 100)
      yield* Effect.yieldNow
      for (let now = 1000; now < 1200; now += 20) pace.onRefused(now)
      assert.strictEqual(pace.limit(), 50)
      pace.onRefused(1200)
      assert.strictEqual(pace.limit(), 25)
      pace.onTaken()
      assert.strictEqual(pace.limit(), 25)
      for (let count = 0; count < 26; count++) pace.onAnswered()
      assert.strictEqual(pace.limit(), 26)
      for (let now = 2000; now < 10_000; now += 200) pace.onRefused(now)
      assert.strictEqual(pace.limit(), 1)
      for (const place of entered) place.leave()
      assert.lengthOf((yield* crowd(pace, 3)).entered, 1)
    }))

  it.effect("gives a place to the next in line when one leaves, also one that never came or asked twice", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered } = yield* crowd(pace, 256)
      yield* Effect.yieldNow
      pace.onRefused(0)
      const order: Array<string> = []
      const enter = (name: string, place: Pace.Place) =>
        Effect.forkChild(Effect.map(place.enter, () => order.push(name)), { startImmediately: true })
      const [first, gone, last] = [pace.place(), pace.place(), pace.place()]
      yield* enter("first", first)
      yield* enter("first again", first)
      const leaving = yield* enter("gone", gone)
      yield* enter("last", last)
      yield* Fiber.interrupt(leaving)
      for (const place of entered.slice(0, 129)) place.leave()
      yield* Effect.yieldNow
      assert.deepStrictEqual(order, ["first", "first again"])
      first.leave()
      first.leave()
      yield* Effect.yieldNow
      assert.deepStrictEqual(order, ["first", "first again", "last"])
    }))
})
