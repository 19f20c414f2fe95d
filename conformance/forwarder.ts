/** An HTTP server that passes requests on under other names: for scenarios whose fixtures have names that no skill can have. */
import * as Http from "node:http"

export interface Forwarder {
  readonly url: string
  readonly close: () => void
}

const replaceAll = (text: string, names: ReadonlyArray<readonly [string, string]>): string =>
  names.reduce((replaced, [from, to]) => replaced.replaceAll(from, to), text)

const read = async (stream: AsyncIterable<Buffer>): Promise<string> => {
  const chunks: Array<Buffer> = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** Gives what is under the values of `names` the names of its keys. Answers come whole, when they have ended. */
export const start = async (target: string, names: Readonly<Record<string, string>>): Promise<Forwarder> => {
  const out = Object.entries(names)
  const back = out.map(([from, to]) => [to, from] as const)
  const server = Http.createServer(async (request, response) => {
    const headers = Object.entries(request.headers).flatMap(([name, value]) =>
      typeof value !== "string" || ["content-length", "connection"].includes(name)
        ? []
        : [[name, replaceAll(value, out)]]
    )
    const body = replaceAll(await read(request), out)
    const passed = Http.request(
      target,
      { method: request.method ?? "GET", headers: Object.fromEntries(headers), agent: false },
      async (answer) => {
        const kept = Object.fromEntries(
          Object.entries(answer.headers).filter(([name]) => !["content-length", "transfer-encoding"].includes(name))
        )
        const text = replaceAll(await read(answer), back)
        response.writeHead(answer.statusCode ?? 500, kept)
        response.end(text)
      }
    )
    passed.once("error", () => response.destroy())
    passed.end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    close: () => {
      server.close()
      server.closeAllConnections()
    }
  }
}
