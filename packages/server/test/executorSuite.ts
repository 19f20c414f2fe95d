/**
 * The behaviour of an `Executor`, as one suite that every implementation passes. What an implementation cannot do is
 * read from its capabilities and appears as a skipped test with that reason.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Executor from "@skillscale/server/Executor"

const decoder = new TextDecoder()
const text = (bytes: Uint8Array) => decoder.decode(bytes)
const megabyte = 1024 * 1024

const which = (name: string): string => {
  for (const folder of (process.env["PATH"] ?? "").split(":")) {
    const path = Path.join(folder, name)
    if (Fs.existsSync(path)) return path
  }
  throw new Error(`${name} is not in PATH`)
}
const python = which("python3")

let markers = 0
/** A value that no other process has in its environment; the processes of a run are found by it. */
export const marker = (): string => `m${process.pid}x${Date.now().toString(36)}x${markers++}`

const readOrEmpty = (path: string): string => {
  try {
    return Fs.readFileSync(path, "latin1")
  } catch {
    return ""
  }
}

/** Processes that carry the marker. */
export const carrying = (value: string): Array<number> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name) && readOrEmpty(`/proc/${name}/environ`).includes(value))
    .map(
      Number
    )

interface Stat {
  readonly pid: number
  readonly parent: number
  readonly state: string
  readonly name: string
}

const processes = (): Array<Stat> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    const match = /^(\d+) \((.*)\) (\S) (\d+)/s.exec(readOrEmpty(`/proc/${name}/stat`))
    return match === null
      ? []
      : [{ pid: Number(match[1]), name: match[2] ?? "", state: match[3] ?? "", parent: Number(match[4]) }]
  })

/** Zombies below this process, at any depth. */
export const zombies = (): Array<Stat> => {
  const all = processes()
  const below = new Set([process.pid])
  for (let size = 0; size !== below.size;) {
    size = below.size
    for (const { parent, pid } of all) if (below.has(parent)) below.add(pid)
  }
  return all.filter(({ pid, state }) => state === "Z" && below.has(pid))
}

const descriptors = () => Fs.readdirSync("/proc/self/fd").length

/** Waits until a condition holds; fails with what was seen last. */
export const eventually = <A>(what: string, look: () => A, holds: (value: A) => boolean, ms = 10_000) =>
  Effect.gen(function*() {
    const until = performance.now() + ms
    let seen = look()
    while (!holds(seen)) {
      if (performance.now() > until) assert.fail(`${what}: ${JSON.stringify(seen)}`)
      yield* Effect.sleep(5)
      seen = look()
    }
    return seen
  })

const gone = (value: string) =>
  eventually(`processes of ${value} are left`, () => carrying(value), (pids) => pids.length === 0)
const running = (value: string, count = 1) =>
  eventually(`fewer than ${count} processes of ${value}`, () => carrying(value), (pids) => pids.length >= count)

const sh = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  file: "/bin/sh",
  args: ["-c", script],
  cwd: "/",
  env: { PATH: "/usr/bin:/bin" },
  ...more
})

const py = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  file: python,
  args: ["-c", script],
  cwd: "/",
  env: { PATH: "/usr/bin:/bin" },
  ...more
})

const run = (spec: Executor.Spec) => Effect.flatMap(Executor.Executor, (executor) => executor.run(spec))
const failure = (spec: Executor.Spec) => Effect.flip(run(spec))
const reason = (spec: Executor.Spec) => Effect.map(failure(spec), (error) => error.reason)

function assertTag<Tag extends Executor.Reason["_tag"]>(
  actual: Executor.Reason,
  tag: Tag
): asserts actual is Extract<Executor.Reason, { readonly _tag: Tag }> {
  assert.strictEqual(actual._tag, tag, JSON.stringify(actual))
}

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "executor-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

// Leaves a process in a session of its own whose parent is dead and whose descriptors are closed.
const daemonize = (then: string) =>
  `import os, time, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(1000)
    os._exit(0)
os.wait()
${then}`

type Run = (title: string, body: () => Effect.Effect<unknown, unknown, Executor.Executor | Scope.Scope>) => void

/** Runs a test, or skips it with a reason; under SKILLSCALE_MUST_RUN=1 a skip fails. */
export const skipUnless = (condition: boolean, why: string, title: string, register: (title: string) => void) => {
  if (condition) return register(title)
  if (process.env["SKILLSCALE_MUST_RUN"] === "1" && !why.startsWith("capability")) {
    return it(title, () => assert.fail(`must run, but: ${why}`))
  }
  it.skip(`${title} (${why})`, () => {})
}

export const suite = (
  name: string,
  layer: Layer.Layer<Executor.Executor, unknown>,
  capabilities: Executor.Capabilities
): void => {
  const test: Run = (title, body) =>
    it.live(title, () => Effect.scoped(body()).pipe(Effect.provide(layer)) as Effect.Effect<void>)
  const testWith = (capability: "limits" | "wholeTree" | "usage"): Run => (title, body) =>
    skipUnless(capabilities[capability], `capability ${capability} is missing`, title, (title) => test(title, body))

  describe(name, () => {
    it.live("states its capabilities", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual((yield* Executor.Executor).capabilities, capabilities)
      }).pipe(Effect.provide(layer)) as Effect.Effect<void>)

    describe("endings", () => {
      test("reports the exit code", () =>
        Effect.gen(function*() {
          for (const code of [0, 1, 42, 255]) {
            const execution = yield* run(sh(`exit ${code}`))
            assert.strictEqual(execution.exitCode, code)
            assert.strictEqual(execution.signal, "")
          }
        }))

      test("reports a signal as Killed, with what was written to standard error", () =>
        Effect.gen(function*() {
          for (const signal of ["TERM", "KILL", "SEGV", "USR1"]) {
            const error = yield* failure(sh(`echo last words >&2; kill -${signal} $$`))
            assertTag(error.reason, "Killed")
            assert.strictEqual(error.reason.signal, `SIG${signal}`)
            assert.strictEqual(text(error.stderr), "last words\n")
          }
        }))

      testWith("usage")("measures time and memory", () =>
        Effect.gen(function*() {
          const busy = yield* run(
            py(
              "import time\nb = b'x' * (64 << 20)\nt = time.process_time()\nwhile time.process_time() - t < .2: pass\ntime.sleep(.1)"
            )
          )
          assert.isAtLeast(busy.usage.userMs + busy.usage.systemMs, 200)
          assert.isAtLeast(busy.usage.wallMs, 300)
          assert.isAtLeast(busy.usage.maxRssBytes, 64 * megabyte)
          assert.isBelow(busy.usage.maxRssBytes, 256 * megabyte)
          const idle = yield* run({ file: "/bin/true", cwd: "/" })
          // A sanitized reaper is larger than the program, and a program's figure includes the moment before its exec.
          if (process.env["SKILLSCALE_SANITIZED"] !== "1") assert.isBelow(idle.usage.maxRssBytes, 8 * megabyte)
        }))
    })

    describe("arguments", () => {
      test("passes them as they are", () =>
        Effect.gen(function*() {
          const args = ["", "two words", "ü 漢字 🎉", "$HOME `id` \"'\\", "-n", "", "line\nbreak"]
          const execution = yield* run(py("", {
            args: [
              "-c",
              "import sys; sys.stdout.buffer.write(b'\\0'.join(a.encode('utf8', 'surrogateescape') for a in sys.argv[1:]))",
              ...args
            ]
          }))
          assert.deepStrictEqual(text(execution.stdout).split("\0"), args)
        }))

      test("passes more than fits into one packet", () =>
        Effect.gen(function*() {
          const args = Array.from({ length: 2000 }, (_, index) => `${index}:${"y".repeat(500)}`)
          const execution = yield* run({ file: "/usr/bin/printf", args: ["%s\n", ...args], cwd: "/" })
          assert.strictEqual(text(execution.stdout), `${args.join("\n")}\n`)
        }))

      test("passes exactly the given environment", () =>
        Effect.gen(function*() {
          process.env["EXECUTOR_SUITE_LEAK"] = "1"
          const env = { A: "1", EMPTY: "", EQ: "a=b", UNI: "ü", SPACE: " x " }
          const execution = yield* run({ file: "/usr/bin/env", args: ["-0"], cwd: "/", env })
          assert.deepStrictEqual(
            text(execution.stdout).split("\0").filter((line) => line !== "").sort(),
            Object.entries(env).map(([key, value]) => `${key}=${value}`).sort()
          )
          const none = yield* run({ file: "/usr/bin/env", cwd: "/" })
          assert.strictEqual(text(none.stdout), "")
        }))

      test("starts in the working directory, leading a session, with no signal blocked", () =>
        Effect.gen(function*() {
          const folder = yield* temporaryDirectory
          const execution = yield* run(py(
            "import os, signal\nprint(os.getcwd())\nprint(os.getsid(0) == os.getpid() == os.getpgid(0))\nprint([l for l in open('/proc/self/status') if l.startswith('SigBlk')][0].split()[1])",
            { cwd: folder }
          ))
          assert.strictEqual(text(execution.stdout), `${folder}\nTrue\n0000000000000000\n`)
        }))

      testWith("wholeTree")("hands down no descriptor but the standard streams", () =>
        Effect.gen(function*() {
          const execution = yield* run(py("import os\nprint(sorted(int(f) for f in os.listdir('/proc/self/fd')))"))
          assert.strictEqual(text(execution.stdout), "[0, 1, 2, 3]\n", "the last one is the listing's own")
        }))
    })

    describe("standard input", () => {
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
    })

    describe("output", () => {
      test("keeps standard output and standard error apart and in order", () =>
        Effect.gen(function*() {
          const execution = yield* run(sh("for i in $(seq 1000); do echo o$i; echo e$i >&2; done"))
          const lines = (prefix: string) =>
            Array.from({ length: 1000 }, (_, index) => `${prefix}${index + 1}\n`).join("")
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

      test("a flood ends with OutputLimit under fail and with TimedOut under truncate", () =>
        Effect.gen(function*() {
          const flood: Executor.Spec = { file: "/usr/bin/yes", cwd: "/", stdoutBytes: megabyte }
          assertTag(yield* reason({ ...flood, overflow: "fail" }), "OutputLimit")
          assertTag(yield* reason({ ...flood, timeout: "300 millis" }), "TimedOut")
        }))

      test("does not block the event loop", () =>
        Effect.gen(function*() {
          let longest = 0
          let last = performance.now()
          const timer = setInterval(() => {
            longest = Math.max(longest, performance.now() - last)
            last = performance.now()
          }, 1)
          yield* run(
            sh("head -c 200000000 /dev/zero; sleep 0.3", { stdoutBytes: megabyte, stdin: new Uint8Array(4 * megabyte) })
          )
          clearInterval(timer)
          assert.isBelow(longest, 250)
        }))
    })

    describe("ending a tree", () => {
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
          const fiber = yield* Effect.forkChild(run(py(
            "import os, time\nfor i in range(50):\n  if os.fork() == 0:\n    if os.fork() == 0: os._exit(0)\n    os._exit(0)\n  os.wait()\ntime.sleep(1000)",
            { env: { MARKER: "abandon" } }
          )))
          yield* Effect.sleep(200)
          yield* eventually("zombies", zombies, (found) => found.length === 0)
          yield* Fiber.interrupt(fiber)
        }))
    })

    describe("interruption", () => {
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

      test("returns only when a stubborn tree is gone", () =>
        Effect.gen(function*() {
          const value = marker()
          const spec = sh("trap '' TERM; while :; do sleep 0.05; done", {
            env: { PATH: "/usr/bin:/bin", MARKER: value },
            grace: "300 millis"
          })
          const fiber = yield* Effect.forkChild(run(spec))
          yield* running(value)
          yield* Effect.sleep(50)
          const started = performance.now()
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(carrying(value), [])
          assert.isAtLeast(performance.now() - started, 290)
        }))

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
          const other = yield* Effect.forkChild(run(sh("sleep 0.5; echo fine")))
          const fiber = yield* Effect.forkChild(run(sh("sleep 1000")))
          yield* Effect.sleep(100)
          yield* Fiber.interrupt(fiber)
          assert.strictEqual(text((yield* Fiber.join(other)).stdout), "fine\n")
        }))
    })

    test("runs 64 programs at the same time", () =>
      Effect.gen(function*() {
        const results = yield* Effect.forEach(
          Array.from({ length: 64 }, (_, index) => index),
          (index) =>
            run(
              sh(`read line; echo ${index} $line; exit ${index}`, { stdin: new TextEncoder().encode(`in${index}\n`) })
            ),
          { concurrency: "unbounded" }
        )
        results.forEach((execution, index) => {
          assert.strictEqual(execution.exitCode, index)
          assert.strictEqual(text(execution.stdout), `${index} in${index}\n`)
        })
      }))

    describe("failing to start", () => {
      const spawnFailed = (spec: Executor.Spec, code: string, syscall: string) =>
        Effect.gen(function*() {
          const found = yield* reason(spec)
          assertTag(found, "SpawnFailed")
          assert.deepStrictEqual([found.code, found.syscall, found.errno], [
            code,
            syscall,
            Os.constants.errno[code as keyof typeof Os.constants.errno]
          ])
        })

      testWith("wholeTree")(
        "ENOEXEC from execve, instead of handing the file to a shell",
        () =>
          Effect.gen(function*() {
            const broken = Path.join(yield* temporaryDirectory, "broken")
            Fs.writeFileSync(broken, "echo run by a shell", { mode: 0o755 })
            yield* spawnFailed({ file: broken, cwd: "/" }, "ENOEXEC", "execve")
          })
      )

      test("ENOENT, EACCES and E2BIG from execve", () =>
        Effect.gen(function*() {
          const folder = yield* temporaryDirectory
          const plain = Path.join(folder, "plain")
          Fs.writeFileSync(plain, "x", { mode: 0o644 })
          yield* spawnFailed({ file: Path.join(folder, "absent"), cwd: "/" }, "ENOENT", "execve")
          yield* spawnFailed({ file: plain, cwd: "/" }, "EACCES", "execve")
          yield* spawnFailed({ file: "/bin/true", args: ["z".repeat(200_000)], cwd: "/" }, "E2BIG", "execve")
          yield* spawnFailed(
            {
              file: "/bin/true",
              args: Array.from({ length: 200 }, () => "z".repeat(100_000)),
              cwd: "/"
            },
            "E2BIG",
            "execve"
          )
          assert.strictEqual((yield* run({ file: "/bin/true", cwd: "/" })).exitCode, 0)
        }))

      test("ENOENT from chdir", () => spawnFailed({ file: "/bin/true", cwd: "/does/not/exist" }, "ENOENT", "chdir"))

      test("a specification that is not valid is Rejected and says which field", () =>
        Effect.gen(function*() {
          const valid: Executor.Spec = { file: "/bin/true", cwd: "/" }
          const cases: Array<readonly [Partial<Executor.Spec>, string]> = [
            [{ file: "true" }, "file"],
            [{ file: "/bin/tr\0ue" }, "file"],
            [{ cwd: "tmp" }, "cwd"],
            [{ args: ["ok", "a\0b"] }, "args[1]"],
            [{ env: { "A=B": "x" } }, "A=B"],
            [{ env: { "": "x" } }, "environment"],
            [{ env: { A: "x\0y" } }, "env.A"],
            [{ stdoutBytes: -1 }, "stdoutBytes"],
            [{ stderrBytes: 1.5 }, "stderrBytes"],
            [{ stdoutBytes: Number.NaN }, "stdoutBytes"],
            [{ limits: { cpuSeconds: 0 } }, "cpuSeconds"],
            [{ limits: { memoryBytes: Infinity } }, "memoryBytes"]
          ]
          for (const [change, field] of cases) {
            const found = yield* reason({ ...valid, ...change })
            assertTag(found, "Rejected")
            assert.include(found.detail, field)
          }
        }))
    })

    describe("limits", () => {
      const limited = testWith("limits")

      limited("CPU time ends in CpuLimit, also when SIGXCPU is ignored", () =>
        Effect.gen(function*() {
          const spin = yield* reason(sh("while :; do :; done", { limits: { cpuSeconds: 1 } }))
          assertTag(spin, "CpuLimit")
          assert.strictEqual(spin.limitSeconds, 1)
          assertTag(
            yield* reason(
              py("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", {
                limits: { cpuSeconds: 1 }
              })
            ),
            "CpuLimit"
          )
        }))

      limited("memory ends in MemoryLimit", () =>
        Effect.gen(function*() {
          const limits = { memoryBytes: 128 * megabyte }
          const found = yield* reason(py("kept = []\nwhile True: kept.append(b'x' * (1 << 20))", { limits }))
          assertTag(found, "MemoryLimit")
          assert.strictEqual(found.limitBytes, 128 * megabyte)
          assert.strictEqual((yield* run(py("pass", { limits }))).exitCode, 0)
          assert.strictEqual((yield* run(py("import sys; sys.exit(3)", { limits }))).exitCode, 3)
        }))

      limited("a file's size ends in OutputLimit", () =>
        Effect.gen(function*() {
          const folder = yield* temporaryDirectory
          const found = yield* reason({
            file: "/bin/dd",
            args: ["if=/dev/zero", "of=out", "bs=1000", "count=100"],
            cwd: folder,
            limits: { fileBytes: 5000 }
          })
          assertTag(found, "OutputLimit")
          assert.deepStrictEqual([found.stream, found.limitBytes], ["file", 5000])
          assert.strictEqual(Fs.statSync(Path.join(folder, "out")).size, 5000)
        }))

      limited("open files, processes and core files are limited", () =>
        Effect.gen(function*() {
          const execution = yield* run({
            file: "/bin/cat",
            args: ["/proc/self/limits"],
            cwd: "/",
            limits: { openFiles: 17, processes: 31, memoryBytes: 99 * megabyte, cpuSeconds: 8, fileBytes: 12_345 }
          })
          const lines = text(execution.stdout)
          assert.match(lines, /Max open files +17 +17 /)
          assert.match(lines, /Max processes +31 +31 /)
          assert.match(lines, /Max core file size +0 +0 /)
          assert.match(lines, new RegExp(`Max data size +${99 * megabyte} +${99 * megabyte} `))
          assert.match(lines, /Max cpu time +8 +9 /)
          assert.match(lines, /Max file size +12345 +12345 /)
          const opened = yield* run(
            py("import os\ntry:\n  while True: os.open('/', 0)\nexcept OSError as e: print(e.strerror)", {
              limits: { openFiles: 17 }
            })
          )
          assert.strictEqual(text(opened.stdout), "Too many open files\n")
        }))

      limited("a program gains no privileges", () =>
        Effect.gen(function*() {
          assert.match(
            text((yield* run({ file: "/bin/cat", args: ["/proc/self/status"], cwd: "/" })).stdout),
            /NoNewPrivs:\s+1/
          )
        }))
    })

    describe("stream", () => {
      const stream = (spec: Executor.Spec) =>
        Stream.unwrap(Effect.map(Executor.Executor, (executor) => executor.stream(spec)))

      test("emits output in order, then one Exit", () =>
        Effect.gen(function*() {
          const events = yield* Stream.runCollect(
            stream(sh("for i in $(seq 500); do echo o$i; echo e$i >&2; done; exit 9"))
          )
          const joined = (tag: "Stdout" | "Stderr") =>
            events.map((event) => event._tag === tag ? text(event.data) : "").join("")
          const lines = (prefix: string) =>
            Array.from({ length: 500 }, (_, index) => `${prefix}${index + 1}\n`).join("")
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
            Stream.runForEach((event) =>
              event._tag === "Stdout" ? Deferred.succeed(seen, text(event.data)) : Effect.void
            ),
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
              return Effect.sleep(1500)
            })
          )
          assert.strictEqual(bytes, 20_000_000)
        }))

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

      test("fails with the same reasons as run", () =>
        Effect.gen(function*() {
          const reasonOf = (spec: Executor.Spec) =>
            Effect.map(Effect.flip(Stream.runDrain(stream(spec))), (error) => error.reason._tag)
          assert.strictEqual(yield* reasonOf({ file: "/absent", cwd: "/" }), "SpawnFailed")
          assert.strictEqual(yield* reasonOf({ file: "absent", cwd: "/" }), "Rejected")
          assert.strictEqual(yield* reasonOf(sh("sleep 1000", { timeout: "100 millis" })), "TimedOut")
          assert.strictEqual(yield* reasonOf(sh("kill -SEGV $$")), "Killed")
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
    })
  })
}
