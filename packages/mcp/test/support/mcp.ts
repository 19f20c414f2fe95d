/** The official client, before a real server of skills, in both eras and over both transports. */
import { Client, type RequestOptions, StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio"
import * as McpHttp from "@skillscale/mcp/McpHttp"
import * as McpServer from "@skillscale/mcp/McpServer"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Path from "node:path"
import type { World } from "../../../../test/support/skillWorld.ts"

export type Era = "2026-07-28" | "2025-11-25"

/** A client, and what it heard of lists that changed. */
export interface Connected extends AsyncDisposable {
  readonly client: Client
  readonly changed: Array<"tools" | "prompts" | "resources">
  readonly close: () => Promise<void>
}

export interface Serving extends AsyncDisposable {
  readonly url: string
  /** Ends the server, as a signal does. */
  readonly close: () => Promise<void>
}

export interface Options {
  readonly tools?: PromiseTools.ConnectOptions
  readonly server?: Partial<McpServer.Options>
  readonly http?: Partial<McpHttp.Options>
}

/** Serves the skills of a world over HTTP. */
export const serve = async ({ addresses }: World, { http, server, tools }: Options = {}): Promise<Serving> => {
  const runtime = ManagedRuntime.make(
    McpHttp.layer({ port: 0, ...http }).pipe(
      Layer.provide(McpServer.layer({ version: "0.0.0", ...server })),
      Layer.provide(PromiseTools.layer({ ...addresses, ...tools }))
    )
  )
  const { url } = Context.get(await runtime.context(), McpHttp.McpHttp)
  const close = () => runtime.dispose()
  return { url, close, [Symbol.asyncDispose]: close }
}

const connected = async (
  era: Era,
  transport: StreamableHTTPClientTransport | StdioClientTransport
): Promise<Connected> => {
  const changed: Connected["changed"] = []
  const hear = (what: Connected["changed"][number]) => ({
    autoRefresh: false,
    onChanged: () => void changed.push(what)
  })
  const client = new Client({ name: "test", version: "0.0.0" }, {
    versionNegotiation: { mode: era === "2026-07-28" ? { pin: era } : "legacy" },
    listChanged: { tools: hear("tools"), prompts: hear("prompts"), resources: hear("resources") }
  })
  await client.connect(transport)
  const close = () => client.close()
  return { client, changed, close, [Symbol.asyncDispose]: close }
}

export const overHttp = (era: Era, url: string, headers: Record<string, string> = {}): Promise<Connected> =>
  connected(era, new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }))

const bin = Path.join(import.meta.dirname, "../../../cli/src/bin.ts")

/** Starts `skillscale mcp` as a desktop client does. */
export const overStdio = (era: Era, { addresses }: World, args: ReadonlyArray<string> = []): Promise<Connected> =>
  connected(
    era,
    new StdioClientTransport({
      command: process.execPath,
      args: [
        "--conditions=skillscale",
        bin,
        "mcp",
        "--proxy-xsub",
        addresses.xsub,
        "--proxy-xpub",
        addresses.xpub,
        ...args
      ],
      stderr: "ignore"
    })
  )

export interface Called {
  readonly isError: boolean
  readonly text: string
  readonly structured: unknown
  readonly content: ReadonlyArray<Readonly<Record<string, unknown>>>
}

export const call = async (
  { client }: Pick<Connected, "client">,
  name: string,
  input: Record<string, unknown> = {},
  options?: RequestOptions
): Promise<Called> => {
  const result = await client.callTool({ name, arguments: input }, options)
  const first = result.content[0]
  return {
    isError: result.isError === true,
    text: first?.type === "text" ? first.text : "",
    structured: result.structuredContent,
    content: result.content
  }
}

/** The error of a promise that has to reject. */
export const errorOf = async (
  promise: Promise<unknown>
): Promise<{ readonly code: unknown; readonly message: string }> => {
  try {
    await promise
  } catch (error) {
    if (error instanceof Error) return { code: "code" in error ? error.code : undefined, message: error.message }
    throw error
  }
  throw new Error("it did not fail")
}
