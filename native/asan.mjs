// Builds the addon and its helper with AddressSanitizer and UndefinedBehaviorSanitizer in native/build/asan, runs the
// native tests, the executor's conformance suite and those of warm starts against that build, then looks for leaks of the
// addon. Exits with 0 when all of it passed.
//
// What is loaded into Python and Node in a cell has UndefinedBehaviorSanitizer alone: AddressSanitizer would have to come
// first in these programs, its shadow counts as their memory, and under Landlock it could say nothing. The random packets of
// native/test/fuzz.test.ts get the library of the fork server with both.
import { execFileSync, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const native = path.dirname(fileURLToPath(import.meta.url))
const root = path.dirname(native)
const copy = path.join(native, "build", "asan")
const headers = path.resolve(process.execPath, "..", "..")

const tests = [
  "native/test",
  "packages/server/test/NativeExecutor.test.ts",
  "packages/server/test/warmNode.test.ts",
  "packages/server/test/warmPython.test.ts",
  "packages/server/test/skills.test.ts",
  "packages/server/test/SkillRunner.test.ts",
  "packages/server/test/escape.test.ts"
]

const bin = (name) => {
  const candidates = [root, native].map((folder) => path.join(folder, "node_modules", ".bin", name))
  const found = candidates.find((file) => fs.existsSync(file))
  if (found === undefined) throw new Error(`${name} is not installed: tried ${candidates.join(" and ")}`)
  return fs.realpathSync(found)
}

const build = () => {
  fs.mkdirSync(copy, { recursive: true })
  for (const name of ["binding.gyp", "package.json"]) fs.copyFileSync(path.join(native, name), path.join(copy, name))
  fs.rmSync(path.join(copy, "src"), { recursive: true, force: true })
  fs.cpSync(path.join(native, "src"), path.join(copy, "src"), { recursive: true })
  fs.mkdirSync(path.join(copy, "test"), { recursive: true })
  fs.copyFileSync(path.join(native, "test", "sanitizer_report.cc"), path.join(copy, "test", "sanitizer_report.cc"))
  const local = fs.existsSync(path.join(headers, "include", "node", "node.h")) ? [`--nodedir=${headers}`] : []
  execFileSync(process.execPath, [bin("node-gyp"), "rebuild", "--directory", copy, "--sanitize=1", ...local], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, npm_config_loglevel: "error" }
  })
}

const library = (name) => execFileSync("g++", [`-print-file-name=${name}`], { encoding: "utf8" }).trim()

const environment = (asanOptions) => ({
  ...process.env,
  LD_PRELOAD: ["libasan.so", "libubsan.so"].map(library).join(":"),
  SKILLSCALE_NATIVE_DIR: path.join(copy, "build", "Release"),
  SKILLSCALE_SANITIZED: "1",
  ASAN_OPTIONS: asanOptions,
  UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1"
})

// A report may come from a process whose standard error nobody reads, so reports go to files. That of the reapers has the
// standard error of what they start as well, which may be no report.
const test = () => {
  const isReport = (name) => name.startsWith("report.")
  for (const name of fs.readdirSync(copy).filter(isReport)) fs.rmSync(path.join(copy, name))
  fs.writeFileSync(path.join(copy, "report.reapers"), "")
  const result = spawnSync(process.execPath, [bin("vitest"), "run", "--root", root, ...tests], {
    stdio: "inherit",
    cwd: root,
    env: environment(`log_path=${path.join(copy, "report")}:detect_leaks=0:handle_segv=0`)
  })
  const said = fs.readdirSync(copy).filter(isReport).map((name) => fs.readFileSync(path.join(copy, name), "utf8"))
  for (const text of said.filter((text) => text !== "")) process.stderr.write(`${text}\n`)
  return result.status === 0 && !said.some((text) => /Sanitizer|runtime error:/.test(text))
}

// Node itself leaves memory behind on exit; only blocks with the addon in their stack count.
const leaks = () => {
  const host = ["--conditions=skillscale", "--expose-gc", path.join(native, "test", "host.ts"), "churn"]
  const result = spawnSync(process.execPath, host, {
    cwd: root,
    encoding: "utf8",
    env: environment("detect_leaks=1:handle_segv=0:exitcode=0:fast_unwind_on_malloc=0")
  })
  const blocks = `${result.stdout}${result.stderr}`.split(/\n(?=(?:Direct|Indirect) leak)/).slice(1)
  const own = blocks.filter((block) => block.includes("skillscale.node"))
  for (const block of own) process.stderr.write(`${block}\n`)
  process.stderr.write(
    `leak check: status ${result.status}, ${own.length} blocks of the addon, ${blocks.length} in all\n`
  )
  return result.status === 0 && own.length === 0
}

build()
process.exitCode = test() && leaks() ? 0 : 1
