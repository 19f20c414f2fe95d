import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Executor from "@skillscale/server/Executor"
import {
  assertTag,
  carrying,
  failure,
  type Harness,
  marker,
  megabyte,
  py,
  reason,
  run,
  sh,
  text
} from "./executorKit.ts"

const crashes = ["SEGV", "ABRT", "BUS", "FPE", "ILL", "TRAP", "SYS", "PIPE", "QUIT"]

const signals = ({ test }: Harness): void => {
  test("a crash is a result with its signal", () =>
    Effect.gen(function*() {
      for (const signal of crashes) {
        const execution = yield* run(sh(`echo before; echo last words >&2; kill -${signal} $$`))
        assert.deepStrictEqual([execution.exitCode, execution.signal], [-1, `SIG${signal}`])
        assert.deepStrictEqual([text(execution.stdout), text(execution.stderr)], ["before\n", "last words\n"])
      }
    }))

  test("the error of a stream carries the end of standard error", () =>
    Effect.gen(function*() {
      const executor = yield* Executor.Executor
      const spec = sh("head -c 40000 /dev/zero >&2; echo last words >&2; kill -KILL $$")
      const error = yield* Effect.flip(Stream.runDrain(executor.stream(spec)))
      assertTag(error.reason, "Killed")
      assert.strictEqual(error.stderr.byteLength, 16 * 1024)
      assert.isTrue(text(error.stderr).endsWith("\0last words\n"))
    }))
}

const trees = ({ test, testWith }: Harness): void => {
  test("a script that stopped itself is ended", () =>
    Effect.gen(function*() {
      const value = marker()
      const env = { PATH: "/usr/bin:/bin", MARKER: value }
      assertTag(
        yield* reason(sh("sleep 1000 & kill -STOP 0", { env, timeout: "200 millis", grace: "1 seconds" })),
        "TimedOut"
      )
      assert.deepStrictEqual(carrying(value), [])
    }))

  testWith("wholeTree")("a bomb of sessions that fork and leave is ended", () =>
    Effect.gen(function*() {
      const value = marker()
      const script = `import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(6): os.fork()
for _ in range(100000):
    if os.fork() != 0: os._exit(0)
    os.setsid()`
      const spec = py(`import os, time\nif os.fork() == 0:\n  exec(${JSON.stringify(script)})\ntime.sleep(1000)`, {
        env: { MARKER: value },
        timeout: "500 millis",
        grace: "200 millis"
      })
      assertTag(yield* reason(spec), "TimedOut")
      assert.deepStrictEqual(carrying(value), [])
    }))
}

const floods = ({ test }: Harness): void => {
  test("floods of both streams at once are kept apart and capped", () =>
    Effect.gen(function*() {
      const spec = sh("yes out & yes err >&2 & wait", { stdoutBytes: megabyte, stderrBytes: 50_001 })
      const error = yield* failure({ ...spec, timeout: "500 millis", grace: "200 millis" })
      assertTag(error.reason, "TimedOut")
      assert.strictEqual(error.stderr.byteLength, 50_001)
      assert.isTrue(text(error.stderr).startsWith("err\nerr\n"))
      const bounded = yield* run(sh("head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait", {
        stdoutBytes: 1_000_001,
        stderrBytes: 99
      }))
      assert.deepStrictEqual([bounded.stdout.byteLength, bounded.stderr.byteLength], [1_000_001, 99])
      assert.deepStrictEqual([bounded.stdoutTruncated, bounded.stderrTruncated], [true, true])
    }))

  test("strings at and over what the kernel takes", () =>
    Effect.gen(function*() {
      const longest = 128 * 1024 - "BIG=".length - 1
      const env = (size: number) => ({ file: "/bin/true", cwd: "/", env: { BIG: "e".repeat(size) } })
      assert.strictEqual((yield* run(env(longest))).exitCode, 0)
      for (
        const spec of [env(longest + 1), {
          file: "/bin/true",
          cwd: "/",
          args: Array.from({ length: 21 }, () => "a".repeat(100_000))
        }]
      ) {
        const found = yield* reason(spec)
        assertTag(found, "SpawnFailed")
        assert.strictEqual(found.code, "E2BIG")
      }
      const odd = yield* run({ file: "/bin/echo", args: ["-n", "a\ud800b"], cwd: "/", timeout: 1e300 })
      assert.strictEqual(text(odd.stdout), "a\ufffdb")
    }))
}

/** Programs that do their worst. */
export const hostileSuite = (harness: Harness): void => {
  describe("a hostile program", () => {
    signals(harness)
    trees(harness)
    floods(harness)
  })
}
