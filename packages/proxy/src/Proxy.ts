/**
 * The switch between agents and skill servers: publishers connect to its XSUB port, subscribers to its XPUB port, and
 * every message goes to the live subscriptions that match it.
 *
 * It speaks ZMTP 3.1, 3.0 and 2.0 (NULL mechanism) itself, over plain TCP, so that runs of messages pass as slices of
 * what was read, what a slow subscriber may queue is bounded in bytes, and replicas are counted exactly. Nothing that
 * it knows must survive a restart. A request to a topic that nobody serves is answered with `NoServer`.
 *
 * @since 0.1.0
 */
import * as MetricsServer from "@skillscale/core/MetricsServer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Log from "./internal/log.ts"
import * as Routes from "./internal/routes.ts"
import * as Sampler from "./internal/sampler.ts"
import { dropReasons, Switch } from "./internal/switch.ts"
import * as Trace from "./internal/trace.ts"

/**
 * Settings of a proxy.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The interface to listen on; `*` is all of them. Default `127.0.0.1`. */
  readonly host?: string | undefined
  /** Where publishers connect; 0 takes a free port. Default 5444. */
  readonly xsubPort?: number | undefined
  /** Where subscribers connect; 0 takes a free port. Default 5555. */
  readonly xpubPort?: number | undefined
  /** The HTTP port; 0 takes a free one, false serves no HTTP. Default 9100. */
  readonly metricsPort?: number | false | undefined
  /** The interface of the HTTP port. Default: `host`. */
  readonly metricsHost?: string | undefined
  /** How many topics have counters of their own; the others share `(other)`, replies share `(reply)`. Default 256. */
  readonly maxTopics?: number | undefined
  /**
   * What one subscriber may leave unread in the proxy, in bytes. A message that comes while as much is queued is
   * dropped for that subscriber alone, and counted. Default 64 MiB.
   */
  readonly highWaterMarkBytes?: number | undefined
  /** The largest message; a peer that sends a larger one is disconnected. Default 256 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** How many topics one connection may subscribe to. Default 10,000. */
  readonly maxSubscriptions?: number | undefined
  /** How long closing waits for subscribers to take what is queued. Default 1 second. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How long a peer may take for the ZMTP handshake. Default 10 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
  /** How often a server is asked for a sign of life; silent for four times as long it is disconnected. Default 5 seconds. */
  readonly heartbeat?: Duration.Input | undefined
  /** Records a span `Proxy.forward` for each request that carries a `traceparent`. Default false. */
  readonly traced?: boolean | undefined
}

/**
 * What the proxy knows of one topic. `replicas` are the connections that subscribe to exactly this topic; messages and
 * bytes are counted since the proxy started.
 *
 * @category models
 * @since 0.1.0
 */
export const TopicInfo = Schema.Struct({
  topic: Schema.String,
  replicas: Schema.Natural,
  messagesIn: Schema.Natural,
  messagesOut: Schema.Natural,
  bytesIn: Schema.Natural,
  bytesOut: Schema.Natural
})

/**
 * The type of `TopicInfo`.
 *
 * @category models
 * @since 0.1.0
 */
export type TopicInfo = typeof TopicInfo.Type

/**
 * Live topics and peers. Topics without a counter of their own show zeros; their traffic is under `(other)`. Those of
 * single replicas are together as `@worker` and `@load`.
 *
 * @category models
 * @since 0.1.0
 */
export const Topology = Schema.Struct({
  state: Schema.Literals(["starting", "ready", "draining"]),
  /** Seconds since the Unix epoch. */
  startedAt: Schema.Finite,
  publishers: Schema.Natural,
  subscribers: Schema.Natural,
  /** Skill and control topics that are subscribed to or were published to, by name; at most 10,000. */
  topics: Schema.Array(TopicInfo),
  /** Live subscriptions of reply topics. */
  replies: Schema.Natural,
  noServerReplies: Schema.Natural,
  /** Messages that were not delivered, by reason. */
  dropped: Schema.Record(Schema.String, Schema.Natural)
})

/**
 * The type of `Topology`.
 *
 * @category models
 * @since 0.1.0
 */
export type Topology = typeof Topology.Type

/**
 * The proxy could not start: `reason` says which port failed and why.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyError extends Schema.TaggedError<ProxyError>()("ProxyError", {
  reason: Schema.Union([MetricsServer.ListenError])
}) {
  override readonly cause = this.reason
  override get message() {
    return this.reason.message
  }
}

/**
 * The running proxy.
 *
 * @category services
 * @since 0.1.0
 */
export class Proxy extends Context.Service<Proxy, {
  /** The address for publishers, `tcp://host:port`; a loopback address when every interface is bound. */
  readonly xsub: string
  /** The address for subscribers. */
  readonly xpub: string
  readonly xsubPort: number
  readonly xpubPort: number
  /** The base URL of the HTTP server, absent when there is none. */
  readonly metricsUrl: string | undefined
  /** What the proxy knows now. */
  readonly topology: Effect.Effect<Topology>
}>()("@skillscale/proxy/Proxy") {}

const mebibyte = 1024 * 1024
const maxListed = 10_000

const topologyOf = (wire: Switch, state: Topology["state"], startedAt: number): Topology => {
  const topics = new Map<string, TopicInfo>()
  for (const { label, ...counts } of wire.routes.tallies) {
    if (label !== Routes.replyLabel) {
      topics.set(label, { topic: label, replicas: 0, ...counts })
    }
  }
  let replies = 0
  for (const [key, replicas] of wire.routes.counts()) {
    const topic = wire.routes.label(key)
    if (topic === Routes.replyLabel) {
      replies += replicas
    } else if (topic !== Routes.otherLabel && (topics.has(topic) || topics.size < maxListed)) {
      const counts = topics.get(topic) ?? { replicas: 0, messagesIn: 0, messagesOut: 0, bytesIn: 0, bytesOut: 0 }
      topics.set(topic, { ...counts, topic, replicas: counts.replicas + replicas })
    }
  }
  return {
    state,
    startedAt,
    publishers: wire.peers.XSUB.size,
    subscribers: wire.peers.XPUB.size,
    topics: [...topics.values()].sort((a, b) => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : 0),
    replies,
    noServerReplies: wire.noServerReplies,
    dropped: Object.fromEntries(dropReasons.map((reason) => [reason, wire.dropped.get(reason) ?? 0]))
  }
}

/**
 * Starts a proxy: it is ready when the effect returns. When the scope closes it stops reading, waits up to
 * `drainTimeout` for subscribers to take what is queued for them, and disconnects everyone.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<Proxy["Service"], ProxyError, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const host = options.host === "*" ? "0.0.0.0" : options.host ?? "127.0.0.1"
  const startedAt = Date.now() / 1000
  const maxLabels = options.maxTopics ?? 256
  let state: Topology["state"] = "starting"

  const wire = new Switch({
    maxMessageBytes: options.maxMessageBytes ?? 256 * mebibyte,
    highWaterMarkBytes: options.highWaterMarkBytes ?? 64 * mebibyte,
    maxSubscriptions: options.maxSubscriptions ?? 10_000,
    heartbeatMs: Duration.toMillis(options.heartbeat ?? "5 seconds"),
    handshakeMs: Duration.toMillis(options.handshakeTimeout ?? "10 seconds"),
    maxLabels
  }, {
    ...Log.make(context),
    onMessage: options.traced === true ? Trace.make(context) : undefined
  })
  const sample = Sampler.make(wire, maxLabels, context)
  const topology = Effect.sync(() => topologyOf(wire, state, startedAt))

  const http = options.metricsPort === false ? undefined : yield* MetricsServer.make({
    host: options.metricsHost ?? host,
    port: options.metricsPort ?? 9100,
    readiness: Effect.sync(() => ({ ready: state === "ready", state })),
    collect: Effect.sync(() => sample(state === "ready")),
    routes: {
      "/topology": Effect.map(
        Effect.orDie(Effect.flatMap(topology, Schema.encodeEffect(Topology))),
        (body) => HttpServerResponse.jsonUnsafe(body)
      )
    }
  }).pipe(Effect.mapError((reason) => new ProxyError({ reason })))

  const listen = (type: "XSUB" | "XPUB", port: number) =>
    Effect.tryPromise({
      try: () => wire.listen(type, host, port),
      catch: (cause) => new ProxyError({ reason: MetricsServer.listenError(type, host, port, cause) })
    }).pipe(Effect.uninterruptible)

  yield* Effect.addFinalizer(() =>
    Effect.promise(() => {
      state = "draining"
      return wire.close(Duration.toMillis(options.drainTimeout ?? "1 second")).finally(() => sample(false))
    })
  )
  const xpubPort = yield* listen("XPUB", options.xpubPort ?? 5555)
  const xsubPort = yield* listen("XSUB", options.xsubPort ?? 5444)
  state = "ready"
  yield* Effect.sync(() => sample(state === "ready")).pipe(
    Effect.repeat(Schedule.spaced("1 second")),
    Effect.forkScoped
  )

  const address = MetricsServer.reachable(host)
  const xsub = `tcp://${address}:${xsubPort}`
  const xpub = `tcp://${address}:${xpubPort}`
  yield* Effect.logInfo("proxy is ready").pipe(
    Effect.annotateLogs({ xsub, xpub, ...(http === undefined ? {} : { http: http.url }) })
  )
  return Proxy.of({ xsub, xpub, xsubPort, xpubPort, metricsUrl: http?.url, topology })
})

/**
 * Provides `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Proxy, ProxyError> => Layer.effect(Proxy, make(options))
