import * as Telemetry from "@skillscale/core/Telemetry"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { execFileSync } from "node:child_process"
import * as Http from "node:http"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"

const Attributes = Schema.Array(Schema.Struct({
  key: Schema.String,
  value: Schema.Struct({ stringValue: Schema.optionalKey(Schema.String) })
}))

const Export = Schema.fromJsonString(Schema.Struct({
  resourceSpans: Schema.Array(Schema.Struct({
    resource: Schema.Struct({ attributes: Attributes }),
    scopeSpans: Schema.Array(Schema.Struct({
      spans: Schema.Array(Schema.Struct({
        traceId: Schema.String,
        spanId: Schema.String,
        parentSpanId: Schema.optionalKey(Schema.String),
        name: Schema.String,
        attributes: Attributes
      }))
    }))
  }))
}))

interface Request {
  readonly url: string | undefined
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

const listen = (server: Net.Server) =>
  Effect.acquireRelease(
    Effect.callback<string>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed(`http://127.0.0.1:${port}`))
      })
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
      })
  )

/** A collector that keeps what it receives. */
const collector = Effect.gen(function*() {
  const requests: Array<Request> = []
  const server = Http.createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      requests.push({ url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() })
      response.writeHead(200, { "content-type": "application/json" }).end("{}")
    })
  })
  const url = yield* listen(server)
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const exports = Effect.forEach(requests, ({ body }) => Schema.decodeEffect(Export)(body)).pipe(
    Effect.map((all) => all.flatMap(({ resourceSpans }) => resourceSpans))
  )
  return { url, requests, exports: Effect.suspend(() => exports) }
})

const withEnv = (env: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env }))

const telemetry = (env: Record<string, string>, options?: Partial<Telemetry.Options>) =>
  Layer.provide(Telemetry.layer({ serviceName: "skillscale-test", ...options }), withEnv(env))

const record = (attributes: typeof Attributes.Type) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]))

const remote = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" }
const remoteParent = `00-${remote.traceId}-${remote.spanId}-01`

describe("Telemetry.layer", () => {
  it.live("exports names, ids, parents and attributes", () =>
    Effect.gen(function*() {
      const { exports, requests, url } = yield* collector
      const inner = yield* Telemetry.traceparent.pipe(
        Effect.withSpan("inner", { attributes: { skill: "csv" } }),
        Effect.withSpan("outer"),
        Telemetry.withTraceparent(remoteParent),
        Effect.provide(telemetry(
          {
            OTEL_EXPORTER_OTLP_ENDPOINT: `${url}/base/`,
            OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20x,x-tenant = a",
            OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test%20bed,service.version=2,broken"
          },
          { serviceVersion: "1", instanceId: "replica-1" }
        ))
      )
      const received = yield* exports
      const spans = received.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const [first, second] = spans
      assert.deepStrictEqual(spans.map(({ name }) => name), ["inner", "outer"])
      assert.deepStrictEqual(spans.map(({ traceId }) => traceId), [remote.traceId, remote.traceId])
      assert.strictEqual(first?.parentSpanId, second?.spanId)
      assert.strictEqual(second?.parentSpanId, remote.spanId)
      assert.strictEqual(record(first?.attributes ?? [])["skill"], "csv")
      assert.deepStrictEqual(inner, Option.some(`00-${remote.traceId}-${first?.spanId}-01`))
      const resource = record(received[0]?.resource.attributes ?? [])
      assert.strictEqual(resource["service.name"], "skillscale-test")
      assert.strictEqual(resource["service.version"], "2")
      assert.strictEqual(resource["service.instance.id"], "replica-1")
      assert.strictEqual(resource["deployment.environment.name"], "test bed")
      assert.strictEqual(requests[0]?.url, "/base/v1/traces")
      assert.strictEqual(requests[0]?.headers["authorization"], "Bearer x")
      assert.strictEqual(requests[0]?.headers["x-tenant"], "a")
    }))

  it.live("prefers the variables for traces, and the name of the environment", () =>
    Effect.gen(function*() {
      const { exports, requests, url } = yield* collector
      yield* Effect.void.pipe(
        Effect.withSpan("work"),
        Effect.provide(telemetry({
          OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1",
          OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${url}/traces`,
          OTEL_SERVICE_NAME: "named"
        }))
      )
      assert.strictEqual(requests[0]?.url, "/traces")
      assert.strictEqual(record((yield* exports)[0]?.resource.attributes ?? [])["service.name"], "named")
    }))

  it.live("is empty without an endpoint, or when it is switched off", () =>
    Effect.gen(function*() {
      const { requests, url } = yield* collector
      const envs = [
        {},
        { OTEL_EXPORTER_OTLP_ENDPOINT: " " },
        { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_SDK_DISABLED: "true" },
        { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_TRACES_EXPORTER: "none" }
      ]
      for (const env of envs) {
        assert.isFalse(yield* Telemetry.enabled.pipe(Effect.provide(withEnv(env))))
        yield* Effect.provide(Effect.withSpan(Effect.void, "work"), telemetry(env))
      }
      assert.deepStrictEqual(requests, [])
      assert.isTrue(yield* Telemetry.enabled.pipe(Effect.provide(withEnv({ OTEL_EXPORTER_OTLP_ENDPOINT: url }))))
    }))

  it("does not load the SDK without an endpoint", () => {
    const program = `
      import * as Telemetry from ${JSON.stringify(fileURLToPath(new URL("../src/Telemetry.ts", import.meta.url)))}
      import * as Effect from "effect/Effect"
      import * as Layer from "effect/Layer"
      import * as Module from "node:module"
      const loaded = []
      Module.registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
      await Effect.runPromise(Effect.scoped(Layer.build(Telemetry.layer({ serviceName: "x" }))))
      console.log(loaded.filter((url) => url.includes("opentelemetry") || url.includes("telemetryOtlp")).length)
    `
    const run = (env: NodeJS.ProcessEnv) =>
      Number(
        execFileSync(process.execPath, ["--conditions=skillscale", "--input-type=module", "--eval", program], {
          cwd: fileURLToPath(new URL("..", import.meta.url)),
          env: { PATH: process.env["PATH"], ...env }
        }).toString()
      )
    assert.strictEqual(run({}), 0)
    assert.isAbove(run({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" }), 0)
  })

  const logs = () => {
    const messages: Array<string> = []
    const layer = Logger.layer([Logger.make(({ message }) => messages.push(String(message)))])
    return { messages, layer }
  }

  const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function*() {
      const startedAt = performance.now()
      yield* effect
      return performance.now() - startedAt
    })

  it.live("does not fail, nor wait long, nor repeat itself for a collector that refuses", () =>
    Effect.gen(function*() {
      const url = yield* Effect.scoped(listen(Net.createServer()))
      const { layer, messages } = logs()
      const millis = yield* elapsed(
        Effect.withSpan(Effect.succeed(1), "work").pipe(
          // The time itself: an export begins each second and fails when its retries are over. None is told again.
          Effect.tap(() => Effect.sleep("1200 millis")),
          Effect.repeat({ times: 2 }),
          Effect.provide(Layer.provide(telemetry({ OTEL_EXPORTER_OTLP_ENDPOINT: url }), layer))
        )
      )
      assert.isBelow(millis, 3 * 1_200 + 2_500)
      assert.deepStrictEqual(messages, ["traces cannot be exported for now"])
    }))

  it.live("bounds the flush to a collector that never answers", () =>
    Effect.gen(function*() {
      const accepted = yield* Deferred.make<void>()
      const sockets: Array<Net.Socket> = []
      const url = yield* listen(Net.createServer((socket) => {
        sockets.push(socket)
        socket.on("error", () => undefined)
        socket.once("data", () => Deferred.doneUnsafe(accepted, Effect.void))
      }))
      yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
      const millis = yield* elapsed(
        Effect.withSpan(Effect.void, "work").pipe(
          Effect.provide(Layer.provide(telemetry({ OTEL_EXPORTER_OTLP_ENDPOINT: url }), logs().layer))
        )
      )
      yield* Deferred.await(accepted)
      assert.isBelow(millis, 2_000)
    }))

  it.live("keeps a bounded number of spans for a collector that is slower", () =>
    Effect.gen(function*() {
      const { exports, url } = yield* collector
      yield* Effect.gen(function*() {
        const tracer = yield* Effect.tracer
        const parent = yield* Effect.currentSpan
        for (let index = 0; index < 5_000; index++) {
          const span = tracer.span({
            name: "work",
            parent: Option.some(parent),
            annotations: Context.empty(),
            links: [],
            startTime: 0n,
            kind: "internal",
            root: false,
            sampled: true
          })
          span.end(1n, Exit.void)
        }
      }).pipe(Effect.withSpan("parent"), Effect.provide(telemetry({ OTEL_EXPORTER_OTLP_ENDPOINT: url })))
      const spans = (yield* exports).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      // A full queue, and the batch that was under way.
      assert.isAtLeast(spans.length, 2_048)
      assert.isAtMost(spans.length, 2_048 + 512)
    }))

  it.live("warns of an endpoint that is no URL, and runs without", () =>
    Effect.gen(function*() {
      for (const endpoint of ["collector:4318", "nonsense", "ftp://a"]) {
        const { layer, messages } = logs()
        const value = yield* Effect.withSpan(Effect.succeed(1), "work").pipe(
          Effect.provide(Layer.provide(telemetry({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }), layer))
        )
        assert.strictEqual(value, 1)
        assert.include(messages.join(), "traces are not exported")
      }
    }))
})

describe("Telemetry propagation", () => {
  const parent = (value: string | undefined) =>
    Effect.option(Effect.currentParentSpan).pipe(Telemetry.withTraceparent(value))

  it.effect("writes the current span", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Telemetry.traceparent, Option.none())
      const span = Tracer.externalSpan({ ...remote, sampled: false })
      assert.deepStrictEqual(
        yield* Effect.withParentSpan(Telemetry.traceparent, span),
        Option.some(`00-${remote.traceId}-${remote.spanId}-00`)
      )
      const strange = Tracer.externalSpan({ traceId: "x", spanId: "y" })
      assert.deepStrictEqual(yield* Effect.withParentSpan(Telemetry.traceparent, strange), Option.none())
    }))

  it.effect("reads what it writes, and later versions", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* Telemetry.withTraceparent(remoteParent)(Telemetry.traceparent),
        Option.some(remoteParent)
      )
      for (const value of [`01${remoteParent.slice(2)}`, `cc${remoteParent.slice(2)}-more`]) {
        assert.isTrue(Option.isSome(yield* parent(value)), value)
      }
      const span = yield* Effect.currentSpan.pipe(Effect.withSpan("child"), Telemetry.withTraceparent(remoteParent))
      assert.strictEqual(span.traceId, remote.traceId)
      assert.strictEqual(Option.getOrThrow(span.parent).spanId, remote.spanId)
    }))

  it.effect("ignores what is malformed", () =>
    Effect.gen(function*() {
      const malformed = [
        undefined,
        "",
        `ff${remoteParent.slice(2)}`,
        `${remoteParent}-more`,
        `${remoteParent}\n`,
        remoteParent.toUpperCase(),
        `00-${"0".repeat(32)}-${remote.spanId}-01`,
        `00-${remote.traceId}-${"0".repeat(16)}-01`,
        `00-${remote.traceId}-${remote.spanId}`,
        `00-${remote.traceId}-${remote.spanId}-1`
      ]
      for (const value of malformed) {
        assert.isTrue(Option.isNone(yield* parent(value)), value)
      }
    }))

  it.effect.prop(
    "survives any text",
    [Schema.String, Schema.String],
    ([left, right]) =>
      Effect.forEach(
        [left, `00-${left}-${right}-01`, `${remoteParent}${left}`, `${left}${remoteParent}`],
        (value) =>
          Effect.map(parent(value), (span) => {
            assert.strictEqual(Option.isSome(span), value === remoteParent)
          })
      )
  )
})
