import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import * as Path from "node:path"
import {
  assertTag,
  carrying,
  descriptors,
  eventually,
  gone,
  type Harness,
  marker,
  reason,
  run,
  running,
  sh,
  temporaryDirectory,
  text,
  zombies
} from "./executorKit.ts"

const interruption = ({ test, capabilities }: Harness): void => {
  test("before anything was started", () =>
    Effect.gen(function*() {
      const value = marker()
      const fiber = yield* run(sh("sleep 1000", { env: { PATH: "/usr/bin:/bin", MARKER: value } })).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
    }))

  test("while it runs", () =>
    Effect.gen(function*() {
      const value = marker()
      const fiber = yield* Effect.forkChild(
        run(sh("sleep 1000 & sleep 1000", { env: { PATH: "/usr/bin:/bin", MARKER: value } }))
      )
      yield* running(value, 3)
      const started = performance.now()
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
      // Without a reaper, a dead orphan stays in its group until the machine's init takes note of it.
      if (capabilities.wholeTree) assert.isBelow(performance.now() - started, 1900)
    }))

  test("while its output floods", () =>
    Effect.gen(function*() {
      const value = marker()
      const fiber = yield* Effect.forkChild(run({ file: "/usr/bin/yes", cwd: "/", env: { MARKER: value } }))
      yield* running(value)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
    }))

  const stubborn = { script: "trap '' TERM; while :; do sleep 0.05; done", env: { PATH: "/usr/bin:/bin" } }

  test("gives it the grace of one for which nobody waits", () =>
    Effect.gen(function*() {
      const value = marker()
      const spec = sh(stubborn.script, {
        env: { ...stubborn.env, MARKER: value },
        grace: "1 minute",
        interruptGrace: "100 millis"
      })
      const fiber = yield* Effect.forkChild(run(spec))
      yield* running(value, 2)
      const started = performance.now()
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
      assert.isAtLeast(performance.now() - started, 95)
    }))

  test("takes the rest of its grace from one that is told to end already", () =>
    Effect.gen(function*() {
      const value = marker()
      const ignored = yield* temporaryDirectory
      const spec = sh("trap 'touch ignored' TERM; while :; do sleep 0.05; done", {
        cwd: ignored,
        env: { ...stubborn.env, MARKER: value },
        timeout: "500 millis",
        grace: "1 minute",
        interruptGrace: "100 millis"
      })
      const fiber = yield* Effect.forkChild(run(spec))
      yield* eventually("was not told to end", () => Fs.existsSync(Path.join(ignored, "ignored")), (told) => told)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
    }))

  test("leaves a program that ran too long the whole of its grace", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const spec = sh("trap 'sleep 0.3; touch tidied; exit' TERM; while :; do sleep 0.05; done", {
        cwd: folder,
        timeout: "300 millis",
        grace: "1 minute",
        interruptGrace: 0
      })
      assertTag(yield* reason(spec), "TimedOut")
      assert.isTrue(Fs.existsSync(Path.join(folder, "tidied")))
    }))

  test("returns only when a stubborn tree is gone", () =>
    Effect.gen(function*() {
      const value = marker()
      const spec = sh(stubborn.script, {
        env: { ...stubborn.env, MARKER: value },
        grace: "300 millis"
      })
      const fiber = yield* Effect.forkChild(run(spec))
      // The second is the sleep, which begins when the signal is ignored.
      yield* running(value, 2)
      const started = performance.now()
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
      assert.isAtLeast(performance.now() - started, 290)
    }))
}

const atAnyMoment = ({ test, capabilities }: Harness): void => {
  test("at any moment, without leaving a process, a zombie or a descriptor", () =>
    Effect.gen(function*() {
      const value = marker()
      const spec = sh("sleep 0.004 & echo out; head -c 100000 /dev/zero; sleep 0.002", {
        env: { PATH: "/usr/bin:/bin", MARKER: value },
        stdin: new Uint8Array(100_000)
      })
      const once = (delay: number) =>
        Effect.gen(function*() {
          const fiber = yield* run(spec).pipe(Effect.forkChild({ startImmediately: true }))
          // The moment itself, from the first instant to the end of the run.
          yield* Effect.sleep(delay)
          yield* Fiber.interrupt(fiber)
        })
      yield* Effect.forEach(Array.from({ length: 16 }), () => run(spec), { concurrency: 8 })
      yield* gone(value)
      const before = descriptors()
      const count = capabilities.wholeTree ? 200 : 60
      yield* Effect.forEach(
        Array.from({ length: count }, (_, index) => (index * 7 % count) / count * 15),
        once,
        { concurrency: 8 }
      )
      yield* gone(value)
      yield* eventually("zombies", zombies, (found) => found.length === 0)
      yield* eventually(`more than ${before} descriptors`, descriptors, (found) => found <= before + 2)
    }))

  test("of one run leaves the others alone", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const [waits, ends] = [marker(), marker()]
      const env = { PATH: "/usr/bin:/bin" }
      const other = yield* Effect.forkChild(
        run(sh("until [ -e go ]; do sleep 0.01; done; echo fine", { cwd: folder, env: { ...env, MARKER: waits } }))
      )
      const fiber = yield* Effect.forkChild(run(sh("sleep 1000", { env: { ...env, MARKER: ends } })))
      yield* running(waits)
      yield* running(ends)
      yield* Fiber.interrupt(fiber)
      Fs.writeFileSync(Path.join(folder, "go"), "")
      assert.strictEqual(text((yield* Fiber.join(other)).stdout), "fine\n")
    }))
}

export const interruptionSuite = (harness: Harness): void => {
  describe("interruption", () => {
    interruption(harness)
    atAnyMoment(harness)
  })
}
