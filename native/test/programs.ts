/** Compiles programs that check one file of the native code, and runs them. */
import { assert } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/** In milliseconds, for compiling and for each run. */
export const timeout = 60_000

const inNative = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
const flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-D_GNU_SOURCE"]

/** Without what a sanitized run of the whole suite preloads into every program. */
const environment = { ...process.env, LD_PRELOAD: "", ASAN_OPTIONS: "" }

export const skipped = (condition: boolean, why: string): boolean => {
  if (condition && process.env["SKILLSCALE_MUST_RUN"] === "1") assert.fail(`must run, but: ${why}`)
  return condition
}

export const installed = (file: string): boolean =>
  (process.env["PATH"] ?? "").split(":").some((folder) => Fs.existsSync(Path.resolve(folder, file)))

export const noCompiler = skipped(!installed("g++"), "compiling needs g++")

/** For the programs of one file of tests. */
export const temporaryFolder = (): string => Fs.mkdtempSync(Path.join(Os.tmpdir(), "native-check-"))

export const outcome = (file: string, args: ReadonlyArray<string>) => {
  const { error, signal, status, stderr, stdout } = ChildProcess.spawnSync(file, args, {
    // g++ itself writes nothing here.
    cwd: Path.resolve(Os.tmpdir(), Path.dirname(file)),
    encoding: "utf8",
    env: environment,
    timeout
  })
  return { status: status ?? signal ?? error?.message, output: `${stdout}${stderr}` }
}

export const succeeds = (file: string, args: ReadonlyArray<string>): void => {
  const { output, status } = outcome(file, args)
  assert.strictEqual(status, 0, output)
}

/** Makes a program of `test/NAME_check.cc`, `src/NAME.cc` and other files of `src`. */
export const compile = (
  name: string,
  program: string,
  more: ReadonlyArray<string>,
  others: ReadonlyArray<string> = []
): void => {
  const sources = [inNative(`test/${name}_check.cc`), ...[name, ...others].map((file) => inNative(`src/${file}.cc`))]
  succeeds("g++", [...flags, ...more, "-I", inNative("src"), ...sources, "-o", program])
}
