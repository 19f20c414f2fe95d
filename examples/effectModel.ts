/**
 * A language model for Effect AI over OpenAI's Responses API, with as much of that as an example needs: releases of
 * `@effect/ai-openai` are for Effect 3, and its last beta for Effect 4, 4.0.0-beta.106, does not load with 4.1. Takes `OPENAI_API_KEY`,
 * and `OPENAI_BASE_URL` for another server of the same API.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Tool from "effect/ai/Tool"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"

interface Answer {
  readonly output: ReadonlyArray<
    | { readonly type: "message"; readonly content: ReadonlyArray<{ readonly text: string }> }
    | { readonly type: "function_call"; readonly call_id: string; readonly name: string; readonly arguments: string }
  >
}

const resultText = ({ modelOutput, result }: Prompt.ToolResultPart): string =>
  modelOutput?.map((part) => part.type === "text" ? part.text : "").join("") ?? JSON.stringify(result)

const inputOf = (message: Prompt.Message): ReadonlyArray<unknown> => {
  const { content, role } = message
  if (typeof content === "string") return [{ role, content }]
  return content.flatMap((part): ReadonlyArray<unknown> => {
    switch (part.type) {
      case "text":
        return [{ role, content: part.text }]
      case "tool-call":
        return [{ type: "function_call", call_id: part.id, name: part.name, arguments: JSON.stringify(part.params) }]
      case "tool-result":
        return [{ type: "function_call_output", call_id: part.id, output: resultText(part) }]
      default:
        return []
    }
  })
}

const partsOf = ({ output }: Answer): Array<Response.PartEncoded> => [
  ...output.flatMap((item): Array<Response.PartEncoded> => {
    switch (item.type) {
      case "message":
        return [{ type: "text", text: item.content.map(({ text }) => text).join("") }]
      case "function_call":
        return [{ type: "tool-call", id: item.call_id, name: item.name, params: JSON.parse(item.arguments) as unknown }]
      default:
        return []
    }
  }),
  { type: "finish", reason: "stop", usage: { inputTokens: {}, outputTokens: {} } }
]

const ask = async (model: string, { prompt, tools }: LanguageModel.ProviderOptions, signal: AbortSignal) => {
  const response = await fetch(`${process.env["OPENAI_BASE_URL"] ?? "https://api.openai.com/v1"}/responses`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${process.env["OPENAI_API_KEY"]}` },
    body: JSON.stringify({
      model,
      input: prompt.content.flatMap(inputOf),
      tools: tools.map((tool) => ({
        type: "function",
        name: tool.name,
        description: tool.description,
        parameters: Tool.getJsonSchema(tool),
        strict: false
      }))
    }),
    signal
  })
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
  return partsOf(await response.json() as Answer)
}

const failed = (error: unknown) =>
  AiError.make({
    module: "examples",
    method: "generateText",
    reason: new AiError.UnknownError({ description: String(error) })
  })

export const openAi = (model: string): Layer.Layer<LanguageModel.LanguageModel> =>
  Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      generateText: (options) => Effect.tryPromise({ try: (signal) => ask(model, options, signal), catch: failed }),
      streamText: () => Stream.die("this example does not stream")
    })
  )
