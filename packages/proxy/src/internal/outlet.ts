/**
 * What goes out to one subscriber. Messages offered while one chunk is read are collected and written together at
 * `flush`; adjacent messages of one chunk become one write without a copy. What the peer does not take is bounded in
 * bytes: `offer` refuses a message when that much is queued already.
 */
import type * as Net from "node:net"

const copyBelow = 16 * 1024

export class Outlet {
  readonly #socket: Net.Socket
  readonly #highWaterMark: number
  #slices: Array<Buffer> = []
  #chunk: Buffer | undefined
  #start = 0
  #end = 0
  #collected = 0
  #backlog = 0
  #dirty = false

  constructor(socket: Net.Socket, highWaterMark: number) {
    this.#socket = socket
    this.#highWaterMark = highWaterMark
  }

  /** Tells whether the next message would be refused, and marks the outlet for `flush` through `onDirty`. */
  hasRoom(onDirty: (outlet: Outlet) => void): boolean {
    if (!this.#dirty) {
      this.#dirty = true
      this.#backlog = this.#socket.writableLength
      onDirty(this)
    }
    return this.#backlog + this.#collected < this.#highWaterMark
  }

  /** Adds `chunk[start, end)`. Call it after `hasRoom` said so. */
  add(chunk: Buffer, start: number, end: number): void {
    this.#collected += end - start
    if (this.#chunk === chunk && this.#end === start) {
      this.#end = end
      return
    }
    this.#seal()
    this.#chunk = chunk
    this.#start = start
    this.#end = end
  }

  #seal(): void {
    const chunk = this.#chunk
    if (chunk !== undefined) {
      const length = this.#end - this.#start
      const slice = chunk.subarray(this.#start, this.#end)
      // A small slice that waits for a slow peer would keep its whole chunk in memory.
      this.#slices.push(this.#backlog > 0 && length * 4 < chunk.length ? Buffer.from(slice) : slice)
      this.#chunk = undefined
    }
  }

  /** Hands what was collected to the socket. */
  flush(): void {
    this.#seal()
    const slices = this.#slices
    this.#slices = []
    this.#collected = 0
    this.#dirty = false
    if (!this.#socket.writable || slices.length === 0) {
      return
    }
    const [only] = slices
    if (only !== undefined && slices.length === 1) {
      this.#socket.write(only)
      return
    }
    this.#socket.cork()
    let small: Array<Buffer> = []
    for (const slice of slices) {
      if (slice.length < copyBelow) {
        small.push(slice)
      } else {
        this.#join(small)
        small = []
        this.#socket.write(slice)
      }
    }
    this.#join(small)
    this.#socket.uncork()
  }

  #join(small: ReadonlyArray<Buffer>): void {
    const [only] = small
    if (only !== undefined) {
      this.#socket.write(small.length === 1 ? only : Buffer.concat(small))
    }
  }
}
