import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Executor from "@skillscale/server/Executor"
import {
  carrying,
  eventually,
  type Harness,
  marker,
  megabyte,
  py,
  running,
  sh,
  temporaryDirectory,
  text
} from "./executorKit.ts"

const stream = (spec: Executor.Spec) =>
  Stream.unwrap(Effect.map(Executor.Executor, (executor) => executor.stream(spec)))

const emitting = ({ test }: Harness): void => {
  test("emits output in order, then one Exit", () =>
    Effect.gen(function*() {
      const events = yield* Stream.runCollect(
        stream(sh("for i in $(seq 500); do echo o$i; echo e$i >&2; done; exit 9"))
      )
      const joined = (tag: "Stdout" | "Stderr") =>
        events.map((event) => event._tag === tag ? text(event.data) : "").join("")
      const lines = (prefix: string) => Array.from({ length: 500 }, (_, index) => `${prefix}${index + 1}\n`).join("")
      assert.strictEqual(joined("Stdout"), lines("o"))
      assert.strictEqual(joined("Stderr"), lines("e"))
      assert.strictEqual(events.filter((event) => event._tag === "Exit").length, 1)
      const last = events.at(-1)
      assert.strictEqual(last?._tag === "Exit" ? last.ended.exitCode : -1, 9)
    }))

  test("emits output while the program runs", () =>
    Effect.gen(function*() {
      const value = marker()
      const seen = yield* Deferred.make<string>()
      const fiber = yield* stream(
        sh("echo first; exec sleep 1000", { env: { PATH: "/usr/bin:/bin", MARKER: value } })
      ).pipe(
        Stream.runForEach((event) => event._tag === "Stdout" ? Deferred.succeed(seen, text(event.data)) : Effect.void),
        Effect.forkChild
      )
      assert.strictEqual(yield* Deferred.await(seen), "first\n")
      yield* running(value)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
    }))

  test("carries 20 MB through a consumer that is slow at first", () =>
    Effect.gen(function*() {
      let bytes = 0
      let first = true
      yield* stream(sh("head -c 20000000 /dev/zero", { stdoutBytes: 100 * megabyte })).pipe(
        Stream.runForEach((event) => {
          if (event._tag === "Stdout") bytes += event.data.byteLength
          if (!first) return Effect.void
          first = false
          // Time for the program to fill everything that is between them, and to be held up.
          return Effect.sleep(1500)
        })
      )
      assert.strictEqual(bytes, 20_000_000)
    }))
}

const backpressure = ({ test }: Harness): void => {
  test("holds a program up whose consumer does not read", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const progress = Path.join(folder, "progress")
      const script = `import os, sys
out = open(sys.argv[1], 'r+b')
for i in range(1600):
    os.write(1, b'x' * 65536)
    out.seek(0); out.write(b'%010d' % (i + 1)); out.flush()`
      Fs.writeFileSync(progress, "0000000000")
      const held = yield* Deferred.make<void>()
      const fiber = yield* stream(py(script, { args: ["-c", script, progress], stdoutBytes: 200 * megabyte })).pipe(
        Stream.runForEach(() => Effect.andThen(Deferred.succeed(held, undefined), Effect.never)),
        Effect.forkChild
      )
      yield* Deferred.await(held)
      const written = () => Number(Fs.readFileSync(progress, "latin1"))
      let last = -1
      yield* eventually("the program is not held up", written, (count) => {
        const still = count === last && count > 0
        last = count
        return still
      })
      // Time in which a program that is not held up would have written much more.
      yield* Effect.sleep(300)
      assert.isBelow(written() * 65536, 4 * megabyte)
      yield* Fiber.interrupt(fiber)
    }))

  test("ends the tree when it is left early", () =>
    Effect.gen(function*() {
      const value = marker()
      const events = yield* Stream.runCollect(
        Stream.take(stream({ file: "/usr/bin/yes", cwd: "/", env: { MARKER: value } }), 1)
      )
      assert.strictEqual(events[0]?._tag, "Stdout")
      assert.deepStrictEqual(carrying(value), [])
    }))
}

const ending = ({ test }: Harness): void => {
  test("fails with the same reasons as run", () =>
    Effect.gen(function*() {
      const reasonOf = (spec: Executor.Spec) =>
        Effect.map(Effect.flip(Stream.runDrain(stream(spec))), (error) => error.reason._tag)
      assert.strictEqual(yield* reasonOf({ file: "/absent", cwd: "/" }), "SpawnFailed")
      assert.strictEqual(yield* reasonOf({ file: "absent", cwd: "/" }), "Rejected")
      assert.strictEqual(yield* reasonOf(sh("sleep 1000", { timeout: "100 millis" })), "TimedOut")
      assert.strictEqual(yield* reasonOf(sh("kill -TERM $$")), "Killed")
      assert.strictEqual(
        yield* reasonOf({ file: "/usr/bin/yes", cwd: "/", stdoutBytes: 1000, overflow: "fail" }),
        "OutputLimit"
      )
    }))

  test("stops at the cap under truncate", () =>
    Effect.gen(function*() {
      const events = yield* Stream.runCollect(stream(sh("head -c 300000 /dev/zero", { stdoutBytes: 100_001 })))
      const bytes = events.reduce((sum, event) => sum + (event._tag === "Stdout" ? event.data.byteLength : 0), 0)
      assert.strictEqual(bytes, 100_001)
      const last = events.at(-1)
      assert.isTrue(last?._tag === "Exit" && last.ended.stdoutTruncated)
    }))
}

export const streamSuite = (harness: Harness): void => {
  describe("stream", () => {
    emitting(harness)
    backpressure(harness)
    ending(harness)
  })
}
