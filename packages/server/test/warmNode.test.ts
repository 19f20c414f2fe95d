/**
 * A run of a Node process that was started ahead is like one that was started cold, in everything but time: each script here
 * runs both ways, and all that can be seen of it must be the same.
 */
import { assert, describe } from "@effect/vitest"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Os from "node:os"
import * as Interpreter from "../src/Interpreter.ts"
import * as Secrets from "../src/Secrets.ts"
import * as SkillRunner from "../src/SkillRunner.ts"
import * as WorkingView from "../src/WorkingView.ts"
import * as Support from "./fixtures/support.ts"
import { commandOf, compare, compareAtLimits, layer, pids, run, test, warmed } from "./warmKit.ts"

const files: Support.Files = {
  "scripts/lib/twice.mjs": "export const twice = (value) => value * 2",
  "scripts/lib/shout.cjs": "exports.shout = (text) => text.toUpperCase()",
  "scripts/lib/order.mjs": `export const order = []
process.nextTick(() => order.push("tick"))
Promise.resolve().then(() => order.push("promise"))
setTimeout(() => order.push("timer"), 0)
order.push("module")`,
  "scripts/lib/order.cjs": `exports.order = []
process.nextTick(() => exports.order.push("tick"))
Promise.resolve().then(() => exports.order.push("promise"))
setTimeout(() => exports.order.push("timer"), 0)
exports.order.push("module")`,
  "scripts/lib/parent.cjs":
    "exports.told = [require.main?.id, module.parent?.id, module.parent === require.main, Object.keys(require.cache).length]",
  "scripts/lib/later.mjs":
    `import { setTimeout } from "node:timers/promises"\nawait setTimeout(20)\nexport const later = "later"`,
  "scripts/lib/fails.mjs": `export const fails = () => { throw new RangeError("in a module") }`,
  "scripts/lib/names.mjs":
    `export const names = {}\nnames.inner = names.other = () => { throw new Error("named") }\nnames.outer = function () { return names.inner() }`,
  "scripts/lib/shapes.mjs": `const at = () => { throw new Error("at") }
const y = {}, P = function () {}
y.w = () => at()
y.v = function () { at() }
y["u t"] = () => at()
P.prototype.t = function () { (() => { const l = { m: { n: () => at() } }; l.m.n() })() }
class K { x = () => at(); static s = () => at(); m() { this.n = () => at(); this.n() } get p() { return at() } #r() { at() } r() { this.#r() } }
let z; z = () => at()
const arr = [() => at(), function () { at() }], cond = true ? () => at() : null, k = new K()
const made = function () { return { k: function () { return function () { at() } } } }
const o = { a: () => at(), b: function () { at() }, c() { at() }, d: { e: () => at() }, get g() { return at() }, ["h" + 1]() { at() }, *i() { at() } }
const each = () => [1].forEach(function () { at() }), nested = function* () { yield (() => { const q = () => at(); q() })() }
export default () => at()
export const shapes = [y.w, y.v, y["u t"], () => new P().t(), () => k.x(), K.s, () => k.m(), () => k.p, () => k.r(), z, ...arr, cond,
  () => made().k()(), o.a, o.b, o.c, o.d.e, () => o.g, o.h1, () => [...o.i()], each, () => [...nested()], ({ d = () => at() } = {}) => d()]`,
  "scripts/lib/broken.mjs": `import "node:fs"\nthrow new RangeError("while it was imported")`,
  "scripts/lib/changes.mjs":
    `String.prototype.slice = String.prototype.indexOf = Array.prototype.splice = () => { throw new Error("changed") }
RegExp.prototype.test = RegExp.prototype.exec = Array.prototype[Symbol.iterator] = () => { throw new Error("changed") }`,
  "scripts/lib/counts.mjs": `process.listenerCount = () => { throw new Error("counted") }`,
  "scripts/lib/patches.mjs":
    `import Fs from "node:fs"\nconst read = Fs.readFileSync\nFs.readFileSync = (path, ...more) => path === "it" ? "patched" : read(path, ...more)\nglobalThis.patched = true\nArray.prototype.last = function () { return this[this.length - 1] }`
}

/** Modules that look at what the run brings while they are imported, or that do what only a run may. */
const lookers: Readonly<Record<string, string>> = {
  arguments: "export const seen = process.argv.slice(2)",
  "an environment": "export const seen = [process.env.MODE, process.env.SKILLSCALE_INTENT]",
  "a copy of the environment": `export const seen = { ...process.env }.MODE`,
  "arguments that are imported": `import { argv } from "node:process"\nexport const seen = argv.slice(2)`,
  "standard input": `import { readFileSync } from "node:fs"\nexport const seen = String(readFileSync(0))`,
  "a report of the process": `export const seen = process.report.getReport().environmentVariables.MODE`,
  "the stream of standard input": `export const seen = process.stdin.constructor.name`,
  "standard input by its path":
    `import { readFileSync } from "node:fs"\nexport const seen = String(readFileSync("/dev/stdin"))`,
  "standard input of a child":
    `import { execFileSync } from "node:child_process"\nexport const seen = String(execFileSync("cat", { stdio: [0, "pipe", 2] }))`,
  output: `export const seen = "written"\nprocess.stdout.write("early\\n")\nconsole.error("early too")`,
  "output by its descriptor":
    `import { writeSync } from "node:fs"\nexport const seen = "written"\nwriteSync(2, "early\\n")`,
  "a closed output": `import { closeSync } from "node:fs"\nexport const seen = "closed"\ncloseSync(2)`,
  "another stack":
    `Error.stackTraceLimit = 0\nError.prepareStackTrace = () => "x"\nexport const seen = process.env.MODE`,
  "what Node tells modules":
    `import { createRequire } from "node:module"\nexport const seen = createRequire(import.meta.url)("os").tmpdir()`
}

const scripts: Readonly<Record<string, readonly [name: string, script: string, call?: SkillRunner.Call]>> = {
  "what it is": [
    "run.cjs",
    `console.log(process.argv, process.execArgv, process.argv0, process.title, process.execPath, process.cwd(), __filename)
console.log(Object.entries(process.env).filter(([name]) => name !== "TRACEPARENT"), require.main === module, module.id, module.parent)
console.log(Object.keys(require.cache), process._preload_modules, Reflect.ownKeys(globalThis).length, process.exitCode, process.mainModule === module)
console.log(process.stdin.constructor.name, process.stdout.constructor.name, process.stderr.constructor.name, process.stdout.isTTY)
console.log(process.getuid(), process.umask(), process.listenerCount("exit"), module.paths.length, module.children.length)
console.log(Object.entries(Object.getOwnPropertyDescriptors(process)).map(([name, { enumerable, writable, value }]) => [name, enumerable, writable, typeof value]))
console.log(process.getActiveResourcesInfo(), Object.keys(process), process.emit.name)
process.stdout.write(new Error("x").stack)`,
    { args: ["a", "", "b c", "ünï"], env: { MODE: "x" } }
  ],
  "what a module is": [
    "run.mjs",
    `import Process from "node:process"
import { openSync } from "node:fs"
console.log(process.argv, process.execArgv, Process === process, import.meta.main, import.meta.url, Reflect.ownKeys(globalThis).length)
console.log(Object.keys(process), process.getActiveResourcesInfo(), process.mainModule, openSync("/dev/null", "r"), new Error("x").stack)`,
    { args: ["a"] }
  ],
  "what it sees after its imports": [
    "run.mjs",
    `import { openSync, readdirSync } from "node:fs"
import { inspect } from "node:util"
import "./lib/patches.mjs"
console.log(process.argv, process.execArgv, import.meta.main, Reflect.ownKeys(globalThis).length, [1, 2].last(), inspect(process.env).length > 10)
console.log(Object.keys(process), process.getActiveResourcesInfo(), openSync("/dev/null", "r"), readdirSync("/proc/self/fd"), new Error("x").stack)
console.log(process.stdin.constructor.name, process.stdout.constructor.name, process.stderr.constructor.name, process.env.MODE)`,
    { args: ["a"], env: { MODE: "x" } }
  ],
  "modules": [
    "run.mjs",
    `import * as Fs from "node:fs"
import { twice } from "./lib/twice.mjs"
import { later } from "./lib/later.mjs"
const { shout } = await import("./lib/shout.cjs")
console.log(twice(21), shout("x"), later, import.meta.url, import.meta.main, import.meta.dirname, process.argv.length)
Fs.writeFileSync("out.txt", "made")`
  ],
  "the order in which things happen": [
    "run.mjs",
    `import { order } from "./lib/order.mjs"
order.push("script")
process.nextTick(() => order.push("own tick"))
Promise.resolve().then(() => order.push("own promise"))
setTimeout(() => console.log(order), 50)`
  ],
  "the order in which things happen after require": [
    "run.cjs",
    `#!/usr/bin/env node
"use strict"
// What it needs.
const { order } = require("./lib/order.cjs") // in order
const { told } = require('./lib/parent.cjs');
order.push("script")
console.log(told, module.children.map(({ id }) => id), module.children.map(({ parent }) => parent === module), Object.keys(require.cache))
process.nextTick(() => order.push("own tick"))
setTimeout(() => console.log(order, new Error("x").stack), 50)`
  ],
  "required modules that come late": [
    "run.cjs",
    `const first = require("./lib/shout.cjs")
  .shout
const second = require("./lib/shout.cjs"); console.log(first("a"), second.shout("b"), new Error("x").stack)
require("./lib/parent.cjs")`
  ],
  "required modules before what could be a call": [
    "run.cjs",
    `const { shout } = require("./lib/shout.cjs");
(function () { console.log(shout("a")) })()
[1].forEach(() => {})`
  ],
  "modules that change what others share": [
    "run.mjs",
    `import Fs, { readFileSync } from "node:fs"
import "./lib/patches.mjs"
console.log(Fs.readFileSync("it"), readFileSync === Fs.readFileSync, patched)`
  ],
  "modules that change what all code uses": [
    "run.mjs",
    `import { twice } from "./lib/twice.mjs"
for (const of of [Array.prototype, String.prototype, RegExp.prototype]) {
  for (const name of ["splice", "slice", "indexOf", "test", "exec", "startsWith"]) if (name in of) of[name] = () => "changed"
}
import "./lib/changes.mjs"
console.log(twice(1), process.argv.length, process.env.MODE, "abc".slice(1), [1].indexOf(1))`,
    { args: ["a", "b"], env: { MODE: "x" } }
  ],
  "modules that count listeners": ["run.mjs", `import "./lib/counts.mjs"\nconsole.log("out")`],
  "modules that import each other and the script": [
    "run.mjs",
    `import { name } from "./lib/circle.mjs"
export const own = "script"
console.log(name())`
  ],
  "a module by its package": [
    "esm/run.js",
    `import { twice } from "../lib/twice.mjs"\nconsole.log(twice(4), import.meta.main)`
  ],
  "a module by its syntax": [
    "run.js",
    `import { twice } from "./lib/twice.mjs"\nconsole.log(twice(5), import.meta.main)`
  ],
  "its input": [
    "run.js",
    `let size = 0
process.stdin.on("data", (chunk) => size += chunk.length).on("end", () => console.log(size))`,
    { stdin: Buffer.from("hello ".repeat(50_000)) }
  ],
  "its input after its imports": [
    "run.mjs",
    `import { text } from "node:stream/consumers"
import { inspect } from "node:util"
const input = await text(process.stdin)
process.stdout.write(inspect(input.length) + "\\n" + input)
process.stderr.write(input)`,
    { stdin: Buffer.from("hello ".repeat(50_000)) }
  ],
  "no input": ["run.js", `console.log(require("fs").readFileSync(0).length)`],
  "an exit code": ["run.js", `console.log("out"); process.exitCode = 7`],
  "an exit at once": ["run.mjs", `import { twice } from "./lib/twice.mjs"\nconsole.log("out"); process.exit(twice(4))`],
  "an exit code of the last moment": [
    "run.mjs",
    `process.on("exit", (code) => { console.log("exit", code, process.exitCode); process.exitCode = 9 })\nconsole.log("out")`
  ],
  "an exit in the last moment": [
    "run.js",
    `process.on("exit", () => process.exit(300 - 256 + 5)); process.exitCode = 1`
  ],
  "an error in the last moment": ["run.js", `process.on("exit", function last() { throw new Error("at the end") })`],
  "an error of a listener": [
    "run.js",
    `process.on("mine", function listener() { throw new Error("heard") })
try { process.emit("mine") } catch (error) { console.log(error.stack, process.emit("nothing"), process.emit("mine2", 1, 2)) }
process.on("uncaughtException", (error) => { console.log("caught", error.message); process.exitCode = 4 })
process.emit("error", new Error("an error"))`
  ],
  "a promise that never ends": ["run.mjs", `console.log("waits"); await new Promise(() => {})`],
  "an exception": ["run.js", `console.log("out"); throw new TypeError("no")`],
  "an exception in the first line of a module": ["run.mjs", `/* one */ throw new TypeError("no")`],
  "the names of functions in a trace": [
    "run.mjs",
    `import { names } from "./lib/names.mjs"\nconst own = {}\nown.first = own.second = () => names.outer()\nown.first()`
  ],
  "the names of functions of all shapes in traces": [
    "run.mjs",
    `import { EventEmitter } from "node:events"
import last, { shapes } from "./lib/shapes.mjs"
const told = (shape) => { try { shape() } catch (error) { console.log(error.stack) } }
for (const shape of [...shapes, last]) told(shape)
const own = { emitter: new EventEmitter() }
own.emitter.on("x", () => { (() => { own.deep = { f: () => { throw new Error("deep") } }; own.deep.f() })() })
told(() => own.emitter.emit("x"))
console.log(process.moduleLoadList.filter((name) => name.includes("nspector")), shapes.map(String).join().length)`
  ],
  "an exception in a module": ["run.mjs", `import { fails } from "./lib/fails.mjs"\nconst run = () => fails()\nrun()`],
  "an exception of an import": ["run.mjs", `import "./lib/broken.mjs"\nconsole.log("never")`],
  "an import that is not there": ["run.mjs", `import "./lib/nothing.mjs"\nconsole.log("never")`],
  "a name that is not there": ["run.mjs", `import { thrice } from "./lib/twice.mjs"\nconsole.log("never")`],
  "a rejection": ["run.mjs", `await Promise.reject(new Error("later"))`],
  "a rejection that nobody awaits": [
    "run.mjs",
    `import { twice } from "./lib/twice.mjs"\nvoid (async () => { throw new Error("lost" + twice(1)) })()`
  ],
  "a signal": ["run.js", `process.kill(process.pid, "SIGSEGV"); setTimeout(() => {}, 5000)`],
  "children": [
    "run.js",
    `const { fork, execFileSync } = require("child_process")
if (process.argv[2] === "child") console.log("child", process.execArgv, process.argv.slice(2))
else fork(__filename, ["child"]).on("exit", (code) => console.log(code, execFileSync("echo", ["hi"]).toString()))`
  ],
  "a worker": [
    "run.mjs",
    `import { isMainThread, Worker } from "node:worker_threads"
import { twice } from "./lib/twice.mjs"
if (isMainThread) new Worker(new URL(import.meta.url)).on("exit", (code) => console.log("worker", code))
else { console.log(twice(3), process.execArgv, process._preload_modules, process.argv); process.exitCode = 3 }`
  ],
  "a worker that requires": [
    "run.cjs",
    `const { Worker, isMainThread } = require("node:worker_threads")
if (isMainThread) new Worker(__filename).on("exit", (code) => console.log("worker", code))
else console.log(Object.keys(require.cache), process.execArgv, process._preload_modules, require.main === module, module.parent)`
  ],
  "a database that is left open": [
    "run.mjs",
    `import { readdirSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
globalThis.database = new DatabaseSync("data.db")
database.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
console.log(readdirSync(".").sort())`
  ],
  "a syntax error": ["run.js", `console.log("never"; `],
  "a syntax error of a module": ["run.mjs", `import "node:fs"\nconsole.log("never"; `],
  "limits": ["run.js", `console.log(process.report.getReport().userLimits.open_files, process.constrainedMemory())`]
}

const circle = `import { own } from "../run.mjs"\nexport const name = () => own`

describe("a process that was started ahead is like a cold one for", () => {
  for (const [what, [name, script, call]] of Object.entries(scripts)) {
    test(what, () =>
      compare({
        ...files,
        "scripts/lib/circle.mjs": circle,
        "scripts/esm/package.json": `{ "type": "module" }`,
        [`scripts/${name}`]: script
      }, { script: `scripts/${name}`, ...call }))
  }

  for (const [what, source] of Object.entries(lookers)) {
    test(`modules that look at ${what}`, () =>
      compare({
        "scripts/look.mjs": source,
        "scripts/run.mjs":
          `import { seen } from "./look.mjs"\nconsole.log(seen, process.argv.slice(2), process.env.MODE)`
      }, { args: ["a", "b"], env: { MODE: "m" }, stdin: Buffer.from("input") }))
  }
})

/** How many descriptors a process has open. */
const openOf = (pid: number): number => {
  try {
    return Fs.readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return Number.NaN
  }
}

/** Runs it whenever a process waits for that, and tells of each run whether a module was imported before the call. */
const importedAhead = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, name: string) {
  const call = { script: `scripts/${name}` }
  const path = `${skill.root}/scripts/${name}`
  yield* warmed(skill, call)
  const told: Array<boolean> = []
  for (let round = 0; round < 4; round++) {
    // What waits has a keeper with the same command and nothing open.
    yield* Support.eventually("a process waits", () => {
      const own = pids().filter((pid) => commandOf(pid).includes(path))
      return own.length > 1 && own.some((pid) => openOf(pid) === 0)
    })
    const called = Date.now()
    const { stderr, stdout, warm } = yield* run(skill, call)
    assert.deepStrictEqual([Support.text(stderr), warm], ["", true])
    told.push(Number(Support.text(stdout)) < called)
  }
  return told
})

/** Starts processes that stay, each for so many seconds, past what would look at the environment. */
const children = (count: number, seconds: string) =>
  `process.binding("spawn_sync").spawn({
  file: "/bin/sh",
  args: ["sh", "-c", "i=0; while [ $i -lt ${count} ]; do i=$((i+1)); sleep ${seconds} < /dev/null > /dev/null 2>&1 & done"],
  envPairs: ["PATH=/usr/bin:/bin"],
  detached: true,
  stdio: [{ type: "pipe", readable: true }, { type: "pipe", writable: true }, { type: "pipe", writable: true }]
})`

const processes = () => Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))

const runningAs = (word: string) =>
  processes().filter((pid) => {
    try {
      return Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(word)
    } catch {
      return false
    }
  })

describe("before its run a process", () => {
  for (
    const [name, script] of [
      ["run.mjs", `import { began } from "./began.mjs"\nconsole.log(began)`],
      ["run.cjs", `const { began } = require("./began.cjs")\nconsole.log(began)`]
    ] as const
  ) {
    test(`has imported what ${name} imports`, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({
          "scripts/began.mjs": "export const began = Date.now()",
          "scripts/began.cjs": "exports.began = Date.now()",
          [`scripts/${name}`]: script
        })
        assert.deepStrictEqual(yield* importedAhead(skill, name), [true, true, true, true])
      }))
  }

  test("has compiled what the script imports, up to 512 Ki characters", () =>
    Effect.gen(function*() {
      const never = "export const never = () => 1\n"
      const skill = yield* Support.skill({
        "scripts/small.mjs": never,
        "scripts/large.mjs": `${never}// ${"x".repeat(512 * 1024)}`,
        "scripts/run.mjs": `import { never as small } from "./small.mjs"
import { never as large } from "./large.mjs"
import { setFlagsFromString } from "node:v8"
setFlagsFromString("--allow-natives-syntax")
const isCompiled = new Function("f", "return %ActiveTierIsIgnition(f)")
console.log(isCompiled(() => 1), isCompiled(small), isCompiled(large))`
      })
      const call = { script: "scripts/run.mjs" }
      const cold = yield* Effect.provide(run(skill, call), layer(false))
      const warm = yield* warmed(skill, call)
      const seen = warm._tag === "Failure" ? warm.failure.message : Support.text(warm.success.stdout)
      assert.deepStrictEqual([Support.text(cold.stdout), seen], ["false false false\n", "true true false\n"])
    }))

  test("is nothing of before a change that nobody was told of", () =>
    Effect.gen(function*() {
      const script = (version: string) => `import { version } from "./part.mjs"\nconsole.log(version, "${version}")`
      const call = { script: "scripts/run.mjs" }
      const files = { "scripts/run.mjs": script("old"), "scripts/part.mjs": `export const version = "old"` }
      const skill = yield* Support.skill(files)
      yield* warmed(skill, call)
      // The next one is ready.
      yield* Effect.sleep(500)
      Fs.writeFileSync(Path.join(skill.root, "scripts/part.mjs"), `export const version = "newer"`)
      Fs.writeFileSync(Path.join(skill.root, "scripts/run.mjs"), script("newer"))
      for (let round = 0; round < 3; round++) {
        assert.strictEqual(Support.text((yield* run(skill, call)).stdout), "newer newer\n")
      }
    }))

  test("has imported nothing when that looked at what a run brings", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/began.mjs": "export const began = Date.now()\nvoid process.argv.length",
        "scripts/run.mjs": `import { began } from "./began.mjs"\nconsole.log(began)`
      })
      assert.deepStrictEqual(yield* importedAhead(skill, "run.mjs"), [false, false, false, false])
    }))

  test("is ended when what it imports uses more than a run may, and the run ends as a cold one", () =>
    Effect.gen(function*() {
      const seconds = `61.${process.pid}`
      const skill = yield* Support.skill({
        "scripts/hoards.mjs": children(600, seconds),
        "scripts/run.mjs": `import "./hoards.mjs"\nsetTimeout(() => {}, 5_000)`
      })
      for (let round = 0; round < 4; round++) {
        const error = yield* Effect.flip(run(skill, { script: "scripts/run.mjs" }))
        assert.strictEqual(error.reason._tag === "ExecutorError" ? error.reason.reason._tag : "", "ProcessLimit")
      }
      // The next one has begun to import meanwhile.
      yield* Effect.sleep(500)
      yield* Support.eventually("the last of them is gone", () => runningAs(seconds).length === 0)
    }))

  test("leaves nobody behind when its cell serves another skill", () =>
    Effect.gen(function*() {
      const seconds = `62.${process.pid}`
      const other = `0.7${process.pid}`
      const first = yield* Support.skill({
        "scripts/stays.mjs": children(1, seconds),
        "scripts/run.mjs": `import "./stays.mjs"\nconsole.log("done")`
      })
      const second = yield* Support.skill({ "scripts/run.sh": `sleep ${other}\n` })
      const calls = Effect.gen(function*() {
        yield* warmed(first, { script: "scripts/run.mjs" })
        yield* Support.eventually("one waits with what it imported", () => runningAs(seconds).length > 0)
        const running = yield* Effect.forkChild(run(second))
        yield* Support.eventually("the cell serves the other one", () => runningAs(other).length > 0)
        assert.lengthOf(runningAs(seconds), 0)
        yield* Fiber.join(running)
      })
      yield* Effect.provide(
        calls,
        layer(true, Support.executorFor(Fs.realpathSync(Os.tmpdir()), { concurrency: 1, warm: 1, idle: 1 }))
      )
    }))

  test("is not believed when it says that another process is its keeper", () =>
    Effect.gen(function*() {
      const seconds = `63.${process.pid}`
      const skill = yield* Support.skill({
        "scripts/lies.mjs": `import { readdirSync, readFileSync, writeSync } from "node:fs"
${children(1, seconds)}
const said = Buffer.alloc(72)
said.writeUInt32LE(0x534b5331, 0)
said.writeUInt32LE(7, 4)
const command = (pid) => { try { return String(readFileSync("/proc/" + pid + "/cmdline")) } catch { return "" } }
const find = () => readdirSync("/proc").find((pid) => Number(pid) > 0 && command(pid).includes("${seconds}"))
while (find() === undefined);
said.writeInt32LE(Number(find()), 8)
let told
try { told = writeSync(100, said) } catch (error) { told = error.code }
export { find, told }`,
        "scripts/run.mjs": `import { find, told } from "./lies.mjs"\nsetTimeout(() => console.log(told, find()), 300)`
      })
      const result = yield* warmed(skill, { script: "scripts/run.mjs" })
      assert.strictEqual(result._tag === "Success" ? Support.text(result.success.stdout) : "", "72 undefined\n")
    }))

  test("has imported nothing that could use a network that is granted", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      Support.writeSkill(directory, "testing/sample", {
        "scripts/began.mjs": "export const began = Date.now()",
        "scripts/run.mjs": `import { began } from "./began.mjs"\nconsole.log(began)`
      }, { "skillscale.network": "true" })
      const skill = yield* Support.load(directory, "sample")
      const runner = Layer.fresh(SkillRunner.layer({ sandbox: { network: "all" } })).pipe(
        Layer.provide(Layer.mergeAll(Interpreter.layer, WorkingView.layer(), Secrets.layer({}))),
        Layer.provide(Layer.fresh(Support.executorFor(directory)))
      )
      assert.deepStrictEqual(yield* Effect.provide(importedAhead(skill, "run.mjs"), runner), [
        false,
        false,
        false,
        false
      ])
    }))

  test("is ended when it never ends to import, and the run ends as a cold one", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/never.mjs": "for (;;) {}",
        "scripts/run.mjs": `import "./never.mjs"`
      })
      for (let round = 0; round < 4; round++) {
        const error = yield* Effect.flip(run(skill, { script: "scripts/run.mjs", timeout: 300 }))
        assert.strictEqual(error.reason._tag === "ExecutorError" ? error.reason.reason._tag : "", "TimedOut")
      }
    }))

  test("has no time run out that a module waits for", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/limits.mjs": `export const signal = AbortSignal.timeout(300)
setTimeout(() => { console.log("too late"); process.exit(9) }, 300).unref()`,
        "scripts/run.mjs":
          `import { signal } from "./limits.mjs"\nconsole.log(signal.aborted)\nsetTimeout(() => {}, 50)`
      })
      yield* warmed(skill, { script: "scripts/run.mjs" })
      for (let round = 0; round < 3; round++) {
        yield* Effect.sleep(600)
        const { exitCode, stdout } = yield* run(skill, { script: "scripts/run.mjs" })
        assert.deepStrictEqual([exitCode, Support.text(stdout)], [0, "false\n"])
      }
    }))

  test("gives way to that of another script when eight runs went by, and not to one that takes turns with it", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      Support.writeSkill(directory, "testing/sample", {
        "scripts/first.mjs": `console.log("first")`,
        "scripts/second.mjs": `console.log("second")`
      })
      const skill = yield* Support.load(directory, "sample")
      const [first, second] = [{ script: "scripts/first.mjs" }, { script: "scripts/second.mjs" }]
      const turns = Effect.gen(function*() {
        yield* warmed(skill, first)
        for (let turn = 0; turn < 12; turn++) {
          yield* run(skill, first)
          assert.isFalse((yield* run(skill, second)).warm, `in turn, ${turn}`)
        }
        for (let turn = 1; turn < 9; turn++) assert.isFalse((yield* run(skill, second)).warm, `alone, ${turn}`)
        yield* warmed(skill, second)
        assert.isFalse((yield* run(skill, first)).warm)
      })
      yield* Effect.provide(turns, layer(true, Support.executorFor(directory, { prestart: 1 })))
    }))

  test("is there for calls that follow each other at once", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.mjs": `import "node:path"` })
      const results = yield* Effect.forEach(Array.from({ length: 12 }), () => run(skill, { script: "scripts/run.mjs" }))
      assert.isTrue(results.some(({ warm }) => warm))
    }))

  test("that wrote a trace ends when that is written", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.mjs": `import { createTracing } from "node:trace_events"
createTracing({ categories: ["node.perf", "v8"] }).enable()
performance.mark("a")`
      })
      const result = yield* warmed(skill, { script: "scripts/run.mjs" })
      if (result._tag === "Failure") return assert.fail(String(result.failure))
      for (const { data, path } of result.success.artifacts) {
        assert.isArray(JSON.parse(Support.text(data)).traceEvents, path)
      }
      assert.lengthOf(result.success.artifacts, 1)
    }))

  test("is not like the next one, whatever a run did", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/state.mjs": "export const state = { runs: 0 }",
        "scripts/run.mjs":
          `import { existsSync, writeFileSync } from "node:fs"\nimport { state } from "./state.mjs"\nconsole.log(state.runs++, globalThis.left, existsSync("left"), existsSync("/tmp/left"))
globalThis.left = true\nwriteFileSync("left", "")\nwriteFileSync("/tmp/left", "")\nwriteFileSync(new URL("./state.mjs", import.meta.url), "export const state = { runs: 9 }")`
      })
      yield* warmed(skill, { script: "scripts/run.mjs" })
      const results = yield* Effect.forEach(Array.from({ length: 12 }), () => run(skill, { script: "scripts/run.mjs" }))
      const texts = new Set(results.map(({ stderr, stdout }) => Support.text(stdout) + Support.text(stderr)))
      assert.deepStrictEqual([...texts], ["0 undefined false false\n"])
    }))
})

describe("beyond its limits a warm start ends as a cold one", () => {
  const little = { "skillscale.memory": "256MiB" }

  test("of a file", () =>
    Effect.gen(function*() {
      const files = {
        "scripts/run.cjs":
          `const Fs = require("node:fs"); if (process.argv[2]) Fs.writeSync(Fs.openSync("out", "w"), "x", 2 ** 30)`
      }
      const seen = yield* compareAtLimits(files, "scripts/run.cjs")
      assert.match(seen, /file passed its limit of 1073741824 bytes/)
    }))

  test("of memory that it uses", () =>
    Effect.gen(function*() {
      const files = {
        "scripts/run.cjs": `if (process.argv[2]) for (const kept = [];;) kept.push(Buffer.alloc(16 << 20, 1))`
      }
      const seen = yield* compareAtLimits(files, "scripts/run.cjs", little)
      assert.match(seen, /ran out of its 268435456 bytes of memory/)
    }))

  test("of memory that it is refused", () =>
    Effect.gen(function*() {
      const files = {
        "scripts/run.cjs": `if (process.argv[2]) { const kept = Buffer.alloc(150 << 20, 1); new ArrayBuffer(2 ** 31) }`
      }
      const seen = yield* compareAtLimits(files, "scripts/run.cjs", little)
      assert.match(seen, /ran out of its 268435456 bytes of memory/)
    }))
})
