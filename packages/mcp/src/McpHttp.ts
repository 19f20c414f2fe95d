/**
 * MCP over streamable HTTP, on the one endpoint `/mcp`, for clients of both eras: requests of 2026-07-28, each by itself, and before
 * that sessions, or single requests without one. `/healthz` answers while the server takes requests.
 *
 * A client that closes the connection of a request has cancelled it. Closing the scope drains: those in hand may finish within
 * `grace`, after which they are cancelled and their clients told so, and all others, `/healthz` too, are answered with 503 until
 * then.
 *
 * @since 0.1.0
 */
import { toNodeHandler } from "@modelcontextprotocol/node"
import * as Sdk from "@modelcontextprotocol/server"
import * as MetricsServer from "@skillscale/core/MetricsServer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as HttpGuard from "./internal/httpGuard.ts"
import * as HttpRoutes from "./internal/httpRoutes.ts"
import * as Sessions from "./internal/sessions.ts"
import * as McpServer from "./McpServer.ts"

/**
 * Where the server listens, whom it answers, and its bounds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The TCP port; 0 takes a free one. */
  readonly port: number
  /** The interface. By default `127.0.0.1`. Any other than a loopback one needs a `token`. */
  readonly host?: string | undefined
  /** What clients have to send as `Authorization: Bearer`. */
  readonly token?: Redacted.Redacted | undefined
  /**
   * More names under which clients reach the server, also as origins of web pages: names and addresses, in any case, without
   * scheme, port and path. Without any, only loopback names are allowed on a loopback interface, and beyond it every name but no
   * other origin.
   */
  readonly names?: ReadonlyArray<string> | undefined
  /** The largest request, in bytes. By default 16 MiB. */
  readonly maxBody?: number | undefined
  /** How many requests and streams may be open. By default 256; further ones are answered with 503. */
  readonly maxRequests?: number | undefined
  /** How many sessions there may be. By default 256; a further one ends the one that was unused for longest. */
  readonly maxSessions?: number | undefined
  /** How long a session may be unused. By default 30 minutes. */
  readonly sessionIdle?: Duration.Input | undefined
  /** How long requests in hand may take when the scope is closed. By default 10 seconds. */
  readonly grace?: Duration.Input | undefined
}

/**
 * Beyond the loopback interface everybody could run skills: there has to be a token.
 *
 * @category errors
 * @since 0.1.0
 */
export class TokenMissing extends Schema.TaggedError<TokenMissing>()("TokenMissing", { host: Schema.String }) {
  override get message() {
    return `cannot serve MCP on ${this.host} without a token, because everybody who reaches it could run skills; listen on ` +
      "127.0.0.1, or give a token"
  }
}

/**
 * A name under which clients are to reach the server is none, so that it would never be the one of a request.
 *
 * @category errors
 * @since 0.1.0
 */
export class NameInvalid extends Schema.TaggedError<NameInvalid>()("NameInvalid", { name: Schema.String }) {
  override get message() {
    return `${
      JSON.stringify(this.name)
    } is no name of a host: give a name or an address without scheme, port and path, such as ` +
      "skills.example.com"
  }
}

/**
 * The running server.
 *
 * @category services
 * @since 0.1.0
 */
export class McpHttp extends Context.Service<McpHttp, {
  /** The port that was bound. */
  readonly port: number
  /** The endpoint, with a loopback address when every interface was bound. */
  readonly url: string
}>()("@skillscale/mcp/McpHttp") {}

/** How long a client may take to send the head of a request. */
const headersTimeout = 10_000
/** How long it may take to send all of it. */
const requestTimeout = 60_000
/** How long a connection may be unused. */
const keepAliveTimeout = 30_000
/** How often it is looked at who takes longer. */
const connectionsCheckingInterval = 1000
const maxConnections = 1024
const maxSubscriptions = 128

const listen = (node: Http.Server, host: string, port: number): Effect.Effect<void, MetricsServer.ListenError> =>
  Effect.callback((resume) => {
    node.once("error", (cause) => resume(Effect.fail(MetricsServer.listenError("MCP", host, port, cause))))
    node.listen({ host, port }, () => resume(Effect.void))
  })

const closed = (node: Http.Server): Effect.Effect<void> =>
  Effect.callback((resume) => {
    node.once("close", () => resume(Effect.void))
    if (!node.listening) resume(Effect.void)
  })

/**
 * Fails where a token is needed and there is none.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkToken = (host: string, token: Redacted.Redacted | undefined): Effect.Effect<void, TokenMissing> =>
  token === undefined && !HttpGuard.isLoopback(host) ? Effect.fail(new TokenMissing({ host })) : Effect.void

/**
 * Gives names as they are in requests. Fails at one that has a scheme, a port, a path or a `*`, or is no name.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkNames = (names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, NameInvalid> =>
  Effect.forEach(names, (name) => {
    const canonical = HttpGuard.nameOf(name)
    return canonical === undefined ? Effect.fail(new NameInvalid({ name })) : Effect.succeed(canonical)
  })

/**
 * Starts the server.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<
  McpHttp["Service"],
  MetricsServer.ListenError | NameInvalid | TokenMissing,
  McpServer.McpServer | Scope.Scope
> {
  const { grace = "10 seconds", host = "127.0.0.1", port, token } = options
  yield* checkToken(host, token)
  const names = yield* checkNames(options.names ?? [])
  const mcp = yield* McpServer.McpServer
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const onerror = (error: Error) =>
    void run(Effect.logDebug("a request was refused").pipe(Effect.annotateLogs({ problem: error.message })))
  const maxBody = options.maxBody ?? 16 * 1024 * 1024
  const handler = Sdk.createMcpHandler(mcp.request, {
    bus: mcp.events,
    maxRequestBodySize: maxBody,
    maxSubscriptions,
    onerror
  })
  const idleMs = Duration.toMillis(options.sessionIdle ?? "30 minutes")
  const sessions = Sessions.make({ factory: mcp.connection, max: options.maxSessions ?? 256, idleMs })
  const routes = HttpRoutes.make({
    refusalOf: HttpGuard.make({ host, token, names }),
    maxRequests: options.maxRequests ?? 256,
    sessions,
    answer: toNodeHandler(HttpRoutes.fetchOf(handler, sessions), { maxRequestBodySize: maxBody, onerror })
  })
  const node = Http.createServer({
    headersTimeout,
    requestTimeout,
    keepAliveTimeout,
    connectionsCheckingInterval,
    ServerResponse: HttpRoutes.EventResponse
  }, routes.handle)
  node.maxConnections = maxConnections
  const drain = Effect.gen(function*() {
    // It still listens, so that whoever comes meanwhile hears that it ends.
    const drained = yield* Effect.timeoutOption(routes.drain, grace)
    if (Option.isNone(drained)) yield* Effect.timeoutOption(Effect.andThen(mcp.cancel, routes.drain), "1 second")
    const ended = closed(node)
    node.close()
    yield* Effect.promise(() => Promise.all([handler.close(), sessions.endAll()]))
    yield* Effect.timeoutOption(ended, "1 second")
    node.closeAllConnections()
  })
  yield* Effect.acquireRelease(listen(node, host, port), () => drain)
  yield* Effect.promise(() => sessions.endIdle()).pipe(
    Effect.repeat(Schedule.spaced(Math.min(idleMs, 60_000))),
    Effect.forkScoped
  )
  const bound = node.address()
  const actual = typeof bound === "object" && bound !== null ? bound.port : port
  return McpHttp.of({ port: actual, url: `http://${MetricsServer.reachable(host)}:${actual}${HttpRoutes.endpoint}` })
})

/**
 * Provides the server.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options
): Layer.Layer<McpHttp, MetricsServer.ListenError | NameInvalid | TokenMissing, McpServer.McpServer> =>
  Layer.effect(McpHttp, make(options))
