/**
 * One connection: the handshake, then messages and commands. A peer that does not complete the handshake in time, is
 * not the counterpart of the socket it connected to, or breaks the protocol is disconnected and hurts nobody else.
 */
import { Heartbeat } from "@skillscale/core/ZmtpHeartbeat"
import { Session } from "@skillscale/core/ZmtpSession"
import type * as Net from "node:net"
import { Outlet } from "./outlet.ts"

export interface Events {
  /** The handshake is complete. */
  readonly ready: (peer: Peer) => void
  readonly message: (
    peer: Peer,
    chunk: Buffer,
    start: number,
    end: number,
    topicStart: number,
    topicEnd: number
  ) => void
  readonly large: (
    peer: Peer,
    pieces: ReadonlyArray<Buffer>,
    length: number,
    topicStart: number,
    topicEnd: number
  ) => void
  readonly subscription: (peer: Peer, subscribe: boolean, prefix: Buffer) => void
  /** All that one read brought, so many bytes, has been handled. */
  readonly drained: (bytes: number) => void
  readonly refused: (peer: Peer, detail: string) => void
  readonly closed: (peer: Peer) => void
}

export interface Options {
  /** What this end is. */
  readonly type: "XSUB" | "XPUB"
  readonly maxMessageBytes: number
  readonly highWaterMarkBytes: number
  readonly handshakeMs: number
  readonly heartbeatMs: number
}

const maxUnreadBytes = 1024 * 1024

export class Peer {
  readonly socket: Net.Socket
  readonly outlet: Outlet
  readonly subscriptions = new Set<string>()
  readonly host: string
  readonly address: string
  isClosed = false
  heardAt = 0
  /** The topic of the last message, so that a run of one topic costs one lookup. */
  lastTopic: Buffer = Buffer.alloc(0)
  lastKey: string | undefined
  readonly #events: Events
  readonly #session: Session
  readonly #heartbeatMs: number
  #heartbeat: Heartbeat | undefined

  constructor(socket: Net.Socket, options: Options, events: Events) {
    this.socket = socket
    this.host = socket.remoteAddress ?? "?"
    this.address = `${this.host}:${socket.remotePort ?? 0}`
    this.#events = events
    this.#heartbeatMs = options.heartbeatMs
    this.outlet = new Outlet(socket, options.highWaterMarkBytes)
    const timer = setTimeout(() => this.broken("no handshake in time"), options.handshakeMs)
    this.#session = new Session(options.type, options.maxMessageBytes, {
      write: (bytes) => socket.write(bytes),
      ready: () => {
        clearTimeout(timer)
        if (options.type === "XSUB") {
          socket.write(this.#session.encodeSubscription(true, Buffer.alloc(0)))
        }
        events.ready(this)
      },
      message: (chunk, start, end, topicStart, topicEnd) =>
        events.message(this, chunk, start, end, topicStart, topicEnd),
      large: (pieces, length, topicStart, topicEnd) => events.large(this, pieces, length, topicStart, topicEnd),
      subscription: (subscribe, prefix) => events.subscription(this, subscribe, prefix),
      ping: (pong) => {
        if (socket.writable && socket.writableLength < maxUnreadBytes) {
          socket.write(pong)
        }
      },
      broken: (detail) => this.broken(detail)
    })
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 10_000)
    socket.on("data", (chunk: Buffer) => {
      this.heardAt = performance.now()
      this.#heartbeat?.heard()
      this.#session.push(chunk)
      events.drained(chunk.length)
    })
    socket.on("error", () => socket.destroy())
    socket.on("end", () => socket.destroy())
    socket.on("close", () => {
      clearTimeout(timer)
      this.#heartbeat?.stop()
      this.#session.stop()
      this.isClosed = true
      events.closed(this)
    })
    this.#session.open()
  }

  /**
   * Disconnects the peer when it shows no sign of life any more, if it understands the question. Not for subscribers that stop
   * reading when they have enough.
   */
  watch(): void {
    if (this.#heartbeat === undefined && this.#session.hasCommands) {
      this.#heartbeat = new Heartbeat(this.socket, this.#heartbeatMs, (detail) => this.broken(detail))
    }
  }

  broken(detail: string): void {
    if (!this.socket.destroyed) {
      this.#session.stop()
      this.#events.refused(this, detail)
      this.socket.destroy()
    }
  }
}
