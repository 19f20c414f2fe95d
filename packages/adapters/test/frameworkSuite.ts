/**
 * What every agent framework does with skills, whatever its adapter: the framework's own agent loop, with a model that says what
 * the test tells it, calls real skills on a real server through a real proxy.
 */
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { connect, type ConnectOptions, type Toolbox } from "@skillscale/tools/PromiseTools"
import { assert, describe, it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Stack from "../../../test/support/stack.ts"

/** A tool that the model asks for. */
export interface Ask {
  readonly tool: string
  readonly input: Readonly<Record<string, unknown>>
}

/** What the model was given for it. */
export interface Given {
  readonly text: string
  /** Whether the framework told the model, in its own way, that the tool failed; undefined where it has no way for that. */
  readonly isError: boolean | undefined
}

/** What one conversation came to. */
export interface Conversation {
  /** For each ask, in order. */
  readonly given: ReadonlyArray<Given>
  /** The names of the tools that the model was offered with the last ask. */
  readonly offered: ReadonlyArray<string>
  /** Files that the application got, by the framework's own way, with their bytes. */
  readonly files: ReadonlyArray<{ readonly path: string; readonly data: Uint8Array }>
  /** What the application heard of a run while it went on; undefined where the framework has no way for that. */
  readonly progress: ReadonlyArray<string> | undefined
}

/** Drives one framework. */
export interface Driver {
  /**
   * Makes an agent with the tools of the toolbox and a scripted model, which asks for one tool after the other and then ends. An
   * ask may be a function, so that it is decided when its turn comes.
   */
  readonly converse: (
    toolbox: Toolbox,
    asks: ReadonlyArray<Ask | (() => Promise<Ask>)>,
    options: { readonly signal?: AbortSignal }
  ) => Promise<Conversation>
}

const skill = (name: string, script: string, more: Readonly<Record<string, string>> = {}): Stack.Fixture => ({
  category: "testing",
  name,
  files: { "scripts/run.sh": script, ...more }
})

const topic = "TOPIC_TESTING"

const fixtures: ReadonlyArray<Stack.Fixture> = [
  skill("shout", "tr a-z A-Z\n"),
  skill("failing", "echo some output; echo 'the disk is on fire' >&2; exit 3\n"),
  skill(
    "drawing",
    "mkdir -p out; printf 'a,b\\n1,2\\n' > out/table.csv; printf '\\211PNG\\r\\n\\032\\n' > out/picture.png; echo drawn\n"
  ),
  skill("talking", "echo '::progress:: 1 of 2' >&2; echo one; echo '::progress:: 2 of 2' >&2; echo two\n"),
  skill("long", "head -c 200000 /dev/zero | tr '\\0' x\n"),
  {
    category: "testing",
    name: "adding",
    files: {
      "SKILL.md": "---\nname: adding\ndescription: Adds two numbers.\nmetadata:\n  skillscale.input: input.json\n" +
        "  skillscale.output: output.json\n---\nGive it two numbers.\n",
      "input.json": JSON.stringify({
        type: "object",
        properties: { a: { type: "number" }, b: { type: "number" } },
        required: ["a", "b"],
        additionalProperties: false
      }),
      "output.json": JSON.stringify({
        type: "object",
        properties: { sum: { type: "number" } },
        required: ["sum"]
      }),
      "scripts/run.py": "import json, sys\nd = json.load(sys.stdin)\nprint(json.dumps({'sum': d['a'] + d['b']}))\n"
    }
  }
]

export const addSkill = (directory: string, name: string, script: string): void => {
  const root = Path.join(directory, "testing", name)
  Fs.mkdirSync(Path.join(root, "scripts"), { recursive: true })
  Fs.writeFileSync(Path.join(root, "scripts", "run.sh"), script)
  Fs.writeFileSync(Path.join(root, "SKILL.md"), `---\nname: ${name}\ndescription: Tests as ${name}.\n---\n`)
}

export interface World {
  /** The folder with the skills. */
  readonly directory: string
  readonly connect: (options?: ConnectOptions) => Promise<Toolbox>
  readonly addresses: { readonly xsub: string; readonly xpub: string }
  /** How many processes run the skill `endless` now. */
  readonly endless: () => number
}

/** How many of the processes that `endless` left its id of are there. */
const running = (pids: string): number =>
  Fs.readFileSync(pids, "utf8").split("\n").filter((pid) => pid !== "" && Fs.existsSync(`/proc/${pid}`)).length

/** A proxy and a server with the skills of the suite. */
export const world = Effect.gen(function*() {
  const directory = yield* Stack.writeSkills(fixtures)
  const pids = Path.join(directory, "pids")
  Fs.writeFileSync(pids, "")
  addSkill(directory, "endless", `echo $$ >> ${pids}; echo begun; while :; do sleep 0.05; done\n`)
  const proxy = yield* Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false })
  const bus = Layer.effect(Bus.Bus, ZmqBus.make(proxy))
  // What is tested is on this side of the server.
  yield* Layer.build(Stack.serverFrom(bus, { directory }, { topic, workers: 4 }, { sandbox: "off" }))
  const addresses = { xsub: proxy.xsub, xpub: proxy.xpub }
  return {
    directory,
    addresses,
    connect: (options) => connect({ ...addresses, ...options }),
    endless: () => running(pids)
  } satisfies World
})

export const eventually = async (what: string, condition: () => boolean, ms = 15_000): Promise<void> => {
  const until = performance.now() + ms
  while (!condition()) {
    if (performance.now() > until) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Runs a test in a world of its own. */
export const inWorld = (name: string, test: (world: World) => Promise<void>) =>
  it.live(name, () =>
    Effect.flatMap(world, (made) => Effect.promise(() => test(made))).pipe(
      Effect.scoped,
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.provide(NodeServices.layer)
    ), 60_000)

const one = async (driver: Driver, toolbox: Toolbox, ask: Ask): Promise<Conversation & { readonly first: Given }> => {
  const conversation = await driver.converse(toolbox, [ask], {})
  const first = conversation.given[0]
  if (first === undefined) throw new Error("the model was given nothing")
  return { ...conversation, first }
}

const toolOf = (toolbox: Toolbox, name: string): SkillTools.Tool["name"] => {
  const tool = toolbox.tools().find((candidate) => candidate.name === name)
  if (tool === undefined) throw new Error(`there is no tool ${name}`)
  return tool.name
}

/** The tests that every framework passes. */
export const suite = (framework: string, driver: Driver): void => {
  describe(`skills in ${framework}`, () => {
    inWorld("runs a skill and gives the model what it printed", async (world) => {
      await using skills = await world.connect()
      const { first, offered } = await one(driver, skills, { tool: toolOf(skills, "shout"), input: { input: "hello" } })
      assert.include(first.text, "HELLO")
      assert.notStrictEqual(first.isError, true)
      assert.includeMembers([...offered], ["shout", "run_skill_script", "search_skills"])
    })

    inWorld(
      "tells the model of a skill that fails, with its exit code and the end of standard error",
      async (world) => {
        await using skills = await world.connect()
        const { first } = await one(driver, skills, { tool: "failing", input: {} })
        assert.include(first.text, "3")
        assert.include(first.text, "the disk is on fire")
        assert.include(first.text, "some output")
        assert.notStrictEqual(first.isError, false)
      }
    )

    inWorld("tells the model what is wrong with its arguments, and goes on", async (world) => {
      await using skills = await world.connect()
      const { given } = await driver.converse(skills, [
        { tool: "adding", input: { a: 1 } },
        { tool: "adding", input: { a: 1, b: 2 } }
      ], {})
      assert.match(given[0]?.text ?? "", /\bb\b/)
      assert.notStrictEqual(given[0]?.isError, false)
      assert.include(given[1]?.text ?? "", "3")
      assert.notStrictEqual(given[1]?.isError, true)
    })

    inWorld("finds, reads and runs skills with the vocabulary", async (world) => {
      await using skills = await world.connect()
      const { given } = await driver.converse(skills, [
        { tool: "search_skills", input: { query: "shout" } },
        { tool: "load_skill", input: { skill: "shout" } },
        { tool: "run_skill_script", input: { skill: "shout", script: "scripts/run.sh", stdin: "quiet" } }
      ], {})
      assert.include(given[0]?.text ?? "", "shout")
      assert.include(given[1]?.text ?? "", "scripts/run.sh")
      assert.include(given[2]?.text ?? "", "QUIET")
    })

    inWorld("hands the application the files that a run made, and the model their names", async (world) => {
      await using skills = await world.connect()
      const { files, first } = await one(driver, skills, { tool: "drawing", input: {} })
      assert.include(first.text, "out/table.csv")
      const table = files.find(({ path }) => path === "out/table.csv")
      assert.strictEqual(Buffer.from(table?.data ?? []).toString(), "a,b\n1,2\n")
    })

    inWorld("caps what the model reads, and lets it read the rest", async (world) => {
      await using skills = await world.connect({ maxOutput: 5000 })
      const { first } = await one(driver, skills, { tool: "long", input: {} })
      assert.isAtMost(first.text.length, 6000)
      assert.include(first.text, "read_artifact")
    })

    inWorld("ends the process on the server when it is aborted", async (world) => {
      await using skills = await world.connect()
      const aborting = new AbortController()
      const ended = driver.converse(skills, [{ tool: "endless", input: {} }], { signal: aborting.signal })
        .then(() => "ended", () => "rejected")
      await eventually("the skill runs", () => world.endless() > 0)
      aborting.abort(new Error("the user left"))
      await eventually("its process is gone", () => world.endless() === 0)
      await ended
    })

    inWorld("offers a skill that was added while it runs", async (world) => {
      await using skills = await world.connect()
      const { given, offered } = await driver.converse(skills, [
        { tool: "shout", input: { input: "a" } },
        async () => {
          addSkill(world.directory, "newcomer", "echo I am new\n")
          await eventually("the tool is there", () => skills.tools().some(({ name }) => name === "newcomer"))
          return { tool: "run_skill_script", input: { skill: "newcomer" } }
        }
      ], {})
      assert.include(given[1]?.text ?? "", "I am new")
      const next = await one(driver, skills, { tool: "newcomer", input: {} })
      assert.include(next.first.text, "I am new")
      assert.include([...offered, ...next.offered], "newcomer")
    })

    inWorld("passes on the progress of a run, where the framework can", async (world) => {
      await using skills = await world.connect()
      const { first, progress } = await one(driver, skills, { tool: "talking", input: {} })
      assert.include(first.text, "two")
      if (progress !== undefined) assert.include(progress.join("\n"), "1 of 2")
    })
  })
}
