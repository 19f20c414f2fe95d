import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import * as Path from "node:path"
import {
  assertTag,
  carrying,
  daemonize,
  eventually,
  failure,
  type Harness,
  marker,
  py,
  reason,
  run,
  running,
  sh,
  temporaryDirectory,
  text,
  zombies
} from "./executorKit.ts"

const signalling = ({ test, testWith }: Harness): void => {
  test("ends a run at its timeout and keeps standard error", () =>
    Effect.gen(function*() {
      const started = performance.now()
      const error = yield* failure(sh("echo begun >&2; exec sleep 1000", { timeout: "200 millis" }))
      assertTag(error.reason, "TimedOut")
      assert.strictEqual(error.reason.timeoutMs, 200)
      assert.strictEqual(text(error.stderr), "begun\n")
      assert.isAtLeast(performance.now() - started, 195)
      assert.isBelow(performance.now() - started, 1900)
    }))

  test("lets a program finish that honours SIGTERM", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const started = performance.now()
      assertTag(
        yield* reason(sh("trap 'sleep 0.2; echo x > done; exit 0' TERM; while :; do sleep 0.02; done", {
          cwd: folder,
          timeout: "200 millis",
          grace: "20 seconds"
        })),
        "TimedOut"
      )
      assert.isTrue(Fs.existsSync(Path.join(folder, "done")))
      assert.isBelow(performance.now() - started, 10_000)
    }))

  testWith("wholeTree")(
    "sends SIGTERM also to a session below a program that ignores it",
    () =>
      Effect.gen(function*() {
        const folder = yield* temporaryDirectory
        const script = `import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run(["/bin/sh", "-c", "trap 'echo x > done; exit 0' TERM; echo ready; while :; do sleep 0.02; done"],
  start_new_session=True, restore_signals=True, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))`
        assertTag(yield* reason(py(script, { cwd: folder, timeout: "700 millis", grace: "5 seconds" })), "TimedOut")
        assert.isTrue(Fs.existsSync(Path.join(folder, "done")))
      })
  )
}

const leftovers = ({ test }: Harness): void => {
  test("kills a program that ignores SIGTERM after its grace", () =>
    Effect.gen(function*() {
      const value = marker()
      const started = performance.now()
      assertTag(
        yield* reason(sh("trap '' TERM; while :; do sleep 0.05; done", {
          env: { PATH: "/usr/bin:/bin", MARKER: value },
          timeout: "100 millis",
          grace: "300 millis"
        })),
        "TimedOut"
      )
      assert.isAtLeast(performance.now() - started, 395)
      assert.deepStrictEqual(carrying(value), [])
    }))

  test("leaves no background process behind", () =>
    Effect.gen(function*() {
      const value = marker()
      const execution = yield* run(sh("sleep 1000 & sleep 1000 > /dev/null 2>&1 & echo started", {
        env: { PATH: "/usr/bin:/bin", MARKER: value }
      }))
      assert.strictEqual(text(execution.stdout), "started\n")
      assert.strictEqual(execution.exitCode, 0)
      assert.deepStrictEqual(carrying(value), [])
      assert.deepStrictEqual(zombies(), [])
    }))
}

const sessions = ({ testWith }: Harness): void => {
  testWith("wholeTree")(
    "leaves no daemon behind, whether its run ends by itself, by timeout or by interruption",
    () =>
      Effect.gen(function*() {
        for (const then of ["sys.exit(5)", "time.sleep(1000)"]) {
          const value = marker()
          const fiber = yield* run(py(daemonize(then), { env: { MARKER: value }, timeout: "1500 millis" })).pipe(
            Effect.result,
            Effect.forkChild({ startImmediately: true })
          )
          const result = yield* Fiber.join(fiber)
          assert.strictEqual(result._tag, then.startsWith("sys") ? "Success" : "Failure")
          assert.deepStrictEqual(carrying(value), [])
        }
        const value = marker()
        const fiber = yield* Effect.forkChild(run(py(daemonize("time.sleep(1000)"), { env: { MARKER: value } })))
        yield* running(value, 2)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(carrying(value), [])
        assert.deepStrictEqual(zombies(), [])
      })
  )

  testWith("wholeTree")("ends a tree of sessions that ignores SIGTERM", () =>
    Effect.gen(function*() {
      const value = marker()
      const script = `import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for depth in range(60):
    if os.fork() != 0: break
    os.setsid()
time.sleep(1000)`
      const fiber = yield* Effect.forkChild(run(py(script, { env: { MARKER: value }, grace: "100 millis" })))
      yield* running(value, 61)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(carrying(value), [])
      assert.deepStrictEqual(zombies(), [])
    }))

  testWith("wholeTree")("reaps what a running program abandons", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const fiber = yield* Effect.forkChild(run(py(
        "import os, time\nfor i in range(50):\n  if os.fork() == 0:\n    if os.fork() == 0: os._exit(0)\n    os._exit(0)\n  os.wait()\nopen('abandoned', 'w')\ntime.sleep(1000)",
        { cwd: folder }
      )))
      const abandoned = () => Fs.existsSync(Path.join(folder, "abandoned"))
      yield* eventually("it abandoned all of them", abandoned, (isSo) => isSo)
      yield* eventually("zombies", zombies, (found) => found.length === 0)
      yield* Fiber.interrupt(fiber)
    }))
}

export const endingTreeSuite = (harness: Harness): void => {
  describe("ending a tree", () => {
    signalling(harness)
    leftovers(harness)
    sessions(harness)
  })
}
