import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const timeout = 60_000
const inNative = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))

/** Without what a sanitized run of the whole suite preloads into every program. */
const env = { ...process.env, LD_PRELOAD: "", ASAN_OPTIONS: "" }

describe("a control group", () => {
  it("writes its bounds, each once, and counts what the kernel ended", () => {
    const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "control-group-"))
    try {
      const program = Path.join(folder, "check")
      const groups = Path.join(folder, "groups")
      Fs.mkdirSync(groups)
      const flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-g", "-O1"]
      const sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
      const sources = [inNative("test/control_group_check.cc"), inNative("src/control_group.cc")]
      const include = ["-D_GNU_SOURCE", "-I", inNative("src")]
      for (
        const [file, args] of [["g++", [...flags, ...sanitizers, ...include, ...sources, "-o", program]], [program, [
          groups
        ]]] as const
      ) {
        const { status, stderr } = ChildProcess.spawnSync(file, args, { encoding: "utf8", env, timeout })
        assert.deepStrictEqual([status, stderr], [0, ""])
      }
    } finally {
      Fs.rmSync(folder, { recursive: true, force: true })
    }
  }, timeout)
})
