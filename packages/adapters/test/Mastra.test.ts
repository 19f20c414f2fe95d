/** Skills in Mastra: its own agent loop, with its own mock of a model. */
import { assert, describe } from "@effect/vitest"
import { Agent } from "@mastra/core/agent"
import { MockMemory } from "@mastra/core/memory"
import { createTool } from "@mastra/core/tools"
import { fromToolbox, type SkillOutput, type Skills } from "@skillscale/adapters/Mastra"
import { ToolError } from "@skillscale/tools/ToolError"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, type Conversation, eventually, inWorld, suite } from "./frameworkSuite.ts"
import { runExample } from "./support/examples.ts"
import { resultsOf, type Scripted, scripted } from "./support/mastraModel.ts"
import { responses } from "./support/openAi.ts"
import { addImage, png } from "./support/pictures.ts"
import { type Asks, items, serve } from "./support/providers.ts"

const textOf = (output: unknown): string => {
  if (typeof output !== "object" || output === null || !("value" in output)) return JSON.stringify(output)
  const { value } = output
  return typeof value === "string"
    ? value
    : items(value).map(({ text }) => text ?? "").join("") || JSON.stringify(value)
}

const isError = (output: unknown): boolean | undefined =>
  typeof output === "object" && output !== null && "type" in output && String(output.type).startsWith("error")
    ? true
    : undefined

const leftBy = (error: unknown): ToolError["artifacts"] =>
  error instanceof ToolError ? error.artifacts : error instanceof Error ? leftBy(error.cause) : []

interface Talk extends Conversation, Pick<Scripted, "prompts"> {
  readonly outputs: ReadonlyArray<SkillOutput>
}

const talk = async (
  make: (model: Scripted["model"]) => Agent,
  asks: Asks,
  signal?: AbortSignal
): Promise<Talk> => {
  const { model, offered, prompts } = scripted(asks)
  const progress: Array<string> = []
  const outputs: Array<SkillOutput> = []
  const left: Array<Conversation["files"][number]> = []
  const { fullStream } = await make(model).stream("go on", {
    maxSteps: 10,
    ...signal === undefined ? {} : { abortSignal: signal }
  })
  for await (const chunk of fullStream) {
    if (chunk.type === "tool-output") progress.push(JSON.stringify(chunk.payload.output))
    if (chunk.type === "tool-error") left.push(...leftBy(chunk.payload.error))
    if (chunk.type === "tool-result") outputs.push(chunk.payload.result as SkillOutput)
  }
  return {
    given: resultsOf(prompts.at(-1)).map(({ output }) => ({ text: textOf(output), isError: isError(output) })),
    offered: offered[asks.length - 1] ?? [],
    files: [
      ...outputs.flatMap(({ files }) => files.map(({ data = new Uint8Array(), path }) => ({ path, data }))),
      ...left
    ],
    progress,
    prompts,
    outputs
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The arguments with null for each key that the schema says is required and that they do not have. */
const filled = (input: unknown, schema: unknown): unknown => {
  const { items: of, properties, required } = isObject(schema) ? schema : {}
  if (Array.isArray(input)) return input.map((item: unknown) => filled(item, of))
  if (!isObject(input)) return input
  const keys = Array.isArray(required) ? required.map(String) : []
  const given = { ...Object.fromEntries(keys.map((key) => [key, null])), ...input }
  return Object.fromEntries(
    Object.entries(given).map(([key, value]) => {
      const told = isObject(properties) ? properties[key] : undefined
      const alternatives = isObject(told) ? items(told["anyOf"]) : []
      return [key, filled(value, alternatives.find(({ type }) => type !== "null") ?? told)]
    })
  )
}

const agentOf = (skills: Skills, more: object = {}) => (model: Scripted["model"]): Agent =>
  new Agent({
    id: "helper",
    name: "Helper",
    model,
    tools: () => skills.tools,
    instructions: () => skills.prompt(),
    ...more
  })

suite("Mastra", {
  converse: (toolbox, asks, { signal }) => talk(agentOf(fromToolbox(toolbox)), asks, signal)
})

suite("Mastra, with the processor", {
  converse: (toolbox, asks, { signal }) => {
    const skills = fromToolbox(toolbox)
    return talk(agentOf(skills, { tools: {}, inputProcessors: [skills.processor] }), asks, signal)
  }
})

describe("skills in Mastra", () => {
  inWorld("offers within one run what was added, and no more what was removed", async (world) => {
    await using toolbox = await world.connect()
    const has = (tool: string) => toolbox.tools().some(({ name }) => name === tool)
    const skills = fromToolbox(toolbox)
    const own = createTool({ id: "own", description: "Is the agent's own.", execute: async () => "mine" })
    const { model, offered, prompts } = scripted([
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        Fs.rmSync(Path.join(world.directory, "testing", "long"), { recursive: true })
        await eventually("the tools are those", () => has("newcomer") && !has("long"))
        return { tool: "own", input: {} }
      },
      { tool: "newcomer", input: {} }
    ])
    const agent = agentOf(skills, { tools: { own }, inputProcessors: [skills.processor] })(model)
    await agent.generate("go on", { maxSteps: 10 })
    assert.includeMembers([...offered[0] ?? []], ["long", "own"])
    assert.notInclude([...offered[0] ?? []], "newcomer")
    assert.includeMembers([...offered[1] ?? []], ["newcomer", "own"])
    assert.notInclude([...offered[1] ?? []], "long")
    assert.include(textOf(resultsOf(prompts.at(-1)).at(-1)?.["output"]), "I am new")
  })

  for (const provider of ["openai.chat", "groq.chat", "google.generative-ai", "anthropic.messages"]) {
    inWorld(`takes what models of ${provider} are told to say where they have nothing to say`, async (world) => {
      await using toolbox = await world.connect()
      const wanted: Asks = [
        { tool: "load_skill", input: { skill: "shout" } },
        { tool: "run_skill_script", input: { skill: "shout", stdin: "quiet" } },
        { tool: "list_skills", input: {} },
        { tool: "shout", input: { input: "hello", files: [{ path: "a.txt", text: "a" }] } }
      ]
      const { model, prompts, tools } = scripted(
        wanted.map((ask) => async () => {
          const { input, tool } = typeof ask === "function" ? await ask() : ask
          const schema = tools().find(({ name }) => name === tool)?.["inputSchema"]
          return { tool, input: Object(filled(input, schema)) }
        }),
        provider
      )
      await agentOf(fromToolbox(toolbox))(model).generate("go on", { maxSteps: 10 })
      const given = resultsOf(prompts.at(-1)).map(({ output }) => textOf(output))
      assert.include(given[0] ?? "", "scripts/run.sh")
      assert.strictEqual(given[1], "QUIET")
      assert.include(given[2] ?? "", "- adding: ")
      assert.strictEqual(given[3], "HELLO")
    })
  }

  inWorld("shows the model images as such", async (world) => {
    addImage(world.directory, "painting")
    await using toolbox = await world.connect()
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "painting"))
    const { prompts } = await talk(agentOf(fromToolbox(toolbox)), [{ tool: "painting", input: {} }])
    const [result] = resultsOf(prompts.at(-1))
    const output = result?.["output"]
    assert.deepInclude(typeof output === "object" && output !== null && "value" in output ? items(output.value) : [], {
      type: "media",
      mediaType: "image/png",
      data: png.toString("base64")
    })
  })

  inWorld("returns what the schema of its output says", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const { outputs } = await talk(agentOf(skills), [{ tool: "adding", input: { a: 1, b: 2 } }])
    assert.deepStrictEqual(outputs, [{ text: "{\"sum\": 3}", structured: { sum: 3 }, files: [] }])
    const schema = skills.tools["adding"]?.outputSchema?.["~standard"].jsonSchema.output({ target: "draft-2020-12" })
    assert.deepNestedInclude(schema, { "properties.structured.required": ["sum"] })
  })

  inWorld("keeps the bytes of files out of what a memory keeps", async (world) => {
    await using toolbox = await world.connect()
    addSkill(world.directory, "breaking", "mkdir out; echo secret > out/report.txt; exit 3\n")
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "breaking"))
    const { model } = scripted([{ tool: "drawing", input: {} }, { tool: "breaking", input: {} }])
    const memory = new MockMemory()
    const agent = agentOf(fromToolbox(toolbox), { memory })(model)
    const { toolResults } = await agent.generate("go on", {
      maxSteps: 10,
      memory: { thread: "thread", resource: "user" }
    })
    const kept = JSON.stringify((await memory.recall({ threadId: "thread", resourceId: "user" })).messages)
    const output = toolResults[0]?.payload.result as SkillOutput | undefined
    const table = output?.files.find(({ path }) => path === "out/table.csv")
    assert.strictEqual(Buffer.from(table?.data ?? []).toString(), "a,b\n1,2\n")
    assert.include(kept, "out/table.csv")
    assert.include(kept, "out/report.txt")
    assert.notInclude(kept, "\"data\"")
    assert.deepStrictEqual((await toolbox.artifact(table?.id ?? ""))?.data, table?.data)
  })

  inWorld("fails with the text for the model", async (world) => {
    await using toolbox = await world.connect()
    const { outputs, prompts } = await talk(agentOf(fromToolbox(toolbox)), [{ tool: "failing", input: {} }])
    assert.deepStrictEqual(outputs, [])
    assert.match(textOf(resultsOf(prompts.at(-1))[0]?.["output"]), /^The script exited with 3\./)
  })

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(responses, [{ tool: "shout", input: { input: "hello" } }])
    const env = { OPENAI_BASE_URL: `${provider.url}/v1`, OPENAI_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("mastra", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })
})
