/**
 * An agent of the Vercel AI SDK that uses skills. Start the stack (`npm start`), set `OPENAI_API_KEY` (and `OPENAI_BASE_URL` for
 * another server of the same API), then run `node examples/ai-sdk.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import { openai } from "@ai-sdk/openai"
import { connect } from "@skillscale/adapters/AiSdk"
import { ToolLoopAgent } from "ai"

await using skills = await connect()
const agent = new ToolLoopAgent({ model: openai("gpt-6-luna"), tools: skills.tools, instructions: skills.prompt() })
const { text } = await agent.generate({ prompt: process.argv[2] ?? "What can you do?" })
console.log(text)
