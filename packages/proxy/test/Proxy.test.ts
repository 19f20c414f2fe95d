import * as MetricsServer from "@skillscale/core/MetricsServer"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import * as Proxy from "@skillscale/proxy/Proxy"
import {
  childSubscriber,
  count,
  eventually,
  free,
  getText,
  metric,
  publisher,
  replicas,
  request,
  start,
  subscriber
} from "./support.ts"

const hex = (message: ReadonlyArray<Buffer>) => message.map((frame) => frame.toString("hex"))

describe("forwarding", () => {
  it.live("passes any frames byte for byte", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const invalid = Buffer.from([0xc3, 0x28, 0xff, 0x00, 0x54])
      const { heard } = yield* subscriber(proxy, ["TOPIC_A", "SINGLE", invalid])
      const { send } = yield* publisher(proxy)
      const big = Buffer.alloc(3 * 1024 * 1024, "0123456789")
      const sent = [
        ["TOPIC_A", "{}"],
        ["SINGLE"],
        ["TOPIC_A", "a", "b"],
        ["TOPIC_A", ""],
        ["TOPIC_A", "", "", Buffer.alloc(256)],
        [invalid, invalid],
        ["TOPIC_A", Buffer.alloc(255), Buffer.alloc(65_536)],
        ["TOPIC_A", big, "tail"],
        ["TOPIC_A" + "x".repeat(2000), "long topic"],
        [Buffer.concat([Buffer.from("SINGLE"), big])]
      ]
      yield* Effect.forEach(sent, (frames) => send(...frames))
      yield* count("messages", heard, sent.length)
      assert.deepStrictEqual(heard.map(hex), sent.map((frames) => hex(frames.map((frame) => Buffer.from(frame)))))
    }))

  it.live("keeps apart what many publishers send to many subscribers at once", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const subscribers = yield* Effect.forEach([0, 1, 2], (index) => subscriber(proxy, [`TOPIC_${index}`]))
      const publishers = yield* Effect.forEach([0, 1, 2], () => publisher(proxy))
      yield* Effect.forEach(publishers, ({ send }, who) =>
        Effect.forEach(
          Array.from({ length: 3000 }, (_, index) => index),
          (index) => send(`TOPIC_${index % 3}`, `${who} ${index} ${"x".repeat(index % 500)}`)
        ), { concurrency: "unbounded" })
      yield* Effect.forEach(subscribers, ({ heard }) => count("messages", heard, 3000))
      subscribers.forEach(({ heard }, topic) => {
        for (const who of [0, 1, 2]) {
          const indexes = heard.map((frames) => String(frames[1]).split(" ")).filter(([from]) => from === String(who))
            .map(([, index]) => Number(index))
          assert.deepStrictEqual(indexes, Array.from({ length: 1000 }, (_, index) => index * 3 + topic))
        }
      })
    }))

  it.live(
    "a subscriber that does not read loses messages beyond its bound, and the others do not",
    () =>
      Effect.gen(function*() {
        const proxy = yield* start({ highWaterMarkBytes: 2 * 1024 * 1024 })
        const child = yield* childSubscriber(proxy, "@EVERYONE", "stop")
        yield* replicas(proxy, "@EVERYONE", 1)
        const { heard } = yield* subscriber(proxy, ["@EVERYONE"])
        yield* replicas(proxy, "@EVERYONE", 2)
        child.kill("SIGSTOP")
        const { send } = yield* publisher(proxy)
        const before = process.memoryUsage().arrayBuffers
        const total = 1500
        const payload = Buffer.alloc(64 * 1024)
        for (let index = 0; index < total; index++) {
          yield* send("@EVERYONE", payload)
          if (index % 10 === 9) {
            yield* count("messages", heard, index + 1)
            heard.forEach((_, at) => heard[at] = [])
          }
        }
        yield* count("messages", heard, total)
        const { dropped } = yield* proxy.topology
        const kept = total - (dropped["slow_subscriber"] ?? 0)
        // The bound and what the kernel buffers on both ends of a loopback connection hold.
        assert.isAbove(dropped["slow_subscriber"] ?? 0, 0)
        assert.isBelow(kept * payload.length, 30 * 1024 * 1024)
        assert.isBelow(process.memoryUsage().arrayBuffers - before, 90 * 1024 * 1024)
      }),
    60_000
  )

  it.live(
    "by default a subscriber that does not read has 64 MiB, and a request to nobody of more than that no answer",
    () =>
      Effect.gen(function*() {
        const proxy = yield* start()
        const child = yield* childSubscriber(proxy, "@EVERYONE", "stop")
        yield* replicas(proxy, "@EVERYONE", 1)
        child.kill("SIGSTOP")
        const { send } = yield* publisher(proxy)
        const payload = Buffer.alloc(1024 * 1024)
        for (let index = 0; index < 110; index++) yield* send("@EVERYONE", payload)
        const dropped = (reason: string) => Effect.map(proxy.topology, (topology) => topology.dropped[reason] ?? 0)
        yield* send("TOPIC_NOBODY", Buffer.alloc(64 * 1024 * 1024 + 1))
        yield* eventually("the last one, which is too large", Effect.map(dropped("too_large"), (count) => count === 1))
        const kept = 110 - (yield* dropped("slow_subscriber"))
        // Beside what the kernel buffers on both ends of a loopback connection.
        assert.isTrue(kept >= 64 && kept < 100, String(kept))
      }),
    60_000
  )

  it.live("publishers and subscribers recover from a restart", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const proxy = yield* start().pipe(Scope.provide(scope))
      const { heard } = yield* subscriber(proxy, ["TOPIC_A"])
      const { send } = yield* publisher(proxy)
      yield* send("TOPIC_A", "1")
      yield* count("messages", heard, 1)
      yield* Scope.close(scope, Exit.void)
      const again = yield* start({ xsubPort: proxy.xsubPort, xpubPort: proxy.xpubPort })
      yield* replicas(again, "TOPIC_A", 1)
      yield* send("TOPIC_A", "2")
      yield* count("messages", heard, 2)
      assert.deepStrictEqual(heard.map((frames) => String(frames[1])), ["1", "2"])
    }))

  it.live("closing delivers what was taken at the same moment", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const closed = yield* Deferred.make<void>()
      const tracer = Tracer.make({
        span: (options) => {
          if (options.name === "Proxy.forward") {
            // Once what was read with it is handled, and before anything else is.
            queueMicrotask(() =>
              Effect.runFork(Effect.andThen(Scope.close(scope, Exit.void), Deferred.succeed(closed, undefined)))
            )
          }
          return new Tracer.NativeSpan(options)
        }
      })
      const proxy = yield* start({ traced: true }).pipe(
        Effect.provideService(Tracer.Tracer, tracer),
        Scope.provide(scope)
      )
      const { heard } = yield* subscriber(proxy, ["TOPIC_A"])
      const { send } = yield* publisher(proxy)
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      yield* send("TOPIC_A", request("r1", "R", { v: 2, traceparent }))
      yield* Deferred.await(closed)
      yield* count("messages", heard, 1)
    }))

  it.live("closing delivers what was taken before", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const proxy = yield* start({ metricsPort: false }).pipe(Scope.provide(scope))
      const { heard } = yield* subscriber(proxy, ["TOPIC_A"])
      const { send } = yield* publisher(proxy)
      const payload = Buffer.alloc(100_000)
      yield* Effect.forEach(Array.from({ length: 100 }), () => send("TOPIC_A", payload), { discard: true })
      const taken = yield* proxy.topology.pipe(
        Effect.map(({ topics }) => topics.find(({ topic }) => topic === "TOPIC_A")?.messagesOut ?? 0),
        Effect.repeat({ until: (messages) => messages >= 50, schedule: Schedule.spaced("1 millis") })
      )
      yield* Scope.close(scope, Exit.void)
      yield* count("messages", heard, taken)
    }))
})

describe("NoServer", () => {
  it.live("answers a request to a topic without a server at once, as version 1 understands it", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const { heard } = yield* subscriber(proxy, ["AGENT_REPLY_1"])
      const { send } = yield* publisher(proxy)
      yield* send("TOPIC_X", request("r1", "AGENT_REPLY_1"))
      yield* count("answers", heard, 1)
      yield* send("TOPIC_X", request("r2", "AGENT_REPLY_1", { v: 2, skill: "s" }))
      yield* count("answers", heard, 2)
      const [first, second] = heard.map((frames) => JSON.parse(String(frames[1])))
      assert.deepStrictEqual(heard.map((frames) => [frames.length, String(frames[0])]), [[2, "AGENT_REPLY_1"], [
        2,
        "AGENT_REPLY_1"
      ]])
      assert.deepInclude(first, { request_id: "r1", status: "error", content: "", code: "NoServer", retryable: true })
      assert.match(first.error, /^no server serves TOPIC_X: /)
      assert.closeTo(first.timestamp, Date.now() / 1000, 10)
      assert.isUndefined(first.v)
      assert.deepInclude(second, { request_id: "r2", code: "NoServer", v: 2 })
      assert.strictEqual((yield* proxy.topology).noServerReplies, 2)
    }))

  it.live("answers for topics outside of TOPIC_ and for a mere prefix subscription too", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const { heard } = yield* subscriber(proxy, ["AGENT_REPLY_1"])
      const monitor = yield* subscriber(proxy, ["TOPIC_"])
      const { send } = yield* publisher(proxy)
      yield* send("custom", request("r1", "AGENT_REPLY_1"))
      yield* send("TOPIC_X", request("r2", "AGENT_REPLY_1"))
      yield* count("answers", heard, 2)
      assert.deepStrictEqual(heard.map((frames) => JSON.parse(String(frames[1])).request_id), ["r1", "r2"])
      yield* count("copies", monitor.heard, 1)
    }))

  it.live("stays silent for served topics, responses, control topics and what cannot be read", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const { heard } = yield* subscriber(proxy, ["AGENT_REPLY_1"])
      yield* subscriber(proxy, ["TOPIC_SERVED"])
      const { send } = yield* publisher(proxy)
      yield* send("TOPIC_SERVED", request("served", "AGENT_REPLY_1"))
      yield* send("AGENT_REPLY_GONE", JSON.stringify({ request_id: "late", status: "success", content: "" }))
      yield* send("@TOPIC_X", request("control", "AGENT_REPLY_1"))
      // Nobody need follow the catalog: this is not counted.
      yield* send("@CATALOG", JSON.stringify({ server: "a", topic: "TOPIC_X", revision: "1" }))
      yield* send("TOPIC_X", "not json")
      yield* send("TOPIC_X", JSON.stringify({ request_id: "no address" }))
      yield* send("TOPIC_X")
      yield* send("TOPIC_X", request("loop", "TOPIC_X"))
      yield* send("TOPIC_X", request("asked", "AGENT_REPLY_1"))
      yield* count("answers", heard, 1)
      assert.deepStrictEqual(heard.map((frames) => JSON.parse(String(frames[1])).request_id), ["asked"])
      const { dropped } = yield* proxy.topology
      assert.deepInclude(dropped, { no_server: 1, no_subscriber: 2, malformed: 4, slow_subscriber: 0 })
    }))
})

describe("topology and metrics", () => {
  it.live("counts replicas, also when one is killed", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      yield* subscriber(proxy, ["TOPIC_A", "AGENT_REPLY_1"])
      const leaving = yield* Scope.make()
      yield* subscriber(proxy, ["TOPIC_A", "TOPIC_A"]).pipe(Scope.provide(leaving))
      const child = yield* childSubscriber(proxy, "TOPIC_A", "read")
      yield* replicas(proxy, "TOPIC_A", 3)
      const body = (yield* getText(`${proxy.metricsUrl}/topology`)).body
      const topology = yield* Schema.decodeEffect(Schema.fromJsonString(Proxy.Topology))(body)
      assert.deepInclude(topology, { state: "ready", subscribers: 3, publishers: 0, replies: 1 })
      child.kill("SIGKILL")
      yield* replicas(proxy, "TOPIC_A", 2)
      yield* Scope.close(leaving, Exit.void)
      yield* replicas(proxy, "TOPIC_A", 1)
      assert.strictEqual((yield* proxy.topology).subscribers, 1)
    }))

  it.live("reports exact numbers, in a bounded number of series", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ maxTopics: 256 })
      const one = yield* subscriber(proxy, ["TOPIC_A"])
      const two = yield* subscriber(proxy, ["TOPIC_A", "AGENT_REPLY_1"])
      const { send } = yield* publisher(proxy)
      yield* Effect.forEach(Array.from({ length: 10 }), () => send("TOPIC_A", "x".repeat(100)))
      yield* send("AGENT_REPLY_1", "y".repeat(1000))
      yield* send("AGENT_REPLY_2", "nobody")
      yield* Effect.forEach(
        Array.from({ length: 300 }, (_, index) => index),
        (index) => send(`TOPIC_N${index}`, "junk")
      )
      yield* count("messages", one.heard, 5)
      yield* count("messages", two.heard, 6)
      const sum = Effect.map(proxy.topology, ({ dropped }) => dropped["malformed"] === 300)
      yield* eventually("every message is counted", sum)
      const { body } = yield* getText(`${proxy.metricsUrl}/metrics`)
      const value = (series: string) => metric(body, series)
      assert.strictEqual(value("skillscale_proxy_messages_total{topic=\"TOPIC_A\",direction=\"in\"}"), 10)
      assert.strictEqual(value("skillscale_proxy_messages_total{topic=\"TOPIC_A\",direction=\"out\"}"), 10)
      // Two frames with 2 bytes of header each.
      assert.strictEqual(
        value("skillscale_proxy_bytes_total{topic=\"TOPIC_A\",direction=\"in\"}"),
        10 * (2 + 7 + 2 + 100)
      )
      assert.strictEqual(
        value("skillscale_proxy_bytes_total{topic=\"TOPIC_A\",direction=\"out\"}"),
        10 * (2 + 7 + 2 + 100)
      )
      assert.strictEqual(value("skillscale_proxy_messages_total{topic=\"(reply)\",direction=\"in\"}"), 2)
      assert.strictEqual(value("skillscale_proxy_messages_total{topic=\"(reply)\",direction=\"out\"}"), 1)
      assert.strictEqual(value("skillscale_proxy_bytes_total{topic=\"(reply)\",direction=\"out\"}"), 2 + 13 + 9 + 1000)
      // The markers of the two subscribers have no traffic, so TOPIC_A and 255 others have series of their own.
      assert.strictEqual(value("skillscale_proxy_messages_total{topic=\"(other)\",direction=\"in\"}"), 300 - 255)
      assert.strictEqual(value("skillscale_proxy_dropped_total{reason=\"no_subscriber\"}"), 1)
      assert.strictEqual(value("skillscale_proxy_dropped_total{reason=\"malformed\"}"), 300)
      assert.strictEqual(value("skillscale_proxy_subscriptions{topic=\"TOPIC_A\"}"), 2)
      assert.strictEqual(value("skillscale_proxy_subscriptions{topic=\"(reply)\"}"), 1)
      assert.strictEqual(value("skillscale_proxy_connections{side=\"xpub\"}"), 2)
      assert.strictEqual(value("skillscale_proxy_up"), 1)
      assert.closeTo(value("skillscale_proxy_start_time_seconds") ?? 0, Date.now() / 1000, 60)
      assert.strictEqual(
        body.split("\n").filter((line) => line.startsWith("skillscale_proxy_messages_total{")).length,
        2 * 258
      )
      assert.match(body, /^# HELP skillscale_proxy_messages_total \S/m)
      assert.match(body, /^# TYPE skillscale_proxy_subscriptions gauge$/m)
      const again = (yield* getText(`${proxy.metricsUrl}/metrics`)).body
      assert.strictEqual(metric(again, "skillscale_proxy_messages_total{topic=\"TOPIC_A\",direction=\"in\"}"), 10)
    }))

  it.live("is ready while it runs, and draining when it closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const proxy = yield* start({ drainTimeout: "1 second", highWaterMarkBytes: 64 * 1024 * 1024 }).pipe(
        Scope.provide(scope)
      )
      assert.deepStrictEqual(yield* getText(`${proxy.metricsUrl}/readyz`), { status: 200, body: "ready\n" })
      assert.strictEqual((yield* getText(`${proxy.metricsUrl}/healthz`)).status, 200)
      assert.strictEqual((yield* getText(`${proxy.metricsUrl}/nothing`)).status, 404)
      assert.strictEqual((yield* getText(`${proxy.metricsUrl}/topology`, { method: "DELETE" })).status, 405)
      const child = yield* childSubscriber(proxy, "TOPIC_A", "stop")
      yield* replicas(proxy, "TOPIC_A", 1)
      child.kill("SIGSTOP")
      const { send } = yield* publisher(proxy)
      yield* Effect.forEach(Array.from({ length: 40 }), () => send("TOPIC_A", Buffer.alloc(1024 * 1024)))
      yield* eventually("all is queued", Effect.map(proxy.topology, ({ topics }) => topics[0]?.messagesIn === 40))
      const begun = performance.now()
      const closing = yield* Scope.close(scope, Exit.void).pipe(Effect.forkScoped({ startImmediately: true }))
      assert.deepStrictEqual(yield* getText(`${proxy.metricsUrl}/readyz`), { status: 503, body: "draining\n" })
      yield* eventually("the close ends", Effect.sync(() => closing.pollUnsafe() !== undefined))
      assert.isBelow(performance.now() - begun, 3500)
    }))

  it.live("two proxies in one registry add up, and a closed one takes its gauges back", () =>
    Effect.gen(function*() {
      const registry = new Map()
      const startHere = Proxy.make(free).pipe(
        Effect.provideService(References.MinimumLogLevel, "None"),
        Effect.provideService(Metric.MetricRegistry, registry)
      )
      const one = yield* startHere
      const scope = yield* Scope.make()
      const two = yield* startHere.pipe(Scope.provide(scope))
      for (const proxy of [one, two]) {
        const { heard } = yield* subscriber(proxy, ["TOPIC_A"]).pipe(
          proxy === one ? (self) => self : Scope.provide(scope)
        )
        const { send } = yield* publisher(proxy)
        yield* send("TOPIC_A", "1")
        yield* count("messages", heard, 1)
      }
      yield* getText(`${two.metricsUrl}/metrics`)
      const both = (yield* getText(`${one.metricsUrl}/metrics`)).body
      assert.strictEqual(metric(both, "skillscale_proxy_messages_total{topic=\"TOPIC_A\",direction=\"in\"}"), 2)
      assert.strictEqual(metric(both, "skillscale_proxy_subscriptions{topic=\"TOPIC_A\"}"), 2)
      assert.strictEqual(metric(both, "skillscale_proxy_up"), 2)
      yield* Scope.close(scope, Exit.void)
      const left = (yield* getText(`${one.metricsUrl}/metrics`)).body
      assert.strictEqual(metric(left, "skillscale_proxy_messages_total{topic=\"TOPIC_A\",direction=\"in\"}"), 2)
      assert.strictEqual(metric(left, "skillscale_proxy_subscriptions{topic=\"TOPIC_A\"}"), 1)
      assert.strictEqual(metric(left, "skillscale_proxy_up"), 1)
    }))

  it.live("names the port that is taken and what to do", () =>
    Effect.gen(function*() {
      const one = yield* start()
      const taken = [
        yield* Effect.flip(Proxy.make({ ...free, xsubPort: one.xsubPort })),
        yield* Effect.flip(Proxy.make({ ...free, xpubPort: one.xpubPort })),
        yield* Effect.flip(Proxy.make({ ...free, metricsPort: Number(new URL(one.metricsUrl ?? "").port) }))
      ]
      taken.forEach((error) => {
        assert.instanceOf(error.reason, MetricsServer.ListenError)
        assert.strictEqual(error.reason.reason._tag, "PortTaken")
        assert.match(error.message, /port \d+ is taken; stop what listens there, or choose another port/)
      })
      assert.deepStrictEqual(taken.map((error) => error.reason.role), ["XSUB", "XPUB", "metrics"])
    }))
})

describe("tracing", () => {
  it.live("records a span for a request with a trace context, and none otherwise", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const proxy = yield* start({ traced: true }).pipe(Effect.provideService(Tracer.Tracer, tracer))
      const { heard } = yield* subscriber(proxy, ["TOPIC_A"])
      const { send } = yield* publisher(proxy)
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      yield* send("TOPIC_A", request("r1", "AGENT_REPLY_1"))
      yield* send("TOPIC_A", request("r2", "R", { v: 2, traceparent: `00-${traceId}-b7ad6b7169203331-01` }))
      yield* send("TOPIC_A", request("r3", "R", { v: 2, traceparent: "broken" }))
      yield* count("messages", heard, 3)
      const forwards = spans.filter((span) => span.name === "Proxy.forward")
      assert.deepStrictEqual(forwards.map((span) => [span.traceId, span.attributes.get("topic")]), [[
        traceId,
        "TOPIC_A"
      ]])
    }))
})
