/**
 * Asks the peer of a ZMTP 3.1 connection for signs of life, and tells when there are none.
 *
 * TCP keepalive tells of a peer whose machine is gone, but not while something is on its way there: then the kernel tries for a
 * quarter of an hour. Beats are counted, not time, since a process that was stopped has not listened.
 *
 * @since 0.1.0
 */
import type * as Net from "node:net"
import * as Zmtp from "./Zmtp.ts"

const maxSilentBeats = 4

/** Four beats, in the tenths of a second of ZMTP. */
const timeToLive = (everyMs: number): Buffer => {
  const body = Buffer.alloc(2)
  body.writeUInt16BE(Math.min(Math.ceil(everyMs * maxSilentBeats / 100), 0xffff))
  return body
}

/**
 * Whether nothing waits to be written. Behind other bytes a PING or PONG tells nothing that they do not.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isIdle = (socket: Net.Socket): boolean => socket.writable && socket.writableLength === 0

/**
 * The heartbeat of one connection, from when its handshake is complete until `stop`.
 *
 * @category models
 * @since 0.1.0
 */
export class Heartbeat {
  readonly #socket: Net.Socket
  readonly #everyMs: number
  readonly #ping: Buffer
  readonly #timer: NodeJS.Timeout
  readonly #onSilent: (detail: string) => void
  #silentBeats = 0
  #stalledAt = -1

  /** Sends a PING every `everyMs`; `onSilent` hears of a peer that was silent for four times as long. */
  constructor(socket: Net.Socket, everyMs: number, onSilent: (detail: string) => void) {
    this.#socket = socket
    this.#everyMs = everyMs
    this.#onSilent = onSilent
    this.#ping = Zmtp.encodeCommand("PING", timeToLive(everyMs))
    this.#timer = setInterval(() => this.#beat(), everyMs)
  }

  /** Something came from the peer. */
  heard(): void {
    this.#silentBeats = 0
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #beat(): void {
    const bytes = this.#socket.bytesWritten
    // To take more when its buffers were full, the kernel must have heard from the peer.
    if (this.#stalledAt >= 0 && bytes > this.#stalledAt) {
      this.#silentBeats = 0
    }
    this.#stalledAt = isIdle(this.#socket) ? -1 : bytes
    if (this.#silentBeats++ >= maxSilentBeats) {
      this.stop()
      this.#onSilent(`silent for ${this.#everyMs * maxSilentBeats} ms`)
    } else if (isIdle(this.#socket)) {
      this.#socket.write(this.#ping)
    }
  }
}
