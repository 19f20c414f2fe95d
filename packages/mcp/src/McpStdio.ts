/**
 * One MCP connection over standard input and output, as desktop clients open it.
 *
 * @since 0.1.0
 */
import type { JSONRPCMessage } from "@modelcontextprotocol/server"
import { serveStdio, StdioServerTransport } from "@modelcontextprotocol/server/stdio"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
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
  /** The largest message, in bytes; a larger one ends the connection with `MessageTooLarge`. By default 16 MiB. */
  readonly maxMessage?: number | undefined
}

/**
 * A message has more bytes than it may have, so that the connection is over.
 *
 * @category errors
 * @since 0.1.0
 */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>()("MessageTooLarge", {
  /** Bytes of a message. */
  limit: Schema.Int
}) {
  override get message() {
    return `the client sent a message of more than ${this.limit} bytes, so that the connection is over`
  }
}

/**
 * How long after progress a result is held back, in milliseconds. Of what it reads at once, the official client takes up a result
 * first, and then drops the progress that came ahead of it.
 */
const apartMs = 5

const newline = 0x0a

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

/** What the transport says before it closes; it gives no other sign. */
const isTooLarge = ({ message }: Error): boolean => message.startsWith("ReadBuffer exceeded")

const noMessage =
  "a line of standard input is no message of the protocol, and gets no answer; of further ones nothing is said"

/** Counts the lines of a stream that are not empty. */
const lineCounter = () => {
  let length = 0
  return (chunk: Uint8Array): number => {
    let lines = 0
    let from = 0
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, from)) {
      length += end - from
      // At the end of a line there may be a carriage return.
      if (length > 1) lines += 1
      length = 0
      from = end + 1
    }
    length += chunk.byteLength - from
    return lines
  }
}

/** Tells once of lines that the transport did not take for messages, which it drops without a word. Call it after the transport has begun. */
const watch = (input: Readable, transport: Transport, tell: () => void): () => void => {
  const { onmessage } = transport
  const linesOf = lineCounter()
  let left = 0
  transport.onmessage = (message) => {
    left -= 1
    onmessage?.(message)
  }
  const onData = (chunk: Uint8Array) => {
    left += linesOf(chunk)
    if (left <= 0) return
    stop()
    tell()
  }
  const stop = () => void input.removeListener("data", onData)
  input.on("data", onData)
  return stop
}

/**
 * Serves the connection and returns when it is over: when the input ends or the output is closed. Fails when a message is too large.
 * What runs then, or when this is interrupted, is cancelled on the servers before the scope is closed.
 *
 * @category running
 * @since 0.1.0
 */
export const serve = Effect.fnUntraced(function*(
  { input = process.stdin, maxMessage = 16 * 1024 * 1024, output = process.stdout }: Options = {}
): Effect.fn.Return<void, MessageTooLarge, McpServer.McpServer | Scope.Scope> {
  const { connection } = yield* McpServer.McpServer
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const ended = Deferred.makeUnsafe<void, MessageTooLarge>()
  const end = () => Deferred.doneUnsafe(ended, Effect.void)
  const ends = [[input, "end"], [input, "close"], [output, "close"], [output, "error"]] as const
  const transport = new Transport(input, output, { maxBufferSize: maxMessage })
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      for (const [stream, event] of ends) stream.once(event, end)
      const handle = serveStdio(connection, {
        transport,
        onerror: (error) => {
          if (isTooLarge(error)) Deferred.doneUnsafe(ended, Effect.fail(new MessageTooLarge({ limit: maxMessage })))
          void run(Effect.logDebug("a message was refused").pipe(Effect.annotateLogs({ problem: error.message })))
        }
      })
      const stop = watch(input, transport, () => void run(Effect.logWarning(noMessage)))
      transport.onEnd = () => {
        stop()
        end()
      }
      return { handle, stop }
    }),
    ({ handle, stop }) =>
      Effect.promise(async () => {
        stop()
        for (const [stream, event] of ends) stream.removeListener(event, end)
        await handle.close()
      })
  )
  yield* Deferred.await(ended)
})
