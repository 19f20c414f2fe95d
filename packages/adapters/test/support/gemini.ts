/** The wire of the Gemini API. */
import { items, type Wire } from "./providers.ts"

type Part = Readonly<Record<string, unknown>>

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const record = (value: unknown): Readonly<Record<string, unknown>> => isRecord(value) ? value : {}

/** What functions answered, in order. */
export const responses = (contents: unknown): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  items(contents).flatMap(({ parts }) =>
    items(parts).flatMap(({ functionResponse }: Part) =>
      functionResponse === undefined ? [] : [record(record(functionResponse)["response"])]
    )
  )

/** The functions that the model was offered. */
export const declarations = (body: Readonly<Record<string, unknown>>): ReadonlyArray<Part> =>
  items(body["tools"]).flatMap(({ functionDeclarations }) => items(functionDeclarations))

const textOf = (response: Readonly<Record<string, unknown>>): string => {
  const { error, result } = response
  return typeof result === "string" ? result : typeof error === "string" ? error : JSON.stringify(response)
}

/** Of one model. */
export const gemini = (model: string): Wire => ({
  path: `/v1beta/models/${model}:generateContent`,
  answer: (turn, ask, text) => ({
    responseId: `response_${turn}`,
    modelVersion: model,
    candidates: [{
      index: 0,
      finishReason: "STOP",
      content: {
        role: "model",
        parts: [ask === undefined ? { text } : { functionCall: { name: ask.tool, args: ask.input } }]
      }
    }],
    usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 }
  }),
  given: ({ contents }) => responses(contents).map(textOf)
})
