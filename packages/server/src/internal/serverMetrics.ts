import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { Load } from "../Admission.ts"

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

type Attributes = Readonly<Record<string, string>>

/** A metric for each set of attributes: one that is shared computes the name of its series anew for every update. */
const counter = (name: string, description: string) => (attributes: Attributes) =>
  Metric.counter(name, { description, attributes, incremental: true })

const gauge = (name: string, description: string) => (attributes: Attributes) =>
  Metric.gauge(name, { description, attributes })

const histogram = (name: string, description: string) => (attributes: Attributes) =>
  Metric.histogram(name, { description, attributes, boundaries: seconds })

const requests = counter(
  "skillscale_requests_total",
  "Calls answered, by skill and outcome (success or the error's code)"
)
const dropped = counter("skillscale_dropped_messages_total", "Messages that could not be answered, by reason")
const queueDepth = gauge("skillscale_queue_depth", "Calls that wait for a worker")
const queueSeconds = histogram("skillscale_queue_seconds", "Time that calls waited for a worker, in seconds")
const executionSeconds = histogram(
  "skillscale_execution_seconds",
  "Time from admission to result of calls that ran, in seconds"
)
const running = gauge("skillscale_running_processes", "Calls that run now, each a process of its own")
const starts = counter("skillscale_starts_total", "Runs that gave a result, by how they were started: warm or cold")
const received = counter("skillscale_received_bytes_total", "Payload bytes received")
const sent = counter("skillscale_sent_bytes_total", "Payload bytes sent")
const skills = gauge("skillscale_skills", "Skills served")
const dependencies = gauge(
  "skillscale_skill_dependencies",
  "Skills served, by whether what they depend on is ready, preparing or failed"
)
const info = gauge("skillscale_server_info", "Always 1; the labels tell the server and its executor")

export const unknownSkill = "(unknown)"

const otherSkills = "(other)"

/** How many skills of one server have labels of their own; skills come and go while a server lives. */
export const maxSkillLabels = 256

/** Makes each metric once. */
const memoized = <M>(make: (key: string) => M) => {
  const known = new Map<string, M>()
  return (key: string): M => {
    const existing = known.get(key)
    if (existing !== undefined) return existing
    const made = make(key)
    known.set(key, made)
    return made
  }
}

/** The metrics of one server. They are updated where they stand: each call updates ten of them. */
export const make = (topic: string, context: Context.Context<never>) => {
  const named = new Set<string>([unknownSkill])
  const label = (skill: string) => {
    if (!named.has(skill) && named.size > maxSkillLabels) return otherSkills
    named.add(skill)
    return skill
  }
  const requestsOf = memoized((skill) => memoized((outcome) => requests({ topic, skill, outcome })))
  const executionOf = memoized((skill) => executionSeconds({ topic, skill }))
  const droppedFor = memoized((reason) => dropped({ topic, reason }))
  const states = {
    ready: dependencies({ topic, state: "ready" }),
    preparing: dependencies({ topic, state: "preparing" }),
    failed: dependencies({ topic, state: "failed" })
  }
  const own = { queueDepth: queueDepth({ topic }), running: running({ topic }), skills: skills({ topic }) }
  const started = { warm: starts({ topic, start: "warm" }), cold: starts({ topic, start: "cold" }) }
  const [waited, bytesIn, bytesOut] = [queueSeconds({ topic }), received({ topic }), sent({ topic })]
  const told = { queued: -1, running: -1 }
  return {
    skills: (count: number): void => own.skills.updateUnsafe(count, context),
    /** Tells how much work is in hand; only what changed costs anything. */
    load: ({ queued, running }: Load): void => {
      if (queued !== told.queued) own.queueDepth.updateUnsafe(told.queued = queued, context)
      if (running !== told.running) own.running.updateUnsafe(told.running = running, context)
    },
    request: (skill: string, outcome: string): void => requestsOf(label(skill))(outcome).updateUnsafe(1, context),
    /** Tells how many skills are in which state. */
    dependencies: (counts: Readonly<Record<keyof typeof states, number>>): void => {
      states.ready.updateUnsafe(counts.ready, context)
      states.preparing.updateUnsafe(counts.preparing, context)
      states.failed.updateUnsafe(counts.failed, context)
    },
    dropped: (reason: string): void => droppedFor(reason).updateUnsafe(1, context),
    executed: (skill: string, seconds: number): void => executionOf(label(skill)).updateUnsafe(seconds, context),
    started: (warm: boolean): void => (warm ? started.warm : started.cold).updateUnsafe(1, context),
    queued: (seconds: number): void => waited.updateUnsafe(seconds, context),
    received: (bytes: number): void => bytesIn.updateUnsafe(bytes, context),
    sent: (bytes: number): void => bytesOut.updateUnsafe(bytes, context),
    /** Tells of a server for as long as the scope is open, and leaves no gauge above zero behind. */
    present: (server: string, executor: string) => {
      const gauge = info({ topic, server, executor })
      return Effect.acquireRelease(
        Metric.update(gauge, 1),
        () =>
          Effect.andThen(
            Effect.forEach([gauge, ...Object.values(states)], Metric.remove),
            Effect.forEach(Object.values(own), (metric) => Metric.update(metric, 0))
          )
      )
    }
  }
}

export type ServerMetrics = ReturnType<typeof make>
