import * as Proxy from "@skillscale/proxy/Proxy"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import * as Path from "node:path"
import * as Zmq from "zeromq"

export const free: Proxy.Options = { host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: 0 }

/** A quiet proxy on free ports, with a metric registry of its own. */
export const start = (options?: Proxy.Options) =>
  Proxy.make({ ...free, ...options }).pipe(
    Effect.provideService(References.MinimumLogLevel, "None"),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

export const eventually = <E>(what: string, condition: Effect.Effect<boolean, E>): Effect.Effect<void> =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("5 millis") }),
    Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error(`never: ${what}`)) }),
    Effect.asVoid,
    Effect.orDie
  )

const replicasOf = (topology: Proxy.Topology, topic: string) =>
  topology.topics.find((info) => info.topic === topic)?.replicas ?? 0

/** Waits until so many connections subscribe to the topic. */
export const replicas = (proxy: Proxy.Proxy["Service"], topic: string, count: number) =>
  eventually(
    `${count} replicas of ${topic}`,
    Effect.map(proxy.topology, (topology) => replicasOf(topology, topic) === count)
  )

/** A raw PUB socket; ready when the proxy took it up. */
export const publisher = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"]) {
  const { publishers } = yield* proxy.topology
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => new Zmq.XPublisher({ linger: 1000, sendHighWaterMark: 0, reconnectInterval: 10 })),
    (socket) => Effect.sync(() => socket.close())
  )
  socket.connect(proxy.xsub)
  yield* Effect.promise(() => socket.receive())
  yield* eventually("the publisher", Effect.map(proxy.topology, (topology) => topology.publishers > publishers))
  return {
    socket,
    send: (...frames: ReadonlyArray<string | Uint8Array>) => Effect.promise(() => socket.send([...frames]))
  }
})

/** A raw SUB socket and everything that it hears. Its own subscriptions are live when it returns. */
export const subscriber = Effect.fnUntraced(function*(
  proxy: Proxy.Proxy["Service"],
  topics: ReadonlyArray<string | Buffer>
) {
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => new Zmq.Subscriber({ linger: 0, receiveHighWaterMark: 0, reconnectInterval: 10 })),
    (socket) => Effect.sync(() => socket.close())
  )
  const { subscribers } = yield* proxy.topology
  // Subscribed in order, so that the last one tells that the others are live.
  const marker = `TOPIC_MARK_${process.pid}_${marks++}`
  socket.subscribe(...topics, marker)
  socket.connect(proxy.xpub)
  const heard: Array<ReadonlyArray<Buffer>> = []
  void (async () => {
    for await (const frames of socket) {
      heard.push(frames)
    }
  })()
  yield* eventually(
    "the subscriber",
    Effect.map(proxy.topology, (topology) => topology.subscribers > subscribers && replicasOf(topology, marker) === 1)
  )
  socket.unsubscribe(marker)
  yield* replicas(proxy, marker, 0)
  return { socket, heard }
})

let marks = 0

export const count = (what: string, heard: ReadonlyArray<unknown>, least: number) =>
  eventually(`${least} ${what}`, Effect.sync(() => heard.length >= least))

export const getText = (url: string, init?: RequestInit) =>
  Effect.promise(async () => {
    const response = await fetch(url, init)
    return { status: response.status, body: await response.text() }
  })

/** The value of one line of Prometheus text. */
export const metric = (body: string, series: string): number | undefined => {
  const line = body.split("\n").find((line) => line.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

export const request = (id: string, replyTo: string, more: object = {}) =>
  JSON.stringify({ request_id: id, reply_to: replyTo, intent: "hello", timestamp: 1739836800.123, ...more })

/** A SUB socket in a process of its own. Several topics have commas between them. */
export const childSubscriber = (proxy: Proxy.Proxy["Service"], topics: string, mode: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const script = Path.join(import.meta.dirname, "subscribeForever.mjs")
      return spawn(process.execPath, [script, proxy.xpub, topics, mode], { stdio: "inherit" })
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
