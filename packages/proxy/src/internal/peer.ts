/**
 * One connection: the handshake, then messages and commands. A peer that does not complete the handshake in time, is
 * not the counterpart of the socket it connected to, or breaks the protocol is disconnected and hurts nobody else.
 */
import type * as Net from "node:net"
import { Outlet } from "./outlet.ts"
import * as Zmtp from "./zmtp.ts"

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
  /** All that one read brought has been handled. */
  readonly drained: () => void
  readonly refused: (peer: Peer, detail: string) => void
  readonly closed: (peer: Peer) => void
}

export interface Options {
  /** What this end is. */
  readonly type: "XSUB" | "XPUB"
  readonly maxMessageBytes: number
  readonly highWaterMarkBytes: number
  readonly handshakeMs: number
}

const maxUnreadBytes = 1024 * 1024

const counterparts: Readonly<Record<Options["type"], ReadonlyArray<string>>> = {
  XSUB: ["PUB", "XPUB"],
  XPUB: ["SUB", "XSUB"]
}

export class Peer implements Zmtp.Handler {
  readonly socket: Net.Socket
  readonly outlet: Outlet
  readonly subscriptions = new Set<string>()
  readonly address: string
  /** The topic of the last message, so that a run of one topic costs one lookup. */
  lastTopic: Buffer = Buffer.alloc(0)
  lastKey: string | undefined
  readonly #options: Options
  readonly #events: Events
  readonly #decoder: Zmtp.Decoder
  readonly #timer: NodeJS.Timeout
  #greeting: Buffer = Buffer.alloc(0)
  #major = 0
  #minor = 0
  #greeted = false
  #isReady = false

  constructor(socket: Net.Socket, options: Options, events: Events) {
    this.socket = socket
    this.address = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? 0}`
    this.#options = options
    this.#events = events
    this.outlet = new Outlet(socket, options.highWaterMarkBytes)
    this.#decoder = new Zmtp.Decoder(this, options.maxMessageBytes)
    this.#timer = setTimeout(() => this.broken("no handshake in time"), options.handshakeMs)
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 10_000)
    socket.on("data", (chunk: Buffer) => this.#data(chunk))
    socket.on("error", () => socket.destroy())
    socket.on("end", () => socket.destroy())
    socket.on("close", () => {
      clearTimeout(this.#timer)
      this.#decoder.stop()
      events.closed(this)
    })
    socket.write(Zmtp.signature)
  }

  get isReady(): boolean {
    return this.#isReady
  }

  #data(chunk: Buffer): void {
    try {
      if (this.#greeted) {
        this.#decoder.push(chunk)
      } else {
        this.#greeting = Buffer.concat([this.#greeting, chunk])
        this.#greet()
      }
    } catch (error) {
      // One peer's message must not end the process that serves all of them.
      this.broken(`internal error: ${String(error)}`)
    }
    this.#events.drained()
  }

  #greet(): void {
    const greeting = this.#greeting
    if (greeting.length > 0 && greeting[0] !== 0xff || greeting.length > 9 && ((greeting[9] ?? 0) & 1) === 0) {
      return this.broken("not a ZMTP peer")
    }
    const major = greeting[10]
    if (major === undefined) {
      return
    }
    if (this.#major === 0) {
      this.#major = Math.max(major, 1)
      this.socket.write(
        major >= 3
          ? Zmtp.greetingTail
          : Buffer.from([Zmtp.socketCodeV2(this.#options.type), 0, 0])
      )
    }
    const bytes = major >= 3 ? Zmtp.greetingBytes : Zmtp.signatureBytes + 1
    if (greeting.length < bytes) {
      return
    }
    this.#greeted = true
    this.#greeting = Buffer.alloc(0)
    if (major >= 3) {
      this.#minor = greeting[11] ?? 0
      const mechanism = greeting.toString("latin1", 12, 32).replace(/\0+$/, "")
      if (mechanism !== "NULL") {
        return this.broken(`mechanism ${JSON.stringify(mechanism)}`)
      }
      this.socket.write(Zmtp.encodeReady(this.#options.type))
    } else if (!this.#accepts(Zmtp.socketTypeV2(greeting[11] ?? 0))) {
      return
    }
    this.#decoder.push(greeting.subarray(bytes))
  }

  #accepts(type: string | undefined): boolean {
    if (type !== undefined && counterparts[this.#options.type].includes(type)) {
      return true
    }
    this.broken(`socket type ${type ?? "unknown"} on the ${this.#options.type} port`)
    return false
  }

  #complete(): void {
    clearTimeout(this.#timer)
    this.#isReady = true
    if (this.#options.type === "XSUB") {
      this.socket.write(
        this.#major >= 3 && this.#minor >= 1
          ? Zmtp.encodeCommand("SUBSCRIBE", Buffer.alloc(0))
          : Zmtp.encodeMessage([Buffer.from([1])])
      )
    }
    this.#events.ready(this)
  }

  message(chunk: Buffer, start: number, end: number, topicStart: number, topicEnd: number): void {
    if (!this.#isReady) {
      if (this.#major >= 3) {
        return this.broken("a message before READY")
      }
      // The first frame of version 2.0 is the peer's identity.
      return this.#complete()
    }
    if (this.#options.type === "XSUB") {
      return this.#events.message(this, chunk, start, end, topicStart, topicEnd)
    }
    const kind = topicEnd > topicStart ? chunk[topicStart] : undefined
    if (kind === 0 || kind === 1) {
      this.#events.subscription(this, kind === 1, chunk.subarray(topicStart + 1, topicEnd))
    }
  }

  large(pieces: ReadonlyArray<Buffer>, length: number, topicStart: number, topicEnd: number): void {
    if (!this.#isReady || this.#options.type === "XPUB") {
      return this.broken(`a message of ${length} bytes where none is expected`)
    }
    this.#events.large(this, pieces, length, topicStart, topicEnd)
  }

  command(name: string, body: Buffer): void {
    if (!this.#isReady) {
      if (name !== "READY") {
        return this.broken(`command ${JSON.stringify(name.slice(0, 20))} before READY`)
      }
      if (this.#accepts(Zmtp.readyProperty(body, "socket-type"))) {
        this.#complete()
      }
      return
    }
    switch (name) {
      case "PING":
        // Two bytes of time to live, then at most 16 bytes of context that the answer repeats.
        if (this.socket.writable && this.socket.writableLength < maxUnreadBytes) {
          this.socket.write(Zmtp.encodeCommand("PONG", body.subarray(2, 18)))
        }
        return
      case "SUBSCRIBE":
      case "CANCEL":
        if (this.#options.type === "XPUB") {
          this.#events.subscription(this, name === "SUBSCRIBE", body)
        }
        return
      case "ERROR":
        return this.broken("the peer reported an error")
      default:
        return
    }
  }

  broken(detail: string): void {
    if (!this.socket.destroyed) {
      this.#decoder.stop()
      this.#events.refused(this, detail)
      this.socket.destroy()
    }
  }
}
