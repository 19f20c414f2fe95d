/** Sessions of the revisions before 2026-07-28: they begin with `initialize`, hear of changes, and end by themselves when unused. */
import * as Sdk from "@modelcontextprotocol/server"
import { randomUUID } from "node:crypto"

export interface Options {
  readonly factory: Sdk.McpServerFactory
  /** How many there may be. A further one ends the one that was not used for longest. */
  readonly max: number
  /** How long one may be unused, in milliseconds. */
  readonly idleMs: number
}

interface Session {
  readonly transport: Sdk.WebStandardStreamableHTTPServerTransport
  readonly mcp: Sdk.McpServer | Sdk.Server
  /** Requests that are not answered yet, and streams that are open. */
  active: number
  used: number
}

export interface Sessions {
  readonly has: (id: string) => boolean
  /** Marks a session as used until the function that this returns is called. */
  readonly use: (id: string) => () => void
  /** Undefined when there are as many as may be, all of them in use. */
  readonly open: (request: Request, body: unknown) => Promise<Response | undefined>
  readonly fetch: (id: string, request: Request, body: unknown) => Promise<Response>
  readonly endIdle: () => Promise<void>
  readonly endAll: () => Promise<void>
}

const end = async (session: Session) => {
  await session.mcp.close().catch(() => undefined)
  await session.transport.close().catch(() => undefined)
}

/** Makes a session of its first request. */
const begin = async (
  factory: Sdk.McpServerFactory,
  sessions: Map<string, Session>,
  request: Request,
  body: unknown
): Promise<Response> => {
  const mcp = await factory({ era: "legacy", requestInfo: request })
  let opened: string | undefined
  const transport = new Sdk.WebStandardStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => {
      opened = id
      sessions.set(id, session)
    }
  })
  const session: Session = { transport, mcp, active: 0, used: performance.now() }
  transport.onclose = () => {
    if (opened !== undefined) sessions.delete(opened)
  }
  await mcp.connect(transport)
  const response = await transport.handleRequest(request, { parsedBody: body })
  if (opened === undefined) await end(session)
  return response
}

export const make = ({ factory, idleMs, max }: Options): Sessions => {
  const sessions = new Map<string, Session>()
  let opening = 0

  const makeRoom = async (): Promise<boolean> => {
    if (sessions.size + opening <= max) return true
    const [oldest] = Array.from(sessions.values()).filter(({ active }) => active === 0).sort((a, b) => a.used - b.used)
    if (oldest === undefined) return false
    await end(oldest)
    return true
  }

  return {
    has: (id) => sessions.has(id),
    use: (id) => {
      const session = sessions.get(id)
      if (session === undefined) return () => undefined
      session.active += 1
      return () => {
        session.active -= 1
        session.used = performance.now()
      }
    },
    open: async (request, body) => {
      opening += 1
      try {
        return await makeRoom() ? await begin(factory, sessions, request, body) : undefined
      } finally {
        opening -= 1
      }
    },
    fetch: (id, request, body) => {
      const session = sessions.get(id)
      if (session === undefined) return Promise.resolve(new Response(null, { status: 404 }))
      return session.transport.handleRequest(request, body === undefined ? {} : { parsedBody: body })
    },
    endIdle: async () => {
      const before = performance.now() - idleMs
      const idle = Array.from(sessions.values()).filter(({ active, used }) => active === 0 && used < before)
      await Promise.all(idle.map(end))
    },
    endAll: async () => {
      await Promise.all(Array.from(sessions.values(), end))
    }
  }
}
