import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import * as Path from "node:path"
import * as Fixture from "../../server/test/fixtures/dependencies.ts"
import * as Cli from "./support/cli.ts"
import * as Up from "./support/up.ts"

const write = (folder: string, path: string, text: string) => {
  const file = Path.join(folder, path)
  mkdirSync(Path.dirname(file), { recursive: true })
  writeFileSync(file, text)
}

const skill = (folder: string, name: string, requirements: string) => {
  write(folder, `a/${name}/SKILL.md`, `---\nname: ${name}\ndescription: Tests ${name}.\n---\nText.\n`)
  write(folder, `a/${name}/scripts/run.py`, "import os\nprint(os.environ['FAKE_ENV'])\n")
  if (requirements !== "") write(folder, `a/${name}/requirements.txt`, requirements)
}

const setup = Effect.gen(function*() {
  const home = yield* Up.folder
  const skills = Path.join(home, "skills")
  const bin = Path.join(home, "bin")
  Fixture.fakeUv(bin, home)
  skill(skills, "good", "six")
  skill(skills, "plain", "")
  const env = { PATH: `${bin}:${process.env["PATH"] ?? ""}`, SKILLSCALE_CACHE_DIR: Path.join(home, "cache") }
  const run = (...args: ReadonlyArray<string>) => Cli.run(["skills", ...args, "--skills", skills], { env })
  return { home, skills, env, run }
})

layer(NodeServices.layer, { excludeTestServices: true, timeout: 60_000 })("skills prepare", (it) => {
  it.effect("prepares ahead, once, and a server finds it", () =>
    Effect.gen(function*() {
      const { env, run, skills } = yield* setup
      assert.include((yield* run("list")).stdout, "Tests good. (not prepared; see skillscale skills prepare)\n")
      const first = yield* run("prepare")
      assert.deepStrictEqual([first.code, first.stderr], [0, ""])
      assert.deepStrictEqual(first.stdout.trimEnd().split("\n").sort(), [
        "good   ready",
        "plain  ready; it needs nothing"
      ])
      const shown = JSON.parse((yield* run("show", "good", "--json")).stdout)
      assert.deepStrictEqual(shown.dependencies, { status: "ready" })
      assert.match((yield* run("list")).stdout, /^good +TOPIC_A {2}Tests good\.\n/m)
      const up = yield* Up.start(skills, env)
      const called = yield* Cli.run(["invoke", "good", "--data", "x"], { env: up.env })
      assert.match(called.stdout, /\/cache\/environments\/python-/, called.stderr)
      const topics = yield* Cli.run(["topics", "--json"], { env: up.env })
      assert.match(topics.stdout, /"status": "ready"/)
    }))

  it.effect("exits with 1 and the reason of each skill that fails, and with 2 for one that is not there", () =>
    Effect.gen(function*() {
      const { home, run, skills } = yield* setup
      skill(skills, "bad", "--index-url http://x")
      const mixed = yield* run("prepare")
      assert.strictEqual(mixed.code, 1)
      assert.match(mixed.stdout, /^good {3}ready$/m)
      assert.match(
        mixed.stdout,
        /^bad {4}failed: its dependencies cannot be prepared: requirements\.txt: the option --index-url/m
      )
      assert.strictEqual(mixed.stderr, "skillscale: 1 of 3 skills cannot be prepared: bad\n")
      assert.strictEqual((yield* run("prepare", "good", "plain")).code, 0)
      const unknown = yield* run("prepare", "godo")
      assert.deepStrictEqual([unknown.code, unknown.stdout], [2, ""])
      assert.include(unknown.stderr, "did you mean good?")
      assert.include((yield* run("list")).stdout, "Tests bad. (failed: its dependencies")
      assert.isTrue(existsSync(Path.join(home, "cache")))
    }))

  it.effect("updates one line per skill in its place on a terminal", () =>
    Effect.gen(function*() {
      const { env, skills } = yield* setup
      const inTerminal = yield* Cli.shell(
        `script -qec 'stty rows 40 cols 100; '"$(declare -f skillscale)"'; skillscale skills prepare --skills ${skills}' /dev/null`,
        { env: { ...env, SHELL: "/bin/bash", TERM: "xterm" } }
      )
      assert.strictEqual(inTerminal.code, 0, inTerminal.stdout)
      assert.include(inTerminal.stdout, "\u001b[2A")
      assert.include(inTerminal.stdout, "installing 1 Python package …")
      assert.match(
        inTerminal.stdout.split("\u001b[2A").at(-1) ?? "",
        /good {3}ready\s+\u001b\[2Kplain {2}ready; it needs nothing/
      )
    }))

  it.effect("refuses a cache that others can write, and one that confined skills would not see", () =>
    Effect.gen(function*() {
      const { env, home, run, skills } = yield* setup
      const open = Path.join(home, "cache")
      mkdirSync(open)
      yield* Effect.promise(() => import("node:fs/promises").then((fs) => fs.chmod(open, 0o777)))
      const refused = yield* run("prepare")
      assert.strictEqual(refused.code, 2)
      assert.match(refused.stderr, /^skillscale: \S+ can be written by every user, .*SKILLSCALE_CACHE_DIR\n$/)
      const up = yield* Cli.run([
        "up",
        "--skills",
        skills,
        "--xsub-port",
        "0",
        "--xpub-port",
        "0",
        "--metrics-port",
        "0"
      ], {
        env: { ...env, SKILLSCALE_CACHE_DIR: Path.join("/tmp", Path.basename(home), "other") }
      })
      assert.strictEqual(up.code, 2)
      assert.include(up.stderr, "is where confined skills have their own files")
    }))
})
