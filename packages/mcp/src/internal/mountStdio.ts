/** The transport of MCP over the standard input and output of a program. */
import type { JSONRPCMessage, Transport } from "@modelcontextprotocol/client"
import { deserializeMessage, serializeMessage } from "@modelcontextprotocol/client"
import * as MountFailure from "./mountFailure.ts"
import * as MountLines from "./mountLines.ts"

/** The largest message, in bytes: what an answer's text and files may be, as JSON. */
export const maxMessageBytes = 64 * 1024 * 1024

/** How much a program may write that is no message, in bytes within `wasteMs`, until it is taken for broken. */
export const maxWasteBytes = 16 * 1024 * 1024
const wasteMs = 60_000
/** The longest line, in bytes, whatever it is. */
const maxLineBytes = 1024 * 1024 * 1024

/** How many lines that are no messages are told of. */
const maxTold = 8

/** What the transport works on. */
export interface Options {
  readonly write: (text: string) => Promise<void>
  /** Hears what is wrong with what the program writes. */
  readonly onNote: (note: string) => void
}

const newline = 10

const idOf = (begin: string, end: string): number | undefined => {
  const found = /^\{"jsonrpc":"2\.0","id":(\d+),/.exec(begin) ?? /,"id":(\d+)(?:,"jsonrpc":"2\.0")?\}\s*$/.exec(end)
  return found?.[1] === undefined ? undefined : Number(found[1])
}

/** A message that is as large as none may be is answered in the server's place, where it is known what it answers. */
const inPlaceOf = (id: number): JSONRPCMessage => ({
  jsonrpc: "2.0",
  id,
  error: { code: -32_000, message: `the answer is larger than ${maxMessageBytes} bytes` }
})

/** Counts what is no message, and tells when it is too much. */
const wasteMeter = () => {
  let since = -Infinity
  let wasted = 0
  return (bytes: number): boolean => {
    const now = performance.now()
    if (now - since > wasteMs) {
      since = now
      wasted = 0
    }
    wasted += bytes
    return wasted > maxWasteBytes
  }
}

/** A transport, and what gives it the output of the program. */
export interface StdioTransport extends Transport {
  /** The client library takes a transport with these two for one of a program, whose silence means that it is old. */
  readonly stderr: null
  readonly pid: null
  readonly onOutput: (data: Uint8Array) => void
  /** The program is over. */
  readonly onEnd: () => void
}

export const make = ({ onNote, write }: Options): StdioTransport => {
  const pending = new Set<number>()
  let isClosed = false
  let told = 0
  let lineBytes = 0
  const isTooMuch = wasteMeter()

  const close = (): void => {
    if (isClosed) return
    isClosed = true
    transport.onclose?.()
  }

  /** Its connection ends, and with that the program. */
  const giveUp = (why: string): void => {
    onNote(`${why}; it is ended`)
    close()
  }

  const waste = (bytes: number): void => {
    if (isTooMuch(bytes)) giveUp(`it wrote more than ${maxWasteBytes} bytes within a minute that are no messages`)
  }

  const note = (text: string): void => {
    told += 1
    if (told <= maxTold) onNote(text)
    if (told === maxTold) onNote("further lines that are no messages are not told")
  }

  const receive = (message: JSONRPCMessage): void => {
    if ("id" in message && typeof message.id === "number" && !("method" in message)) pending.delete(message.id)
    transport.onmessage?.(message)
  }

  /** Knows which answers are to come. */
  const follow = (message: JSONRPCMessage): void => {
    if (!("method" in message)) return
    if ("id" in message) {
      if (typeof message.id === "number") pending.add(message.id)
      return
    }
    const cancelled = message.method === "notifications/cancelled" ? message.params?.["requestId"] : undefined
    if (typeof cancelled === "number") pending.delete(cancelled)
  }

  const onLine = (line: Buffer): void => {
    if (isClosed) return
    const text = line.toString("utf8").trim()
    if (text === "") return
    let message: JSONRPCMessage
    try {
      message = deserializeMessage(text)
    } catch {
      note(`it wrote a line to standard output that is no message: ${text.slice(0, 200)}`)
      return waste(line.byteLength)
    }
    receive(message)
  }

  const onOverlong = (begin: Buffer, end: Buffer): void => {
    if (isClosed) return
    note(`it wrote a message of more than ${maxMessageBytes} bytes`)
    const [only] = pending.size === 1 ? pending : []
    const id = idOf(begin.toString("latin1"), end.toString("latin1")) ?? only
    if (id === undefined && pending.size === 0) return waste(maxMessageBytes)
    if (id !== undefined && pending.has(id)) return receive(inPlaceOf(id))
    // It is not known whose answer it is: no caller is left to wait.
    for (const one of Array.from(pending)) receive(inPlaceOf(one))
  }

  const split = MountLines.make(maxMessageBytes, { onLine, onOverlong })

  const onOutput = (data: Uint8Array): void => {
    if (isClosed) return
    split(data)
    const last = data.lastIndexOf(newline)
    lineBytes = last === -1 ? lineBytes + data.byteLength : data.byteLength - last - 1
    if (lineBytes > maxLineBytes && !isClosed) giveUp(`it wrote a line of more than ${maxLineBytes} bytes`)
  }

  const transport: StdioTransport = {
    stderr: null,
    pid: null,
    start: () => Promise.resolve(),
    send: async (message) => {
      if (isClosed) throw new MountFailure.Lost({ detail: "the process is gone", isUnsent: true, isGone: true })
      follow(message)
      try {
        await write(serializeMessage(message))
      } catch (cause) {
        const detail = cause instanceof Error ? cause.message : String(cause)
        throw new MountFailure.Lost({ detail, isUnsent: true, isGone: true })
      }
    },
    close: () => Promise.resolve(close()),
    onOutput,
    onEnd: close
  }
  return transport
}
