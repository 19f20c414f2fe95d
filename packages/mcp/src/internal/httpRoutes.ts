/** What becomes of a request over HTTP: refused, or answered by its session, or by itself. */
import type { NodeMcpRequestHandler } from "@modelcontextprotocol/node"
import * as Sdk from "@modelcontextprotocol/server"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from "node:http"
import type { Refusal } from "./httpGuard.ts"
import type { Sessions } from "./sessions.ts"

export const endpoint = "/mcp"

export interface Options {
  readonly refusalOf: (request: IncomingMessage) => Refusal | undefined
  readonly maxRequests: number
  readonly sessions: Sessions
  readonly answer: NodeMcpRequestHandler
}

const sessionHeader = "mcp-session-id"

const errorOf = (code: number, message: string) => ({ jsonrpc: "2.0", error: { code, message }, id: null })

const failure = (status: number, code: number, message: string): Response =>
  Response.json(errorOf(code, message), { status })

type Headers = OutgoingHttpHeaders | ReadonlyArray<OutgoingHttpHeader>

const isOfEvents = (headers: unknown): boolean =>
  String(Object(headers)["content-type"]).startsWith("text/event-stream")

/** After so long the head of a call's answer goes without its first event: most have one before, and a packet more costs them time. */
const headMs = 1000

/** An answer whose head is not held back for long where its body is a stream of events, the first of which may be long in coming. */
export class EventResponse extends Http.ServerResponse {
  override writeHead(status: number, headers?: Headers): this
  override writeHead(status: number, message?: string, headers?: Headers): this
  override writeHead(status: number, ...rest: ReadonlyArray<unknown>): this {
    Reflect.apply(super.writeHead, this, [status, ...rest])
    if (!isOfEvents(rest.at(-1))) return this
    const flush = () => this.writableEnded || this.destroyed ? undefined : this.flushHeaders()
    if (this.req.method === "GET") {
      setImmediate(flush)
    } else {
      const timer = setTimeout(flush, headMs)
      this.once("close", () => clearTimeout(timer))
    }
    return this
  }
}

const refuse = (response: ServerResponse, { headers, message, status }: Refusal): void => {
  // What is left of the request is not read.
  response.writeHead(status, { "content-type": "application/json", connection: "close", ...headers })
  response.end(JSON.stringify(errorOf(-32000, message)))
}

const text = (response: ServerResponse, status: number, body: string): void => {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" })
  response.end(body)
}

const isOpening = (body: unknown): boolean => Sdk.isInitializeRequest(body)

/** Whether a request says of itself that it is of 2026-07-28 or later, so that nothing else has to be looked at. */
const isModern = (body: unknown): boolean => {
  const { params } = Object(body) as { readonly params?: { readonly _meta?: Readonly<Record<string, unknown>> } }
  return typeof params?._meta?.[Sdk.PROTOCOL_VERSION_META_KEY] === "string"
}

/** Leads a request to its session; one that begins a session opens it. All others are answered by themselves. */
export const fetchOf = (handler: Sdk.McpHttpHandler, sessions: Sessions) => ({
  fetch: async (request: Request): Promise<Response> => {
    const session = request.headers.get(sessionHeader)
    if (request.method !== "POST") {
      if (session === null) return handler.fetch(request)
      return sessions.has(session)
        ? sessions.fetch(session, request, undefined)
        : failure(404, -32001, "Session not found")
    }
    if (!Sdk.isJsonContentType(request.headers.get("content-type"))) return handler.fetch(request)
    let body: unknown
    try {
      body = JSON.parse(await request.text())
    } catch {
      return failure(400, -32700, "Parse error: the request is not JSON")
    }
    if (isModern(body) || !await Sdk.isLegacyRequest(request, body)) return handler.fetch(request, { parsedBody: body })
    if (session !== null) {
      return sessions.has(session) ? sessions.fetch(session, request, body) : failure(404, -32001, "Session not found")
    }
    if (!isOpening(body)) return handler.fetch(request, { parsedBody: body })
    return await sessions.open(request, body) ?? failure(503, -32000, "there are too many sessions; come back later")
  }
})

export const make = ({ answer, maxRequests, refusalOf, sessions }: Options) => {
  let open = 0
  let unanswered = 0
  let isDraining = false
  let onAnswered = () => undefined

  /** Those that clients keep open to hear of changes, which have no other end. */
  const isStream = ({ headers, method }: IncomingMessage): boolean =>
    method === "GET" || headers["mcp-method"] === "subscriptions/listen"

  const take = (request: IncomingMessage, response: ServerResponse): void => {
    const session = request.headers[sessionHeader]
    const release = typeof session === "string" ? sessions.use(session) : () => undefined
    const weight = isStream(request) ? 0 : 1
    open += 1
    unanswered += weight
    response.once("close", () => {
      open -= 1
      unanswered -= weight
      release()
      if (unanswered === 0) onAnswered()
    })
    void answer(Object.assign(request, { method: request.method ?? "GET", url: request.url ?? endpoint }), response)
  }

  const refusalNow = (request: IncomingMessage): Refusal | undefined => {
    if (isDraining) return { status: 503, message: "this server is ending" }
    const refusal = refusalOf(request)
    if (refusal !== undefined) return refusal
    return open < maxRequests
      ? undefined
      : { status: 503, message: "there are too many requests; come back later", headers: { "retry-after": "1" } }
  }

  return {
    /** Takes no more requests, and returns when those in hand are answered or given up. */
    drain: Effect.callback<void>((resume) => {
      isDraining = true
      onAnswered = () => void resume(Effect.void)
      if (unanswered === 0) onAnswered()
    }),
    handle: (request: IncomingMessage, response: ServerResponse): void => {
      const path = (request.url ?? "/").split("?", 1)[0]
      if (path === "/healthz") {
        const isReading = request.method === "GET" || request.method === "HEAD"
        return isReading
          ? text(response, isDraining ? 503 : 200, isDraining ? "draining\n" : "ok\n")
          : text(response, 405, "method not allowed\n")
      }
      if (path !== endpoint) return text(response, 404, `not found; MCP is at ${endpoint}\n`)
      const refusal = refusalNow(request)
      if (refusal !== undefined) return refuse(response, refusal)
      take(request, response)
    }
  }
}
