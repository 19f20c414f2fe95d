/** The Messages wire of Anthropic's API. */
import { type Body, items, textOf, type Wire } from "./providers.ts"

/** The results of tools in the messages of a request: on a thread those since the last one, else all. */
export const results = ({ messages }: Body): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  items(messages).flatMap(({ content }) => items(content).filter(({ type }) => type === "tool_result"))

export const messages: Wire = {
  path: "/v1/messages",
  answer: (turn, ask, text) => ({
    id: `msg_${turn}`,
    type: "message",
    role: "assistant",
    model: "scripted",
    content: [
      ask === undefined
        ? { type: "text", text }
        : { type: "tool_use", id: `toolu_${turn}`, name: ask.tool, input: ask.input }
    ],
    stop_reason: ask === undefined ? "end_turn" : "tool_use",
    stop_sequence: null,
    usage: { input_tokens: 1, output_tokens: 1 }
  }),
  given: (body) => results(body).map(({ content }) => textOf(content))
}
