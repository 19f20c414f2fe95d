/**
 * Between Node's HTTP and the fetch functions of the SDK, with as few writes to the socket as there can be: each costs as much as
 * all else that is done for a call. A request is read at once; an answer that is whole is sent as one, with its length.
 */
import type { IncomingMessage, ServerResponse } from "node:http"

/** Answers a request. The text of its body comes beside it; a request has it, too, unless it is JSON. */
export type Fetch = (request: Request, text: string | undefined) => Promise<Response>

export interface Options {
  readonly fetch: Fetch
  /** Of a request, in bytes. */
  readonly maxBody: number
  readonly onerror: (error: Error) => void
  readonly isJson: (contentType: string | null) => boolean
}

/** For how long the head of a stream waits for the first of it, in milliseconds. */
const openingMs = 5

class TooLarge extends Error {
  constructor(maxBody: number) {
    super(`the request has more than ${maxBody} bytes`)
  }
}

const errorOf = (status: number, code: number, message: string, headers: Record<string, string> = {}): Response =>
  Response.json({ jsonrpc: "2.0", error: { code, message }, id: null }, { status, headers })

const headersOf = ({ headers }: IncomingMessage): Headers => {
  const made = new Headers()
  for (const [name, value] of Object.entries(headers)) {
    if (Array.isArray(value)) value.forEach((one) => made.append(name, one))
    else if (value !== undefined) made.set(name, value)
  }
  return made
}

const read = async (request: IncomingMessage, maxBody: number): Promise<string> => {
  if (Number(request.headers["content-length"]) > maxBody) throw new TooLarge(maxBody)
  const chunks: Array<Buffer> = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength
    if (bytes > maxBody) throw new TooLarge(maxBody)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString("utf8")
}

const isWhole = (response: Response): boolean =>
  response.body === null || response.headers.get("content-type")?.startsWith("application/json") === true

const sendWhole = async (response: Response, to: ServerResponse): Promise<void> => {
  const body = Buffer.from(await response.arrayBuffer())
  // A response that may have no body has no length either.
  const length = response.body === null ? {} : { "content-length": body.byteLength }
  to.writeHead(response.status, { ...Object.fromEntries(response.headers), ...length })
  to.end(body)
}

const drained = (to: ServerResponse, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      to.off("drain", done)
      signal.removeEventListener("abort", done)
      resolve()
    }
    to.once("drain", done)
    signal.addEventListener("abort", done, { once: true })
  })

const sendStream = async (response: Response, to: ServerResponse, signal: AbortSignal): Promise<void> => {
  to.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body === null) return void to.end()
  // A client learns from the head that its stream is open; where something comes at once, the head goes with it.
  const opening = setTimeout(() => to.flushHeaders(), openingMs)
  for await (const chunk of response.body) {
    clearTimeout(opening)
    if (signal.aborted) break
    // What comes at the same time, and the end, goes with it.
    to.cork()
    const hasRoom = to.write(chunk)
    setImmediate(() => to.uncork())
    if (!hasRoom) await drained(to, signal)
  }
  clearTimeout(opening)
  to.end()
}

/** Makes the function that Node calls for a request. It never rejects. */
export const make = ({ fetch, isJson, maxBody, onerror }: Options) => {
  const answer = async (request: IncomingMessage, signal: AbortSignal): Promise<Response> => {
    const { method = "GET", url = "/" } = request
    const hasBody = method !== "GET" && method !== "HEAD"
    try {
      const text = hasBody ? await read(request, maxBody) : undefined
      const headers = headersOf(request)
      const body = text === undefined || isJson(headers.get("content-type")) ? {} : { body: text }
      const address = `http://${request.headers.host ?? "localhost"}${url}`
      return await fetch(new Request(address, { method, headers, signal, ...body }), text)
    } catch (error) {
      if (error instanceof TooLarge) return errorOf(413, -32000, error.message, { connection: "close" })
      onerror(error instanceof Error ? error : new Error(String(error)))
      return errorOf(500, -32603, "Internal server error")
    }
  }

  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const leaving = new AbortController()
    response.once("close", () => {
      if (!response.writableFinished) leaving.abort()
    })
    const { signal } = leaving
    try {
      const made = await answer(request, signal)
      await (isWhole(made) ? sendWhole(made, response) : sendStream(made, response, signal))
    } catch (error) {
      // The stream of an answer broke: its client hears that by the end of the connection.
      onerror(error instanceof Error ? error : new Error(String(error)))
      response.destroy()
    }
  }
}
