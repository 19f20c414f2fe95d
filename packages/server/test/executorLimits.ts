import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as Executor from "@skillscale/server/Executor"
import {
  assertTag,
  bash,
  type Harness,
  megabyte,
  node,
  py,
  reason,
  run,
  sh,
  skipUnless,
  temporaryDirectory,
  text
} from "./executorKit.ts"

const limits = ({ test }: Harness): void => {
  test("CPU time ends in CpuLimit, also when SIGXCPU is ignored", () =>
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

  test("CPU time of all processes together ends in CpuLimit, also of those that are gone", () =>
    Effect.gen(function*() {
      const spin = "python3 -c 'import time\nwhile time.process_time() < 0.6: pass'"
      const limits = { cpuSeconds: 1 }
      const inTurn = yield* reason(sh(`for i in 1 2 3 4; do ${spin}; done`, { limits }))
      assertTag(inTurn, "CpuLimit")
      const orphans = yield* reason(sh(`for i in 1 2 3 4; do (${spin} &) ; done; sleep 60`, { limits }))
      assertTag(orphans, "CpuLimit")
    }))

  const dropping = (rounds: number) =>
    `import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(${rounds}):
    if os.fork() == 0:
        while time.process_time() < 0.25: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass`

  test("CPU time of children that nobody waited for counts as far as it was seen, and once", () =>
    Effect.gen(function*() {
      assertTag(yield* reason(py(dropping(60), { limits: { cpuSeconds: 2 } })), "CpuLimit")
      const seen = yield* run(py(dropping(6), { limits: { cpuSeconds: 60 } }))
      const cpuMs = ({ usage }: Executor.Execution) => usage.userMs + usage.systemMs
      assert.isAbove(cpuMs(seen), 900)
      assert.isBelow(cpuMs(seen), 2_200)
      // Children that are waited for, of any age.
      const waited = yield* run(py(
        `import os, time
total = 0
for i in range(40):
    pid = os.fork()
    if pid == 0:
        while time.process_time() < 0.002 * i: pass
        os._exit(0)
    total += sum(os.wait4(pid, 0)[2][:2])
print(total + time.process_time())`,
        { limits: { cpuSeconds: 60 } }
      ))
      // What comes later is the end of the interpreter.
      assert.isBelow(cpuMs(waited) - 1_000 * Number(text(waited.stdout)), 200)
      const orphans = yield* run(py(
        `import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.4: pass
        os.write(1, b"x")
        while True: pass
    os._exit(0)
os.wait()
time.sleep(1)`,
        { limits: { cpuSeconds: 60 } }
      ))
      assert.strictEqual(text(orphans.stdout), "x")
      assert.isAbove(cpuMs(orphans), 400)
    }))

  test("memory ends in MemoryLimit", () =>
    Effect.gen(function*() {
      const limits = { memoryBytes: 128 * megabyte }
      const found = yield* reason(py("kept = []\nwhile True: kept.append(b'x' * (1 << 20))", { limits }))
      assertTag(found, "MemoryLimit")
      assert.strictEqual(found.limitBytes, 128 * megabyte)
      assert.strictEqual((yield* run(py("pass", { limits }))).exitCode, 0)
      assert.strictEqual((yield* run(py("import sys; sys.exit(3)", { limits }))).exitCode, 3)
    }))

  test("memory that a program was refused ends in MemoryLimit when it says so and had used half of it", () =>
    Effect.gen(function*() {
      const limits = { memoryBytes: 1536 * megabyte, treeBytes: 512 * megabyte }
      const small = { memoryBytes: 128 * megabyte }
      const used = "b'x' * (80 << 20)"
      const refused: ReadonlyArray<readonly [Executor.Spec, number]> = [
        [py(`kept = ${used}; bytearray(200 << 20)`, { limits: small }), 128],
        [py(`kept = b'x' * (300 << 20); bytearray(2 << 30)`, { limits }), 512],
        [node("const kept = Buffer.alloc(300 << 20, 1); new ArrayBuffer(2 ** 31)", { limits }), 512],
        [node("const kept = Buffer.alloc(300 << 20, 1); Buffer.alloc(2 ** 31)", { limits }), 512],
        [bash("x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done", { limits: small }), 128]
      ]
      for (const [spec, limit] of refused) {
        const found = yield* reason(spec)
        assertTag(found, "MemoryLimit")
        assert.strictEqual(found.limitBytes, limit * megabyte)
      }
      const own: ReadonlyArray<readonly [Executor.Spec, RegExp]> = [
        // What was never used is not lacking.
        [py("bytearray(200 << 20)", { limits: small }), /^MemoryError$/m],
        [node("new ArrayBuffer(2 ** 31)", { limits }), /Array buffer allocation failed/],
        // Nobody was refused anything.
        [py(`kept = ${used}; raise ValueError("x")`, { limits: small }), /^ValueError: x$/m],
        [py(`kept = ${used}; bytearray(1 << 62)`), /^MemoryError$/m]
      ]
      for (const [spec, words] of own) {
        const execution = yield* run(spec)
        assert.strictEqual(execution.exitCode, 1)
        assert.match(text(execution.stderr), words)
      }
      const heap = yield* run(node("const kept = []; for (let i = 0;; i++) kept.push({ a: [i, i, i, i] })", {
        env: { NODE_OPTIONS: "--max-old-space-size=100" },
        limits: { memoryBytes: 1280 * megabyte, treeBytes: 256 * megabyte }
      }))
      assert.strictEqual(heap.signal, "SIGABRT")
      assert.match(text(heap.stderr), /heap limit Allocation failed/)
      assert.isAbove(heap.usage.maxRssBytes, 128 * megabyte)
    }))

  test("a file's size ends in OutputLimit where SIGXFSZ ends nobody, or a child", () =>
    Effect.gen(function*() {
      const cwd = yield* temporaryDirectory
      const limits = { fileBytes: 5000 }
      const write = `file = open("out", "wb", 0); [file.write(b"x" * 3000) for _ in range(3)]`
      const over: ReadonlyArray<Executor.Spec> = [
        py(write, { cwd, limits }),
        py(`import subprocess\nsubprocess.run(["dd", "if=/dev/zero", "of=out", "bs=9000", "count=1"], check=True)`, {
          cwd,
          limits
        }),
        node(`const file = Fs.openSync("out", "w"); for (;;) Fs.writeSync(file, "x".repeat(900))`, { cwd, limits }),
        node(`Fs.createWriteStream("out").write("x".repeat(9000)); setTimeout(() => {}, 1e4)`, { cwd, limits }),
        bash("head -c 9000 /dev/zero > out; exit $?", { cwd, limits }),
        bash("{ head -c 9000 /dev/zero > out; } 2> /dev/null; exit $?", { cwd, limits }),
        bash("head -c 9000 /dev/zero > out; exit 3", { cwd, limits }),
        bash("trap '' XFSZ; head -c 9000 /dev/zero > out; exit 4", { cwd, limits }),
        sh("head -c 9000 /dev/zero > out; exit $?", { cwd, limits })
      ]
      for (const spec of over) {
        const found = yield* reason(spec)
        assertTag(found, "OutputLimit")
        assert.deepStrictEqual([found.stream, found.limitBytes], ["file", 5000])
      }
      const own: ReadonlyArray<readonly [Executor.Spec, number]> = [
        [py(`try: ${write}\nexcept OSError: pass`, { cwd, limits }), 0],
        [bash("head -c 9000 /dev/zero > out; true", { cwd, limits }), 0],
        [py(`raise SystemExit(153)`, { cwd, limits }), 153],
        [py(`raise SystemExit("error: File too large")`, { cwd, limits }), 1],
        [bash("exit 153", { cwd }), 153]
      ]
      for (const [spec, exitCode] of own) assert.strictEqual((yield* run(spec)).exitCode, exitCode)
    }))

  test("a file's size ends in OutputLimit", () =>
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
}

const files = ({ test }: Harness): void => {
  test("open files, processes and core files are limited", () =>
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
      const failed = yield* reason(py("import os\nwhile True: os.open('/', 0)", { limits: { openFiles: 17 } }))
      assertTag(failed, "OpenFilesLimit")
      assert.strictEqual(failed.limit, 17)
    }))

  const canChangeUser = process.getuid?.() === 0 && Fs.existsSync("/usr/bin/setpriv")
  skipUnless(
    canChangeUser,
    "the kernel holds only users other than root to it, and changing needs root",
    "the limit of processes stops a user who is not root",
    (title) =>
      test(title, () =>
        Effect.gen(function*() {
          const script =
            "import os, time\nn = 0\ntry:\n  while n < 50:\n    if os.fork() == 0: time.sleep(100)\n    n += 1\nexcept OSError as e: print(n, e.strerror)"
          const execution = yield* run({
            file: "/usr/bin/setpriv",
            args: ["--reuid", "65533", "--clear-groups", "/usr/bin/python3", "-c", script],
            cwd: "/",
            limits: { processes: 7 }
          })
          assert.strictEqual(text(execution.stdout), "6 Resource temporarily unavailable\n", text(execution.stderr))
        }))
  )

  test("a program gains no privileges", () =>
    Effect.gen(function*() {
      assert.match(
        text((yield* run({ file: "/bin/cat", args: ["/proc/self/status"], cwd: "/" })).stdout),
        /NoNewPrivs:\s+1/
      )
    }))
}

export const limitsSuite = (harness: Harness): void => {
  describe("limits", () => {
    limits(harness)
    files(harness)
  })
}
