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
      for (const place of entered.slice()) {
        place.onTaken()
        place.onTaken()
      }
      yield* Effect.yieldNow
      assert.lengthOf(entered, 512)
      for (let count = 0; count < 20_000; count++) pace.onAnswered()
      assert.strictEqual(pace.limit(), 10_000)
    }))

  it.effect("is not bounded for servers that do not tell when they have a call, until one is full", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => false)
      assert.lengthOf((yield* crowd(pace, 1000)).entered, 1000)
      const entered = (yield* crowd(pace, 1)).entered
      entered[0]?.onRefused(0)
      assert.isEmpty((yield* crowd(pace, 1)).entered)
    }))

  it.effect("is halved when servers are full, once for refusals that come together, and rises by one a round then", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered } = yield* crowd(pace, 100)
      yield* Effect.yieldNow
      const refuse = (now: number) => entered.pop()?.onRefused(now)
      for (let now = 1000; now < 1200; now += 20) refuse(now)
      assert.strictEqual(pace.limit(), 50)
      refuse(1200)
      assert.strictEqual(pace.limit(), 25)
      for (let count = 0; count < 26; count++) pace.onAnswered()
      assert.strictEqual(pace.limit(), 26)
      for (let now = 2000; now < 10_000; now += 200) refuse(now)
      assert.strictEqual(pace.limit(), 1)
      for (const place of entered) place.leave()
      assert.lengthOf((yield* crowd(pace, 3)).entered, 1)
    }))

  it.effect("is not less for what servers have, since that was not refused", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered } = yield* crowd(pace, 100)
      yield* Effect.yieldNow
      for (const place of entered.slice(0, 60)) place.onTaken()
      entered.pop()?.onRefused(1000)
      assert.strictEqual(pace.limit(), 80)
      // It was displaced.
      entered[0]?.onRefused(2000)
      assert.strictEqual(pace.limit(), 69)
      entered[0]?.leave()
      for (let now = 3000; now < 6000; now += 200) entered.pop()?.onRefused(now)
      assert.strictEqual(pace.limit(), 59)
      for (const place of entered) place.leave()
      pace.place().onRefused(10_000)
      assert.strictEqual(pace.limit(), 1)
    }))

  it.effect("lets one go all the same where nothing moves, less often while that changes nothing", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered: held } = yield* crowd(pace, 4)
      yield* Effect.yieldNow
      held.pop()?.onRefused(0)
      for (const place of held) place.onTaken()
      const { entered } = yield* crowd(pace, 5)
      /** When calls went. */
      const trials = Effect.fnUntraced(function*(from: number, to: number) {
        const went: Array<number> = []
        for (let now = from; now < to; now += 100) {
          const before = entered.length
          pace.onTick(now)
          yield* Effect.yieldNow
          if (entered.length > before) went.push(now - from)
        }
        return went
      })
      assert.deepStrictEqual(yield* trials(1000, 2500), [100, 400, 900])
      entered[0]?.onTaken()
      assert.deepStrictEqual(yield* trials(2500, 2800), [0])
    }))

  it.effect("gives a place to the next in line when one leaves, also one that never came or asked twice", () =>
    Effect.gen(function*() {
      const pace = Pace.make(() => true)
      const { entered } = yield* crowd(pace, 256)
      yield* Effect.yieldNow
      entered.pop()?.onRefused(0)
      const order: Array<string> = []
      const enter = (name: string, place: Pace.Place) =>
        Effect.forkChild(Effect.map(place.enter, () => order.push(name)), { startImmediately: true })
      const [first, gone, last] = [pace.place(), pace.place(), pace.place()]
      yield* enter("first", first)
      yield* enter("first again", first)
      const leaving = yield* enter("gone", gone)
      yield* enter("last", last)
      yield* Fiber.interrupt(leaving)
      for (const place of entered.slice(0, 128)) place.leave()
      yield* Effect.yieldNow
      assert.deepStrictEqual(order, ["first", "first again"])
      first.leave()
      first.leave()
      yield* Effect.yieldNow
      assert.deepStrictEqual(order, ["first", "first again", "last"])
    }))
})
