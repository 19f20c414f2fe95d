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

const program = Effect.gen(function*() {
  const { prompt, toolkit } = yield* EffectAi.Skills
  const chat = yield* Chat.fromPrompt([{ role: "system", content: yield* prompt() }])
  let response = yield* chat.generateText({ prompt: process.argv[2] ?? "What can you do?", toolkit })
  while (response.toolCalls.length > 0) response = yield* chat.generateText({ prompt: [], toolkit })
  yield* Console.log(response.text)
})
NodeRuntime.runMain(Effect.provide(program, [EffectAi.layer(), openAi("gpt-5.2")]))
