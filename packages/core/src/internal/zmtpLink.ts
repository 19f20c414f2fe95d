/**
 * A connection to the proxy that is made again, 10 ms to 1 s after it ended, for as long as it is not closed.
 *
 * TCP keepalive tells within about 20 s of a peer whose machine is gone. A link with heartbeats also ends a connection
 * whose peer is there but silent; without, a connection that nobody reads would be ended for no fault of its peer.
 */
import * as Net from "node:net"
import type * as Zmtp from "../Zmtp.ts"
import * as ZmtpHeartbeat from "../ZmtpHeartbeat.ts"
import { type Events as SessionEvents, Session } from "../ZmtpSession.ts"

export interface Options {
  /** An address that `Settings.parseEndpoint` accepts. */
  readonly endpoint: string
  readonly type: Zmtp.SocketType
  readonly maxMessageBytes: number
  /** How long a connection may take until its handshake is complete. */
  readonly handshakeMs: number
  /** How often a PING is sent; a peer silent for four times as long is disconnected. */
  readonly heartbeatMs?: number | undefined
}

export interface Events {
  /** The handshake is complete. */
  readonly ready?: (socket: Net.Socket, session: Session) => void
  /** The peer subscribed to something. */
  readonly asked?: (socket: Net.Socket) => void
  readonly message?: SessionEvents["message"]
  readonly large?: SessionEvents["large"]
  /** All that one read brought has been handled. */
  readonly drained?: () => void
  /** The connection ended, or was not made; another one will be made. */
  readonly lost: (wasReady: boolean) => void
  /** The peer broke the protocol; told once until a connection lasts for a second, or the detail is another. */
  readonly refused: (detail: string) => void
}

const shortestPauseMs = 10
const longestPauseMs = 1000
const keepAliveMs = 10_000

const ignore = (): void => {}

export const target = (endpoint: string): Net.NetConnectOpts => {
  if (endpoint.startsWith("ipc://")) {
    // As in libzmq, @ stands for the abstract namespace of Linux.
    return { path: endpoint.slice("ipc://".length).replace(/^@/, "\0") }
  }
  const colon = endpoint.lastIndexOf(":")
  return {
    host: endpoint.slice("tcp://".length, colon).replace(/^\[(.*)\]$/, "$1"),
    port: Number(endpoint.slice(colon + 1)),
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMs
  }
}

export class Link {
  readonly #options: Options
  readonly #events: Events
  readonly #target: Net.NetConnectOpts
  #socket: Net.Socket | undefined
  #timer: NodeJS.Timeout | undefined
  #heartbeat: ZmtpHeartbeat.Heartbeat | undefined
  #attempts = 0
  #readyAt = Number.POSITIVE_INFINITY
  #told: string | undefined
  #isClosed = false
  /** Why there is no connection, as far as it is known. */
  trouble: string | undefined

  constructor(options: Options, events: Events) {
    this.#options = options
    this.#events = events
    this.#target = target(options.endpoint)
    this.#connect()
  }

  /** Stops reading, until `resume` or the next connection. */
  pause(): void {
    this.#socket?.pause()
  }

  resume(): void {
    this.#socket?.resume()
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#socket?.destroy()
  }

  #connect(): void {
    const socket = Net.connect(this.#target)
    this.#socket = socket
    const session: Session = new Session(this.#options.type, this.#options.maxMessageBytes, {
      write: (bytes) => socket.write(bytes),
      ready: () => this.#ready(socket, session),
      message: this.#events.message ?? ignore,
      large: this.#events.large ?? ignore,
      subscription: (subscribe) => subscribe && this.#events.asked?.(socket),
      // Behind other bytes it would tell nothing that they do not.
      ping: (pong) => ZmtpHeartbeat.isIdle(socket) && socket.write(pong),
      broken: (detail) => this.#broken(socket, detail)
    })
    this.#timer = setTimeout(() => {
      this.#broken(socket, `no handshake within ${this.#options.handshakeMs} ms`)
    }, this.#options.handshakeMs)
    socket.on("connect", () => session.open())
    socket.on("data", (chunk: Buffer) => {
      this.#heartbeat?.heard()
      session.push(chunk)
      this.#events.drained?.()
    })
    socket.on("error", (error) => {
      this.trouble = error.message
    })
    socket.on("end", () => socket.destroy())
    socket.on("close", () => {
      session.stop()
      this.#lost()
    })
  }

  #ready(socket: Net.Socket, session: Session): void {
    clearTimeout(this.#timer)
    this.trouble = undefined
    this.#readyAt = performance.now()
    const { heartbeatMs } = this.#options
    if (heartbeatMs !== undefined && session.hasCommands) {
      this.#heartbeat = new ZmtpHeartbeat.Heartbeat(socket, heartbeatMs, (detail) => this.#broken(socket, detail))
    }
    this.#events.ready?.(socket, session)
  }

  #broken(socket: Net.Socket, detail: string): void {
    const wasConnected = !socket.connecting
    socket.destroy()
    this.trouble = detail
    if (wasConnected && !this.#isClosed && this.#told !== detail) {
      this.#told = detail
      this.#events.refused(detail)
    }
  }

  #lost(): void {
    clearTimeout(this.#timer)
    this.#heartbeat?.stop()
    this.#heartbeat = undefined
    this.#socket = undefined
    if (this.#isClosed) {
      return
    }
    const wasReady = this.#readyAt < Number.POSITIVE_INFINITY
    if (performance.now() - this.#readyAt >= longestPauseMs) {
      this.#attempts = 0
      this.#told = undefined
    }
    this.#readyAt = Number.POSITIVE_INFINITY
    // Spread, so that not all clients of a proxy that starts again come at once.
    const pauseMs = Math.min(2 * shortestPauseMs * 2 ** this.#attempts, longestPauseMs) * (1 + Math.random()) / 2
    this.#attempts += 1
    this.#timer = setTimeout(() => this.#connect(), pauseMs)
    this.#events.lost(wasReady)
  }
}
