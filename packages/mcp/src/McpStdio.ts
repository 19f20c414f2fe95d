/**
 * One MCP connection over standard input and output, as desktop clients open it.
 *
 * @since 0.1.0
 */
import type { JSONRPCMessage } from "@modelcontextprotocol/server"
import { serveStdio, StdioServerTransport } from "@modelcontextprotocol/server/stdio"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Readable, Writable } from "node:stream"
import * as McpServer from "./McpServer.ts"

/**
 * Where messages come from and go to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** By default the standard input of the process. */
  readonly input?: Readable | undefined
  /** By default its standard output. Nothing else may be written there. */
  readonly output?: Writable | undefined
  /** The largest message, in bytes; a larger one ends the connection. By default 16 MiB. */
  readonly maxMessage?: number | undefined
}

/**
 * How long after progress a result is held back, in milliseconds. Of what it reads at once, the official client takes up a result
 * first, and then drops the progress that came ahead of it.
 */
const apartMs = 5

class Transport extends StdioServerTransport {
  onEnd: () => void = () => undefined
  #told = -Infinity

  override async send(message: JSONRPCMessage): Promise<void> {
    if ("method" in message) {
      if (message.method === "notifications/progress") this.#told = performance.now()
    } else {
      const left = Math.ceil(this.#told + apartMs - performance.now())
      if (left > 0) await new Promise((resolve) => setTimeout(resolve, left))
    }
    return super.send(message)
  }

  override async close(): Promise<void> {
    await super.close()
    this.onEnd()
  }
}

/**
 * Serves the connection and returns when it is over: when the input ends, the output is closed, or a message is too large. What runs
 * then, or when this is interrupted, is cancelled on the servers before the scope is closed.
 *
 * @category running
 * @since 0.1.0
 */
export const serve = Effect.fnUntraced(function*(
  { input = process.stdin, maxMessage = 16 * 1024 * 1024, output = process.stdout }: Options = {}
): Effect.fn.Return<void, never, McpServer.McpServer | Scope.Scope> {
  const { connection } = yield* McpServer.McpServer
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const ended = Deferred.makeUnsafe<void>()
  const end = () => Deferred.doneUnsafe(ended, Effect.void)
  const ends = [[input, "end"], [input, "close"], [output, "close"], [output, "error"]] as const
  const transport = new Transport(input, output, { maxBufferSize: maxMessage })
  transport.onEnd = end
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      for (const [stream, event] of ends) stream.once(event, end)
      return serveStdio(connection, {
        transport,
        onerror: (error) =>
          void run(Effect.logDebug("a message was refused").pipe(Effect.annotateLogs({ problem: error.message })))
      })
    }),
    (handle) =>
      Effect.promise(async () => {
        for (const [stream, event] of ends) stream.removeListener(event, end)
        await handle.close()
      })
  )
  yield* Deferred.await(ended)
})
