import { assert, it } from "@effect/vitest"
import { InMemoryServerEventBus, McpServer as Protocol } from "@modelcontextprotocol/server"
import * as Effect from "effect/Effect"
import { PassThrough, Writable } from "node:stream"
import * as McpServer from "../src/McpServer.ts"
import * as McpStdio from "../src/McpStdio.ts"
import { overStdio } from "./support/mcp.ts"
import { initialize } from "./support/rawHttp.ts"
import { suite } from "./mcpSuite.ts"

for (const era of ["2026-07-28", "2025-11-25"] as const) {
  suite(`${era} over standard input and output`, (world) => overStdio(era, world))
}

/** A server whose only tool tells progress and is done. */
const connection = () => {
  const protocol = new Protocol({ name: "test", version: "0" }, { capabilities: { tools: {} } })
  protocol.server.setRequestHandler("tools/call", async (_request, { mcpReq }) => {
    await mcpReq.notify({ method: "notifications/progress", params: { progressToken: 1, progress: 1 } })
    return { content: [] }
  })
  return protocol
}

it.live("a result over standard output is not written together with the progress before it", () =>
  Effect.gen(function*() {
    const input = new PassThrough()
    const written: Array<{ readonly message: string; readonly at: number }> = []
    const output = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        const message = chunk.toString()
        written.push({ message, at: performance.now() })
        done()
        if (message.includes("\"content\":[]")) input.end()
      }
    })
    const call = { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "any", arguments: {} } }
    for (const message of [initialize.body, { jsonrpc: "2.0", method: "notifications/initialized" }, call]) {
      input.write(`${JSON.stringify(message)}\n`)
    }
    const server = { request: connection, connection, events: new InMemoryServerEventBus(), cancel: Effect.void }
    yield* McpStdio.serve({ input, output }).pipe(Effect.provideService(McpServer.McpServer, server))
    const when = (part: string) => written.find(({ message }) => message.includes(part))?.at ?? NaN
    assert.isAtLeast(when("\"content\":[]") - when("notifications/progress"), 4)
  }).pipe(Effect.scoped))
