import { assert, describe, it } from "@effect/vitest"
import * as Bus from "@skillscale/core/Bus"
import * as Load from "@skillscale/core/Load"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as LoadReports from "../../src/internal/loadReports.ts"

const unreachable = new Bus.BusError({
  operation: "publish",
  reason: new Bus.Unreachable({ address: "nowhere", cause: "nothing" })
})

/** Reports that are running, and what was told of them. */
const start = Effect.fnUntraced(function*(options: { workers?: number; fails?: () => Bus.BusError | undefined } = {}) {
  const told: Array<Load.Load> = []
  const bus = Bus.make({
    publish: (topic, payload) =>
      Effect.suspend(() => {
        const failure = options.fails?.()
        if (failure !== undefined) return Effect.fail(failure)
        assert.strictEqual(topic, Topic.load("TOPIC_X", "a"))
        told.push(Result.getOrThrow(Load.decode([payload])))
        return Effect.void
      }),
    subscription: () => Effect.succeed(Stream.empty)
  })
  const reports = LoadReports.make({ bus, topic: "TOPIC_X", id: "a", workers: options.workers ?? 4 })
  const fiber = yield* Effect.forkChild(reports.run, { startImmediately: true })
  return { reports, told, fiber }
})

const idle: Load.Load = { running: 0, queued: 0, workers: 4, received: 0 }

describe("loadReports", () => {
  it.effect("tell the load at once, and then once a second until it changes", () =>
    Effect.gen(function*() {
      const { told } = yield* start()
      assert.deepStrictEqual(told, [idle])
      yield* TestClock.adjust(LoadReports.beatMs - 1)
      assert.lengthOf(told, 1)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [idle, idle])
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(told, 62)
    }))

  it.effect("tell the last of many changes, at most once in each interval", () =>
    Effect.gen(function*() {
      const { reports, told } = yield* start()
      for (let ms = 1; ms <= 1000; ms += 1) {
        reports.received()
        reports.load({ running: ms % 3, queued: ms })
        yield* TestClock.adjust("1 millis")
      }
      assert.isAtMost(told.length, 1 + 1000 / LoadReports.intervalMs)
      assert.isAbove(told.length, 0.9 * 1000 / LoadReports.intervalMs)
      yield* TestClock.adjust(LoadReports.intervalMs)
      assert.deepStrictEqual(told.at(-1), { running: 1000 % 3, queued: 1000, workers: 4, received: 1000 })
      const all = told.length
      yield* TestClock.adjust(LoadReports.beatMs - 2 * LoadReports.intervalMs)
      assert.lengthOf(told, all)
    }))

  it.effect("tell what could not be sent later, as it is then", () =>
    Effect.gen(function*() {
      let failure: Bus.BusError | undefined = unreachable
      const { reports, told } = yield* start({ fails: () => failure })
      reports.load({ running: 1, queued: 0 })
      yield* TestClock.adjust("10 seconds")
      assert.lengthOf(told, 0)
      failure = undefined
      reports.load({ running: 2, queued: 0 })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(told[0], { ...idle, running: 2 })
    }))

  it.effect("end when the bus is closed", () =>
    Effect.gen(function*() {
      const { fiber } = yield* start({
        fails: () => new Bus.BusError({ operation: "publish", reason: new Bus.Closed() })
      })
      yield* Fiber.join(fiber)
    }))

  it.effect("have no workers when the server takes no more, and no more than can be told", () =>
    Effect.gen(function*() {
      const { reports, told } = yield* start({ workers: Number.POSITIVE_INFINITY })
      reports.load({ running: Load.maxCount + 1, queued: Load.maxCount + 1 })
      yield* TestClock.adjust(LoadReports.intervalMs)
      const most = { running: Load.maxCount, queued: Load.maxCount, workers: Load.maxCount, received: 0 }
      assert.deepStrictEqual(told.at(-1), most)
      reports.retire()
      yield* TestClock.adjust(LoadReports.intervalMs)
      assert.deepStrictEqual(told.at(-1), { ...most, workers: 0 })
    }))
})
