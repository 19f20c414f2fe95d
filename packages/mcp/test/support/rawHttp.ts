/** Requests over HTTP as no client of the protocol makes them. */
import * as Http from "node:http"
import * as Net from "node:net"

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

export interface Sent {
  /** The head of the answer, and its body to the end. */
  readonly answer: Promise<Answer>
  /** The head of the answer alone. */
  readonly headed: Promise<void>
  /** The first bytes of the body. */
  readonly begun: Promise<void>
  /** Closes the connection. */
  readonly abandon: () => void
}

export interface Request {
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

const json = { "content-type": "application/json", accept: "application/json, text/event-stream" }

/** Begins a request. A body that is not a text is sent as JSON. */
export const send = (url: string, { body, headers, method = "POST", path }: Request): Sent => {
  const target = new URL(path ?? "/mcp", url)
  const request = Http.request(target, { method, headers: { ...json, ...headers }, agent: false })
  let begin = () => undefined as void
  const begun = new Promise<void>((resolve) => {
    begin = resolve
  })
  const headed = new Promise<void>((resolve) => request.once("response", () => resolve()))
  const answer = new Promise<Answer>((resolve, reject) => {
    request.once("error", reject)
    request.once("response", (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk)
        begin()
      })
      response.once("error", reject)
      response.once("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString()
        }))
    })
  })
  request.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body))
  return { answer, headed, begun, abandon: () => request.destroy() }
}

export const ask = (url: string, request: Request): Promise<Answer> => send(url, request).answer

/** A request of 2026-07-28, as far as its body and headers go. */
export const modern = (method: string, params: Readonly<Record<string, unknown>> = {}): Request => ({
  headers: {
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": method,
    ...typeof params["name"] === "string" ? { "mcp-name": params["name"] } : {}
  },
  body: {
    jsonrpc: "2.0",
    id: 1,
    method,
    params: {
      ...params,
      _meta: {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { name: "test", version: "0" }
      }
    }
  }
})

/** The first request of a session. */
export const initialize: Request = {
  body: {
    jsonrpc: "2.0",
    id: 1,
    method: "initialize",
    params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "0" } }
  }
}

/** What comes of bytes on a connection until the other side closes it. */
export const bytes = (url: string, text: string): Promise<string> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(url)
    const socket = Net.connect(Number(port), hostname)
    let heard = ""
    socket.on("data", (data) => {
      heard += data.toString("latin1")
    })
    socket.on("error", () => undefined)
    socket.once("close", () => resolve(heard))
    socket.write(text)
  })
