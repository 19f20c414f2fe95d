import { assert, describe } from "@effect/vitest"
import * as EffectAi from "@skillscale/adapters/EffectAi"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import * as SkillTools from "@skillscale/tools/SkillTools"
import * as Chat from "effect/ai/Chat"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { addSkill, type Conversation, eventually, type Given, inWorld, suite } from "./frameworkSuite.ts"
import { runExample } from "./support/examples.ts"
import { responses } from "./support/openAi.ts"
import { addImage, png } from "./support/pictures.ts"
import { type Asks, items, serve } from "./support/providers.ts"

interface Scripted {
  readonly model: Effect.Effect<LanguageModel.LanguageModel>
  readonly calls: ReadonlyArray<LanguageModel.ProviderOptions>
}

const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } }

/** A provider whose model asks for one tool after the other, and says "done" at the end. */
const scripted = (asks: Asks): Scripted => {
  const calls: Array<LanguageModel.ProviderOptions> = []
  const next = (options: LanguageModel.ProviderOptions) =>
    Effect.promise(async () => {
      const turn = calls.push(options)
      const ask = asks[turn - 1]
      if (ask === undefined) return undefined
      const { input, tool } = typeof ask === "function" ? await ask() : ask
      return { type: "tool-call" as const, id: `call-${turn}`, name: tool, params: input }
    })
  const model = LanguageModel.make({
    generateText: (options) =>
      Effect.map(next(options), (call): Array<Response.PartEncoded> => [
        call ?? { type: "text", text: "done" },
        { type: "finish", reason: call === undefined ? "stop" : "tool-calls", usage }
      ]),
    streamText: (options) =>
      Stream.unwrap(Effect.map(next(options), (call) =>
        Stream.fromIterable<Response.StreamPartEncoded>([
          ...call === undefined
            ? [
              { type: "text-start" as const, id: "1" },
              { type: "text-delta" as const, id: "1", delta: "done" },
              { type: "text-end" as const, id: "1" }
            ]
            : [call],
          { type: "finish", reason: call === undefined ? "stop" : "tool-calls", usage }
        ])))
  })
  return { calls, model }
}

const resultsBy = (calls: Scripted["calls"]): ReadonlyArray<Prompt.ToolResultPart> =>
  (calls.at(-1)?.prompt.content ?? []).flatMap(({ content }) => typeof content === "string" ? [] : [...content])
    .flatMap((part) => part.type === "tool-result" ? [part] : [])

const textBy = ({ modelOutput, result }: Prompt.ToolResultPart): string =>
  modelOutput === undefined
    ? String((result as { readonly text?: string }).text ?? JSON.stringify(result))
    : modelOutput.map((part) => part.type === "text" ? part.text : "").join("")

const givenBy = (calls: Scripted["calls"]): ReadonlyArray<Given> =>
  resultsBy(calls).map((part) => ({ text: textBy(part), isError: part.isFailure }))

const offeredBy = (calls: Scripted["calls"], index: number): ReadonlyArray<string> =>
  calls.at(index)?.tools.map(({ name }) => name) ?? []

/** Streams turn after turn until the model asks for nothing. Answers with all results of tools. */
const streamed = Effect.fnUntraced(function*({ model }: Scripted) {
  const languageModel = yield* model
  const { prompt, toolkit } = yield* EffectAi.Skills
  const chat = yield* Chat.fromPrompt([
    { role: "system", content: yield* prompt() },
    { role: "user", content: "Go." }
  ])
  const seen: Array<{ readonly isPreliminary: boolean; readonly result: EffectAi.SkillResult }> = []
  const failures: Array<EffectAi.SkillFailure> = []
  let isDone = false
  while (!isDone) {
    isDone = true
    yield* chat.streamText({ prompt: [], toolkit }).pipe(
      Stream.provideService(LanguageModel.LanguageModel, languageModel),
      Stream.runForEach((part) =>
        Effect.sync(() => {
          if (part.type === "tool-call") isDone = false
          if (part.type !== "tool-result") return
          if (part.result instanceof EffectAi.SkillFailure) failures.push(part.result)
          if (!part.isFailure) seen.push({ isPreliminary: part.preliminary, result: part.result })
        })
      )
    )
  }
  return { seen, failures, exported: yield* chat.exportJson }
})

const converse = async (
  toolbox: Toolbox,
  asks: Asks,
  { signal }: { readonly signal?: AbortSignal }
): Promise<Conversation> => {
  const script = scripted(asks)
  const program = Effect.provide(streamed(script), EffectAi.fromToolbox(toolbox, { progress: true }))
  const { failures, seen } = await Effect.runPromise(program, { signal })
  const { calls } = script
  return {
    given: givenBy(calls),
    offered: offeredBy(calls, -2),
    files: [
      ...seen.flatMap(({ result }) => result.status === "done" ? result.files : []),
      ...failures.flatMap(({ files = [] }) => files)
    ].flatMap(({ data, path }) => data === undefined ? [] : [{ path, data }]),
    progress: seen.flatMap(({ result }) => result.status === "running" ? [result.progress ?? ""] : [])
  }
}

suite("Effect AI", { converse })

describe("Effect AI", () => {
  const inEffect = <A, E>(
    world: { readonly addresses: { readonly xsub: string; readonly xpub: string } },
    program: Effect.Effect<A, E, EffectAi.Skills | SkillTools.SkillTools>,
    options: EffectAi.ConnectOptions = {}
  ) => Effect.runPromise(Effect.provide(program, EffectAi.layer({ ...world.addresses, ...options })))

  inWorld("streams what a run prints, as preliminary results before the last", async (world) => {
    const { seen } = await inEffect(world, streamed(scripted([{ tool: "talking", input: {} }])), { progress: true })
    const running = seen.flatMap(({ result }) => result.status === "running" ? [result] : [])
    assert.includeMembers(running.map(({ progress }) => progress), ["1 of 2", "2 of 2"])
    assert.include(running.at(-1)?.text ?? "", "two")
    assert.deepStrictEqual(seen.map(({ isPreliminary }) => isPreliminary), [...running.map(() => true), false])
  })

  inWorld("shows the model an image, and not where it cannot see", async (world) => {
    addImage(world.directory, "painting")
    for (const images of [true, false]) {
      const script = scripted([{ tool: "painting", input: {} }])
      const { exported, seen } = await inEffect(
        world,
        Effect.gen(function*() {
          const { changes } = yield* SkillTools.SkillTools
          const has = Stream.filter(changes, (tools) => tools.some(({ name }) => name === "painting"))
          yield* Stream.runDrain(Stream.take(has, 1))
          return yield* streamed(script)
        }),
        { images }
      )
      const { modelOutput, result } = resultsBy(script.calls)[0] ?? {}
      assert.deepStrictEqual(modelOutput?.map(({ type }) => type), images ? ["text", "file"] : ["text"])
      assert.deepNestedInclude(result, { "files[0].path": "dot.png" })
      assert.notNestedProperty(result, "files[0].data")
      assert.strictEqual(exported.includes(png.toString("base64")), images, "the history has what the model was shown")
      const [last] = seen
      assert.deepStrictEqual(
        last?.result.status === "done" ? last.result.files[0]?.data : undefined,
        Uint8Array.from(png)
      )
      assert.lengthOf(seen, 1)
    }
  })

  inWorld("gives the program typed failures, and what the output schema describes", async (world) => {
    const script = scripted([{ tool: "failing", input: {} }])
    const program = Effect.gen(function*() {
      const model = yield* script.model
      const { toolkit } = yield* EffectAi.Skills
      const { toolResults } = yield* model.generateText({ prompt: "Go.", toolkit })
      const adding = yield* scripted([{ tool: "adding", input: { a: 1, b: 2 } }]).model
      const added = yield* adding.generateText({ prompt: "Go.", toolkit })
      return [toolResults[0]?.result, added.toolResults[0]?.result] as const
    })
    const [failure, added] = await inEffect(world, program)
    assert.deepInclude(failure, { _tag: "SkillFailure", reason: "SkillFailed", exitCode: 3, tool: "failing" })
    assert.deepInclude(added, { status: "done", structured: { sum: 3 } })
  })

  inWorld("carries schemas and hints, and builds its tools once", async (world) => {
    await inEffect(
      world,
      Effect.gen(function*() {
        const { toolkit } = yield* EffectAi.Skills
        const { tools } = yield* toolkit
        assert.strictEqual((yield* toolkit).tools, tools)
        const { adding, list_skills: list, shout } = tools
        if (adding === undefined || list === undefined || shout === undefined) throw new Error("a tool is missing")
        assert.deepInclude(Tool.getJsonSchema(adding), { required: ["a", "b"] })
        assert.strictEqual(list.annotations.mapUnsafe.get(Tool.Title.key), "List skills")
        assert.strictEqual(list.annotations.mapUnsafe.get(Tool.Readonly.key), true)
        assert.strictEqual(list.annotations.mapUnsafe.get(Tool.OpenWorld.key), false)
      })
    )
  })

  inWorld("goes together with a toolkit of the program", async (world) => {
    const own = Toolkit.make(
      Tool.make("weather", { success: Schema.String }),
      Tool.make("shout", { success: Schema.String })
    )
    const program = Effect.gen(function*() {
      const { withToolkit } = yield* EffectAi.Skills
      const toolkit = withToolkit(own)
      const results: Array<unknown> = []
      for (
        const [tool, input] of [["weather", {}], ["shout", {}], ["run_skill_script", {
          skill: "shout",
          stdin: "a"
        }]] as const
      ) {
        const { calls, model } = scripted([{ tool, input }])
        const { toolResults } = yield* (yield* model).generateText({ prompt: "Go.", toolkit })
        results.push(toolResults[0]?.result)
        assert.includeMembers([...offeredBy(calls, 0)], ["weather", "shout", "failing", "list_skills"])
      }
      return results
    })
    const handlers = own.toLayer({ weather: () => Effect.succeed("sunny"), shout: () => Effect.succeed("mine") })
    const [weather, shout, run] = await inEffect(world, Effect.provide(program, handlers))
    assert.deepStrictEqual([weather, shout], ["sunny", "mine"])
    assert.deepInclude(run, { status: "done", text: "A" })
  })

  inWorld("ends the process on the server when the fiber is interrupted", async (world) => {
    await inEffect(
      world,
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(streamed(scripted([{ tool: "endless", input: {} }])))
        yield* Effect.promise(() => eventually("the skill runs", () => world.endless() > 0))
        yield* Fiber.interrupt(fiber)
        yield* Effect.promise(() => eventually("its process is gone", () => world.endless() === 0))
      })
    )
  })

  inWorld("offers a skill that is added between two turns", async (world) => {
    await using toolbox = await world.connect()
    const script = scripted([
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "newcomer"))
        return { tool: "shout", input: { input: "a" } }
      },
      { tool: "newcomer", input: {} }
    ])
    await Effect.runPromise(Effect.provide(streamed(script), EffectAi.fromToolbox(toolbox, { progress: true })))
    assert.notInclude([...offeredBy(script.calls, 0)], "newcomer")
    assert.include([...offeredBy(script.calls, 1)], "newcomer")
    assert.strictEqual(givenBy(script.calls)[1]?.text, "I am new")
  })

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(responses, [{ tool: "shout", input: { input: "hello" } }])
    const env = { OPENAI_BASE_URL: `${provider.url}/v1`, OPENAI_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("effect-ai", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
    assert.strictEqual(items(provider.requests[0]?.["tools"])[0]?.["name"], "list_skills")
  })
})
