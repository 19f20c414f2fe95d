/**
 * Messages on their way to the proxy. Each is written as soon as the kernel took the one before it, so that what a broken
 * connection leaves unsent is known: the message of which the kernel has not all, and those behind it. One that has expired
 * when it is its turn is left out. Urgent ones go ahead of the others, behind the part of one that is being written.
 */
import * as MutableList from "effect/MutableList"
import type * as Net from "node:net"
import type * as Bus from "../Bus.ts"
import * as Zmtp from "../Zmtp.ts"

/** A message that begins with `head` and ends with `payload`, or is all in `head`. */
export interface Outgoing {
  readonly head: Buffer
  readonly payload: Uint8Array | undefined
  readonly bytes: number
  /** By `performance.now()`. */
  readonly expiresAt: number
  readonly isUrgent: boolean
  /** The kernel has all of it, or it has expired. */
  onSent?: () => void
}

/** What may wait for the proxy. */
export interface Bounds {
  readonly messages: number
  /** While so many wait no more are accepted, but urgent ones. */
  readonly bytes: number
}

/** A message for which there is no room yet. */
export interface Waiter {
  readonly message: Outgoing
  readonly settle: (outcome: "accepted" | "closed") => void
}

const copyBelow = 16 * 1024
/** What is written at once of a large payload, so that its progress can be seen. */
const sliceBytes = 1024 * 1024
const nothing = Buffer.alloc(0)

/** Encodes a message, which expires after a time if one is given. A large payload is not copied. */
export const encode = (
  topic: string,
  payload: Uint8Array,
  { expiresInMs, isUrgent = false }: Bus.PublishOptions = {}
): Outgoing => {
  const expiresAt = expiresInMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + expiresInMs
  const frames = [Buffer.from(topic, "utf8"), payload]
  if (payload.length < copyBelow) {
    const head = Zmtp.encodeMessage(frames)
    return { head, payload: undefined, bytes: head.length, expiresAt, isUrgent }
  }
  const head = Zmtp.encodeHead(frames)
  return { head, payload, bytes: head.length + payload.length, expiresAt, isUrgent }
}

const hasExpired = ({ expiresAt }: Outgoing): boolean =>
  expiresAt !== Number.POSITIVE_INFINITY && performance.now() >= expiresAt

const writePart = (socket: Net.Socket, { head, payload }: Outgoing, from: number): void => {
  if (payload === undefined) {
    socket.write(head)
    return
  }
  socket.cork()
  if (from === 0) {
    socket.write(head)
  }
  socket.write(payload.subarray(from, from + sliceBytes))
  socket.uncork()
}

export class Outbox {
  readonly #bounds: Bounds
  readonly #urgent = MutableList.make<Outgoing>()
  readonly #waiting = MutableList.make<Outgoing>()
  readonly #waiters = new Set<Waiter>()
  #socket: Net.Socket | undefined
  /** The message of which the kernel has not all. */
  #unsent: Outgoing | undefined
  /** How much of its payload the kernel has. */
  #taken = 0
  /** Of all that waits, with the message that is being written. */
  #bytes = 0
  #progress = 0
  #isStalled = false
  #isPumping = false
  #wasOpen = false
  #hasAccepted = false
  #isClosed = false

  constructor(bounds: Bounds) {
    this.#bounds = bounds
  }

  /** Is another number whenever the kernel took something. */
  get progress(): number {
    return this.#progress
  }

  /** Whether the proxy has ever asked for messages. Before that none is accepted. */
  get wasOpen(): boolean {
    return this.#wasOpen
  }

  get hasAccepted(): boolean {
    return this.#hasAccepted
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get #hasRoom(): boolean {
    const messages = this.#waiting.length + (this.#unsent === undefined ? 0 : 1)
    return this.#wasOpen && messages < this.#bounds.messages && this.#bytes < this.#bounds.bytes
  }

  /** Accepts a message, unless there is no room or others wait for it. */
  offer(message: Outgoing): boolean {
    const accepted = message.isUrgent
      ? this.#wasOpen && this.#urgent.length < this.#bounds.messages
      : this.#waiters.size === 0 && this.#hasRoom
    if (accepted) {
      this.#add(message)
      this.#pump()
    }
    return accepted
  }

  /** Settles the waiter when there is room for its message, after those that came before it. */
  enter(waiter: Waiter): void {
    this.#waiters.add(waiter)
  }

  leave(waiter: Waiter): void {
    this.#waiters.delete(waiter)
  }

  /** Sends a message of the transport itself behind all others, if these are with the kernel. */
  mark(message: Outgoing): void {
    if (this.#socket !== undefined && this.#unsent === undefined) {
      this.#add(message)
      this.#pump()
    }
  }

  /** Writes to a connection on which the proxy asked for messages. */
  open(socket: Net.Socket): void {
    if (this.#socket !== socket) {
      this.#socket = socket
      this.#taken = 0
      this.#isStalled = false
      this.#wasOpen = true
      this.#pump()
    }
  }

  /** The connection ended. What it did not take waits for the next one. */
  shut(): void {
    this.#socket = undefined
  }

  /** Settles those that wait. Nothing may be offered any more; what was accepted is still sent. */
  close(): void {
    this.#isClosed = true
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter)
      waiter.settle("closed")
    }
  }

  #add(message: Outgoing): void {
    this.#hasAccepted = true
    this.#bytes += message.bytes
    if (this.#unsent === undefined) {
      this.#unsent = message
    } else {
      MutableList.append(message.isUrgent ? this.#urgent : this.#waiting, message)
    }
  }

  #pump(): void {
    // Not from within: whoever is let in may send again at once.
    if (this.#isPumping) {
      return
    }
    this.#isPumping = true
    do {
      this.#admit()
    } while (this.#writeNext())
    this.#isPumping = false
  }

  #admit(): void {
    for (const waiter of this.#waiters) {
      if (!this.#hasRoom) {
        return
      }
      this.#waiters.delete(waiter)
      this.#add(waiter.message)
      waiter.settle("accepted")
    }
  }

  /** Writes a message or a part of one, unless it has expired, and tells whether it is the turn of what follows. */
  #writeNext(): boolean {
    const socket = this.#socket
    if (this.#unsent === undefined || this.#isStalled || socket?.writable !== true) {
      return false
    }
    // What this connection has a part of has to be completed.
    if (this.#taken === 0 && hasExpired(this.#unsent)) {
      this.#advance()
      return true
    }
    writePart(socket, this.#unsent, this.#taken)
    if (!socket.writable) {
      // It failed at once; the end of the connection will be reported.
      return false
    }
    if (socket.writableLength === 0) {
      this.#next(this.#unsent)
      return true
    }
    this.#isStalled = true
    const stalled = this.#unsent
    socket.write(nothing, (error) => {
      if (!error && this.#socket === socket) {
        this.#isStalled = false
        this.#next(stalled)
        this.#pump()
      }
    })
    return false
  }

  #next(message: Outgoing): void {
    this.#taken += sliceBytes
    this.#progress += 1
    if (message.payload === undefined || this.#taken >= message.payload.length) {
      this.#advance()
    }
  }

  #advance(): void {
    const done = this.#unsent
    this.#bytes -= done?.bytes ?? 0
    const urgent = MutableList.take(this.#urgent)
    const next = urgent === MutableList.Empty ? MutableList.take(this.#waiting) : urgent
    this.#unsent = next === MutableList.Empty ? undefined : next
    this.#taken = 0
    done?.onSent?.()
  }
}
