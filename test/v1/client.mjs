// A version 1 client as they are in the field, on plain zeromq.js. It shares no code with packages/ on purpose.
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import * as zmq from "zeromq"

const { values } = parseArgs({
  options: {
    xsub: { type: "string" },
    xpub: { type: "string" },
    topic: { type: "string" },
    intent: { type: "string", default: "" },
    timeout: { type: "string", default: "10" },
    // Frames to publish instead of a request, one per flag, the topic among them. {REQUEST_ID} and {REPLY_TO} are
    // filled in; hex:… is bytes.
    "raw-frames": { type: "string", multiple: true }
  }
})

const fail = (message) => {
  process.stderr.write(`${message}\n`)
  process.exit(2)
}

if (!values.xsub || !values.xpub || !(values.topic || values["raw-frames"])) {
  fail("usage: client.mjs --xsub ADDR --xpub ADDR --topic T --intent STR|@file [--raw-frames F]… [--timeout S]")
}

const requestId = randomBytes(4).toString("hex")
const replyTo = `AGENT_REPLY_${randomBytes(4).toString("hex")}`
const intent = values.intent.startsWith("@") ? readFileSync(values.intent.slice(1), "utf8") : values.intent

const frameOf = (text) =>
  text.startsWith("hex:")
    ? Buffer.from(text.slice(4), "hex")
    : text.replaceAll("{REQUEST_ID}", requestId).replaceAll("{REPLY_TO}", replyTo)

const publisher = new zmq.Publisher({ linger: 1000 })
const subscriber = new zmq.Subscriber({ linger: 0 })
publisher.connect(values.xsub)
subscriber.connect(values.xpub)
subscriber.subscribe(replyTo)
await sleep(500)

await publisher.send(
  values["raw-frames"]?.map(frameOf) ?? [
    values.topic,
    JSON.stringify({ request_id: requestId, reply_to: replyTo, intent, timestamp: Date.now() / 1000 })
  ]
)

const timer = setTimeout(() => {
  process.stderr.write(`no reply within ${values.timeout} s\n`)
  process.exit(3)
}, Number(values.timeout) * 1000)

for await (const frames of subscriber) {
  if (frames.length !== 2) fail(`expected 2 frames, got ${frames.length}`)
  if (frames[0].toString() !== replyTo) fail(`a message on ${frames[0].toString()}`)
  let response
  try {
    response = JSON.parse(frames[1].toString())
  } catch (error) {
    fail(`a reply that is no JSON: ${error.message}`)
  }
  if (response.request_id !== requestId) continue
  if (response.status !== "success" && response.status !== "error") {
    fail(`unknown status ${JSON.stringify(response.status)}`)
  }
  clearTimeout(timer)
  process.stdout.write(`${JSON.stringify(response)}\n`)
  process.exitCode = response.status === "success" ? 0 : 1
  break
}
publisher.close()
subscriber.close()
