import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import {
  compile,
  installed,
  noCompiler as missesCompiler,
  outcome,
  skipped,
  succeeds,
  temporaryFolder,
  timeout
} from "./programs.ts"
import { programs } from "./system_calls_programs.ts"

const folder = temporaryFolder()
const builds: Record<string, ReadonlyArray<string>> = {
  plain: ["-O2"],
  sanitized: ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
}

const noCompiler = missesCompiler ||
  skipped(!["arm64", "x64"].includes(process.arch), "the filter knows x86-64 and arm64")
const noFilter = noCompiler || skipped(!Fs.existsSync("/proc/sys/kernel/seccomp"), "the kernel has no seccomp filters")

describe.skipIf(noCompiler)("the system call filter", () => {
  beforeAll(() => {
    for (const [name, flags] of Object.entries(builds)) compile("system_calls", Path.join(folder, name), flags)
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
