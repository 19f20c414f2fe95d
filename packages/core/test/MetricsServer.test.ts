import * as MetricsServer from "@skillscale/core/MetricsServer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Net from "node:net"

const fetchText = (url: string, init?: RequestInit) =>
  Effect.promise(async () => {
    const response = await fetch(url, init)
    return { status: response.status, type: response.headers.get("content-type"), body: await response.text() }
  })

describe("MetricsServer", () => {
  it.live("answers metrics in Prometheus text", () =>
    Effect.gen(function*() {
      const requests = Metric.counter("test_requests_total", { description: "Requests,\nby \\ path" }).pipe(
        Metric.withAttributes({ path: "a\"b\\c\nd", unit: "requests" })
      )
      const latency = Metric.histogram("test_latency_seconds", { boundaries: [0.1, 1, 10], description: "Latency" })
      yield* Metric.update(requests, 3)
      yield* Effect.forEach([0.05, 0.5, 0.5, 5, 50], (seconds) => Metric.update(latency, seconds))
      let collected = 0
      const server = yield* MetricsServer.make({
        port: 0,
        collect: Effect.sync(() => {
          collected += 1
        })
      })
      const { body, status, type } = yield* fetchText(`${server.url}/metrics`)
      assert.strictEqual(status, 200)
      assert.match(type ?? "", /^text\/plain; version=0\.0\.4/)
      assert.strictEqual(collected, 1)
      assert.deepStrictEqual(body.split("\n").filter((line) => line.includes("test_")), [
        "# HELP test_requests_total Requests,\\nby \\\\ path",
        "# TYPE test_requests_total counter",
        "test_requests_total{path=\"a\\\"b\\\\c\\nd\"} 3",
        "# HELP test_latency_seconds Latency",
        "# TYPE test_latency_seconds histogram",
        "test_latency_seconds_bucket{le=\"0.1\"} 1",
        "test_latency_seconds_bucket{le=\"1\"} 3",
        "test_latency_seconds_bucket{le=\"10\"} 4",
        "test_latency_seconds_bucket{le=\"+Inf\"} 5",
        "test_latency_seconds_sum 56.05",
        "test_latency_seconds_count 5"
      ])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.live("answers health, readiness, extra routes, 404 and 405", () =>
    Effect.gen(function*() {
      let ready = false
      const server = yield* MetricsServer.make({
        port: 0,
        readiness: Effect.sync(() => ({ ready, state: ready ? "ready" : "starting" })),
        routes: { "/extra": Effect.sync(() => HttpServerResponse.jsonUnsafe({ a: 1 })) }
      })
      const statuses = (path: string, init?: RequestInit) =>
        Effect.map(fetchText(server.url + path, init), ({ body, status }) => [status, body])
      assert.deepStrictEqual(yield* statuses("/healthz"), [200, "ok\n"])
      assert.deepStrictEqual(yield* statuses("/readyz"), [503, "starting\n"])
      ready = true
      assert.deepStrictEqual(yield* statuses("/readyz?verbose"), [200, "ready\n"])
      assert.deepStrictEqual(yield* statuses("/extra"), [200, "{\"a\":1}"])
      assert.deepStrictEqual(yield* statuses("/healthz", { method: "HEAD" }), [200, ""])
      assert.strictEqual((yield* statuses("/nothing"))[0], 404)
      assert.strictEqual((yield* statuses("/"))[0], 404)
      assert.strictEqual((yield* statuses("/metrics", { method: "POST", body: "x" }))[0], 405)
    }))

  it.live("names the port that is taken and what to do", () =>
    Effect.gen(function*() {
      const server = yield* MetricsServer.make({ port: 0 })
      const error = yield* Effect.flip(Layer.build(MetricsServer.layer({ port: server.port })))
      assert.strictEqual(error.reason._tag, "PortTaken")
      assert.include(error.message, `port ${server.port} is taken`)
      const host = yield* Effect.flip(MetricsServer.make({ port: 0, host: "192.0.2.1" }))
      assert.strictEqual(host.reason._tag, "InvalidHost")
    }))

  it.live("closes within its grace while a connection is open", () =>
    Effect.gen(function*() {
      const idle = yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* MetricsServer.make({ port: 0 })
        return yield* Effect.callback<Net.Socket>((resume) => {
          const socket = Net.connect(server.port, "127.0.0.1", () => {
            socket.write("GET /metr")
            resume(Effect.succeed(socket))
          })
          socket.on("error", () => {})
        })
      }))
      idle.destroy()
    }).pipe(Effect.timeout("5 seconds")))
})
