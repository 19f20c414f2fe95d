/**
 * What the client counts. Every label has a small, fixed set of values.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as ClientError from "../ClientError.ts"
import type * as Circuit from "./circuit.ts"

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

const circuitState = (attributes: Attributes) =>
  Metric.gauge("skillscale_client_circuit_state", {
    description:
      "Whether calls to a topic are sent: 0 closed (all are), 1 half-open (one at a time is), 2 open (none is)",
    attributes
  })

const circuitOpenings = (attributes: Attributes) =>
  Metric.counter("skillscale_client_circuit_openings_total", {
    description: "How often calls to a topic were no longer sent because of those that had failed",
    attributes,
    incremental: true
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

/** More topics than that are told as one. */
const maxCircuits = 100

/** The circuits with one label, of several clients or several topics: what is told is the worst of them. */
interface Circuits {
  readonly state: ReturnType<typeof circuitState>
  readonly openings: ReturnType<typeof circuitOpenings>
  readonly count: Record<Exclude<Circuit.State, "Closed">, number>
}

const circuitsBy = new WeakMap<Metric.MetricRegistry, Map<string, Circuits>>()

/** Tells of a topic from when its circuit first opens. */
export const circuitChanged = (
  topic: string,
  from: Circuit.State,
  to: Circuit.State,
  context: Context.Context<never>
): void => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const labels = circuitsBy.get(registry) ?? new Map<string, Circuits>()
  circuitsBy.set(registry, labels)
  const label = labels.has(topic) || labels.size < maxCircuits ? topic : "other"
  const { count, openings, state } = known(labels, label, () => ({
    state: circuitState({ topic: label }),
    openings: circuitOpenings({ topic: label }),
    count: { HalfOpen: 0, Open: 0 }
  }))
  if (from !== "Closed") count[from] -= 1
  if (to !== "Closed") count[to] += 1
  if (to === "Open") openings.updateUnsafe(1, context)
  state.updateUnsafe(count.Open > 0 ? 2 : count.HalfOpen > 0 ? 1 : 0, context)
}
