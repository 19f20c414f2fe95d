/**
 * Copies the switch's plain counters into Effect metrics. It adds what was counted since the last sample, so that
 * several proxies may share one registry.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Routes from "./routes.ts"
import { dropReasons, type Switch } from "./switch.ts"

const messages = Metric.counter("skillscale_proxy_messages_total", {
  description: "Messages received from publishers (direction in) and handed to subscribers (direction out)",
  incremental: true
})
const bytes = Metric.counter("skillscale_proxy_bytes_total", {
  description: "Bytes of those messages, as framed on the wire",
  incremental: true
})
const dropped = Metric.counter("skillscale_proxy_dropped_total", {
  description: "Messages, or copies of one for a slow subscriber, that were not delivered",
  incremental: true
})
const refused = Metric.counter("skillscale_proxy_refused_connections_total", {
  description: "Connections that were ended because the peer broke the protocol",
  incremental: true
})
const noServer = Metric.counter("skillscale_proxy_no_server_replies_total", {
  description: "Requests answered with NoServer",
  incremental: true
})
const subscriptions = Metric.gauge("skillscale_proxy_subscriptions", {
  description: "Connections that subscribe to the topic"
})
const connections = Metric.gauge("skillscale_proxy_connections", { description: "Connected peers by their side" })
const up = Metric.gauge("skillscale_proxy_up", { description: "Proxies that are ready" })
const started = Metric.gauge("skillscale_proxy_start_time_seconds", {
  description: "When the proxy started, in seconds since the Unix epoch"
})

/** Returns the function that takes one sample. `isUp` false takes the gauges back to what they were before. */
export const make = (
  wire: Switch,
  maxLabels: number,
  context: Context.Context<never>
): (isUp: boolean) => void => {
  const counted = new Map<string, number>()
  const measured = new Map<string, number>()

  const count = (metric: Metric.Counter<number>, labels: Record<string, string>, total: number): void => {
    const id = `${metric.id} ${JSON.stringify(labels)}`
    Metric.withAttributes(metric, labels).updateUnsafe(total - (counted.get(id) ?? 0), context)
    counted.set(id, total)
  }

  const measure = (metric: Metric.Gauge<number>, labels: Record<string, string>, value: number): void => {
    const id = `${metric.id} ${JSON.stringify(labels)}`
    Metric.withAttributes(metric, labels).modifyUnsafe(value - (measured.get(id) ?? 0), context)
    measured.set(id, value)
  }

  const topics = new Set<string>()
  const startSeconds = Date.now() / 1000

  return (isUp) => {
    for (const tally of wire.routes.tallies) {
      const topic = tally.label
      count(messages, { topic, direction: "in" }, tally.messagesIn)
      count(messages, { topic, direction: "out" }, tally.messagesOut)
      count(bytes, { topic, direction: "in" }, tally.bytesIn)
      count(bytes, { topic, direction: "out" }, tally.bytesOut)
    }
    for (const reason of dropReasons) {
      count(dropped, { reason }, wire.dropped.get(reason) ?? 0)
    }
    count(refused, {}, wire.refusals)
    count(noServer, {}, wire.noServerReplies)

    const replicas = new Map<string, number>([...topics].map((topic) => [topic, 0]))
    if (isUp) {
      for (const [key, subscribers] of wire.routes.counts()) {
        const label = wire.routes.label(key)
        const known = label === Routes.otherLabel || label === Routes.replyLabel || topics.has(label)
        const topic = known || topics.size < maxLabels ? label : Routes.otherLabel
        if (topic === label && !known) {
          topics.add(label)
        }
        replicas.set(topic, (replicas.get(topic) ?? 0) + subscribers)
      }
    }
    for (const bucket of [Routes.otherLabel, Routes.replyLabel]) {
      replicas.set(bucket, replicas.get(bucket) ?? 0)
    }
    for (const [topic, subscribers] of replicas) {
      measure(subscriptions, { topic }, subscribers)
    }
    measure(connections, { side: "xsub" }, isUp ? wire.peers.XSUB.size : 0)
    measure(connections, { side: "xpub" }, isUp ? wire.peers.XPUB.size : 0)
    measure(up, {}, isUp ? 1 : 0)
    started.updateUnsafe(startSeconds, context)
  }
}
