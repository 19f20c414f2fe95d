/**
 * The shipped skills, over every one of their samples and over input that they refuse, in every way that a run can start:
 * cold and warm with the sandbox on, and cold with it off. What a run gives is what the sample says, whichever it was.
 */
import { assert, describe, it, layer, type Vitest } from "@effect/vitest"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as NativeExecutor from "../src/NativeExecutor.ts"
import * as Interpreter from "../src/Interpreter.ts"
import * as SandboxSupport from "../src/SandboxSupport.ts"
import * as Secrets from "../src/Secrets.ts"
import * as SkillRunner from "../src/SkillRunner.ts"
import * as WorkingView from "../src/WorkingView.ts"
import * as Samples from "../../../test/support/samples.ts"
import { skipUnless } from "./executorSuite.ts"

const directory = Fs.realpathSync(fileURLToPath(new URL("../../../skills", import.meta.url)))

/** The skills that never start warm, and why. */
const neverWarm: Readonly<Record<string, string>> = {
  "log-summary": "a shell has nothing to start ahead"
}

/** Why a call cannot start warm. Every other one has to. */
const whyCold = (skill: SkillDiscovery.Skill, call: SkillRunner.Call): string | undefined =>
  neverWarm[skill.name] ??
    (Path.extname(Option.getOrElse(skill.entry, () => "")) === ".mjs" && Object.keys(call.files ?? {}).length > 0
      ? "Node is started ahead in a view without input files"
      : undefined)

const skills = (await Effect.runPromise(SkillDiscovery.scan({ directory }))).skills

/** What this machine lacks to start runs warm, which takes a cell and an overlay. */
const missing = await Effect.runPromise(
  Effect.map(Effect.result(SandboxSupport.probe()), (probed) =>
    Result.isFailure(probed)
      ? probed.failure.message
      : probed.success.find(({ isThere, name }) => !isThere && (name === "cell" || name === "overlay"))?.answer)
)

const layerOf = (options: SkillRunner.Options) =>
  Layer.fresh(SkillRunner.layer(options)).pipe(
    Layer.provide(Layer.mergeAll(Interpreter.layer, WorkingView.layer(), Secrets.layer({}))),
    Layer.provide(NativeExecutor.layer({
      concurrency: 2,
      warm: 1,
      sandbox: { folders: [directory, Fs.realpathSync(Os.tmpdir())] }
    }))
  )

/** A runner for each way to start. */
class Runners extends Context.Service<Runners, {
  readonly cold: SkillRunner.SkillRunner["Service"]
  readonly warm: SkillRunner.SkillRunner["Service"]
  readonly off: SkillRunner.SkillRunner["Service"]
}>()("test/Runners") {
  static readonly layer = Layer.effect(
    Runners,
    Effect.gen(function*() {
      const build = (options: SkillRunner.Options) =>
        Effect.map(Layer.build(layerOf(options)), Context.get(SkillRunner.SkillRunner))
      return {
        cold: yield* build({ warm: "off" }),
        warm: yield* build({ warm: "on" }),
        off: yield* build({ warm: "off", sandbox: "off" })
      }
    })
  )
}

/** All that a caller can see of a run; bytes as Latin-1, so that comparing strings compares bytes. */
interface Seen {
  readonly exitCode: number
  readonly signal: string
  readonly stdout: string
  readonly stderr: string
  readonly artifacts: Readonly<Record<string, string>>
}

const latin1 = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1")
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

const seen = (result: SkillRunner.RunResult): Seen => {
  assert.isFalse(result.stdoutTruncated || result.stderrTruncated || result.artifactsTruncated)
  for (const { data, path, sha256: told, size } of result.artifacts) {
    assert.deepStrictEqual([size, told], [data.byteLength, sha256(data)], path)
  }
  return {
    exitCode: result.exitCode,
    signal: result.signal,
    stdout: latin1(result.stdout),
    stderr: latin1(result.stderr),
    artifacts: Object.fromEntries(result.artifacts.map(({ data, path }) => [path, latin1(data)]))
  }
}

/** Calls until a run started warm, and says what came of that one. What started cold on the way has to be the same. */
const warmed = Effect.fnUntraced(
  function*(runner: SkillRunner.SkillRunner["Service"], skill: SkillDiscovery.Skill, call: SkillRunner.Call) {
    let first: Seen | undefined
    for (;;) {
      const result = yield* runner.run(skill, call)
      first ??= seen(result)
      assert.deepStrictEqual(seen(result), first, result.warm ? "warm" : "cold")
      if (result.warm) return first
      yield* Effect.sleep(10)
    }
  },
  (effect, _, skill) =>
    Effect.timeoutOrElse(effect, {
      duration: "20 seconds",
      orElse: () => Effect.die(new Error(`${skill.name} never started warm, and nothing is said why`))
    })
)

/** More calls than it takes to start warm, none of which may. */
const staysCold = Effect.fnUntraced(
  function*(runner: SkillRunner.SkillRunner["Service"], skill: SkillDiscovery.Skill, call: SkillRunner.Call) {
    let last: SkillRunner.RunResult | undefined
    for (let tries = 0; tries < 4; tries++) {
      last = yield* runner.run(skill, call)
      assert.isFalse(last.warm, `${skill.name} started warm, which it was said not to`)
    }
    return last === undefined ? assert.fail("unreachable") : seen(last)
  }
)

const cold = Effect.fnUntraced(
  function*(runner: SkillRunner.SkillRunner["Service"], skill: SkillDiscovery.Skill, call: SkillRunner.Call) {
    const result = yield* runner.run(skill, call)
    assert.isFalse(result.warm)
    return seen(result)
  }
)

/** Calls that every skill refuses, with the exit code. */
const refused: Readonly<Record<string, readonly [call: SkillRunner.Call, exitCode: number]>> = {
  "no input": [{}, 1],
  "blanks": [{ stdin: Buffer.from(" \n\n\t\n") }, 1],
  "a PNG": [{ stdin: Buffer.from("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489", "hex") }, 1],
  "invalid UTF-8": [{ stdin: Buffer.from("name,city\n1,Z\xfcrich\n", "latin1") }, 1],
  "a file that does not exist": [{ args: ["absent.file"] }, 1],
  "an option that it does not have": [{ args: ["--nonsense"] }, 2]
}

const warm = "warm with the sandbox on"

/** Registers a test for each way to start. */
const inEveryWay = (
  it: Vitest.MethodsNonLive<Runners>,
  title: string,
  skill: SkillDiscovery.Skill,
  call: SkillRunner.Call,
  check: (result: Seen) => void
) => {
  const run = (way: string, body: (runners: Runners["Service"]) => Effect.Effect<Seen, SkillRunner.SkillRunError>) =>
    it.effect(`${title}, ${way}`, () => Effect.map(Effect.flatMap(Runners, body), check), 40_000)
  run("cold with the sandbox on", (runners) => cold(runners.cold, skill, call))
  run("cold with the sandbox off", (runners) => cold(runners.off, skill, call))
  const why = whyCold(skill, call)
  if (why === undefined) {
    return skipUnless(
      missing === undefined,
      missing ?? "",
      `${title}, ${warm}`,
      () => run(warm, (runners) => warmed(runners.warm, skill, call))
    )
  }
  run(`where others are warm (${why})`, (runners) => staysCold(runners.warm, skill, call))
}

describe("the shipped skills", () => {
  it("are all here, and those that never start warm are among them", () => {
    const names = Fs.readdirSync(directory).flatMap((category) => Fs.readdirSync(Path.join(directory, category)))
    assert.isNotEmpty(names)
    assert.sameMembers(skills.map(({ name }) => name), names)
    assert.includeMembers(names, Object.keys(neverWarm))
  })
})

layer(Runners.layer, { excludeTestServices: true, timeout: 60_000 })("skill", (it) => {
  for (const skill of skills) {
    describe(skill.name, () => {
      const samples = Fs.readdirSync(Path.join(skill.root, "samples"))
      for (const name of samples) {
        const { call, expected } = Samples.read(Path.join(skill.root, "samples", name))
        inEveryWay(
          it,
          `sample ${name}`,
          skill,
          call,
          (result) => assert.deepStrictEqual(result, { ...expected, signal: "" })
        )
      }
      for (const [title, [call, exitCode]] of Object.entries(refused)) {
        inEveryWay(it, `refuses ${title}`, skill, call, (result) => {
          assert.deepStrictEqual({ ...result, stderr: "" }, {
            exitCode,
            signal: "",
            stdout: "",
            stderr: "",
            artifacts: {}
          })
          assert.notStrictEqual(result.stderr, "")
        })
      }
    })
  }
})
