// A version 1 server as they are in the field, on plain zeromq.js. It shares no code with packages/ on purpose.
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import * as zmq from "zeromq"

const { values } = parseArgs({
  options: {
    xsub: { type: "string" },
    xpub: { type: "string" },
    topic: { type: "string" },
    // Answers with status "error" and this text instead.
    fail: { type: "string" }
  }
})

if (!values.xsub || !values.xpub || !values.topic) {
  process.stderr.write("usage: server.mjs --xsub ADDR --xpub ADDR --topic T [--fail TEXT]\n")
  process.exit(2)
}

const crash = (message) => {
  process.stderr.write(`${message}\n`)
  process.exit(9)
}

const dataOf = (intent) => {
  try {
    const parsed = JSON.parse(intent)
    return typeof parsed === "object" && parsed !== null && "skill" in parsed ? parsed.data : intent
  } catch {
    return intent
  }
}

const publisher = new zmq.Publisher({ linger: 1000 })
const subscriber = new zmq.Subscriber({ linger: 0 })
publisher.connect(values.xsub)
subscriber.connect(values.xpub)
subscriber.subscribe(values.topic)
process.once("SIGTERM", () => subscriber.close())
await sleep(300)
process.stdout.write("READY\n")

for await (const frames of subscriber) {
  if (frames.length !== 2) crash(`expected 2 frames, got ${frames.length}`)
  // ZeroMQ matches prefixes; only the exact topic is ours.
  if (frames[0].toString() !== values.topic) continue
  let request
  try {
    request = JSON.parse(frames[1].toString())
  } catch (error) {
    crash(`a request that is no JSON: ${error.message}`)
  }
  for (const field of ["request_id", "reply_to", "intent"]) {
    if (typeof request[field] !== "string") crash(`${field} is not a string`)
  }
  if (typeof request.timestamp !== "number") crash("timestamp is not a number")
  await publisher.send([
    request.reply_to,
    JSON.stringify({
      request_id: request.request_id,
      status: values.fail === undefined ? "success" : "error",
      content: values.fail === undefined ? `echo: ${dataOf(request.intent)}` : "",
      error: values.fail ?? "",
      timestamp: Date.now() / 1000
    })
  ])
}
publisher.close()
