/**
 * The tool runner of Anthropic's SDK with skills. Start the stack (`npm start`), set `ANTHROPIC_API_KEY` (and
 * `ANTHROPIC_BASE_URL` for another server of the same API), then run
 * `node examples/anthropic.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import Anthropic from "@anthropic-ai/sdk"
import { connect } from "@skillscale/adapters/Anthropic"

await using skills = await connect()
const request = { model: "claude-opus-5-5", max_tokens: 4096, system: skills.prompt(), tools: skills.tools }
const messages = [{ role: "user" as const, content: process.argv[2] ?? "What can you do?" }]
const { content } = await new Anthropic().beta.messages.toolRunner({ ...request, messages })
console.log(content.map((block) => block.type === "text" ? block.text : "").join(""))
