import { assert, describe } from "@effect/vitest"
import { Agent, OpenAIProvider, run, Runner, setTracingDisabled, tool } from "@openai/agents"
import { assistantMessage, functionCall, modelResponder, ScriptedModel } from "@openai/agents/testing"
import { fromToolbox, type Options } from "@skillscale/adapters/OpenAiAgents"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, type Conversation, eventually, type Given, inWorld, suite } from "./frameworkSuite.ts"
import { runExample } from "./support/examples.ts"
import { responses } from "./support/openAi.ts"
import { addImage, png } from "./support/pictures.ts"
import { type Asks, items, serve, textOf } from "./support/providers.ts"

setTracingDisabled(true)

type Calls = ScriptedModel["calls"]

/** A model that asks for one tool after the other, and says "done" at the end. */
const scripted = (asks: Asks): ScriptedModel =>
  new ScriptedModel([
    ...asks.map((ask, index) =>
      modelResponder(async () => {
        const { input, tool } = typeof ask === "function" ? await ask() : ask
        return [functionCall(tool, input, { callId: `call-${index}` })]
      })
    ),
    [assistantMessage("done")]
  ])

const resultsBy = (calls: Calls) =>
  items(calls.at(-1)?.request.input).flatMap((item) => item["type"] === "function_call_result" ? [item["output"]] : [])

const givenBy = (calls: Calls): ReadonlyArray<Given> =>
  resultsBy(calls).map((output) => ({ text: textOf(Array.isArray(output) ? output : [output]), isError: undefined }))

const offeredBy = (calls: Calls, index: number): ReadonlyArray<string> =>
  calls.at(index)?.request.tools.map(({ name }) => name) ?? []

const agentOf = (toolbox: Toolbox, model: ScriptedModel, options?: Options) => {
  const skills = fromToolbox(toolbox, options)
  return { skills, agent: new Agent({ name: "Tester", model, tools: skills.tools, instructions: skills.prompt() }) }
}

const converse = async (
  toolbox: Toolbox,
  asks: Asks,
  { signal }: { readonly signal?: AbortSignal }
): Promise<Conversation> => {
  const model = scripted(asks)
  const progress: Array<string> = []
  const { agent, skills } = agentOf(toolbox, model, {
    onProgress: (event, { tool }) => void progress.push(event._tag === "Progress" ? `${tool}: ${event.message}` : "")
  })
  const { newItems } = await run(agent, "Go.", { maxTurns: 20, ...signal === undefined ? {} : { signal } })
  const files = (await Promise.all(newItems.map(skills.files))).flat()
  return { given: givenBy(model.calls), offered: offeredBy(model.calls, -2), files, progress }
}

suite("the OpenAI Agents SDK", { converse })

describe("the OpenAI Agents SDK", () => {
  inWorld("writes names as the SDK takes them, no two alike", async (world) => {
    for (const name of ["a-b", "a_b", "say-it"]) addSkill(world.directory, name, `echo I am ${name}\n`)
    await using toolbox = await world.connect()
    await eventually("they are there", () => toolbox.tools().some(({ name }) => name === "say-it"))
    await eventually(
      "all of them",
      () => ["a-b", "a_b"].every((one) => toolbox.tools().some(({ name }) => name === one))
    )
    const written = fromToolbox(toolbox).tools.map(({ name }) => name).filter((name) => /^a_b|^say/.test(name))
    const [other = ""] = written.filter((name) => name !== "a_b" && name !== "say_it")
    assert.match(other, /^a_b_[0-9a-f]{8}$/)
    const { given } = await converse(toolbox, ["a_b", other, "say_it"].map((tool) => ({ tool, input: {} })), {})
    assert.deepStrictEqual(given.map(({ text }) => text), ["I am a_b", "I am a-b", "I am say-it"])
  })

  inWorld("shows the model an image over the wire, and not where it cannot see", async (world) => {
    addImage(world.directory, "painting")
    await using toolbox = await world.connect()
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "painting"))
    for (const images of [true, false]) {
      await using provider = await serve(responses, [{ tool: "painting", input: {} }])
      const modelProvider = new OpenAIProvider({ baseURL: `${provider.url}/v1`, apiKey: "none" })
      const skills = fromToolbox(toolbox, { images })
      const agent = new Agent({ name: "Tester", model: "scripted", tools: skills.tools })
      const { newItems } = await new Runner({ modelProvider, tracingDisabled: true }).run(agent, "Go.")
      const sent = JSON.stringify(provider.requests[1]?.["input"])
      assert.include(sent, "painted")
      assert.strictEqual(sent.includes(`data:image/png;base64,${png.toString("base64")}`), images)
      const files = (await Promise.all(newItems.map(skills.files))).flat()
      assert.deepStrictEqual(files.map(({ data, path }) => [path, Buffer.from(data)]), [["dot.png", png]])
    }
  })

  inWorld("keeps what the output schema describes with the output, or answers with it", async (world) => {
    await using toolbox = await world.connect()
    const asks = [{ tool: "adding", input: { a: 1, b: 2 } }, { tool: "adding", input: { a: 1 } }]
    const model = scripted(asks)
    const { newItems } = await run(agentOf(toolbox, model).agent, "Go.")
    const kept = newItems.flatMap((item) => item.type === "tool_call_output_item" ? [item.customData] : [])
    assert.deepStrictEqual(kept[0], { structured: { sum: 3 }, files: [] })
    assert.isUndefined(kept[1])

    const other = scripted(asks)
    await run(agentOf(toolbox, other, { outputSchemas: true }).agent, "Go.")
    const [answer, failure] = givenBy(other.calls)
    assert.deepStrictEqual(JSON.parse(answer?.text ?? ""), { sum: 3 })
    assert.match(JSON.parse(failure?.text ?? "").error, /\bb\b/)
    const adding = other.calls[0]?.request.tools.find((tool) => "name" in tool && tool.name === "adding")
    assert.deepNestedInclude(adding, { "outputSchema.required": ["sum"], "parameters.required": ["a", "b"] })
  })

  inWorld(
    "gives the model no more of an answer with a schema than of any other, and says where the rest is",
    async (world) => {
      addSkill(
        world.directory,
        "counting",
        "printf '{\"digits\":\"'; head -c 40000 /dev/zero | tr '\\0' 7; printf '\"}'\n"
      )
      const root = Path.join(world.directory, "testing/counting")
      Fs.writeFileSync(Path.join(root, "output.json"), JSON.stringify({ type: "object", required: ["digits"] }))
      const meta = "---\nname: counting\ndescription: Counts.\nmetadata:\n  skillscale.output: output.json\n---\n"
      Fs.writeFileSync(Path.join(root, "SKILL.md"), meta)
      await using toolbox = await world.connect()
      await eventually(
        "it is there with its schema",
        () => toolbox.tools().some(({ name, outputSchema }) => name === "counting" && outputSchema !== undefined)
      )
      const answer = async (options: Options): Promise<Readonly<Record<string, string>>> => {
        const model = scripted([{ tool: "counting", input: {} }])
        await run(agentOf(toolbox, model, { outputSchemas: true, ...options }).agent, "Go.")
        return JSON.parse(givenBy(model.calls)[0]?.text ?? "")
      }
      const { error, text = "" } = await answer({})
      assert.strictEqual(error, "The answer has 40013 characters of JSON, more than the 30000 that are shown.")
      assert.isAtMost(text.length, 30_000)
      const [, id = ""] = /read_artifact "([^"]+)"/.exec(text) ?? []
      assert.strictEqual((await toolbox.artifact(id))?.size, 40_013)
      assert.strictEqual((await answer({ maxOutput: 40_013 }))["digits"]?.length, 40_000)
      assert.include((await answer({ maxOutput: 40_012 }))["error"], "40013")
    }
  )

  inWorld("offers an agent that was made before it a skill that is added in the middle of a run", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const model = scripted([
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "newcomer"))
        return { tool: "shout", input: { input: "a" } }
      },
      { tool: "newcomer", input: {} }
    ])
    const weather = tool({
      name: "weather",
      description: "Tells the weather.",
      strict: false,
      parameters: { type: "object", properties: {}, required: [], additionalProperties: true },
      execute: () => "sunny"
    })
    await run(new Agent({ name: "Tester", model, tools: skills.withTools(weather) }), "Go.")
    assert.notInclude([...offeredBy(model.calls, 0)], "newcomer")
    assert.includeMembers([...offeredBy(model.calls, 1)], ["newcomer", "weather"])
    assert.strictEqual(givenBy(model.calls)[1]?.text, "I am new")
    const mine = { ...weather, name: "shout" }
    assert.deepStrictEqual(skills.withTools(mine).filter(({ name }) => name === "shout"), [mine])
    assert.isTrue(Array.isArray(skills.tools))
    assert.deepStrictEqual([...skills.tools], skills.tools.concat())
  })

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(responses, [{ tool: "shout", input: { input: "hello" } }])
    const env = { OPENAI_BASE_URL: `${provider.url}/v1`, OPENAI_API_KEY: "none", OPENAI_AGENTS_DISABLE_TRACING: "1" }
    const { code, stderr, stdout } = await runExample("openai-agents", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })
})
