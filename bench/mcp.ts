/**
 * Measures what MCP over HTTP adds to a call of a warm skill: the official client and `skillscale mcp --http` in processes of their
 * own, against the bus client, in turns. Run: `node --conditions=skillscale bench/mcp.ts`.
 */
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { type Figure, median } from "./figure.ts"
import { start, startProxy } from "./stack.ts"

const topic = "TOPIC_DATA_PROCESSING"
const skill = "csv-analyzer"
const skills = fileURLToPath(new URL("../skills", import.meta.url))
const data = "city,people\nOslo,709000\nBergen,291000\nTrondheim,212000\n"
// After so many calls a server is as fast as it gets; before, it is being compiled.
const warmUpCalls = 3000
const warmUpRounds = 300
const rounds = 600

const eras = { "2026-07-28": "auto", "2025-11-25": "legacy" } as const

const connected = async (url: URL, mode: "auto" | "legacy"): Promise<Client> => {
  const client = new Client({ name: "bench", version: "1" }, { versionNegotiation: { mode } })
  await client.connect(new StreamableHTTPClientTransport(url))
  return client
}

export const mcpBench = async (): Promise<ReadonlyArray<Figure>> => {
  const proxy = await startProxy()
  const { xpub, xsub } = proxy
  const at = ["--proxy-xsub", xsub, "--proxy-xpub", xpub]
  const server = await start(["server", "--topic", topic, "--skills-dir", Fs.realpathSync(skills), ...at], "serving")
  const mcp = await start(["mcp", "--http", "0", ...at], "\"MCP is ready\"")
  const client = await PromiseClient.connect({ xsub, xpub })
  const plain = async () => (await client.invoke({ skill, topic, data })).content
  try {
    for (let call = 0; call < warmUpCalls; call++) await plain()
    const rows: Array<Figure> = []
    for (const [era, mode] of Object.entries(eras)) {
      const agent = await connected(new URL(mcp.address("url")), mode)
      const call = () => agent.callTool({ name: skill, arguments: { input: data } })
      const times = { call: [] as Array<number>, plain: [] as Array<number> }
      for (let round = 0; round < warmUpRounds + rounds; round++) {
        for (const [kept, work] of [[times.call, call], [times.plain, plain]] as const) {
          const began = performance.now()
          const output = await work()
          if (round >= warmUpRounds) kept.push(performance.now() - began)
          if (!JSON.stringify(output).includes("CSV Analysis")) throw new Error(JSON.stringify(output))
        }
      }
      await agent.close()
      const added = median(times.call) - median(times.plain)
      rows.push({
        what: `a warm skill through MCP over HTTP (${era}), p50`,
        against: `the same through the bus client, ${median(times.plain).toFixed(2)} ms`,
        bar: "≤ + 2 ms",
        measured: `${median(times.call).toFixed(2)} ms (+ ${added.toFixed(2)} ms)`,
        ok: added <= 2
      })
    }
    return rows
  } finally {
    await client.close()
    await mcp.stop()
    await server.stop()
    await proxy.stop()
  }
}
