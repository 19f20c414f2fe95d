/** A client of the storm, a process of its own: makes the calls that it is told to, and tells what became of each. */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import { ClientError } from "@skillscale/client/ClientError"
import { now, type Outcome, topic, type Wanted } from "./call.ts"

const [xsub, xpub] = process.argv.slice(2)
// Ctrl-C is for the one who started this.
process.on("SIGINT", () => {})
const client = await PromiseClient.connect({ xsub, xpub })

const outcomeOf = async ({ name, runMs, skill, timeout }: Wanted): Promise<string> => {
  try {
    const result = await client.run({ skill, topic, args: [String(runMs / 1000), name], timeout })
    const printed = Buffer.from(result.stdout).toString()
    return printed === `done ${name}\n` ? "done" : `exit ${result.exitCode ?? result.signal}`
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
