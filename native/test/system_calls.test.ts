import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { programs } from "./system_calls_programs.ts"

const timeout = 60_000
const inNative = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "system-calls-"))
const sources = [inNative("test/system_calls_check.cc"), inNative("src/system_calls.cc")]
const warnings = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-I", inNative("src")]
const builds: Record<string, ReadonlyArray<string>> = {
  plain: ["-O2"],
  sanitized: ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
}

/** Without what a sanitized run of the whole suite preloads into every program. */
const environment = { ...process.env, LD_PRELOAD: "", ASAN_OPTIONS: "" }

const outcome = (file: string, args: ReadonlyArray<string>) => {
  const { error, signal, status, stderr, stdout } = ChildProcess.spawnSync(file, args, {
    cwd: folder,
    encoding: "utf8",
    env: environment,
    timeout
  })
  return { status: status ?? signal ?? error?.message, output: `${stdout}${stderr}` }
}

const succeeds = (file: string, args: ReadonlyArray<string>) => {
  const { output, status } = outcome(file, args)
  assert.strictEqual(status, 0, output)
}

const skipped = (condition: boolean, why: string) => {
  if (condition && process.env["SKILLSCALE_MUST_RUN"] === "1") assert.fail(`must run, but: ${why}`)
  return condition
}

const installed = (file: string) =>
  (process.env["PATH"] ?? "").split(":").some((folder) => Fs.existsSync(Path.resolve(folder, file)))

const noCompiler = skipped(!installed("g++"), "compiling needs g++") ||
  skipped(!["arm64", "x64"].includes(process.arch), "the filter knows x86-64 and arm64")
const noFilter = noCompiler || skipped(!Fs.existsSync("/proc/sys/kernel/seccomp"), "the kernel has no seccomp filters")

describe.skipIf(noCompiler)("the system call filter", () => {
  beforeAll(() => {
    for (const [name, flags] of Object.entries(builds)) {
      succeeds("g++", [...warnings, ...flags, ...sources, "-o", Path.join(folder, name)])
    }
  }, timeout)
  afterAll(() => Fs.rmSync(folder, { recursive: true }))

  it.each(Object.keys(builds))("decides about every system call and argument as its table says (%s)", (build) => {
    succeeds(Path.join(folder, build), ["table"])
  }, timeout)

  it.skipIf(noFilter).each(Object.keys(builds))("refuses and allows calls for real (%s)", (build) => {
    succeeds(Path.join(folder, build), ["kernel"])
  }, timeout)

  for (const { argv, isOptional, name, sockets } of programs) {
    const [file = ""] = argv
    const isAbsent = isOptional ? !installed(file) : skipped(!installed(file), `${file} is not installed`)
    for (const mode of ["default", "list"]) {
      it.skipIf(noFilter || isAbsent)(`lets ${name} work (${mode})`, () => {
        succeeds(Path.join(folder, "plain"), ["run", `${mode}-${sockets}`, ...argv])
      }, timeout)
    }
  }

  it.skipIf(noFilter)("passes on what a program makes of a refusal", () => {
    const run = (policy: string, script: string) =>
      outcome(Path.join(folder, "plain"), ["run", policy, "python3", "-c", script]).output
    assert.match(run("default-unix", "import socket; socket.create_server(('127.0.0.1', 0))"), /Errno 97/)
    assert.match(run("default-none", "import socket; socket.socket(socket.AF_UNIX)"), /Errno 97/)
    assert.match(run("list-local", "import os; os.chroot('/')"), /PermissionError/)
  }, timeout)
})
