/**
 * A Mastra agent that uses skills. Start the stack (`npm start`), set `OPENAI_API_KEY` (and `OPENAI_BASE_URL` for another server of the
 * same API), then run `node examples/mastra.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import { Agent } from "@mastra/core/agent"
import { connect } from "@skillscale/adapters/Mastra"

await using skills = await connect()
const using = { tools: () => skills.tools, instructions: () => skills.prompt() }
const agent = new Agent({ id: "helper", name: "Helper", model: "openai/gpt-5.2", ...using })
const { text } = await agent.generate(process.argv[2] ?? "What can you do?")
console.log(text)
