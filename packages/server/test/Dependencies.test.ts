import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Dependencies from "../src/Dependencies.ts"
import * as Interpreter from "../src/Interpreter.ts"
import * as NativeExecutor from "../src/NativeExecutor.ts"
import * as SkillRunner from "../src/SkillRunner.ts"
import * as Sandbox from "../src/Sandbox.ts"
import * as Secrets from "../src/Secrets.ts"
import * as WorkingView from "../src/WorkingView.ts"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { skipUnless } from "./executorSuite.ts"
import * as Fixture from "./fixtures/dependencies.ts"
import * as Support from "./fixtures/support.ts"

const works = (file: string, args: ReadonlyArray<string>): boolean =>
  ChildProcess.spawnSync(file, [...args], { stdio: "ignore", timeout: 15_000 }).status === 0

const script = (dependencies: ReadonlyArray<string>, body = "print(1)", more = "") =>
  `# /// script\n${more}# dependencies = ${JSON.stringify(dependencies)}\n# ///\n${body}\n`

const service = (layer: Layer.Layer<Dependencies.Dependencies>) =>
  Effect.map(Layer.build(layer), (context) => Effect.provide(Dependencies.Dependencies, context)).pipe(Effect.flatten)

/** Runs an effect when so many milliseconds more have passed, as it sees it. */
const later = <A, E, R>(millis: number, effect: Effect.Effect<A, E, R>) =>
  Clock.clockWith((clock) => {
    const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + millis
    const moved: Clock.Clock = {
      currentTimeMillisUnsafe,
      currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + BigInt(millis) * 1_000_000n,
      currentTimeNanos: Effect.sync(() => moved.currentTimeNanosUnsafe()),
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + BigInt(millis) * 1_000_000n,
      monotonicTimeNanos: Effect.sync(() => moved.monotonicTimeNanosUnsafe()),
      sleep: (duration) => clock.sleep(duration)
    }
    return Effect.provideService(effect, Clock.Clock, moved)
  })

describe("Dependencies", () => {
  it.live("prepares once for each distinct set of requirements, across skills, changes and servers", () =>
    Effect.gen(function*() {
      const { installed, layer } = yield* Fixture.faked()
      const one = yield* service(layer)
      const first = yield* Support.skill({
        "scripts/run.py": "print(1)",
        "scripts/own.py": script(["own"]),
        "scripts/none.py": script([]),
        "requirements.txt": "Shared==1\n"
      })
      const prepared = yield* one.prepare(first)
      assert.deepStrictEqual(installed().sort(), ["own", "shared==1"])
      const python = prepared.python("scripts/run.py")
      assert.strictEqual(prepared.python("other.sh"), python)
      assert.notStrictEqual(prepared.python("scripts/own.py"), python)
      assert.isUndefined(prepared.python("scripts/none.py"))
      assert.deepStrictEqual(prepared.path("other.sh"), [Path.dirname(python ?? "")])
      assert.strictEqual(prepared.readable.length, 2)

      const second = yield* Support.skill({ "run.py": "print(2)", "requirements.txt": " shared == 1 # the same\n" })
      const other = yield* service(Layer.fresh(layer))
      assert.strictEqual((yield* other.prepare(second)).python("run.py"), python)
      // A change of what has nothing to do with it, and one that has.
      const edit = Effect.fnUntraced(function*(name: string, text: string) {
        Fs.writeFileSync(Path.join(first.root, name), text)
        return yield* Support.load(Path.dirname(Path.dirname(first.root)), first.name)
      })
      assert.strictEqual((yield* one.prepare(yield* edit("scripts/run.py", "print(3)"))).python("x.py"), python)
      assert.strictEqual(installed().length, 2)
      yield* one.prepare(yield* edit("requirements.txt", "shared==2"))
      assert.deepStrictEqual(installed().sort(), ["own", "shared==1", "shared==2"])
      // What was removed behind its back is made again.
      Fs.rmSync(Path.dirname(prepared.readable[0] ?? ""), { recursive: true })
      Fs.mkdirSync(one.environments)
      assert.isTrue(Fs.existsSync((yield* other.prepare(second)).python("run.py") ?? ""))
    }))

  it.live("gives a build the operator's settings only", () =>
    Effect.gen(function*() {
      const { env, layer } = yield* Fixture.faked()
      yield* (yield* service(layer)).prepare(yield* Support.skill({ "run.py": script(["six"]) }))
      assert.notInclude(env(), "SKILLSCALE")
      assert.notInclude(env(), "VITEST")
      assert.match(env(), /^HOME=/m)
    }))

  it.live("tells where each skill is, and prepares again what failed when some time has passed", () =>
    Effect.gen(function*() {
      const { breaks, hold, layer, pass } = yield* Fixture.faked({ retryAfter: "1 hour" })
      const dependencies = yield* service(layer)
      const skill = yield* Support.skill({ "run.py": script(["six"]) })
      const state = () => dependencies.state(skill)
      yield* hold
      yield* breaks(true)
      yield* Effect.forkScoped(dependencies.follow(Stream.concat(Stream.succeed([skill]), Stream.never)))
      yield* Support.eventually("it installs", () => state().detail === "installing 1 Python package")
      yield* pass
      yield* Support.eventually("it fails", () => state().status === "failed")
      const error = yield* Effect.flip(dependencies.prepare(skill))
      assert.isTrue(error.isRetryable)
      assert.match(
        error.message,
        /^its dependencies cannot be prepared: uv pip install exited with 2: .*error: no network/
      )
      assert.notInclude(error.message, "hush")
      yield* breaks(false)
      for (const minutes of [0, 50]) {
        const again = yield* Effect.flip(later(minutes * 60_000, dependencies.prepare(skill)))
        assert.strictEqual(again.message, error.message)
      }
      yield* later(60 * 60_000, dependencies.prepare(skill))
      assert.deepStrictEqual(state(), { status: "ready" })
      assert.deepStrictEqual(yield* dependencies.inspect(skill), { status: "ready" })
    }))

  it.live("waits ten times as long as a failed attempt took before another one", () =>
    Effect.gen(function*() {
      const { breaks, hold, installed, layer, pass } = yield* Fixture.faked({ retryAfter: 0 })
      const dependencies = yield* service(layer)
      const skill = yield* Support.skill({ "run.py": script(["six"]) })
      yield* hold
      yield* breaks(true)
      const began = Date.now()
      const waiting = yield* Effect.forkChild(Effect.flip(dependencies.prepare(skill)), { startImmediately: true })
      yield* Support.eventually("it takes a while", () => installed().length === 1 && Date.now() - began > 400)
      yield* pass
      yield* Fiber.join(waiting)
      const tookMs = Date.now() - began
      yield* breaks(false)
      yield* Effect.flip(dependencies.prepare(skill))
      assert.deepStrictEqual(installed(), ["six"])
      yield* later(10 * tookMs, dependencies.prepare(skill))
      assert.deepStrictEqual(installed(), ["six", "six"])
    }))

  it.live("says what cannot be had on this server, and what a skill may not ask for", () =>
    Effect.gen(function*() {
      const { installed, layer } = yield* Fixture.faked()
      const dependencies = yield* service(layer)
      const why = (files: Support.Files) =>
        Effect.flatMap(Support.skill(files), (skill) => Effect.flip(dependencies.prepare(skill)))
      const future = yield* why({ "run.py": script(["six"], "", "# requires-python = \">=4\"\n") })
      assert.match(future.message, /needs Python >=4, and on this server there is only 3\.\d+\.\d+/)
      const index = yield* why({ "run.py": "", "requirements.txt": "--index-url http://x\nsix" })
      assert.deepStrictEqual([index.reason._tag, index.isRetryable], ["Refused", false])
      assert.deepStrictEqual(installed(), [])
      const own = yield* Support.skill({ "run.py": script(["six"]), ".venv/bin/python": "" })
      assert.isTrue(Dependencies.isNothing(yield* dependencies.prepare(own)))
    }))

  it.live("ends a build of a skill that changed, and lets who waits have the next one", () =>
    Effect.gen(function*() {
      const { hold, installed, layer, pass } = yield* Fixture.faked()
      yield* hold
      const dependencies = yield* service(layer)
      const skill = yield* Support.skill({ "run.py": script(["before"]) })
      const waiting = yield* Effect.forkChild(dependencies.prepare(skill), { startImmediately: true })
      yield* Support.eventually("the first is built", () => installed().includes("before"))
      Fs.writeFileSync(Path.join(skill.root, "run.py"), script(["after"]))
      const changed = yield* Support.load(Path.dirname(Path.dirname(skill.root)), skill.name)
      const next = yield* Effect.forkChild(dependencies.prepare(changed), { startImmediately: true })
      yield* Support.eventually("the second is built", () => installed().includes("after"))
      assert.lengthOf(Fs.readdirSync(dependencies.environments), 1)
      yield* pass
      const python = (yield* Fiber.join(next)).python("run.py")
      assert.strictEqual((yield* Fiber.join(waiting)).python("run.py"), python)
    }))

  it.live("forgets a skill that went, and ends its build", () =>
    Effect.gen(function*() {
      const { hold, layer } = yield* Fixture.faked()
      yield* hold
      const dependencies = yield* service(layer)
      const skill = yield* Support.skill({ "run.py": script(["six"]) })
      const listed = yield* SubscriptionRef.make([skill])
      yield* Effect.forkScoped(dependencies.follow(SubscriptionRef.changes(listed)))
      yield* Support.eventually("it is built", () => Fs.readdirSync(dependencies.environments).length === 1)
      const waiting = yield* Effect.forkChild(Effect.flip(dependencies.prepare(skill)), { startImmediately: true })
      yield* SubscriptionRef.set(listed, [])
      assert.match((yield* Fiber.join(waiting)).message, /the skill is gone/)
      yield* Support.eventually("it is ended", () => Fs.readdirSync(dependencies.environments).length === 0)
    }))

  it.live("ends a build that takes too long", () =>
    Effect.gen(function*() {
      const { hold, layer } = yield* Fixture.faked({ timeout: 300 })
      yield* hold
      const skill = yield* Support.skill({ "run.py": script(["six"]) })
      const dependencies = yield* service(layer)
      const error = yield* Effect.flip(dependencies.prepare(skill))
      assert.match(error.message, /uv pip install did not end within 0\.3 s/)
      assert.deepStrictEqual(Fs.readdirSync(dependencies.environments), [])
    }))
})

/** Runs a skill as a server does, with what was prepared for it, confined and not. */
const runner = (directory: string, env: Dependencies.Options["env"], sandbox: SkillRunner.Options["sandbox"]) =>
  Layer.unwrap(Effect.gen(function*() {
    const readable = yield* Sandbox.readable({ extra: Dependencies.readable(directory) })
    const executor = NativeExecutor.layerOrNode({
      sandbox: { readable, folders: [Fs.realpathSync(Path.dirname(yield* Support.folder))] }
    })
    return SkillRunner.layer({ sandbox }).pipe(
      Layer.provide(Layer.mergeAll(Interpreter.layer, WorkingView.layer(), Secrets.layer({}))),
      Layer.provideMerge(
        Layer.provide(Dependencies.layer({ directory, env }), Dependencies.layerExecutor({ directory, env }))
      ),
      Layer.provide(executor),
      Layer.provide(NodeServices.layer)
    )
  }))

const modes: ReadonlyArray<SkillRunner.Options["sandbox"]> = [{}, "off"]

const runsIn = Effect.fnUntraced(function*(env: Dependencies.Options["env"], files: Support.Files, says: RegExp) {
  const directory = yield* Effect.orDie(Dependencies.prepareDirectory(yield* Fixture.folder))
  const skill = yield* Support.skill(files)
  for (const sandbox of modes) {
    yield* Effect.gen(function*() {
      const { run } = yield* SkillRunner.SkillRunner
      const result = yield* run(skill, {})
      const said = Support.text(result.stdout) + Support.text(result.stderr)
      assert.match(said, says)
      assert.deepStrictEqual(result.artifacts, [])
      // Warm it finds the same.
      for (let tries = 0; tries < 200; tries++) {
        if (sandbox === "off") break
        const again = yield* run(skill, {})
        assert.match(Support.text(again.stdout) + Support.text(again.stderr), says)
        assert.deepStrictEqual(again.artifacts, [])
        if (again.warm) break
        assert.notStrictEqual(tries, 199, "it never started warm")
      }
    }).pipe(Effect.provide(runner(directory, env, sandbox)))
  }
})

describe("Dependencies with the real programs", () => {
  const hasPip = works("python3", ["-m", "pip", "index", "versions", "six"])
  const hasNpm = works("npm", ["view", "is-number@7.0.0", "version"])
  const path = process.env["PATH"] ?? ""
  const withoutUv = path.split(":").filter((folder) => !Fs.existsSync(Path.join(folder, "uv"))).join(":")
  const six = "import six, sys\nprint('six', six.__version__, sys.prefix)"

  skipUnless(
    hasPip,
    "the index of Python packages cannot be reached",
    "installs with venv and pip",
    (title) =>
      it.live(title, () =>
        runsIn(
          { ...process.env, PATH: withoutUv },
          { "scripts/run.py": six, "requirements.txt": "six==1.16.0\n" },
          /^six 1\.16\.0 \S+\/environments\/python-\w+\/venv\s*$/
        ), 40_000)
  )

  skipUnless(
    hasPip,
    "the index of Python packages cannot be reached",
    "installs with uv",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const home = yield* Fixture.folder
          const made = works("python3", ["-m", "pip", "install", "-q", "--target", home, "uv"])
          assert.isTrue(made, "pip install uv")
          yield* runsIn(
            { ...process.env, PATH: `${Path.join(home, "bin")}:${path}` },
            { "scripts/run.py": script(["six==1.17.0"], six, "# requires-python = \">=3.9\"\n") },
            /^six 1\.17\.0 \S+\/environments\/python-\w+\/venv\s*$/
          )
        }), 40_000)
  )

  skipUnless(
    hasNpm,
    "the registry of npm cannot be reached",
    "installs with npm",
    (title) =>
      it.live(title, () =>
        runsIn(process.env, {
          "scripts/run.mjs": "import isNumber from 'is-number'\nimport { createRequire } from 'node:module'\n" +
            "console.log(isNumber(3), createRequire(import.meta.url)('is-number')('x'))",
          "package.json": JSON.stringify({ name: "x", dependencies: { "is-number": "7.0.0" } })
        }, /^true false\s*$/), 40_000)
  )

  it.live("says why where the index cannot be reached", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.orDie(Dependencies.prepareDirectory(yield* Fixture.folder))
      const nowhere = "http://127.0.0.1:9/simple"
      const env = {
        ...process.env,
        PATH: withoutUv,
        PIP_INDEX_URL: nowhere,
        PIP_RETRIES: "0",
        PIP_NO_CACHE_DIR: "1",
        npm_config_registry: "http://127.0.0.1:9/",
        npm_config_fetch_retries: "0",
        npm_config_cache: directory
      }
      const dependencies = yield* service(
        Dependencies.layer({ directory, env }).pipe(
          Layer.provide(Layer.provide(Dependencies.layerExecutor({ directory, env }), NodeServices.layer))
        )
      )
      const python = yield* Effect.flip(dependencies.prepare(yield* Support.skill({ "run.py": script(["six"]) })))
      assert.match(python.message, /cannot be prepared: pip install exited with 1: .*six/)
      if (works("npm", ["--version"])) {
        const files = { "run.mjs": "", "package.json": JSON.stringify({ dependencies: { "is-number": "7.0.0" } }) }
        const node = yield* Effect.flip(dependencies.prepare(yield* Support.skill(files)))
        assert.match(node.message, /cannot be prepared: npm install exited with 1: .*ECONNREFUSED/)
      }
      assert.deepStrictEqual(Fs.readdirSync(dependencies.environments), [])
    }), 40_000)
})
