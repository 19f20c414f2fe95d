import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type * as Executor from "@skillscale/server/Executor"
import {
  assertTag,
  failure,
  type Harness,
  megabyte,
  py,
  reason,
  run,
  sh,
  temporaryDirectory,
  text
} from "./executorKit.ts"

const endings = ({ test, testWith }: Harness): void => {
  test("reports the exit code", () =>
    Effect.gen(function*() {
      for (const code of [0, 1, 42, 255]) {
        const execution = yield* run(sh(`exit ${code}`))
        assert.strictEqual(execution.exitCode, code)
        assert.strictEqual(execution.signal, "")
      }
    }))

  test("reports a signal from outside as Killed, with what was written to standard error", () =>
    Effect.gen(function*() {
      for (const signal of ["TERM", "KILL", "INT", "HUP", "USR1"]) {
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
}

const passing = ({ test, testWith }: Harness): void => {
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
}

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

const failingToStart = ({ test, testWith }: Harness): void => {
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
}

const refusing = ({ test }: Harness): void => {
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
}

export const endingsSuite = (harness: Harness): void => {
  describe("endings", () => {
    endings(harness)
  })
}

export const argumentsSuite = (harness: Harness): void => {
  describe("arguments", () => {
    passing(harness)
  })
}

export const failingToStartSuite = (harness: Harness): void => {
  describe("failing to start", () => {
    failingToStart(harness)
    refusing(harness)
  })
}
