/**
 * A graph of LangGraph that routes a request to a skill, invokes it and formats the answer. Start the stack (`npm start`), set
 * `OPENAI_API_KEY` (and `OPENAI_BASE_URL` for another server of the same API), then run
 * `node examples/langgraph.ts "Analyse this CSV: name,age;Ada,36"`. Without a key there is no model: the text is searched for in the
 * catalog.
 */
import { ChatOpenAI } from "@langchain/openai"
import { connect } from "@skillscale/adapters/LangGraph"

await using skills = await connect()
const model = process.env["OPENAI_API_KEY"] ? new ChatOpenAI({ model: "gpt-5.2" }) : undefined
const graph = skills.graph({ model }) // Without a model, the skill is found by searching the catalog.
const { messages } = await graph.invoke({ messages: process.argv[2] ?? "What can you do?" })
console.log(messages.at(-1)?.text)
