import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Executor from "@skillscale/server/Executor"
import { assertTag, type Harness, megabyte, reason, run, sh, text } from "./executorKit.ts"

const standardInput = ({ test }: Harness): void => {
  for (const size of [0, 1, 65_536, 65_537, 8 * megabyte]) {
    test(`echoes ${size} bytes through cat`, () =>
      Effect.gen(function*() {
        const stdin = new Uint8Array(size).map((_, index) => (index * 31) ^ (index >> 8))
        const execution = yield* run({ file: "/bin/cat", cwd: "/", stdin, stdoutBytes: 9 * megabyte })
        assert.strictEqual(Buffer.compare(execution.stdout, stdin), 0)
        assert.isFalse(execution.stdoutTruncated)
      }))
  }

  test("is empty and closed when absent", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* run({ file: "/bin/cat", cwd: "/" })).stdout.byteLength, 0)
    }))

  test("may stay unread", () =>
    Effect.gen(function*() {
      const execution = yield* run(sh("exit 7", { stdin: new Uint8Array(8 * megabyte) }))
      assert.strictEqual(execution.exitCode, 7)
    }))

  test("may be closed by the program early", () =>
    Effect.gen(function*() {
      const execution = yield* run(
        sh("head -c 3; exec <&-; echo; echo done", { stdin: new Uint8Array(8 * megabyte).fill(97) })
      )
      assert.strictEqual(text(execution.stdout), "aaa\ndone\n")
    }))
}

const output = ({ test }: Harness): void => {
  test("keeps standard output and standard error apart and in order", () =>
    Effect.gen(function*() {
      const execution = yield* run(sh("for i in $(seq 1000); do echo o$i; echo e$i >&2; done"))
      const lines = (prefix: string) => Array.from({ length: 1000 }, (_, index) => `${prefix}${index + 1}\n`).join("")
      assert.strictEqual(text(execution.stdout), lines("o"))
      assert.strictEqual(text(execution.stderr), lines("e"))
    }))

  test("goes on after the program closed it", () =>
    Effect.gen(function*() {
      const execution = yield* run(sh("echo before; exec >&-; sleep 0.05; echo after >&2; exit 4"))
      assert.strictEqual(text(execution.stdout), "before\n")
      assert.strictEqual(text(execution.stderr), "after\n")
      assert.strictEqual(execution.exitCode, 4)
    }))

  for (const stream of ["stdout", "stderr"] as const) {
    const write = (count: number) => sh(`head -c ${count} /dev/zero ${stream === "stderr" ? ">&2" : ""}`)
    const cap = 100_000
    const field = stream === "stdout" ? "stdoutBytes" : "stderrBytes"
    for (const [count, over] of [[cap - 1, false], [cap, false], [cap + 1, true]] as const) {
      test(`${stream}: ${count} bytes under a cap of ${cap}`, () =>
        Effect.gen(function*() {
          const kept = yield* run({ ...write(count), [field]: cap, overflow: "truncate" })
          assert.strictEqual(kept[stream].byteLength, Math.min(count, cap))
          assert.strictEqual(kept[stream === "stdout" ? "stdoutTruncated" : "stderrTruncated"], over)
          const failing = yield* Effect.result(run({ ...write(count), [field]: cap, overflow: "fail" }))
          assert.strictEqual(failing._tag, over ? "Failure" : "Success")
          if (failing._tag === "Failure") {
            assertTag(failing.failure.reason, "OutputLimit")
            assert.deepStrictEqual([failing.failure.reason.stream, failing.failure.reason.limitBytes], [
              stream,
              cap
            ])
          }
        }))
    }
  }

  test("a cap of 0 keeps nothing", () =>
    Effect.gen(function*() {
      const execution = yield* run(sh("echo x", { stdoutBytes: 0 }))
      assert.strictEqual(execution.stdout.byteLength, 0)
      assert.isTrue(execution.stdoutTruncated)
    }))
}

const flooding = ({ test }: Harness): void => {
  test("a flood ends with OutputLimit under fail and with TimedOut under truncate", () =>
    Effect.gen(function*() {
      const flood: Executor.Spec = { file: "/usr/bin/yes", cwd: "/", stdoutBytes: megabyte }
      assertTag(yield* reason({ ...flood, overflow: "fail" }), "OutputLimit")
      assertTag(yield* reason({ ...flood, timeout: "300 millis" }), "TimedOut")
    }))

  test("does not block the event loop", () =>
    Effect.gen(function*() {
      // What else runs on the machine holds it up once in a while, but not five times in a row.
      let longest = Number.POSITIVE_INFINITY
      for (let round = 0; round < 5 && longest >= 250; round++) {
        longest = 0
        let last = performance.now()
        const timer = setInterval(() => {
          longest = Math.max(longest, performance.now() - last)
          last = performance.now()
        }, 1)
        yield* run(
          sh("head -c 200000000 /dev/zero; sleep 0.3", { stdoutBytes: megabyte, stdin: new Uint8Array(4 * megabyte) })
        )
        clearInterval(timer)
      }
      assert.isBelow(longest, 250)
    }))
}

export const standardInputSuite = (harness: Harness): void => {
  describe("standard input", () => {
    standardInput(harness)
  })
}

export const outputSuite = (harness: Harness): void => {
  describe("output", () => {
    output(harness)
    flooding(harness)
  })
}
