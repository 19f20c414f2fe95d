/**
 * What every agent framework does with skills, whatever its adapter: the framework's own agent loop, with a model that says what
 * the test tells it, calls real skills on a real server through a real proxy.
 */
import type * as SkillTools from "@skillscale/tools/SkillTools"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import { assert, describe } from "@effect/vitest"
import { addSkill, eventually, inWorld } from "../../../test/support/skillWorld.ts"

export { addSkill, eventually, inWorld, type World, world } from "../../../test/support/skillWorld.ts"

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

    inWorld("takes null for what need not be said", async (world) => {
      await using skills = await world.connect()
      const { given } = await driver.converse(skills, [
        { tool: "load_skill", input: { skill: "shout", topic: null } },
        { tool: "shout", input: { input: "hello", args: null, files: null } }
      ], {})
      assert.include(given[0]?.text ?? "", "scripts/run.sh")
      assert.include(given[1]?.text ?? "", "HELLO")
    })

    inWorld("hands the application the files that a run made, and the model their names", async (world) => {
      await using skills = await world.connect()
      const { files, first } = await one(driver, skills, { tool: "drawing", input: {} })
      assert.include(first.text, "out/table.csv")
      const table = files.find(({ path }) => path === "out/table.csv")
      assert.strictEqual(Buffer.from(table?.data ?? []).toString(), "a,b\n1,2\n")
    })

    inWorld("does the same with those that a run left that failed", async (world) => {
      addSkill(world.directory, "breaking", "mkdir out; echo 'what was found' > out/report.txt; seq 1 5000; exit 3\n")
      await using skills = await world.connect({ maxOutput: 5000 })
      await eventually("the tool is there", () => skills.tools().some(({ name }) => name === "breaking"))
      const { files, first } = await one(driver, skills, { tool: "breaking", input: {} })
      assert.include(first.text, "The script exited with 3.")
      assert.include(first.text, "out/report.txt")
      assert.include(first.text, "read_artifact")
      assert.notStrictEqual(first.isError, false)
      const contents = files.map(({ data, path }) => [path, Buffer.from(data).toString()])
      assert.deepInclude(contents, ["out/report.txt", "what was found\n"])
      assert.isTrue(contents.find(([path]) => path === "stdout.txt")?.[1]?.endsWith("\n5000\n"))
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

    inWorld("runs skills whose names are those of what every object has, or begin with a digit", async (world) => {
      for (const name of ["constructor", "3drender"]) addSkill(world.directory, name, `echo I am ${name}\n`)
      await using skills = await world.connect()
      await eventually("they are there", () => skills.skills().some(({ name }) => name === "3drender"))
      const asks = ["constructor", "3drender"].map((name) => ({
        tool: skills.tools().find(({ skill }) => skill?.name === name)?.name ?? "",
        input: {}
      }))
      const { given } = await driver.converse(skills, asks, {})
      assert.deepStrictEqual(given.map(({ text }) => text.includes("I am constructor")), [true, false])
      assert.deepStrictEqual(given.map(({ text }) => text.includes("I am 3drender")), [false, true])
    })

    inWorld("passes on the progress of a run, where the framework can", async (world) => {
      await using skills = await world.connect()
      const { first, progress } = await one(driver, skills, { tool: "talking", input: {} })
      assert.include(first.text, "two")
      if (progress !== undefined) assert.include(progress.join("\n"), "1 of 2")
    })
  })
}
