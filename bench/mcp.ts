/**
 * Measures what MCP over HTTP adds to a call of a warm skill: the official client and `skillscale mcp --http` in processes of their
 * own, against the bus client, in turns. Run: `node --conditions=skillscale bench/mcp.ts`.
 */
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import type { Figure } from "./figure.ts"
import { start } from "./stack.ts"
import { added, data, skill, withWarmSkill } from "./warmSkill.ts"

const rounds = { warmUp: 300, counted: 600 }

const eras = { "2026-07-28": "auto", "2025-11-25": "legacy" } as const

const connected = async (url: URL, mode: "auto" | "legacy"): Promise<Client> => {
  const client = new Client({ name: "bench", version: "1" }, { versionNegotiation: { mode } })
  await client.connect(new StreamableHTTPClientTransport(url))
  return client
}

export const mcpBench = (): Promise<ReadonlyArray<Figure>> =>
  withWarmSkill(async ({ addresses: { xpub, xsub }, compare }) => {
    const mcp = await start(["mcp", "--http", "0", "--proxy-xsub", xsub, "--proxy-xpub", xpub], "\"MCP is ready\"")
    try {
      const rows: Array<Figure> = []
      for (const [era, mode] of Object.entries(eras)) {
        const agent = await connected(new URL(mcp.address("url")), mode)
        const times = await compare(() => agent.callTool({ name: skill, arguments: { input: data } }), rounds)
        await agent.close()
        rows.push({
          what: `a warm skill through MCP over HTTP (${era}), p50`,
          against: `the same through the bus client, ${times.plain.toFixed(2)} ms`,
          bar: "≤ + 2 ms",
          measured: added(times),
          ok: times.call - times.plain <= 2
        })
      }
      return rows
    } finally {
      await mcp.stop()
    }
  })
