/** Skills in LangChain: its own agent loop, with a model that is scripted. */
import { assert, describe } from "@effect/vitest"
import type { BaseMessage } from "@langchain/core/messages"
import { createAgent, createMiddleware, ToolMessage } from "langchain"
import { fromToolbox, type SkillArtifact, type Skills } from "@skillscale/adapters/LangChain"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, eventually, inWorld, suite } from "./frameworkSuite.ts"
import { responses } from "./support/openAi.ts"
import { addImage, png } from "./support/pictures.ts"
import { serve } from "./support/providers.ts"
import { runExample } from "./support/examples.ts"
import { ScriptedModel, told } from "./support/langchainModel.ts"

type Agent = (skills: Skills, model: ScriptedModel) => Pick<ReturnType<typeof createAgent>, "stream">

const converse = (make: Agent): Parameters<typeof suite>[1] => ({
  converse: async (toolbox, asks, { signal }) => {
    const model = new ScriptedModel(asks)
    const agent = make(fromToolbox(toolbox), model)
    const progress: Array<string> = []
    let messages: ReadonlyArray<BaseMessage> = []
    const stream = await agent.stream(
      { messages: [{ role: "user", content: "go on" }] },
      { streamMode: ["values", "custom"], ...signal === undefined ? {} : { signal } }
    )
    for await (const [mode, chunk] of stream) {
      if (mode === "custom") progress.push(JSON.stringify(chunk))
      else messages = chunk.messages
    }
    return told(model, messages, progress)
  }
})

suite("LangChain, with tools", converse((skills, model) => createAgent({ model, tools: skills.tools })))

suite(
  "LangChain, with the middleware",
  converse((skills, model) => createAgent({ model, middleware: [skills.middleware()] }))
)

const answersOf = async (agent: ReturnType<Agent>): Promise<ReadonlyArray<ToolMessage>> => {
  let messages: ReadonlyArray<BaseMessage> = []
  const stream = await agent.stream({ messages: [{ role: "user", content: "go on" }] }, { streamMode: "values" })
  for await (const state of stream) messages = state.messages
  return messages.filter((message) => ToolMessage.isInstance(message))
}

describe("skills in LangChain", () => {
  inWorld("offers within one run what was added, and no more what was removed", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const has = (tool: string) => toolbox.tools().some(({ name }) => name === tool)
    const model = new ScriptedModel([
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        Fs.rmSync(Path.join(world.directory, "testing", "long"), { recursive: true })
        await eventually("the tools are those", () => has("newcomer") && !has("long"))
        return { tool: "shout", input: { input: "a" } }
      },
      { tool: "newcomer", input: {} },
      { tool: "long", input: {} }
    ])
    const agent = createAgent({ model, tools: skills.tools, middleware: [skills.middleware()] })
    const [, newcomer, long] = await answersOf(agent)
    assert.include([...model.offered[0] ?? []], "long")
    assert.notInclude([...model.offered[0] ?? []], "newcomer")
    assert.include([...model.offered[1] ?? []], "newcomer")
    assert.notInclude([...model.offered[1] ?? []], "long")
    assert.strictEqual(new Set(model.offered[1]).size, model.offered[1]?.length)
    assert.include(newcomer?.text, "I am new")
    assert.strictEqual(newcomer?.status, "success")
    assert.include(long?.text, "there is no such tool")
    assert.strictEqual(long?.status, "error")
    const prompts = model.calls.map(([system]) => system?.text ?? "")
    assert.notInclude(prompts[0] ?? "", "newcomer")
    assert.include(prompts[1] ?? "", "newcomer")
  })

  inWorld("goes on with a changed skill under the tool that an agent has", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const shout = skills.tools.find(({ name }) => name === "shout")
    assert.strictEqual(shout?.description, "Tests the stack as shout.")
    const model = new ScriptedModel([
      async () => {
        addSkill(world.directory, "shout", "echo changed\n")
        await eventually(
          "the skill differs",
          () => toolbox.skills().some(({ description, name }) => name === "shout" && description === "Tests as shout.")
        )
        return { tool: "shout", input: {} }
      }
    ])
    const [answer] = await answersOf(createAgent({ model, tools: skills.tools }))
    assert.strictEqual(answer?.text, "changed")
    assert.strictEqual(skills.tools.find(({ name }) => name === "shout"), shout)
    assert.strictEqual(shout?.description, "Tests as shout.")
  })

  inWorld("shows images to models that see those of tools, and to no others", async (world) => {
    addImage(world.directory, "painting")
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "painting"))
    for (const seesImages of [true, false]) {
      const model = new ScriptedModel([{ tool: "painting", input: {} }])
      model.seesImages = seesImages
      const [answer] = await answersOf(createAgent({ model, middleware: [skills.middleware({ prompt: false })] }))
      const shown = model.calls[1]?.find((message) => ToolMessage.isInstance(message))?.content
      const images = Array.isArray(shown) ? shown.filter(({ type }) => type === "image") : []
      assert.deepStrictEqual(
        images,
        seesImages ? [{ type: "image", mimeType: "image/png", data: png.toString("base64") }] : []
      )
      assert.isString(answer?.content)
    }
  })

  inWorld("tells of a failure beside a middleware that wraps tools, and of a plain call that fails", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const wrapping = createMiddleware({ name: "Wrapping", wrapToolCall: (request, handler) => handler(request) })
    const model = new ScriptedModel([{ tool: "failing", input: {} }])
    const [answer] = await answersOf(createAgent({ model, tools: skills.tools, middleware: [wrapping] }))
    assert.strictEqual(answer?.status, "error")
    assert.match(answer?.text ?? "", /^The script exited with 3\./)
    const artifact: SkillArtifact = answer?.artifact
    assert.strictEqual(artifact.error?.reason, "SkillFailed")
    assert.strictEqual(artifact.error?.exitCode, 3)
    const failing = skills.tools.find(({ name }) => name === "failing")
    const thrown = await failing?.invoke({}).then(() => undefined, (error: unknown) => error)
    assert.instanceOf(thrown, Error)
    assert.match(thrown instanceof Error ? thrown.message : "", /the disk is on fire/)
  })

  inWorld("keeps what a skill gives as its schema says beside the text", async (world) => {
    await using toolbox = await world.connect()
    const { tools } = fromToolbox(toolbox)
    const adding = tools.find(({ name }) => name === "adding")
    assert.deepNestedInclude(adding?.metadata, { "outputSchema.required": ["sum"] })
    const answer: unknown = await adding?.invoke({ type: "tool_call", id: "1", name: "adding", args: { a: 1, b: 2 } })
    assert.isTrue(ToolMessage.isInstance(answer))
    assert.deepInclude(answer, {
      content: "{\"sum\": 3}",
      artifact: { structured: { sum: 3 }, files: [], error: undefined }
    })
  })

  inWorld("streams progress as events of its tool", async (world) => {
    await using toolbox = await world.connect()
    const agent = createAgent({
      model: new ScriptedModel([{ tool: "talking", input: {} }]),
      tools: fromToolbox(toolbox).tools
    })
    const events: Array<unknown> = []
    const stream = await agent.stream({ messages: [{ role: "user", content: "go on" }] }, { streamMode: ["tools"] })
    for await (const [, chunk] of stream) {
      if (chunk.event === "on_tool_event" && chunk.name === "talking") events.push(chunk.data)
    }
    assert.deepInclude(events, {
      type: "skill_progress",
      tool: "talking",
      toolCallId: "call_0",
      progress: { _tag: "Progress", message: "2 of 2" }
    })
  })

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(responses, [{ tool: "shout", input: { input: "hello" } }])
    const env = { OPENAI_BASE_URL: `${provider.url}/v1`, OPENAI_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("langchain", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })
})
