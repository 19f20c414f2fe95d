/** The Chat Completions wire of OpenAI's API. */
import { items, textOf, type Wire } from "./providers.ts"

export const chatCompletions: Wire = {
  path: "/v1/chat/completions",
  answer: (turn, ask, text) => ({
    id: `chatcmpl-${turn}`,
    object: "chat.completion",
    created: 1_700_000_000,
    model: "scripted",
    choices: [{
      index: 0,
      logprobs: null,
      finish_reason: ask === undefined ? "stop" : "tool_calls",
      message: ask === undefined ? { role: "assistant", content: text, refusal: null } : {
        role: "assistant",
        content: null,
        refusal: null,
        tool_calls: [{
          id: `call_${turn}`,
          type: "function",
          function: { name: ask.tool, arguments: JSON.stringify(ask.input) }
        }]
      }
    }],
    usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 }
  }),
  given: ({ messages }) => items(messages).flatMap(({ content, role }) => role === "tool" ? [textOf(content)] : [])
}
