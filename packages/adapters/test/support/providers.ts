/**
 * Servers on loopback that speak the wire of a provider of models, with a script in place of the model: it asks for one tool
 * after the other, and then says what it was given last.
 */
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import type { Ask } from "../frameworkSuite.ts"

export type Asks = ReadonlyArray<Ask | (() => Promise<Ask>)>

/** The body of a request. */
export type Body = Readonly<Record<string, unknown>>

/** How one provider says it. */
export interface Wire {
  /** The path of the endpoint. */
  readonly path: string
  /** The answer to the request with this number, which asks for a tool or else says the text. */
  readonly answer: (turn: number, ask: Ask | undefined, text: string) => unknown
  /** What the tools of the conversation answered as text, in order. */
  readonly given: (body: Body) => ReadonlyArray<string>
}

export interface Provider extends AsyncDisposable {
  /** Without the path of the endpoint. */
  readonly url: string
  /** The bodies of all requests. */
  readonly requests: ReadonlyArray<Body>
}

const read = async (request: Http.IncomingMessage): Promise<Body> => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as Body
}

/** Serves a script until it is disposed. */
export const serve = async ({ answer, given, path }: Wire, asks: Asks): Promise<Provider> => {
  const requests: Array<Body> = []
  const reply = async (request: Http.IncomingMessage): Promise<{ readonly status: number; readonly body: unknown }> => {
    if (request.method !== "POST" || request.url?.split("?")[0] !== path) {
      return { status: 404, body: { error: { message: `there is no ${request.method} ${request.url}` } } }
    }
    const body = await read(request)
    requests.push(body)
    const turn = requests.length
    const ask = asks[turn - 1]
    const text = `It said: ${given(body).at(-1) ?? "nothing"}`
    return { status: 200, body: answer(turn, typeof ask === "function" ? await ask() : ask, text) }
  }
  const server = Http.createServer((request, response) => {
    reply(request).then(({ body, status }) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))
    }, (error: unknown) => response.writeHead(500).end(String(error)))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}

/** What is in an array, or nothing where there is none. */
export const items = (value: unknown): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  Array.isArray(value) ? value as ReadonlyArray<Readonly<Record<string, unknown>>> : []

/** The text of content that is a string, or parts of which some have text. */
export const textOf = (content: unknown): string =>
  typeof content === "string"
    ? content
    : items(content).map(({ text }) => typeof text === "string" ? text : "").join("")
