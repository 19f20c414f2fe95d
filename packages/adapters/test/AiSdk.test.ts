import { assert, describe } from "@effect/vitest"
import { type Answer, fromToolbox, type Preliminary, type Skills } from "@skillscale/adapters/AiSdk"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import { ToolError } from "@skillscale/tools/ToolError"
import {
  convertToModelMessages,
  generateText,
  isStepCount,
  jsonSchema,
  simulateReadableStream,
  streamText,
  tool,
  ToolLoopAgent
} from "ai"
import { MockLanguageModelV4 } from "ai/test"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, type Conversation, eventually, type Given, inWorld, suite } from "./frameworkSuite.ts"
import { runExample } from "./support/examples.ts"
import { responses } from "./support/openAi.ts"
import { addImage } from "./support/pictures.ts"
import { type Asks, serve } from "./support/providers.ts"

type Call = Parameters<MockLanguageModelV4["doStream"]>[0]

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 }
}

/** A model that asks for one tool after the other, and says "done" at the end. */
const scripted = (asks: Asks): MockLanguageModelV4 => {
  let turn = 0
  const next = async () => {
    const ask = asks[turn++]
    const { input, tool } = ask === undefined ? {} : typeof ask === "function" ? await ask() : ask
    return tool === undefined
      ? { content: { type: "text" as const, text: "done" }, finishReason: { unified: "stop" as const, raw: "stop" } }
      : {
        content: {
          type: "tool-call" as const,
          toolCallId: `call-${turn}`,
          toolName: tool,
          input: JSON.stringify(input)
        },
        finishReason: { unified: "tool-calls" as const, raw: "tool_calls" }
      }
  }
  return new MockLanguageModelV4({
    doGenerate: async () => {
      const { content, finishReason } = await next()
      return { content: [content], finishReason, usage, warnings: [] }
    },
    doStream: async () => {
      const { content, finishReason } = await next()
      const parts = content.type === "text"
        ? [
          { type: "text-start" as const, id: "1" },
          { type: "text-delta" as const, id: "1", delta: content.text },
          { type: "text-end" as const, id: "1" }
        ]
        : [content]
      return {
        stream: simulateReadableStream({
          chunks: [{ type: "stream-start" as const, warnings: [] }, ...parts, {
            type: "finish" as const,
            finishReason,
            usage
          }]
        })
      }
    }
  })
}

/** What the model was given for its calls by the last request. */
const results = ({ prompt }: Call) =>
  prompt.flatMap((message) => message.role === "tool" ? message.content : [])
    .flatMap((part) => part.type === "tool-result" ? [part.output] : [])

const givenBy = (call: Call): ReadonlyArray<Given> =>
  results(call).map((output) => {
    switch (output.type) {
      case "text":
        return { text: output.value, isError: false }
      case "error-text":
        return { text: output.value, isError: true }
      case "content":
        return { text: output.value.map((part) => part.type === "text" ? part.text : "").join(""), isError: false }
      default:
        return { text: JSON.stringify(output), isError: undefined }
    }
  })

const offeredBy = (call: Call | undefined): ReadonlyArray<string> => call?.tools?.map(({ name }) => name) ?? []

const lastOf = <A>(items: ReadonlyArray<A>): A => {
  const last = items.at(-1)
  if (last === undefined) throw new Error("there is none")
  return last
}

const converse = async (
  toolbox: Toolbox,
  asks: Asks,
  { signal }: { readonly signal?: AbortSignal }
): Promise<Conversation> => {
  const skills = fromToolbox(toolbox, { progress: true })
  const model = scripted(asks)
  const files: Array<Conversation["files"][number]> = []
  const progress: Array<string> = []
  const { fullStream } = streamText({
    model,
    tools: skills.tools,
    prompt: "Go.",
    stopWhen: isStepCount(20),
    onError: () => {},
    ...signal === undefined ? {} : { abortSignal: signal }
  })
  for await (const part of fullStream) {
    if (part.type === "tool-error" && part.error instanceof Error && part.error.cause instanceof ToolError) {
      files.push(...part.error.cause.artifacts)
    }
    if (part.type !== "tool-result") continue
    const output = part.output as Preliminary | Answer
    if (output.status === "running") progress.push(output.progress ?? "")
    else if (part.preliminary !== true) {
      files.push(...output.files.map(({ path, uint8Array }) => ({ path, data: uint8Array })))
    }
  }
  const calls = model.doStreamCalls
  return { given: givenBy(lastOf(calls)), offered: offeredBy(calls.at(-2)), files, progress }
}

suite("the AI SDK", { converse })

describe("the AI SDK", () => {
  const ask = (skills: Skills, model: MockLanguageModelV4) =>
    generateText({ model, tools: skills.tools, prompt: "Go.", stopWhen: isStepCount(20) })

  inWorld("streams what a run prints, as preliminary results before the last", async (world) => {
    await using skills = fromToolbox(await world.connect(), { progress: true })
    const { fullStream } = streamText({
      model: scripted([{ tool: "talking", input: {} }]),
      tools: skills.tools,
      prompt: "Go."
    })
    const seen: Array<Preliminary | Answer> = []
    for await (const part of fullStream) if (part.type === "tool-result") seen.push(part.output as Preliminary | Answer)
    const running = seen.flatMap((output) => output.status === "running" ? [output] : [])
    assert.includeMembers(running.map(({ progress }) => progress), ["1 of 2", "2 of 2"])
    assert.notInclude(running[0]?.text ?? "two", "two")
    assert.include(lastOf(running).text, "two")
    assert.deepStrictEqual(seen.map(({ status }) => status), [...running.map(() => "running" as const), "done", "done"])
  })

  inWorld("shows the model an image, also from a stored conversation, and not where it cannot see", async (world) => {
    addImage(world.directory, "painting")
    const toolbox = await world.connect()
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "painting"))
    await using skills = fromToolbox(toolbox)
    const model = scripted([{ tool: "painting", input: {} }])
    const { steps } = await ask(skills, model)
    const output = results(lastOf(model.doGenerateCalls))[0]
    if (output?.type !== "content") throw new Error(`the model was given ${JSON.stringify(output)}`)
    assert.deepInclude(output.value[1], { type: "file", mediaType: "image/png", filename: "dot.png" })

    const answer = steps[0]?.toolResults[0]?.output as Answer
    const stored = JSON.parse(JSON.stringify(answer)) as unknown
    const messages = await convertToModelMessages([{
      role: "assistant",
      parts: [{
        type: "dynamic-tool",
        toolName: "painting",
        toolCallId: "1",
        state: "output-available",
        input: {},
        output: stored
      }]
    }], { tools: skills.tools })
    const again = messages.flatMap((message) => message.role === "tool" ? message.content : [])
      .flatMap((part) => part.type === "tool-result" ? [part.output] : [])[0]
    assert.deepStrictEqual(JSON.parse(JSON.stringify(again)), JSON.parse(JSON.stringify(output)))

    const blind = scripted([{ tool: "painting", input: {} }])
    await ask(fromToolbox(toolbox, { images: false }), blind)
    assert.strictEqual(results(lastOf(blind.doGenerateCalls))[0]?.type, "text")
  })

  inWorld("gives the application the error of a tool with its cause", async (world) => {
    await using skills = fromToolbox(await world.connect())
    const { steps } = await ask(skills, scripted([{ tool: "failing", input: {} }]))
    const part = steps[0]?.content.find(({ type }) => type === "tool-error")
    if (part?.type !== "tool-error" || !(part.error instanceof Error)) throw new Error("there is no error")
    const { cause } = part.error
    if (!(cause instanceof ToolError) || cause.reason._tag !== "SkillFailed") throw new Error("its cause is another")
    assert.strictEqual(cause.reason.exitCode, 3)
  })

  inWorld("gives the application what the output schema describes", async (world) => {
    await using skills = fromToolbox(await world.connect())
    const { steps } = await ask(skills, scripted([{ tool: "adding", input: { a: 1, b: 2 } }]))
    const { output, toolMetadata } = lastOf(steps[0]?.toolResults ?? [])
    assert.deepInclude(output, { structured: { sum: 3 } })
    assert.deepInclude(toolMetadata, { skill: "adding" })
  })

  inWorld("offers an agent that was made before it a skill that is added in the middle of a run", async (world) => {
    await using skills = fromToolbox(await world.connect())
    const model = scripted([
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        await eventually("the tool is there", () => Object.hasOwn(skills.tools, "newcomer"))
        return { tool: "shout", input: { input: "a" } }
      },
      { tool: "newcomer", input: {} }
    ])
    const weather = tool({
      description: "Tells the weather.",
      inputSchema: jsonSchema<{ readonly city: string }>({ type: "object" }),
      execute: () => "sunny"
    })
    const agent = new ToolLoopAgent({
      model,
      tools: skills.withTools({ weather }),
      instructions: skills.prompt()
    })
    const { steps } = await agent.generate({ prompt: "Go." })
    const offered = model.doGenerateCalls.map(offeredBy)
    assert.notInclude([...offered[0] ?? []], "newcomer")
    assert.includeMembers([...offered[1] ?? []], ["newcomer", "weather"])
    assert.deepInclude(steps[1]?.toolResults[0]?.output, { status: "done", text: "I am new" })
  })

  inWorld("ends the process on the server when nobody reads its preliminary results any more", async (world) => {
    await using skills = fromToolbox(await world.connect(), { progress: true })
    const results = skills.tools["endless"]?.execute?.({}, { toolCallId: "1", messages: [], context: {} })
    for await (const result of results as AsyncIterable<Preliminary>) if (result.text.includes("begun")) break
    await eventually("its process is gone", () => world.endless() === 0)
  })

  inWorld("can be told of a tool that is gone, which is offered no more", async (world) => {
    await using skills = fromToolbox(await world.connect())
    const { shout } = skills.tools
    Fs.rmSync(Path.join(world.directory, "testing", "shout"), { recursive: true })
    await eventually("the tool is gone", () => !Object.keys(skills.tools).includes("shout"))
    assert.isDefined(shout)
    assert.strictEqual(skills.tools["shout"], shout)
    const model = scripted([{ tool: "shout", input: {} }])
    await ask(skills, model)
    const [result] = results(lastOf(model.doGenerateCalls))
    assert.strictEqual(result?.type, "error-text")
    assert.notInclude([...offeredBy(model.doGenerateCalls[0])], "shout")
  })

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(responses, [{ tool: "shout", input: { input: "hello" } }])
    const env = { OPENAI_BASE_URL: `${provider.url}/v1`, OPENAI_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("ai-sdk", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })
})
