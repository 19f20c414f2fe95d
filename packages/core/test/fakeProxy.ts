/**
 * One side of a proxy that misbehaves as a test wants it.
 */
import * as Zmtp from "@skillscale/core/Zmtp"
import { Session } from "@skillscale/core/ZmtpSession"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

export interface Heard {
  readonly topic: string
  readonly payload: Buffer
}

/** What one connection brought. */
export interface Connection {
  readonly socket: Net.Socket
  readonly session: Session
  readonly at: number
  readonly heard: Array<Heard>
  readonly prefixes: Array<string>
  pings: number
  isClosed: boolean
}

export interface Options {
  readonly type: "XSUB" | "XPUB"
  /** Default: a free port of 127.0.0.1. */
  readonly address?: string | undefined
  /** Speaks instead of ZMTP. */
  readonly speak?: ((socket: Net.Socket) => void) | undefined
  readonly onReady?: ((connection: Connection) => void) | undefined
  /** Default true. */
  readonly answersPings?: boolean | undefined
}

export interface FakeProxy {
  readonly address: string
  /** Every connection so far. */
  readonly connections: ReadonlyArray<Connection>
  /** What all of them brought. */
  readonly heard: () => ReadonlyArray<Heard>
}

const targetOf = (address: string): Net.ListenOptions => {
  const tcp = /^tcp:\/\/(.*):(\d+)$/.exec(address)
  return tcp === null
    ? { path: address.slice("ipc://".length).replace(/^@/, "\0") }
    : { host: String(tcp[1]).replace(/^\[(.*)\]$/, "$1"), port: Number(tcp[2]) }
}

/** A message as the wire has it. */
export const encode = (topic: string, payload: string | Uint8Array): Buffer =>
  Zmtp.encodeMessage([Buffer.from(topic), Buffer.from(payload)])

const accept = (socket: Net.Socket, options: Options, connections: Array<Connection>): void => {
  const hear = (message: Buffer) => {
    const [topic = Buffer.alloc(0), payload = Buffer.alloc(0)] = Zmtp.framesOf(message)
    connection.heard.push({ topic: topic.toString(), payload: Buffer.from(payload) })
  }
  const session: Session = new Session(options.type, 256 * 1024 * 1024, {
    write: (bytes) => options.speak ?? socket.write(bytes),
    ready: () => {
      if (options.type === "XSUB") {
        socket.write(session.encodeSubscription(true, Buffer.alloc(0)))
      }
      options.onReady?.(connection)
    },
    message: (chunk, start, end) => hear(chunk.subarray(start, end)),
    large: (pieces, length) => hear(Buffer.concat(pieces, length)),
    subscription: (_, prefix) => connection.prefixes.push(prefix.toString()),
    ping: (pong) => {
      connection.pings += 1
      if (options.answersPings !== false) {
        socket.write(pong)
      }
    },
    broken: () => socket.destroy()
  })
  const connection: Connection = {
    socket,
    session,
    at: performance.now(),
    heard: [],
    prefixes: [],
    pings: 0,
    isClosed: false
  }
  connections.push(connection)
  socket.on("error", () => socket.destroy())
  socket.on("close", () => {
    connection.isClosed = true
    session.stop()
  })
  if (options.speak === undefined) {
    socket.on("data", (chunk: Buffer) => session.push(chunk))
    session.open()
  } else {
    socket.resume()
    options.speak(socket)
  }
}

/** Listens for as long as the scope lives; then it ends every connection. */
export const listen = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<FakeProxy, never, Scope.Scope> {
  const connections: Array<Connection> = []
  const wanted = options.address ?? "tcp://127.0.0.1:0"
  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => accept(socket, options, connections))
      server.listen(targetOf(wanted), () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        connections.forEach(({ socket }) => socket.destroy())
      })
  )
  const bound = server.address()
  const port = typeof bound === "object" && bound !== null ? bound.port : 0
  return {
    address: wanted.replace(/:0$/, `:${port}`),
    connections,
    heard: () => connections.flatMap(({ heard }) => heard)
  }
})
