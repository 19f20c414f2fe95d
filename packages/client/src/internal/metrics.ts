/**
 * What the client counts. Every label has a small, fixed set of values.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as ClientError from "../ClientError.ts"

/** Why a message on the reply topic concerned no pending call. */
export type Ignored = "late" | "foreign" | "malformed"

/** How an operation ended. */
export type Outcome = "Success" | "Interrupted" | "Defect" | ClientError.Reason["_tag"]

type Attributes = Readonly<Record<string, string>>

// A metric for each set of attributes: one that is shared computes the name of its series anew for every update.
const calls = (attributes: Attributes) =>
  Metric.counter("skillscale_client_calls_total", {
    description: "Operations that ended, by outcome",
    attributes,
    incremental: true
  })

const duration = (attributes: Attributes) =>
  Metric.histogram("skillscale_client_call_duration_seconds", {
    description: "Time from the start of an operation to its end, in seconds",
    attributes,
    boundaries: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
  })

const ignored = (attributes: Attributes) =>
  Metric.counter("skillscale_client_ignored_replies_total", {
    description: "Replies that no pending call waits for: late, duplicate, foreign or malformed",
    attributes,
    incremental: true
  })

const pending = Metric.gauge("skillscale_client_pending_calls", {
  description: "Calls that wait for their final answer"
})

const ignoredBy: Record<Ignored, Metric.Counter<number>> = {
  late: ignored({ kind: "late" }),
  foreign: ignored({ kind: "foreign" }),
  malformed: ignored({ kind: "malformed" })
}

export const countIgnored = (kind: Ignored, context: Context.Context<never>): void =>
  ignoredBy[kind].updateUnsafe(1, context)

export const addPending = (difference: 1 | -1, context: Context.Context<never>): void =>
  pending.modifyUnsafe(difference, context)

const callsBy = new Map<string, ReturnType<typeof calls>>()
const durationBy = new Map<ClientError.Operation, ReturnType<typeof duration>>()

const known = <K, V>(map: Map<K, V>, key: K, make: () => V): V => {
  const existing = map.get(key)
  if (existing !== undefined) return existing
  const made = make()
  map.set(key, made)
  return made
}

export const ended = (operation: ClientError.Operation, outcome: Outcome, seconds: number): Effect.Effect<void> =>
  Effect.contextWith((context: Context.Context<never>) => {
    known(callsBy, `${operation} ${outcome}`, () => calls({ operation, outcome }))
      .updateUnsafe(1, context)
    known(durationBy, operation, () => duration({ operation })).updateUnsafe(seconds, context)
    return Effect.void
  })
