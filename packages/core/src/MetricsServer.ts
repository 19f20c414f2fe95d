/**
 * A small HTTP server for operators: metrics in Prometheus text, liveness and readiness, and routes that its user adds.
 *
 * It has no authentication, so it listens on the loopback interface unless told otherwise. It reads the metrics of the
 * registry (`Metric.MetricRegistry`) that is current where it is built.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"

/**
 * Whether the program can do its work now, and the name of the state that it is in (`starting`, `ready`, `draining`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Readiness {
  readonly ready: boolean
  readonly state: string
}

/**
 * Settings of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The interface to listen on: an address or a host name. Default `127.0.0.1`. */
  readonly host?: string | undefined
  /** The TCP port; 0 takes a free one. */
  readonly port: number
  /** Asked for every `/readyz`. Default: always ready. */
  readonly readiness?: Effect.Effect<Readiness> | undefined
  /** Runs before every `/metrics`, for what is counted outside the registry. */
  readonly collect?: Effect.Effect<void> | undefined
  /** More routes by path, answered on GET and HEAD. */
  readonly routes?: Readonly<Record<string, Effect.Effect<HttpServerResponse.HttpServerResponse>>> | undefined
}

/**
 * Something else listens on the port.
 *
 * @category errors
 * @since 0.1.0
 */
export class PortTaken extends Schema.TaggedError<PortTaken>()("PortTaken", {}) {}

/**
 * The port may not be used by this user, as ports under 1024 may not.
 *
 * @category errors
 * @since 0.1.0
 */
export class PortDenied extends Schema.TaggedError<PortDenied>()("PortDenied", {}) {}

/**
 * The host is not an address of this machine.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidHost extends Schema.TaggedError<InvalidHost>()("InvalidHost", {}) {}

/**
 * Listening failed in a way that has no reason of its own.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unknown extends Schema.TaggedError<Unknown>()("Unknown", { cause: Schema.Defect() }) {}

/**
 * Why a TCP port could not be listened on; `reason` says what happened.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenError extends Schema.TaggedError<ListenError>()("ListenError", {
  /** What the port is for, as in `metrics`. */
  role: Schema.String,
  host: Schema.String,
  port: Schema.Finite,
  reason: Schema.Union([PortTaken, PortDenied, InvalidHost, Unknown])
}) {
  override readonly cause = this.reason
  override get message() {
    const where = `cannot listen on ${this.host}:${this.port} for ${this.role}`
    switch (this.reason._tag) {
      case "PortTaken":
        return `${where}: port ${this.port} is taken; stop what listens there, or choose another port (0 takes a free one)`
      case "PortDenied":
        return `${where}: port ${this.port} needs more rights; choose a port above 1023`
      case "InvalidHost":
        return `${where}: ${this.host} is not an address of this machine; use 0.0.0.0 for all interfaces`
      case "Unknown":
        return `${where}: ${String(this.reason.cause)}`
    }
  }
}

/**
 * Classifies an error of Node's `listen`.
 *
 * @category errors
 * @since 0.1.0
 */
export const listenError = (role: string, host: string, port: number, cause: unknown): ListenError => {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  const reason = code === "EADDRINUSE"
    ? new PortTaken()
    : code === "EACCES" || code === "EPERM"
    ? new PortDenied()
    : code === "EADDRNOTAVAIL" || code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "EINVAL"
    ? new InvalidHost()
    : new Unknown({ cause })
  return new ListenError({ role, host, port, reason })
}

/**
 * The running server.
 *
 * @category services
 * @since 0.1.0
 */
export class MetricsServer extends Context.Service<MetricsServer, {
  /** The port that was bound. */
  readonly port: number
  /** The base URL, with a loopback address when every interface was bound. */
  readonly url: string
}>()("@skillscale/core/MetricsServer") {}

const textPlain = "text/plain; charset=utf-8"
const prometheusText = "text/plain; version=0.0.4; charset=utf-8"
const grace = "1 second"

/**
 * Starts the server, and stops it with the scope: open requests have one second to finish.
 *
 * `GET /metrics` answers Prometheus text, `GET /healthz` 200 while the process lives, `GET /readyz` 200 or 503 as
 * `readiness` says. Other paths answer 404, other methods 405.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<MetricsServer["Service"], ListenError, Scope.Scope> {
  const host = options.host ?? "127.0.0.1"
  const context = yield* Effect.context<never>()
  const node = Http.createServer()
  const server = yield* NodeHttpServer.make(() => node, {
    host,
    port: options.port,
    gracefulShutdownTimeout: grace
  }).pipe(
    Effect.mapError((error: HttpServerError.ServeError) => listenError("metrics", host, options.port, error.cause))
  )
  // Runs after the grace that `serve` gives to open requests.
  yield* Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
  const metrics = Effect.andThen(
    options.collect ?? Effect.void,
    Effect.sync(() => HttpServerResponse.text(PrometheusMetrics.formatUnsafe(context), { contentType: prometheusText }))
  )
  const readyz = Effect.map(
    options.readiness ?? Effect.succeed({ ready: true, state: "ready" }),
    ({ ready, state }) => HttpServerResponse.text(`${state}\n`, { status: ready ? 200 : 503, contentType: textPlain })
  )
  const routes = new Map<string, Effect.Effect<HttpServerResponse.HttpServerResponse>>([
    ...Object.entries(options.routes ?? {}),
    ["/metrics", metrics],
    ["/healthz", Effect.succeed(HttpServerResponse.text("ok\n", { contentType: textPlain }))],
    ["/readyz", readyz]
  ])
  const handler = Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const path = request.url.split("?", 1)[0] ?? "/"
    const route = routes.get(path)
    if (route === undefined) {
      const known = [...routes.keys()].sort().join(", ")
      return HttpServerResponse.text(`not found; there is ${known}\n`, { status: 404, contentType: textPlain })
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return HttpServerResponse.text("method not allowed\n", {
        status: 405,
        contentType: textPlain,
        headers: { allow: "GET, HEAD" }
      })
    }
    return HttpServerResponse.setHeader(yield* route, "cache-control", "no-store")
  })
  yield* server.serve(handler)
  const bound = node.address()
  const port = typeof bound === "object" && bound !== null ? bound.port : options.port
  return MetricsServer.of({ port, url: `http://${reachable(host)}:${port}` })
})

/**
 * Names an address under which a listener on `host` can be reached from this machine.
 *
 * @category accessors
 * @since 0.1.0
 */
export const reachable = (host: string): string =>
  host === "0.0.0.0" || host === "*" ? "127.0.0.1" : host === "::" ? "[::1]" : host.includes(":") ? `[${host}]` : host

/**
 * Provides `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<MetricsServer, ListenError> =>
  Layer.effect(MetricsServer, make(options))
