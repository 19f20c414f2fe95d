import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { Load } from "../Admission.ts"

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

const requests = Metric.counter("skillscale_requests_total", {
  description: "Calls answered, by skill and outcome (success or the error's code)",
  incremental: true
})

const dropped = Metric.counter("skillscale_dropped_messages_total", {
  description: "Messages that could not be answered, by reason",
  incremental: true
})

const queueDepth = Metric.gauge("skillscale_queue_depth", { description: "Calls that wait for a worker" })

const queueSeconds = Metric.histogram("skillscale_queue_seconds", {
  description: "Time that calls waited for a worker, in seconds",
  boundaries: seconds
})

const executionSeconds = Metric.histogram("skillscale_execution_seconds", {
  description: "Time from admission to result of calls that ran, in seconds",
  boundaries: seconds
})

const running = Metric.gauge("skillscale_running_processes", {
  description: "Calls that run now, each a process of its own"
})

const starts = Metric.counter("skillscale_starts_total", {
  description: "Runs that ended, by how they were started: warm or cold",
  incremental: true
})

const received = Metric.counter("skillscale_received_bytes_total", {
  description: "Payload bytes received",
  incremental: true
})

const sent = Metric.counter("skillscale_sent_bytes_total", { description: "Payload bytes sent", incremental: true })

const skills = Metric.gauge("skillscale_skills", { description: "Skills served" })

const dependencies = Metric.gauge("skillscale_skill_dependencies", {
  description: "Skills served, by whether what they depend on is ready, preparing or failed"
})

const info = Metric.gauge("skillscale_server_info", {
  description: "Always 1; the labels tell the server and its executor"
})

export const unknownSkill = "(unknown)"

const otherSkills = "(other)"

/** How many skills of one server have labels of their own; skills come and go while a server lives. */
export const maxSkillLabels = 256

/** The metrics of one server. */
export const make = (topic: string) => {
  const named = new Set<string>([unknownSkill])
  const label = (skill: string) => {
    if (!named.has(skill) && named.size > maxSkillLabels) return otherSkills
    named.add(skill)
    return skill
  }
  const counters = new Map<string, typeof requests>()
  const requestCounter = (skill: string, outcome: string) => {
    const key = `${skill}\0${outcome}`
    const known = counters.get(key)
    if (known !== undefined) return known
    const counter = Metric.withAttributes(requests, { topic, skill, outcome })
    counters.set(key, counter)
    return counter
  }
  const histograms = new Map<string, typeof executionSeconds>()
  const executionHistogram = (skill: string) => {
    const known = histograms.get(skill)
    if (known !== undefined) return known
    const histogram = Metric.withAttributes(executionSeconds, { topic, skill })
    histograms.set(skill, histogram)
    return histogram
  }
  const states = {
    ready: Metric.withAttributes(dependencies, { topic, state: "ready" }),
    preparing: Metric.withAttributes(dependencies, { topic, state: "preparing" }),
    failed: Metric.withAttributes(dependencies, { topic, state: "failed" })
  }
  const own = {
    queueDepth: Metric.withAttributes(queueDepth, { topic }),
    running: Metric.withAttributes(running, { topic }),
    skills: Metric.withAttributes(skills, { topic })
  }
  const started = {
    warm: Metric.withAttributes(starts, { topic, start: "warm" }),
    cold: Metric.withAttributes(starts, { topic, start: "cold" })
  }
  const told = { queued: -1, running: -1 }
  return {
    skills: own.skills,
    /** Tells how much work is in hand; only what changed costs anything. */
    load: ({ queued, running }: Load): Effect.Effect<void> =>
      Effect.contextWith((context: Context.Context<never>) => {
        if (queued !== told.queued) own.queueDepth.updateUnsafe(told.queued = queued, context)
        if (running !== told.running) own.running.updateUnsafe(told.running = running, context)
        return Effect.void
      }),
    request: (skill: string, outcome: string) => Metric.update(requestCounter(label(skill), outcome), 1),
    /** Tells how many skills are in which state. */
    dependencies: (counts: Readonly<Record<keyof typeof states, number>>) =>
      Effect.all([
        Metric.update(states.ready, counts.ready),
        Metric.update(states.preparing, counts.preparing),
        Metric.update(states.failed, counts.failed)
      ], { discard: true }),
    dropped: (reason: string) => Metric.update(Metric.withAttributes(dropped, { topic, reason }), 1),
    executed: (skill: string, seconds: number) => Metric.update(executionHistogram(label(skill)), seconds),
    started: (warm: boolean) => Metric.update(warm ? started.warm : started.cold, 1),
    queueSeconds: Metric.withAttributes(queueSeconds, { topic }),
    received: Metric.withAttributes(received, { topic }),
    sent: Metric.withAttributes(sent, { topic }),
    /** Tells of a server for as long as the scope is open, and leaves no gauge above zero behind. */
    present: (server: string, executor: string) => {
      const gauge = Metric.withAttributes(info, { topic, server, executor })
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
