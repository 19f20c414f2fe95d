/**
 * The bytes of ZMTP (RFC 23, 37), the protocol of ZeroMQ: greetings, commands, and a decoder that finds whole messages in
 * what a socket reads without copying them. Outgoing and incoming messages have the same bytes, so that a run of
 * messages is forwarded as one slice. What the two ends say to each other, and when, is `ZmtpSession`.
 *
 * @since 0.1.0
 */

/**
 * The socket types that carry publications.
 *
 * @category models
 * @since 0.1.0
 */
export type SocketType = "PUB" | "SUB" | "XPUB" | "XSUB"

/**
 * Bytes of `signature`.
 *
 * @category greetings
 * @since 0.1.0
 */
export const signatureBytes = 11

/**
 * Bytes of a whole greeting of version 3.
 *
 * @category greetings
 * @since 0.1.0
 */
export const greetingBytes = 64

/**
 * The signature and the major version: all that may be sent before the peer's version is known.
 *
 * @category greetings
 * @since 0.1.0
 */
export const signature: Buffer = Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3])

/**
 * The rest of a 3.1 greeting after `signature`: minor version, mechanism NULL, not as server.
 *
 * @category greetings
 * @since 0.1.0
 */
export const greetingTail: Buffer = (() => {
  const tail = Buffer.alloc(greetingBytes - signatureBytes)
  tail[0] = 1
  tail.write("NULL", 1, "latin1")
  return tail
})()

const flagMore = 1
const flagLong = 2
const flagCommand = 4
const maxFlags = 7

const headBytes = (size: number): number => size < 256 ? 2 : 9

const writeHead = (target: Buffer, at: number, flags: number, size: number): number => {
  if (size < 256) {
    target[at] = flags
    target[at + 1] = size
    return at + 2
  }
  target[at] = flags | flagLong
  target.writeUInt32BE(Math.floor(size / 2 ** 32), at + 1)
  target.writeUInt32BE(size >>> 0, at + 5)
  return at + 9
}

const encodeFrames = (frames: ReadonlyArray<Uint8Array>, upTo: number): Buffer => {
  const last = frames.length - 1
  const encoded = Buffer.allocUnsafe(
    frames.reduce((sum, { length }, index) => sum + headBytes(length) + (index < upTo ? length : 0), 0)
  )
  let at = 0
  for (const [index, frame] of frames.entries()) {
    at = writeHead(encoded, at, index < last ? flagMore : 0, frame.length)
    if (index < upTo) {
      encoded.set(frame, at)
      at += frame.length
    }
  }
  return encoded
}

/**
 * Encodes one message of one or more frames.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeMessage = (frames: ReadonlyArray<Uint8Array>): Buffer => encodeFrames(frames, frames.length)

/**
 * Encodes all of a message but the content of its last frame, which is to be sent right after, so that it need not be
 * copied.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeHead = (frames: ReadonlyArray<Uint8Array>): Buffer => encodeFrames(frames, frames.length - 1)

/**
 * Encodes a command.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeCommand = (name: string, body: Uint8Array): Buffer => {
  const size = 1 + name.length + body.length
  const encoded = Buffer.allocUnsafe(headBytes(size) + size)
  const at = writeHead(encoded, 0, flagCommand, size)
  encoded[at] = name.length
  encoded.write(name, at + 1, "latin1")
  encoded.set(body, at + 1 + name.length)
  return encoded
}

/**
 * Encodes READY with the socket type and no identity.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeReady = (type: SocketType): Buffer => {
  const value = Buffer.from(type, "latin1")
  const size = Buffer.alloc(4)
  size.writeUInt32BE(value.length)
  return encodeCommand("READY", Buffer.concat([Buffer.from("\x0bSocket-Type", "latin1"), size, value]))
}

/**
 * Reads one property of a READY command, whose names are case-insensitive. `wanted` is in lower case.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readyProperty = (body: Buffer, wanted: string): string | undefined => {
  let at = 0
  while (at < body.length) {
    const nameEnd = at + 1 + body.readUInt8(at)
    if (nameEnd + 4 > body.length) {
      return undefined
    }
    const valueEnd = nameEnd + 4 + body.readUInt32BE(nameEnd)
    if (valueEnd > body.length) {
      return undefined
    }
    if (body.toString("latin1", at + 1, nameEnd).toLowerCase() === wanted) {
      return body.toString("latin1", nameEnd + 4, valueEnd)
    }
    at = valueEnd
  }
  return undefined
}

/**
 * The socket type of a ZMTP 2.0 greeting.
 *
 * @category decoding
 * @since 0.1.0
 */
export const socketTypeV2 = (code: number): SocketType | undefined =>
  ({ 1: "PUB", 2: "SUB", 9: "XPUB", 10: "XSUB" } as const)[code]

/**
 * The number of a socket type in a ZMTP 2.0 greeting.
 *
 * @category encoding
 * @since 0.1.0
 */
export const socketCodeV2 = (type: SocketType): number => ({ PUB: 1, SUB: 2, XPUB: 9, XSUB: 10 })[type]

/**
 * Splits an encoded message, or the rest of one from some frame on, into its frames.
 *
 * @category decoding
 * @since 0.1.0
 */
export const framesOf = (message: Buffer): Array<Buffer> => {
  const frames: Array<Buffer> = []
  let at = 0
  while (at < message.length) {
    const long = (message.readUInt8(at) & flagLong) !== 0
    const size = long
      ? message.readUInt32BE(at + 1) * 2 ** 32 + message.readUInt32BE(at + 5)
      : message.readUInt8(at + 1)
    const start = at + (long ? 9 : 2)
    frames.push(message.subarray(start, start + size))
    at = start + size
  }
  return frames
}

/**
 * What a decoder found. Offsets of `large` count from the message's first byte.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handler {
  /** One message, in `chunk[start, end)`; its first frame is `chunk[topicStart, topicEnd)`. */
  readonly message: (chunk: Buffer, start: number, end: number, topicStart: number, topicEnd: number) => void
  /** One message of more than 64 KiB that came in several chunks. */
  readonly large: (pieces: ReadonlyArray<Buffer>, length: number, topicStart: number, topicEnd: number) => void
  readonly command: (name: string, body: Buffer) => void
  /** The peer broke the protocol. Nothing is decoded afterwards. */
  readonly broken: (detail: string) => void
}

const copyBytes = 64 * 1024
const noTopic = -1

/**
 * Finds messages and commands in the chunks of a connection, after its greeting. `maxBytes` bounds a message with the
 * heads of its frames, and a command.
 *
 * @category decoding
 * @since 0.1.0
 */
export class Decoder {
  readonly #handler: Handler
  readonly #maxBytes: number
  readonly #head = Buffer.alloc(9)
  #headBytes = 0
  #bodyLeft = 0
  #pieces: Array<Buffer> = []
  #length = 0
  #topicStart = noTopic
  #topicEnd = 0
  #stopped = false

  constructor(handler: Handler, maxBytes: number) {
    this.#handler = handler
    this.#maxBytes = maxBytes
  }

  /** Ignores everything from now on. */
  stop(): void {
    this.#stopped = true
    this.#pieces = []
  }

  push(chunk: Buffer): void {
    if (this.#stopped) {
      return
    }
    let at = this.#length === 0 ? 0 : this.#resume(chunk, 0)
    while (at < chunk.length && !this.#stopped) {
      const next = this.#whole(chunk, at)
      at = next === at ? this.#resume(chunk, at) : next
    }
  }

  #break(detail: string): void {
    this.stop()
    this.#handler.broken(detail)
  }

  #refusal(flags: number, size: number, total: number, inMessage: boolean): string | undefined {
    if (flags > maxFlags || (flags & flagCommand) !== 0 && ((flags & flagMore) !== 0 || inMessage)) {
      return `frame flags ${flags}`
    }
    if (size > this.#maxBytes || total > this.#maxBytes) {
      return `a message of more than ${this.#maxBytes} bytes`
    }
    return undefined
  }

  /** Takes one message or command that is complete in `chunk` at `start`; returns `start` when there is none. */
  #whole(chunk: Buffer, start: number): number {
    const end = chunk.length
    let at = start
    let topicStart = noTopic
    let topicEnd = 0
    while (at + 2 <= end) {
      const flags = chunk[at] ?? 0
      let size = chunk[at + 1] ?? 0
      let body = at + 2
      if ((flags & flagLong) !== 0 && flags <= maxFlags) {
        if (at + 9 > end) {
          return start
        }
        size = chunk.readUInt32BE(at + 1) * 2 ** 32 + chunk.readUInt32BE(at + 5)
        body = at + 9
      }
      const next = body + size
      const refusal = this.#refusal(flags, size, next - start, topicStart !== noTopic)
      if (refusal !== undefined) {
        this.#break(refusal)
        return end
      }
      if (next > end) {
        return start
      }
      if ((flags & flagCommand) !== 0) {
        this.#command(chunk.subarray(body, next))
        return next
      }
      if (topicStart === noTopic) {
        topicStart = body
        topicEnd = next
      }
      if ((flags & flagMore) === 0) {
        this.#handler.message(chunk, start, next, topicStart, topicEnd)
        return next
      }
      at = next
    }
    return start
  }

  /** Collects a message that does not end in the chunk in which it began. */
  #resume(chunk: Buffer, start: number): number {
    let at = start
    while (at < chunk.length) {
      if (this.#bodyLeft > 0) {
        const taken = Math.min(this.#bodyLeft, chunk.length - at)
        at += taken
        this.#bodyLeft -= taken
        this.#length += taken
        if (this.#bodyLeft > 0) {
          break
        }
      } else {
        this.#head[this.#headBytes++] = chunk[at++] ?? 0
        this.#length += 1
        const flags = this.#head[0] ?? 0
        if (flags <= maxFlags && this.#headBytes < ((flags & flagLong) === 0 ? 2 : 9)) {
          continue
        }
        this.#headBytes = 0
        const size = (flags & flagLong) === 0
          ? this.#head[1] ?? 0
          : this.#head.readUInt32BE(1) * 2 ** 32 + this.#head.readUInt32BE(5)
        const refusal = this.#refusal(flags, size, this.#length + size, this.#topicStart !== noTopic)
        if (refusal !== undefined) {
          this.#break(refusal)
          return chunk.length
        }
        if (this.#topicStart === noTopic) {
          this.#topicStart = this.#length
          this.#topicEnd = this.#length + size
        }
        this.#bodyLeft = size
        if (size > 0) {
          continue
        }
      }
      if (((this.#head[0] ?? 0) & flagMore) === 0) {
        this.#pieces.push(chunk.subarray(start, at))
        this.#complete()
        return at
      }
    }
    this.#pieces.push(chunk.subarray(start, at))
    return at
  }

  #complete(): void {
    const pieces = this.#pieces
    const length = this.#length
    const topicStart = this.#topicStart
    const topicEnd = this.#topicEnd
    this.#pieces = []
    this.#length = 0
    this.#topicStart = noTopic
    if (((this.#head[0] ?? 0) & flagCommand) !== 0) {
      this.#command(Buffer.concat(pieces, length).subarray(topicStart, topicEnd))
    } else if (length <= copyBytes) {
      this.#handler.message(Buffer.concat(pieces, length), 0, length, topicStart, topicEnd)
    } else {
      this.#handler.large(pieces, length, topicStart, topicEnd)
    }
  }

  #command(body: Buffer): void {
    const nameEnd = 1 + (body[0] ?? 0)
    if (body.length < nameEnd || nameEnd === 1) {
      this.#break("a command without a name")
    } else {
      this.#handler.command(body.toString("latin1", 1, nameEnd), body.subarray(nameEnd))
    }
  }
}
