/**
 * One end of a ZMTP connection without its socket: the NULL handshake of versions 2.0, 3.0 and 3.1, then messages,
 * subscriptions and heartbeats. Both ends are the same but for what they send first, so that the proxy and the bus share
 * it. Who owns the socket feeds `push` with what it reads, and ends the connection when `broken` is called.
 *
 * @since 0.1.0
 */
import * as Zmtp from "./Zmtp.ts"

/**
 * What happens on a connection. Messages are reported as `Zmtp.Decoder` does; only to the subscribing types.
 *
 * @category models
 * @since 0.1.0
 */
export interface Events {
  /** Part of the handshake is to be written. */
  readonly write: (bytes: Buffer) => void
  /** The handshake is complete. */
  readonly ready: () => void
  readonly message: Zmtp.Handler["message"]
  readonly large: Zmtp.Handler["large"]
  /** The peer of a publishing type subscribed to a prefix, or no longer does. */
  readonly subscription: (subscribe: boolean, prefix: Buffer) => void
  /** The peer wants to hear `pong`. */
  readonly ping: (pong: Buffer) => void
  /** The peer is not the counterpart of this end, or breaks the protocol. Nothing is reported afterwards. */
  readonly broken: (detail: string) => void
}

const counterparts: Readonly<Record<Zmtp.SocketType, ReadonlyArray<string>>> = {
  PUB: ["SUB", "XSUB"],
  SUB: ["PUB", "XPUB"],
  XPUB: ["SUB", "XSUB"],
  XSUB: ["PUB", "XPUB"]
}

/**
 * The state of one connection, as the end of the given type.
 *
 * @category models
 * @since 0.1.0
 */
export class Session {
  readonly #type: Zmtp.SocketType
  readonly #publishes: boolean
  readonly #events: Events
  readonly #decoder: Zmtp.Decoder
  #greeting: Buffer = Buffer.alloc(0)
  #major = 0
  #minor = 0
  #greeted = false
  #isReady = false
  #stopped = false

  constructor(type: Zmtp.SocketType, maxMessageBytes: number, events: Events) {
    this.#type = type
    this.#publishes = type === "PUB" || type === "XPUB"
    this.#events = events
    this.#decoder = new Zmtp.Decoder({
      message: (chunk, start, end, topicStart, topicEnd) => this.#message(chunk, start, end, topicStart, topicEnd),
      large: (pieces, length, topicStart, topicEnd) => this.#large(pieces, length, topicStart, topicEnd),
      command: (name, body) => this.#command(name, body),
      broken: (detail) => this.#broken(detail)
    }, maxMessageBytes)
  }

  /** Whether the peer understands PING, and subscriptions as commands. Known when the handshake is complete. */
  get hasCommands(): boolean {
    return this.#major >= 3 && this.#minor >= 1
  }

  /** Begins the handshake. */
  open(): void {
    this.#events.write(Zmtp.signature)
  }

  /** Ignores everything from now on. */
  stop(): void {
    this.#stopped = true
    this.#decoder.stop()
  }

  /** Takes what the socket read. Never throws: what an event throws ends the connection as `broken`. */
  push(chunk: Buffer): void {
    try {
      if (this.#greeted) {
        this.#decoder.push(chunk)
      } else if (!this.#stopped) {
        this.#greeting = Buffer.concat([this.#greeting, chunk])
        this.#greet()
      }
    } catch (error) {
      this.#broken(`internal error: ${String(error)}`)
    }
  }

  /** Encodes a subscription as the peer understands it, once the handshake is complete. */
  encodeSubscription(subscribe: boolean, prefix: Uint8Array): Buffer {
    return this.hasCommands
      ? Zmtp.encodeCommand(subscribe ? "SUBSCRIBE" : "CANCEL", prefix)
      : Zmtp.encodeMessage([Buffer.concat([Buffer.from([subscribe ? 1 : 0]), prefix])])
  }

  #broken(detail: string): void {
    if (!this.#stopped) {
      this.stop()
      this.#events.broken(detail)
    }
  }

  #greet(): void {
    const greeting = this.#greeting
    if (greeting.length > 0 && greeting[0] !== 0xff || greeting.length > 9 && ((greeting[9] ?? 0) & 1) === 0) {
      return this.#broken("not a ZMTP peer")
    }
    const major = greeting[10]
    if (major === undefined) {
      return
    }
    if (this.#major === 0) {
      this.#major = Math.max(major, 1)
      this.#events.write(major >= 3 ? Zmtp.greetingTail : Buffer.from([Zmtp.socketCodeV2(this.#type), 0, 0]))
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
        return this.#broken(`mechanism ${JSON.stringify(mechanism)}`)
      }
      this.#events.write(Zmtp.encodeReady(this.#type))
    } else if (!this.#accepts(Zmtp.socketTypeV2(greeting[11] ?? 0))) {
      return
    }
    this.#decoder.push(greeting.subarray(bytes))
  }

  #accepts(type: string | undefined): boolean {
    const accepted = type !== undefined && counterparts[this.#type].includes(type)
    if (!accepted) {
      this.#broken(`socket type ${type ?? "unknown"} for ${this.#type}`)
    }
    return accepted
  }

  #complete(): void {
    this.#isReady = true
    this.#events.ready()
  }

  #message(chunk: Buffer, start: number, end: number, topicStart: number, topicEnd: number): void {
    if (!this.#isReady) {
      // The first frame of version 2.0 is the peer's identity.
      return this.#major >= 3 ? this.#broken("a message before READY") : this.#complete()
    }
    if (!this.#publishes) {
      return this.#events.message(chunk, start, end, topicStart, topicEnd)
    }
    const kind = topicEnd > topicStart ? chunk[topicStart] : undefined
    if (kind === 0 || kind === 1) {
      this.#events.subscription(kind === 1, chunk.subarray(topicStart + 1, topicEnd))
    }
  }

  #large(pieces: ReadonlyArray<Buffer>, length: number, topicStart: number, topicEnd: number): void {
    if (!this.#isReady || this.#publishes) {
      return this.#broken(`a message of ${length} bytes where none is expected`)
    }
    this.#events.large(pieces, length, topicStart, topicEnd)
  }

  #command(name: string, body: Buffer): void {
    if (!this.#isReady) {
      if (name !== "READY") {
        return this.#broken(`command ${JSON.stringify(name.slice(0, 20))} before READY`)
      }
      if (this.#accepts(Zmtp.readyProperty(body, "socket-type"))) {
        this.#complete()
      }
      return
    }
    switch (name) {
      case "PING":
        // Two bytes of time to live, then at most 16 bytes of context that the answer repeats.
        return this.#events.ping(Zmtp.encodeCommand("PONG", body.subarray(2, 18)))
      case "SUBSCRIBE":
      case "CANCEL":
        return this.#publishes ? this.#events.subscription(name === "SUBSCRIBE", body) : undefined
      case "ERROR":
        return this.#broken("the peer reported an error")
      default:
        return
    }
  }
}
