import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as Executor from "../src/Executor.ts"
import * as Interpreter from "../src/Interpreter.ts"
import * as Support from "./fixtures/support.ts"

const program = (folder: string, name: string, script: string) => {
  Fs.mkdirSync(folder, { recursive: true })
  Fs.writeFileSync(Path.join(folder, name), script, { mode: 0o755 })
  return Path.join(folder, name)
}

const setup = Effect.gen(function*() {
  const root = yield* Support.folder
  const bin = Path.join(root, "bin")
  const interpreter = yield* Interpreter.make({ path: `relative:${bin}:/usr/bin:/bin` })
  const resolve = (name: string, content = "") => {
    const file = Path.join(root, name)
    Fs.writeFileSync(file, content, { mode: 0o644 })
    return interpreter.resolve({ root, file })
  }
  return { root, bin, interpreter, resolve }
})

const live = (title: string, body: Effect.Effect<void, unknown, Executor.Executor | Scope.Scope>) =>
  it.live(title, () => Effect.provide(body, Support.executor))

describe("Interpreter", () => {
  live(
    "follows the extension, in any case, without an exec bit and before the shebang",
    Effect.gen(function*() {
      const { bin, resolve } = yield* setup
      const bash = program(bin, "bash", "")
      for (const name of ["a.sh", "a.bash", "A.SH"]) {
        assert.deepStrictEqual(yield* resolve(name, "#!/usr/bin/python3\n"), { file: bash, args: [] })
      }
      for (const name of ["a.mjs", "a.cjs", "a.js", "a.ts", "a.mts"]) {
        assert.deepStrictEqual(yield* resolve(name), { file: process.execPath, args: [] })
      }
      assert.match((yield* resolve("a.py")).file, /^\/.*python3/)
    })
  )

  live(
    "reads the shebang: absolute, with arguments, env, env -S, env with options, CRLF",
    Effect.gen(function*() {
      const { bin, resolve } = yield* setup
      const own = program(bin, "own", "")
      const expected = (file: string, ...args: ReadonlyArray<string>) => ({ file, args })
      assert.deepStrictEqual(yield* resolve("a", `#!${own}\n`), expected(own))
      assert.deepStrictEqual(yield* resolve("a", `#! ${own} -e  -u\r\nx`), expected(own, "-e", "-u"))
      assert.deepStrictEqual(yield* resolve("a", "#!/usr/bin/env own"), expected(own))
      assert.deepStrictEqual(yield* resolve("a", "#!/usr/bin/env -S own -x y\n"), expected(own, "-x", "y"))
      assert.deepStrictEqual(yield* resolve("a", "#!/usr/bin/env A=b own\n"), expected("/usr/bin/env", "A=b", "own"))
      assert.deepStrictEqual(yield* resolve("a", "#!/usr/bin/env node\n"), expected(process.execPath))
      // The path of another machine, with the same program elsewhere here.
      assert.deepStrictEqual(yield* resolve("a", "#!/opt/nowhere/own -q\n"), expected(own, "-q"))
    })
  )

  live(
    "refuses what has neither extension nor shebang, and names the file",
    Effect.gen(function*() {
      const { resolve } = yield* setup
      for (const content of ["", "plain", "#!", "#!\n", "#!/usr/bin/env\n", "#! /usr/bin/env -S \n"]) {
        const error = yield* Effect.flip(resolve("what", content))
        assert.strictEqual(error.reason._tag, "Unknown", JSON.stringify(content))
        assert.include(error.message, "what has no known extension and no shebang")
      }
      const pipe = yield* Effect.flip((yield* setup).interpreter.resolve({ root: "/", file: "/nowhere/x" }))
      assert.strictEqual(pipe.reason._tag, "Unknown")
    })
  )

  live(
    "prefers the skill's own Python environment",
    Effect.gen(function*() {
      const { resolve, root } = yield* setup
      const own = program(Path.join(root, ".venv/bin"), "python", "")
      assert.deepStrictEqual(yield* resolve("a.py"), { file: own, args: [] })
      Fs.chmodSync(own, 0o644)
      assert.notStrictEqual((yield* resolve("a.py")).file, own)
    })
  )

  live(
    "asks a version manager's shim once for the real executable, also when many ask at the same time",
    Effect.gen(function*() {
      const { bin, interpreter, resolve, root } = yield* setup
      const real = program(Path.join(root, "versions/3"), "python3", "")
      const calls = Path.join(root, "calls")
      program(bin, "python3", `#!/bin/sh\nsleep 0.2\necho call >> ${calls}\necho ${real}\n`)
      const commands = yield* Effect.all([resolve("a.py"), resolve("a.py"), resolve("a.py")], {
        concurrency: "unbounded"
      })
      yield* resolve("b", "#!/usr/bin/env python3\n")
      assert.deepStrictEqual(commands.map(({ file }) => file), [real, real, real])
      assert.strictEqual(Fs.readFileSync(calls, "utf8"), "call\n")
      const path = (yield* interpreter.searchPath).split(":")
      assert.strictEqual(path[0], Path.dirname(real))
      assert.include(path, bin)
      // Upgraded: the old version is gone.
      const next = program(Path.join(root, "versions/4"), "python3", "")
      program(bin, "python3", `#!/bin/sh\necho ${next}\n`)
      Fs.rmSync(real)
      assert.strictEqual((yield* resolve("a.py")).file, next)
    })
  )

  live(
    "takes the shim itself when it does not tell",
    Effect.gen(function*() {
      const { bin, resolve } = yield* setup
      const shim = program(bin, "python3", "#!/bin/sh\necho relative/python; exit 1\n")
      assert.strictEqual((yield* resolve("a.py")).file, shim)
    })
  )

  live(
    "keeps the name of a program that looks at its own name",
    Effect.gen(function*() {
      const { bin, resolve } = yield* setup
      program(bin, "multi", "")
      Fs.symlinkSync("multi", Path.join(bin, "perl"))
      assert.strictEqual((yield* resolve("a.pl")).file, Path.join(bin, "perl"))
    })
  )

  live(
    "says what is not installed, and finds it once it is, also after searchPath was asked",
    Effect.gen(function*() {
      const root = yield* Support.folder
      const bin = Path.join(root, "bin")
      const { resolve, searchPath } = yield* Interpreter.make({ path: bin })
      const script = (name: string, content = "") => {
        Fs.writeFileSync(Path.join(root, name), content)
        return resolve({ root, file: Path.join(root, name) })
      }
      assert.strictEqual(yield* searchPath, `${Path.dirname(process.execPath)}:${bin}`)
      const error = yield* Effect.flip(script("a.py"))
      assert.deepInclude(error.reason, { _tag: "NotInstalled", program: "python3" })
      assert.include(error.message, "a.py needs python3, which is not installed on this server")
      assert.strictEqual((yield* Effect.flip(script("a", "#!/usr/bin/env python\n"))).reason._tag, "NotInstalled")
      const python = program(bin, "python3", "")
      assert.strictEqual((yield* script("a.py")).file, python)
      assert.strictEqual((yield* script("a", "#!/usr/bin/env python\n")).file, python)
      assert.strictEqual(yield* searchPath, `${bin}:${Path.dirname(process.execPath)}`)
    })
  )
})
