/** A model for agents of Mastra that says what the test tells it. */
import type { MastraModelConfig } from "@mastra/core/llm"
import { MastraLanguageModelV2Mock, simulateReadableStream } from "@mastra/core/test-utils/llm-mock"
import { items } from "./providers.ts"
import type { Asks } from "./providers.ts"

type Part = Readonly<Record<string, unknown>>

/** The results of tools that a prompt has, in order. */
export const resultsOf = (prompt: unknown): ReadonlyArray<Part> =>
  items(prompt).flatMap(({ content, role }) => role === "tool" ? items(content) : [])

export interface Scripted {
  readonly model: MastraModelConfig
  /** What each call was given. */
  readonly prompts: Array<ReadonlyArray<Part>>
  readonly offered: Array<ReadonlyArray<string>>
  /** What the model was told of its tools at last. */
  readonly tools: () => ReadonlyArray<Part>
}

const usage = { inputTokens: 1, outputTokens: 1, totalTokens: 2 }

export const scripted = (asks: Asks, provider = "scripted"): Scripted => {
  let tools: ReadonlyArray<Part> = []
  const prompts: Scripted["prompts"] = []
  const offered: Scripted["offered"] = []
  const next = async (options: { readonly prompt: unknown; readonly tools?: unknown }) => {
    prompts.push(items(options.prompt))
    tools = items(options.tools)
    offered.push(tools.map(({ name }) => String(name)))
    const turn = prompts.length
    const ask = asks[turn - 1]
    const { input, tool } = await (typeof ask === "function" ? ask() : ask) ?? {}
    return { turn, input, tool }
  }
  const model = new MastraLanguageModelV2Mock({
    modelId: "scripted",
    provider,
    doGenerate: async (options) => {
      const { input, tool, turn } = await next(options)
      return {
        content: tool === undefined
          ? [{ type: "text", text: "done" }]
          : [{ type: "tool-call", toolCallId: `call_${turn}`, toolName: tool, input: JSON.stringify(input) }],
        finishReason: tool === undefined ? "stop" : "tool-calls",
        usage,
        warnings: []
      }
    },
    doStream: async (options) => {
      const { input, tool, turn } = await next(options)
      return {
        stream: simulateReadableStream({
          chunks: [
            { type: "stream-start" as const, warnings: [] },
            ...tool === undefined
              ? [
                { type: "text-start" as const, id: `text_${turn}` },
                { type: "text-delta" as const, id: `text_${turn}`, delta: "done" },
                { type: "text-end" as const, id: `text_${turn}` }
              ]
              : [{
                type: "tool-call" as const,
                toolCallId: `call_${turn}`,
                toolName: tool,
                input: JSON.stringify(input)
              }],
            {
              type: "finish" as const,
              finishReason: tool === undefined ? "stop" as const : "tool-calls" as const,
              usage
            }
          ]
        })
      }
    }
  })
  // Its optional properties may be undefined, which the type of models does not foresee.
  return { model: model as unknown as MastraModelConfig, prompts, offered, tools: () => tools }
}
