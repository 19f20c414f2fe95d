/** A client of the storm, a process of its own: makes the calls that it is told to, and tells what became of each. */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import { ClientError } from "@skillscale/client/ClientError"
import type { RunResult, StreamEvent } from "@skillscale/client/SkillClient"
import { now, type Outcome, pieceBytes, pieces, topic, type Wanted, written } from "./call.ts"

const [xsub, xpub] = process.argv.slice(2)
// Ctrl-C is for the one who started this.
process.on("SIGINT", () => {})
// Less than a stream writes.
const client = await PromiseClient.connect({ xsub, xpub, window: 4 * pieceBytes })

const ran = (wanted: Wanted, { exitCode, signal, stdout }: RunResult): string => {
  if (exitCode !== 0) return `exit ${exitCode ?? signal}`
  return Buffer.from(stdout).toString() === written(wanted).stdout ? "done" : "differs"
}

/** Whether the events of a stream have all that its script wrote, in order, and say what they do not have. */
const streamed = (wanted: Wanted, events: ReadonlyArray<StreamEvent>): string => {
  const text = (tag: "Stdout" | "Stderr") =>
    Buffer.concat(events.flatMap((event) => event._tag === tag ? [event.data] : [])).toString()
  const progress = events.flatMap((event) => event._tag === "Progress" ? [event.content] : [])
  const done = events.at(-1)
  if (done?._tag !== "Done") return "differs"
  const { stderr, stdout } = written(wanted)
  const isWhole = text("Stdout") === stdout && text("Stderr") === stderr &&
    progress.every((content, index) => content === String(index + 1)) &&
    done.missing.join() === (progress.length < pieces ? "progress" : "")
  return isWhole ? ran(wanted, done.result) : "differs"
}

const outcomeOf = async (wanted: Wanted): Promise<string> => {
  const { name, runMs, skill, timeout } = wanted
  const request = { skill, topic, args: [runMs / 1000, name, runMs / 1000 / pieces].map(String), timeout }
  try {
    if (skill !== "stream") return ran(wanted, await client.run(request))
    const events: Array<StreamEvent> = []
    for await (const event of client.stream(request)) events.push(event)
    return streamed(wanted, events)
  } catch (error) {
    return error instanceof ClientError ? error.reason._tag : String(error)
  }
}

process.on("message", async (wanted: Wanted | "close") => {
  if (wanted === "close") return process.disconnect()
  const began = now()
  const outcome = await outcomeOf(wanted)
  const told: Outcome = { name: wanted.name, outcome, began, ended: now() }
  if (process.connected) process.send?.(told)
})
process.once("disconnect", () => void client.close().finally(() => process.exit()))
process.send?.("ready")
