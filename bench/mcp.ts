/**
 * Measures what MCP over HTTP adds to a call of a warm skill: `skillscale mcp --http` in a process of its own, asked by plain HTTP
 * requests, against the bus client; and what the official client takes for itself, against plain requests and of a server that does
 * nothing. Run:
 * `node --conditions=skillscale bench/mcp.ts`.
 */
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import type { Figure } from "./figure.ts"
import { start } from "./stack.ts"
import { added, type Call, data, skill, type Warm, withWarmSkill } from "./warmSkill.ts"

const rounds = { warmUp: 1000, counted: 600 }

/** Calls by one way until it is closed. */
interface Agent {
  readonly call: Call
  readonly close: () => Promise<void>
}

const params = { name: skill, arguments: { input: data } }

const post = (
  agent: Http.Agent,
  url: string,
  message: unknown,
  headers: Readonly<Record<string, string>>
): Promise<{ readonly headers: Http.IncomingHttpHeaders; readonly text: string }> =>
  new Promise((resolve, reject) => {
    const body = JSON.stringify(message)
    const request = Http.request(url, {
      method: "POST",
      agent,
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "content-length": Buffer.byteLength(body),
        ...headers
      }
    }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => {
        text += chunk
      })
      response.once("error", reject)
      response.once("end", () => resolve({ headers: response.headers, text }))
    })
    request.once("error", reject)
    request.end(body)
  })

const connection = () => {
  const agent = new Http.Agent({ keepAlive: true, maxSockets: 1 })
  let id = 0
  const ask = (url: string, method: string, params: object, headers: Readonly<Record<string, string>>) =>
    post(agent, url, { jsonrpc: "2.0", id: ++id, method, params }, headers)
  return { agent, ask, close: async () => agent.destroy() }
}

/** Plain requests of an era. */
const requests = {
  "2026-07-28": async (url: string): Promise<Agent> => {
    const { ask, close } = connection()
    const _meta = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientCapabilities": {},
      "io.modelcontextprotocol/clientInfo": { name: "bench", version: "1" }
    }
    const headers = { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": skill }
    return { call: () => ask(url, "tools/call", { ...params, _meta }, headers), close }
  },
  "2025-11-25": async (url: string): Promise<Agent> => {
    const { agent, ask, close } = connection()
    const protocolVersion = "2025-11-25"
    const clientInfo = { name: "bench", version: "1" }
    const begun = await ask(url, "initialize", { protocolVersion, capabilities: {}, clientInfo }, {})
    const headers = {
      "mcp-protocol-version": protocolVersion,
      "mcp-session-id": String(begun.headers["mcp-session-id"])
    }
    await post(agent, url, { jsonrpc: "2.0", method: "notifications/initialized" }, headers)
    return { call: () => ask(url, "tools/call", params, headers), close }
  }
}

const official = async (url: string, era: string): Promise<Agent> => {
  const client = new Client({ name: "bench", version: "1" }, {
    versionNegotiation: { mode: era === "2025-11-25" ? "legacy" : "auto" }
  })
  await client.connect(new StreamableHTTPClientTransport(new URL(url)))
  return { call: () => client.callTool(params), close: () => client.close() }
}

const constantMcp = fileURLToPath(new URL("constantMcp.ts", import.meta.url))
const constantMs = 5

/** What the clients take of calls in which the server has nothing to do. */
const floors = async (compare: Warm["compare"]): Promise<ReadonlyArray<Figure>> => {
  const server = ChildProcess.fork(constantMcp, { execArgv: [] })
  try {
    const [address] = await once(server, "message")
    const { port }: AddressInfo = address
    const url = `http://127.0.0.1:${port}/mcp`
    const rows: Array<Figure> = []
    const timer = () => setTimeout(constantMs, "CSV Analysis")
    const clients = { "the official client": official, "plain HTTP requests": requests["2026-07-28"] }
    for (const [name, begin] of Object.entries(clients)) {
      const agent = await begin(url, "2026-07-28")
      const times = await compare(agent.call, rounds, timer)
      await agent.close()
      rows.push({
        what: `${name}, of a server that answers with a constant after ${constantMs} ms`,
        against: `a timer of ${constantMs} ms, ${times.plain.toFixed(2)} ms`,
        bar: "",
        measured: added(times),
        ok: true
      })
    }
    return rows
  } finally {
    server.disconnect()
  }
}

export const mcpBench = (): Promise<ReadonlyArray<Figure>> =>
  withWarmSkill(async ({ addresses: { xpub, xsub }, compare }) => {
    const mcp = await start(["mcp", "--http", "0", "--proxy-xsub", xsub, "--proxy-xpub", xpub], "\"MCP is ready\"")
    const url = mcp.address("url")
    try {
      const rows: Array<Figure> = []
      for (const [era, begin] of Object.entries(requests)) {
        const plain = await begin(url)
        const client = await official(url, era)
        const overBus = await compare(plain.call, rounds)
        const byClient = await compare(client.call, rounds, plain.call)
        await Promise.all([plain.close(), client.close()])
        rows.push({
          what: `a warm skill through MCP over HTTP (${era}), p50`,
          against: `the same through the bus client, ${overBus.plain.toFixed(2)} ms`,
          bar: "≤ + 2 ms",
          measured: added(overBus),
          ok: overBus.more <= 2
        }, {
          what: "the same by the official client",
          against: `plain HTTP requests, ${byClient.plain.toFixed(2)} ms`,
          bar: "",
          measured: added(byClient),
          ok: true
        })
      }
      return [...rows, ...await floors(compare)]
    } finally {
      await mcp.stop()
    }
  })
