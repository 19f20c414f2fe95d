/** A skill with a Python environment of its own in `.venv`, as `python3 -m venv` makes it: links to the machine's Python. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Interpreter from "../src/Interpreter.ts"
import * as Secrets from "../src/Secrets.ts"
import * as SkillRunner from "../src/SkillRunner.ts"
import * as WorkingView from "../src/WorkingView.ts"
import * as Support from "./fixtures/support.ts"
import { layer, run, warmed } from "./warmKit.ts"

const withoutSandbox = SkillRunner.layer({ sandbox: "off" }).pipe(
  Layer.provide(Layer.mergeAll(Interpreter.layer, WorkingView.layer(), Secrets.layer({}))),
  Layer.provide(Support.executor)
)

/** Writes a module into the environment in the way of pip: under another name, then in its place. */
const install = (root: string, name: string, source: string) => {
  const libraries = Path.join(root, ".venv/lib")
  const packages = Path.join(libraries, Fs.readdirSync(libraries)[0] ?? "", "site-packages")
  Fs.writeFileSync(Path.join(packages, `${name}.new`), source)
  Fs.renameSync(Path.join(packages, `${name}.new`), Path.join(packages, `${name}.py`))
}

const files = {
  "scripts/run.py": "import sys, installed\nprint(sys.prefix, installed.VALUE, installed.__file__)",
  "scripts/run.sh": ". .venv/bin/activate\npython -c 'import sys, installed; print(sys.prefix, installed.VALUE)'"
}

const withEnvironment = Effect.gen(function*() {
  const directory = yield* Support.folder
  const root = Support.writeSkill(directory, "testing/sample", files)
  const { digest } = yield* Support.load(directory, "sample")
  execFileSync("python3", ["-m", "venv", "--without-pip", Path.join(root, ".venv")])
  install(root, "installed", "VALUE = 'first'\n")
  const skill = yield* Support.load(directory, "sample")
  assert.strictEqual(skill.digest, digest)
  return skill
})

const out = (result: SkillRunner.RunResult) => [Support.text(result.stdout), Support.text(result.stderr)]

describe("a skill's own Python environment", () => {
  it.live("is the skill's interpreter, cold and warm, and writes nothing", () =>
    Effect.gen(function*() {
      const skill = yield* withEnvironment
      const prefix = Path.join(skill.root, ".venv")
      const before = Support.snapshot(prefix)
      const check = Effect.gen(function*() {
        const result = yield* run(skill, { script: "scripts/run.py" })
        const [stdout = "", stderr] = out(result)
        assert.strictEqual(stderr, "")
        assert.isTrue(stdout.startsWith(`${prefix} first ${prefix}/lib`), stdout)
        assert.deepStrictEqual(result.artifacts, [])
        const shell = yield* run(skill, { script: "scripts/run.sh" })
        assert.deepStrictEqual(out(shell), [`${prefix} first\n`, ""])
        return result.warm
      })
      assert.isFalse(yield* Effect.provide(check, layer(false)))
      yield* Effect.provide(
        Effect.andThen(
          warmed(skill, { script: "scripts/run.py" }),
          Effect.tap(check, (warm) => Effect.sync(() => assert.isTrue(warm)))
        ),
        layer(true)
      )
      assert.deepStrictEqual(Support.snapshot(prefix), before)
    }))

  it.live("is found by a run that works in a copy", () =>
    Effect.gen(function*() {
      const skill = yield* withEnvironment
      const prefix = Path.join(skill.root, ".venv")
      const python = yield* run(skill, { script: "scripts/run.py" })
      assert.isTrue(Support.text(python.stdout).startsWith(`${prefix} first`), out(python).join())
      const shell = yield* run(skill, { script: "scripts/run.sh" })
      assert.deepStrictEqual([...out(shell), shell.artifacts.length], [`${prefix} first\n`, "", 0])
    }).pipe(Effect.provide(withoutSandbox)))

  it.live("is looked at again when packages were installed into it", () =>
    Effect.gen(function*() {
      const skill = yield* withEnvironment
      const call = { script: "scripts/run.py" }
      yield* warmed(skill, call)
      install(skill.root, "installed", "VALUE = 'second'\n")
      assert.include(Support.text((yield* run(skill, call)).stdout), "second")
      yield* warmed(skill, call)
      assert.include(Support.text((yield* run(skill, call)).stdout), "second")
    }).pipe(Effect.provide(layer(true))))

  it.live("is said to be out of reach where the skill's folder cannot be shown as it is", () =>
    Effect.gen(function*() {
      const skill = yield* withEnvironment
      Fs.symlinkSync("/etc/hostname", Path.join(skill.root, "host"))
      const linked = yield* Support.load(Path.dirname(Path.dirname(skill.root)), "sample")
      const error = yield* Effect.flip(run(linked, { script: "scripts/run.py" }))
      assert.strictEqual(error.reason._tag, "InterpreterError")
      assert.match(error.message, /\.venv is out of reach: .* or name the packages in requirements\.txt/)
      assert.strictEqual((yield* run(linked, { script: "scripts/run.sh" })).exitCode, 1)
    }).pipe(Effect.provide(layer(false))))
})
