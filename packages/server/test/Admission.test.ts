import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as Admission from "../src/Admission.ts"

const now = { startImmediately: true }

/** Admits a call that runs until it is told to end. */
const hold = Effect.fnUntraced(function*(admission: Admission.Admission, log: Array<string> = [], name = "") {
  const end = yield* Deferred.make<void>()
  const fiber = yield* admission.admit((queueMs) => {
    log.push(`${name}:${queueMs}`)
    return Effect.as(Deferred.await(end), name)
  }).pipe(Effect.forkChild(now))
  return { fiber, end: Effect.andThen(Deferred.succeed(end, undefined), Fiber.await(fiber)) }
})

describe("Admission", () => {
  it.effect("takes exactly workers + queue calls and refuses the next at once, with the load in the error", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 2, queue: 3 })
      const held = yield* Effect.forEach([1, 2, 3, 4, 5], () => hold(admission))
      assert.deepStrictEqual(yield* admission.load, { running: 2, queued: 3 })
      let ran = false
      const error = yield* Effect.flip(admission.admit(() => Effect.sync(() => ran = true)))
      assert.strictEqual(error._tag, "Overloaded")
      assert.deepInclude(error, { running: 2, queued: 3, isRetryable: true })
      assert.match(error.message, /2 calls run and 3 wait/)
      assert.isFalse(ran)
      for (const { end } of held) yield* end
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 0 })
      assert.strictEqual(yield* admission.admit(() => Effect.succeed("again")), "again")
    }))

  it.effect("tells every change of the load when it happens", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const admission = Admission.make({ workers: 1, queue: 2 }, ({ queued, running }) =>
        told.push(`${running}+${queued}`))
      const first = yield* hold(admission)
      const second = yield* hold(admission)
      const third = yield* hold(admission)
      assert.deepStrictEqual(told.splice(0), ["1+0", "1+1", "1+2"])
      yield* Effect.flip(admission.admit(() =>
        Effect.void
      ))
      assert.deepStrictEqual(told, [])
      yield* Fiber.interrupt(second.fiber)
      yield* first.end
      yield* third.end
      assert.deepStrictEqual(told, ["1+1", "1+0", "0+0"])
    }))

  it.effect("gives no worker to a caller that may not work, others their turns, and one to it once it may", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      let isHeld = true
      const admission = Admission.make({ workers: 2, queue: 4, mayWork: (caller) => caller !== "held" || !isHeld })
      const call = (caller: string) =>
        Effect.forkChild(admission.admit(() => Effect.sync(() => log.push(caller)), { caller }), now)
      const first = yield* call("held")
      yield* call("held")
      for (let count = 0; count < 3; count++) yield* Fiber.join(yield* call("other"))
      assert.deepStrictEqual(log.splice(0), ["other", "other", "other"])
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 2 })
      admission.reconsider()
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 2 })
      isHeld = false
      admission.reconsider()
      yield* Fiber.join(first)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(log, ["held", "held"])
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 0 })
    }))

  it.effect("a queue of 0 refuses as soon as all workers are busy", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 0 })
      const held = yield* hold(admission)
      assert.strictEqual((yield* Effect.flip(admission.admit(() => Effect.void)))._tag, "Overloaded")
      yield* held.end
      yield* admission.admit(() => Effect.void)
    }))

  it.effect("runs 4 and queues 64 by default", () =>
    Effect.gen(function*() {
      const admission = Admission.make()
      yield* Effect.forEach(Array.from({ length: 68 }), () => hold(admission))
      assert.deepStrictEqual(yield* admission.load, { running: 4, queued: 64 })
      assert.strictEqual((yield* Effect.flip(admission.admit(() => Effect.void)))._tag, "Overloaded")
    }))

  it.effect("starts calls in the order in which they came, and a newcomer does not overtake a waiting call", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 10 })
      const log: Array<string> = []
      const held = yield* Effect.forEach(["a", "b", "c"], (name) => hold(admission, log, name))
      yield* TestClock.adjust(7)
      const first = held[0] ?? assert.fail()
      // The newcomer asks in the very step in which the worker becomes free.
      const newcomer = yield* Effect.andThen(first.end, hold(admission, log, "d"))
      for (const { end } of [...held.slice(1), newcomer]) yield* end
      assert.deepStrictEqual(log, ["a:0", "b:7", "c:7", "d:0"])
    }))

  it.effect("gives the place back when a queued call is interrupted, and does not start it", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 1 })
      const log: Array<string> = []
      const first = yield* hold(admission, log, "first")
      const queued = yield* hold(admission, log, "queued")
      yield* Fiber.interrupt(queued.fiber)
      assert.deepStrictEqual(yield* admission.load, { running: 1, queued: 0 })
      const next = yield* hold(admission, log, "next")
      yield* first.end
      yield* next.end
      assert.deepStrictEqual(log, ["first:0", "next:0"])
    }))

  it.effect("gives the worker to the next call when a running one is interrupted, fails or dies", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 4 })
      const running = yield* hold(admission)
      const failing = yield* admission.admit(() => Effect.fail("no")).pipe(Effect.exit, Effect.forkChild(now))
      const dying = yield* admission.admit(() => Effect.die("bug")).pipe(Effect.exit, Effect.forkChild(now))
      const last = yield* admission.admit(() => Effect.succeed("ran")).pipe(Effect.forkChild(now))
      yield* Fiber.interrupt(running.fiber)
      assert.strictEqual(yield* Fiber.join(last), "ran")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(failing)) && Exit.isFailure(yield* Fiber.join(dying)))
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 0 })
    }))

  it.effect("a call interrupted in the same step in which it is given a worker hands the worker on", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 2 })
      const first = yield* hold(admission)
      const second = yield* hold(admission)
      yield* Effect.sync(() => {
        first.fiber.interruptUnsafe()
        second.fiber.interruptUnsafe()
      })
      yield* Fiber.await(second.fiber)
      yield* Fiber.await(first.fiber)
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 0 })
      assert.strictEqual(yield* admission.admit(() => Effect.succeed("ran")), "ran")
    }))

  it.effect("tells the wait in milliseconds, and tells of acceptance before it", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 2 })
      const log: Array<string> = []
      const held = yield* hold(admission)
      const onAccepted = Effect.map(admission.load, ({ queued }) => void log.push(`accepted, ${queued} queued`))
      const waiting = yield* admission.admit((queueMs) => Effect.sync(() => log.push(`waited ${queueMs}`)), {
        onAccepted
      })
        .pipe(Effect.forkChild(now))
      yield* TestClock.adjust(1_234)
      yield* held.end
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(log, ["accepted, 1 queued", "waited 1234"])
      const refused = Admission.make({ workers: 1, queue: 0 })
      yield* hold(refused)
      yield* Effect.exit(refused.admit(() => Effect.void, { onAccepted }))
      assert.lengthOf(log, 2)
    }))

  it.effect("gives up a place in the queue when patience is gone, and never a call that runs", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 1 })
      const first = yield* hold(admission)
      const impatient = yield* admission.admit(() => Effect.die("started"), { patienceMs: 50 }).pipe(
        Effect.flip,
        Effect.forkChild(now)
      )
      yield* TestClock.adjust(49)
      assert.deepStrictEqual(yield* admission.load, { running: 1, queued: 1 })
      yield* TestClock.adjust(1)
      const error = yield* Fiber.join(impatient)
      assert.deepInclude(error, { _tag: "Impatient", patienceMs: 50, isRetryable: true })
      assert.deepStrictEqual(yield* admission.load, { running: 1, queued: 0 })
      yield* first.end
      const long = yield* admission.admit(() => Effect.as(Effect.sleep(1_000), "done"), { patienceMs: 50 }).pipe(
        Effect.forkChild(now)
      )
      yield* TestClock.adjust(1_000)
      assert.strictEqual(yield* Fiber.join(long), "done")
    }))

  it.effect("lets callers take turns, each in its own order", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 10 })
      const order: Array<string> = []
      const first = yield* hold(admission)
      const call = (caller: string, name: string) =>
        admission.admit(() => Effect.sync(() => order.push(name)), { caller }).pipe(Effect.forkChild(now))
      const calls = yield* Effect.forEach(
        [["a", "a1"], ["a", "a2"], ["a", "a3"], ["b", "b1"], ["b", "b2"], ["c", "c1"]] as const,
        ([caller, name]) => call(caller, name)
      )
      yield* first.end
      yield* Effect.forEach(calls, Fiber.await)
      assert.deepStrictEqual(order, ["a1", "b1", "c1", "a2", "b2", "a3"])
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 0 })
    }))

  it.effect("gives a caller the place of the latest call of the one that has most, until both have as many", () =>
    Effect.gen(function*() {
      const admission = Admission.make({ workers: 1, queue: 4 })
      const running = yield* hold(admission)
      const refused: Array<string> = []
      const done: Array<string> = []
      const call = (caller: string, name: string) =>
        admission.admit(() => Effect.sync(() => done.push(name)), { caller }).pipe(
          Effect.catchTag("Overloaded", ({ queued }) => Effect.sync(() => refused.push(`${name} of ${queued}`))),
          Effect.forkChild(now)
        )
      const calls = yield* Effect.forEach(["a1", "a2", "a3", "a4", "a5"], (name) => call("a", name))
      calls.push(yield* call("b", "b1"), yield* call("b", "b2"), yield* call("b", "b3"), yield* call("a", "a6"))
      yield* Effect.yieldNow
      assert.deepStrictEqual(refused, ["a5 of 4", "a4 of 4", "a3 of 4", "b3 of 4", "a6 of 4"])
      assert.deepStrictEqual(yield* admission.load, { running: 1, queued: 4 })
      yield* running.end
      yield* Effect.forEach(calls, Fiber.await)
      assert.deepStrictEqual(done, ["a1", "b1", "a2", "b2"])
      assert.deepStrictEqual(yield* admission.load, { running: 0, queued: 0 })
    }))
})
