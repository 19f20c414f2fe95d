/** The transport of MCP over HTTP. */
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import * as Redacted from "effect/Redacted"
import * as MountFailure from "./mountFailure.ts"
import * as MountStdio from "./mountStdio.ts"

/** Where the server is, and what every request has. */
export interface Options {
  readonly url: URL
  readonly headers: Readonly<Record<string, Redacted.Redacted>>
}

const newline = 10

/** Fails when a message is larger than any may be. An answer is one message; in a stream of events an empty line ends each. */
const bounded = (isStream: boolean) => {
  let size = 0
  let isLineEmpty = false
  return new TransformStream<Uint8Array, Uint8Array>({
    transform: (chunk, controller) => {
      size += chunk.byteLength
      if (isStream) {
        const last = chunk.lastIndexOf(newline)
        const before = last > 0 ? chunk[last - 1] === newline : isLineEmpty
        // Nearly every event comes as a chunk of its own, or as several of which the last ends with it.
        if (last !== -1 && before) size = chunk.byteLength - last - 1
        isLineEmpty = last === chunk.byteLength - 1
      }
      if (size <= MountStdio.maxMessageBytes) return controller.enqueue(chunk)
      const detail = `the answer is larger than ${MountStdio.maxMessageBytes} bytes`
      controller.error(new MountFailure.Refused({ detail, code: undefined }))
    }
  })
}

const boundedFetch = async (url: string | URL, init?: RequestInit): Promise<Response> => {
  const response = await fetch(url, init)
  if (response.body === null || !response.ok) return response
  const isStream = response.headers.get("content-type")?.includes("text/event-stream") === true
  const { headers, status, statusText } = response
  return new Response(response.body.pipeThrough(bounded(isStream)), { headers, status, statusText })
}

/** Redirects are followed to the same origin only, so that the headers go nowhere else. */
export const make = ({ headers, url }: Options): StreamableHTTPClientTransport =>
  new StreamableHTTPClientTransport(url, {
    fetch: boundedFetch,
    redirectPolicy: "same-origin",
    requestInit: {
      headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Redacted.value(value)]))
    }
  })
