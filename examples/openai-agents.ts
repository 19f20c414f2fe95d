/**
 * An agent of the OpenAI Agents SDK that uses skills. Start the stack (`npm start`), set `OPENAI_API_KEY` (and `OPENAI_BASE_URL`
 * for another server of the same API), then run `node examples/openai-agents.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import { Agent, run } from "@openai/agents"
import { connect } from "@skillscale/adapters/OpenAiAgents"

await using skills = await connect()
const agent = new Agent({ name: "Assistant", instructions: skills.prompt(), tools: skills.tools })
const { finalOutput } = await run(agent, process.argv[2] ?? "What can you do?")
console.log(finalOutput)
