import Anthropic from "@anthropic-ai/sdk"
import { assert, describe } from "@effect/vitest"
import { fromToolbox, type Options, type Skills } from "@skillscale/adapters/Anthropic"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, type Conversation, eventually, inWorld, suite } from "./frameworkSuite.ts"
import { messages, results } from "./support/anthropic.ts"
import { runExample } from "./support/examples.ts"
import { addImage, png } from "./support/pictures.ts"
import { type Asks, type Body, items, serve, textOf } from "./support/providers.ts"

interface Talk {
  readonly requests: ReadonlyArray<Body>
  readonly text: string
}

/** Runs the loop to its end with a model that asks for one tool after the other. */
const talk = async (
  skills: Skills,
  asks: Asks,
  more: { readonly signal?: AbortSignal | undefined; readonly thread?: false } = {}
): Promise<Talk> => {
  await using provider = await serve(messages, asks)
  const client = new Anthropic({ baseURL: provider.url, apiKey: "none", maxRetries: 0 })
  const runner = client.beta.messages.toolRunner({
    model: "scripted",
    max_tokens: 1000,
    betas: ["inline-tools-2026-09-15"],
    system: skills.prompt(),
    tools: skills.tools,
    messages: [{ role: "user", content: "Go." }],
    ...more.thread === false ? { thread: false } : {}
  }, { signal: more.signal })
  const following = skills.follow(runner)
  const { content } = await runner
  following[Symbol.dispose]()
  return { requests: provider.requests, text: textOf(content) }
}

/** The names of the tools that the model has with a request: those that it began with, and those that came and went since. */
const offeredBy = (requests: ReadonlyArray<Body>, count: number): ReadonlyArray<string> => {
  const offered = new Set(items(requests[0]?.["tools"]).map(({ name }) => String(name)))
  const changes = requests.slice(0, count).flatMap(({ messages }) =>
    items(messages).flatMap(({ content, role }) => role === "system" ? items(content) : [])
  )
  for (const { tool, type } of changes) {
    const { definition, name } = tool as { readonly name?: string; readonly definition?: { readonly name: string } }
    if (type === "tool_addition" && definition !== undefined) offered.add(definition.name)
    if (type === "tool_removal" && name !== undefined) offered.delete(name)
  }
  return Array.from(offered)
}

const converse = async (
  toolbox: Toolbox,
  asks: Asks,
  { signal }: { readonly signal?: AbortSignal }
): Promise<Conversation> => {
  const outputs: Array<Pick<SkillTools.Output, "artifacts">> = []
  const progress: Array<string> = []
  const skills = fromToolbox(toolbox, {
    onOutput: (output) => void outputs.push(output),
    onError: (error) => void outputs.push(error),
    onProgress: (event, { tool }) => void progress.push(event._tag === "Progress" ? `${tool}: ${event.message}` : "")
  })
  const { requests } = await talk(skills, asks, { signal })
  const given = requests.flatMap(results).map(({ content, is_error }) => ({
    text: textOf(content),
    isError: is_error === true
  }))
  const offered = offeredBy(requests, requests.length - 1)
  return { given, offered, files: outputs.flatMap(({ artifacts }) => artifacts), progress }
}

suite("Anthropic's tool runner", { converse })

describe("Anthropic's tool runner", () => {
  const answering = async (toolbox: Toolbox, asks: Asks, options?: Options) => {
    const outputs: Array<unknown> = []
    const onOutput: Options["onOutput"] = ({ structured }, call) => void outputs.push({ structured, call })
    const { requests } = await talk(fromToolbox(toolbox, { onOutput, ...options }), asks)
    return { outputs, result: requests.flatMap(results)[0]?.["content"] }
  }

  inWorld("shows the model an image, and not where it cannot see", async (world) => {
    addImage(world.directory, "painting")
    await using toolbox = await world.connect()
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "painting"))
    const { result } = await answering(toolbox, [{ tool: "painting", input: {} }])
    assert.deepStrictEqual(items(result)[1], {
      type: "image",
      source: { type: "base64", media_type: "image/png", data: png.toString("base64") }
    })
    const blind = await answering(toolbox, [{ tool: "painting", input: {} }], { images: false })
    assert.isString(blind.result)
    assert.include(blind.result, "dot.png")
  })

  inWorld("gives the application what the output schema describes, and tells which call it is of", async (world) => {
    await using toolbox = await world.connect()
    const { outputs } = await answering(toolbox, [{ tool: "adding", input: { a: 1, b: 2 } }])
    assert.deepStrictEqual(outputs, [{ structured: { sum: 3 }, call: { tool: "adding", id: "toolu_1" } }])
  })

  for (const thread of [undefined, false] as const) {
    inWorld(
      `follows the skills in the middle of a run ${thread === false ? "without" : "with"} a thread`,
      async (world) => {
        await using toolbox = await world.connect()
        const has = (name: string) => toolbox.tools().some((tool) => tool.name === name)
        const { requests } = await talk(fromToolbox(toolbox), [
          async () => {
            addSkill(world.directory, "newcomer", "echo I am new\n")
            Fs.rmSync(Path.join(world.directory, "testing", "long"), { recursive: true })
            await eventually("one is there and one is gone", () => has("newcomer") && !has("long"))
            return { tool: "shout", input: { input: "a" } }
          },
          { tool: "newcomer", input: {} },
          { tool: "long", input: {} }
        ], thread === undefined ? {} : { thread })
        const texts = results(requests.at(-1) ?? {}).map(({ content, is_error }) => [textOf(content), is_error])
        assert.strictEqual("thread" in (requests[1] ?? {}), thread === undefined)
        assert.include(offeredBy(requests, 1), "long")
        assert.notInclude(offeredBy(requests, 1), "newcomer")
        assert.notInclude(offeredBy(requests, 2), "long")
        assert.include(offeredBy(requests, 2), "newcomer")
        assert.deepStrictEqual(texts.at(-1), ["Error: Tool 'long' not found", true])
        assert.include(requests.flatMap(results).map(({ content }) => textOf(content)), "I am new")
      }
    )
  }

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(messages, [{ tool: "shout", input: { input: "hello" } }])
    const env = { ANTHROPIC_BASE_URL: provider.url, ANTHROPIC_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("anthropic", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })
})
