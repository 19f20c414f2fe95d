/**
 * An agent of Google's Agent Development Kit that uses skills. Start the stack (`npm start`), set `GEMINI_API_KEY` (and
 * `GOOGLE_GEMINI_BASE_URL` for another server of the same API), then run
 * `node examples/google-adk.ts "Analyse this CSV: name,age;Ada,36"`.
 */
// README begin
import { InMemoryRunner, LlmAgent, LogLevel, setLogLevel, stringifyContent } from "@google/adk"
import { connect } from "@skillscale/adapters/GoogleAdk"

await using skills = await connect()
const using = { tools: [skills.toolset], instruction: () => skills.prompt() }
const runner = new InMemoryRunner({ agent: new LlmAgent({ name: "helper", model: "gemini-2.5-flash", ...using }) })
// README end
setLogLevel(LogLevel.WARN)
const newMessage = { role: "user", parts: [{ text: process.argv[2] ?? "What can you do?" }] }
for await (const event of runner.runEphemeral({ userId: "user", newMessage })) {
  const text = stringifyContent(event)
  if (text !== "") console.log(text)
}
