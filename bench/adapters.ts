/**
 * Measures what an agent framework and its adapter add to a call of a warm skill: the framework's own way to run a tool, with what the
 * adapter does by default, against the bus client, in turns. Run: `node --conditions=skillscale bench/adapters.ts`.
 */
import { connect, type Toolbox } from "@skillscale/tools/PromiseTools"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Stream from "effect/Stream"
import type { Figure } from "./figure.ts"
import { added, type Call, data, skill, withWarmSkill } from "./warmSkill.ts"

const input = { input: data }
const rounds = { warmUp: 600, counted: 1000 }

const missing = (what: string): never => {
  throw new Error(`there is no ${what}`)
}

/**
 * Runs the tool of the skill as the framework does, and returns what the model is given. Each framework is loaded when its turn comes:
 * what others do to the process (traces, asynchronous contexts) is not its cost. Effect AI, which does nothing to it, is the first.
 */
const frameworks: Readonly<Record<string, (toolbox: Toolbox) => Promise<Call>>> = {
  "Effect AI": async (toolbox) => {
    const EffectAi = await import("@skillscale/adapters/EffectAi")
    const runtime = ManagedRuntime.make(EffectAi.fromToolbox(toolbox))
    const call = Effect.gen(function*() {
      const { toolkit } = yield* EffectAi.Skills
      return yield* Stream.runLast(yield* (yield* toolkit).handle(skill, input))
    })
    return () => runtime.runPromise(call)
  },
  "LangChain": async (toolbox) => {
    const LangChain = await import("@skillscale/adapters/LangChain")
    const tool = LangChain.fromToolbox(toolbox).tools.find(({ name }) => name === skill) ?? missing(skill)
    return () => tool.invoke({ name: skill, args: input, id: "1", type: "tool_call" })
  },
  "LangGraph, its node": async (toolbox) => {
    const LangGraph = await import("@skillscale/adapters/LangGraph")
    const { AIMessage } = await import("@langchain/core/messages")
    const node = LangGraph.fromToolbox(toolbox).invoke()
    const asking = new AIMessage({
      content: "",
      tool_calls: [{ name: skill, args: input, id: "1", type: "tool_call" }]
    })
    return () => node.invoke({ messages: [asking] })
  },
  "Vercel AI SDK": async (toolbox) => {
    const AiSdk = await import("@skillscale/adapters/AiSdk")
    const { execute = missing("execute") } = AiSdk.fromToolbox(toolbox).tools[skill] ?? missing(skill)
    return async () => execute(input, { toolCallId: "1", messages: [], context: {} })
  },
  "OpenAI Agents SDK": async (toolbox) => {
    const OpenAiAgents = await import("@skillscale/adapters/OpenAiAgents")
    const { RunContext } = await import("@openai/agents")
    // The SDK writes names of tools with `_`.
    const written = skill.replaceAll("-", "_")
    const tool = OpenAiAgents.fromToolbox(toolbox).tools.find(({ name }) => name === written) ?? missing(written)
    const context = new RunContext()
    return () => "invoke" in tool ? tool.invoke(context, JSON.stringify(input)) : missing("invoke")
  },
  "Anthropic SDK": async (toolbox) => {
    const Anthropic = await import("@skillscale/adapters/Anthropic")
    const tool = Anthropic.fromToolbox(toolbox).tools.find((tool) => "name" in tool && tool.name === skill) ??
      missing(skill)
    return async () => tool.run(input)
  },
  "Mastra": async (toolbox) => {
    const Mastra = await import("@skillscale/adapters/Mastra")
    const { execute = missing("execute") } = Mastra.fromToolbox(toolbox).tools[skill] ?? missing(skill)
    // Outside of an agent there is nothing of what the type foresees.
    return async () => execute(input, {} as never)
  },
  "Google ADK": async (toolbox) => {
    const GoogleAdk = await import("@skillscale/adapters/GoogleAdk")
    const tool = GoogleAdk.fromToolbox(toolbox).tools.find(({ name }) => name === skill) ?? missing(skill)
    // Outside of a run there is none.
    return () => tool.runAsync({ args: input, toolContext: undefined as never })
  }
}

export const adaptersBench = (): Promise<ReadonlyArray<Figure>> =>
  withWarmSkill(async ({ addresses, compare }) => {
    await using toolbox = await connect(addresses)
    const rows: Array<Figure> = []
    for (const [name, make] of Object.entries(frameworks)) {
      const times = await compare(await make(toolbox), rounds)
      rows.push({
        what: `a warm skill through ${name}, p50`,
        against: `the same through the bus client, ${times.plain.toFixed(2)} ms`,
        bar: "≤ + 0.5 ms",
        measured: added(times),
        ok: times.more <= 0.5
      })
    }
    return rows
  })
