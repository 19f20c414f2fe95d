/**
 * A chat of Effect AI that uses skills. Start the stack (`npm start`), set `OPENAI_API_KEY` (and `OPENAI_BASE_URL` for another
 * server of the same API), then run `node examples/effect-ai.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as EffectAi from "@skillscale/adapters/EffectAi"
import * as Chat from "effect/ai/Chat"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { openAi } from "./effectModel.ts"

const question = process.argv[2] ?? "What can you do?"

// README begin
const program = Effect.gen(function*() {
  const { prompt, toolkit } = yield* EffectAi.Skills
  const chat = yield* Chat.fromPrompt([{ role: "system", content: yield* prompt() }])
  let response = yield* chat.generateText({ prompt: question, toolkit })
  while (response.toolCalls.length > 0) response = yield* chat.generateText({ prompt: [], toolkit })
  return response.text
}).pipe(Effect.provide(EffectAi.layer()))
// README end

program.pipe(
  Effect.flatMap((text) => Console.log(text)),
  Effect.provide(openAi("gpt-5.2")),
  NodeRuntime.runMain
)
