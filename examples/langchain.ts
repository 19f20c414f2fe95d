/**
 * A LangChain agent that uses skills. Start the stack (`npm start`), set `OPENAI_API_KEY` (and `OPENAI_BASE_URL` for another server of
 * the same API), then run `node examples/langchain.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import { connect } from "@skillscale/adapters/LangChain"
import { createAgent } from "langchain"

await using skills = await connect()
const agent = createAgent({ model: "openai:gpt-5.2", tools: skills.tools, systemPrompt: skills.prompt() })
const { messages } = await agent.invoke({ messages: process.argv[2] ?? "What can you do?" })
console.log(messages.at(-1)?.text)
