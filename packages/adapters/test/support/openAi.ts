/** The Responses wire of OpenAI's API. */
import { items, textOf, type Wire } from "./providers.ts"

const usage = {
  input_tokens: 1,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: 1,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 2
}

export const responses: Wire = {
  path: "/v1/responses",
  answer: (turn, ask, text) => ({
    id: `resp_${turn}`,
    object: "response",
    created_at: 1_700_000_000,
    status: "completed",
    model: "scripted",
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    parallel_tool_calls: true,
    tool_choice: "auto",
    tools: [],
    output: [
      ask === undefined
        ? {
          type: "message",
          id: `msg_${turn}`,
          role: "assistant",
          status: "completed",
          content: [{ type: "output_text", text, annotations: [] }]
        }
        : {
          type: "function_call",
          id: `fc_${turn}`,
          call_id: `call_${turn}`,
          name: ask.tool,
          arguments: JSON.stringify(ask.input),
          status: "completed"
        }
    ],
    usage
  }),
  given: ({ input }) =>
    items(input).flatMap((item) => item["type"] === "function_call_output" ? [textOf(item["output"])] : [])
}
