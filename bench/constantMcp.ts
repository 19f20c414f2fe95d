/**
 * An MCP server of 2026-07-28 that does nothing: after 5 ms it answers each call with the same text. What a client takes of it is the
 * client's own, and the network's. A process of its own, that tells its port and ends with its parent.
 */
import { setTimeout } from "node:timers/promises"
import * as Http from "node:http"
import * as Consumers from "node:stream/consumers"

const afterMs = 5
const text = `CSV Analysis\n${"x".repeat(400)}\n`
const ttl = { ttlMs: 60_000, cacheScope: "public" }

const results: Readonly<Record<string, object>> = {
  "server/discover": {
    supportedVersions: ["2026-07-28"],
    capabilities: { tools: {} },
    serverInfo: { name: "constant", version: "1" },
    ...ttl
  },
  "tools/list": { tools: [{ name: "csv-analyzer", description: "None.", inputSchema: { type: "object" } }], ...ttl },
  "tools/call": { content: [{ type: "text", text }] }
}

const server = Http.createServer(async (request, response) => {
  const { id, method }: { id?: number; method?: string } = request.method === "POST"
    ? JSON.parse(await Consumers.text(request))
    : {}
  const result = results[method ?? ""]
  if (result === undefined) return void response.writeHead(405).end()
  if (method === "tools/call") await setTimeout(afterMs)
  const body = JSON.stringify({ jsonrpc: "2.0", id, result: { resultType: "complete", ...result } })
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body)
})
server.listen(0, "127.0.0.1", () => process.send?.(server.address()))
process.on("disconnect", () => process.exit())
