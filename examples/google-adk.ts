/**
 * An agent of Google's Agent Development Kit that uses skills. Start the stack (`npm start`), set `GEMINI_API_KEY` (and
 * `GOOGLE_GEMINI_BASE_URL` for another server of the same API), then run
 * `node examples/google-adk.ts "Analyse this CSV: name,age;Ada,36"`.
 */
import { InMemoryRunner, isFinalResponse, LlmAgent, LogLevel, setLogLevel, stringifyContent } from "@google/adk"
import { connect } from "@skillscale/adapters/GoogleAdk"

setLogLevel(LogLevel.WARN)
await using skills = await connect()
const using = { tools: [skills.toolset], instruction: () => skills.prompt() }
const agent = new LlmAgent({ name: "helper", model: "gemini-2.5-flash", ...using })
const newMessage = { role: "user", parts: [{ text: process.argv[2] ?? "What can you do?" }] }
const events = new InMemoryRunner({ agent }).runEphemeral({ userId: "user", newMessage })
for await (const event of events) if (isFinalResponse(event)) console.log(stringifyContent(event))
