/**
 * Measures what an agent framework and its adapter add to a call of a warm skill: the framework's own way to run a tool, with what the
 * adapter does by default, against the bus client, in turns. Run: `node --conditions=skillscale bench/adapters.ts`.
 */
import * as AiSdk from "@skillscale/adapters/AiSdk"
import * as Anthropic from "@skillscale/adapters/Anthropic"
import * as EffectAi from "@skillscale/adapters/EffectAi"
import * as GoogleAdk from "@skillscale/adapters/GoogleAdk"
import * as LangChain from "@skillscale/adapters/LangChain"
import * as LangGraph from "@skillscale/adapters/LangGraph"
import * as Mastra from "@skillscale/adapters/Mastra"
import * as OpenAiAgents from "@skillscale/adapters/OpenAiAgents"
import * as PromiseClient from "@skillscale/client/PromiseClient"
import { connect, type Toolbox } from "@skillscale/tools/PromiseTools"
import { AIMessage } from "@langchain/core/messages"
import { RunContext } from "@openai/agents"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { type Figure, median } from "./figure.ts"
import { start, startProxy } from "./stack.ts"

const topic = "TOPIC_DATA_PROCESSING"
const skill = "csv-analyzer"
const skills = fileURLToPath(new URL("../skills", import.meta.url))
const data = "city,people\nOslo,709000\nBergen,291000\nTrondheim,212000\n"
const input = { input: data }
// After so many calls a server is as fast as it gets; before, it is being compiled.
const warmUpCalls = 3000
const warmUpRounds = 100
const rounds = 400

/** Runs the tool of the skill as the framework does, and returns what the model is given. */
type Call = () => Promise<unknown>

const missing = (what: string): never => {
  throw new Error(`there is no ${what}`)
}

const frameworks: Readonly<Record<string, (toolbox: Toolbox) => Call>> = {
  "LangChain": (toolbox) => {
    const tool = LangChain.fromToolbox(toolbox).tools.find(({ name }) => name === skill) ?? missing(skill)
    return () => tool.invoke({ name: skill, args: input, id: "1", type: "tool_call" })
  },
  "LangGraph, its node": (toolbox) => {
    const node = LangGraph.fromToolbox(toolbox).invoke()
    const asking = new AIMessage({
      content: "",
      tool_calls: [{ name: skill, args: input, id: "1", type: "tool_call" }]
    })
    return () => node.invoke({ messages: [asking] })
  },
  "Vercel AI SDK": (toolbox) => {
    const { execute = missing("execute") } = AiSdk.fromToolbox(toolbox).tools[skill] ?? missing(skill)
    return async () => execute(input, { toolCallId: "1", messages: [], context: {} })
  },
  "OpenAI Agents SDK": (toolbox) => {
    // The SDK writes names of tools with `_`.
    const written = skill.replaceAll("-", "_")
    const tool = OpenAiAgents.fromToolbox(toolbox).tools.find(({ name }) => name === written) ?? missing(written)
    const context = new RunContext()
    return () => "invoke" in tool ? tool.invoke(context, JSON.stringify(input)) : missing("invoke")
  },
  "Anthropic SDK": (toolbox) => {
    const tool = Anthropic.fromToolbox(toolbox).tools.find((tool) => "name" in tool && tool.name === skill) ??
      missing(skill)
    return async () => tool.run(input)
  },
  "Mastra": (toolbox) => {
    const { execute = missing("execute") } = Mastra.fromToolbox(toolbox).tools[skill] ?? missing(skill)
    return async () => execute(input, {} as never)
  },
  "Google ADK": (toolbox) => {
    const tool = GoogleAdk.fromToolbox(toolbox).tools.find(({ name }) => name === skill) ?? missing(skill)
    return () => tool.runAsync({ args: input, toolContext: undefined as never })
  },
  "Effect AI": (toolbox) => () =>
    Effect.runPromise(
      Effect.gen(function*() {
        const { toolkit } = yield* EffectAi.Skills
        return yield* Stream.runLast(yield* (yield* toolkit).handle(skill, input))
      }).pipe(Effect.provide(EffectAi.fromToolbox(toolbox)))
    )
}

const measure = async (call: Call, plain: Call) => {
  const times = { call: [] as Array<number>, plain: [] as Array<number> }
  for (let round = 0; round < warmUpRounds + rounds; round++) {
    for (const [kept, work] of [[times.call, call], [times.plain, plain]] as const) {
      const began = performance.now()
      const output = await work()
      if (round >= warmUpRounds) kept.push(performance.now() - began)
      if (!JSON.stringify(output).includes("CSV Analysis")) {
        throw new Error(`not an analysis: ${JSON.stringify(output)}`)
      }
    }
  }
  return { call: median(times.call), plain: median(times.plain) }
}

export const adaptersBench = async (): Promise<ReadonlyArray<Figure>> => {
  const proxy = await startProxy()
  const { xpub, xsub } = proxy
  const at = ["--skills-dir", Fs.realpathSync(skills), "--proxy-xsub", xsub, "--proxy-xpub", xpub]
  const server = await start(["server", "--topic", topic, ...at], "serving")
  const client = await PromiseClient.connect({ xsub, xpub })
  const toolbox = await connect({ xsub, xpub })
  try {
    const plain = async () => (await client.invoke({ skill, topic, data })).content
    for (let call = 0; call < warmUpCalls; call++) await plain()
    const rows: Array<Figure> = []
    for (const [name, make] of Object.entries(frameworks)) {
      const times = await measure(make(toolbox), plain)
      const added = times.call - times.plain
      rows.push({
        what: `a warm skill through ${name}, p50`,
        against: `the same through the bus client, ${times.plain.toFixed(2)} ms`,
        bar: "≤ + 0.5 ms",
        measured: `${times.call.toFixed(2)} ms (${added < 0 ? "−" : "+"} ${Math.abs(added).toFixed(2)} ms)`,
        ok: added <= 0.5
      })
    }
    return rows
  } finally {
    await toolbox.close()
    await client.close()
    await server.stop()
    await proxy.stop()
  }
}
