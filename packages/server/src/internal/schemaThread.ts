/** The thread of `schemaChecks`: reads and checks one piece of data after the other, each within its time. */
import * as JsonSchema from "@skillscale/core/JsonSchema"
import * as Result from "effect/Result"
import { parentPort } from "node:worker_threads"

export interface Question {
  readonly id: number
  /** As JSON. */
  readonly schema: string
  readonly data: Uint8Array
  readonly limitMs: number
}

export interface Answer {
  readonly id: number
  readonly verdict: JsonSchema.Verdict
}

const maxKnown = 256
const known = new Map<string, JsonSchema.Checker>()

const checkerOf = (schema: string): JsonSchema.Checker => {
  const existing = known.get(schema)
  if (existing !== undefined) return existing
  const made = Result.getOrThrowWith(JsonSchema.compile(JSON.parse(schema)), (why) => new Error(why))
  if (known.size >= maxKnown) known.clear()
  known.set(schema, made)
  return made
}

parentPort?.on("message", ({ data, id, limitMs, schema }: Question) => {
  const answer: Answer = { id, verdict: checkerOf(schema).check(data, limitMs) }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of worker_threads has no origin
  parentPort?.postMessage(answer)
})
