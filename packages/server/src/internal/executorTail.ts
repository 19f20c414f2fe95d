/** Keeps the end of what a streamed run writes to standard error, for the error that it may end with. */
const tailBytes = 16 * 1024

export interface Tail {
  /** Takes a copy of what it keeps: the piece belongs to the consumer of the stream. */
  readonly push: (piece: Uint8Array) => void
  /** The last bytes, at most 16 KiB. */
  readonly bytes: () => Uint8Array
}

export const makeTail = (): Tail => {
  let pieces: Array<Uint8Array> = []
  let size = 0
  const joined = () => new Uint8Array(Buffer.concat(pieces)).slice(-tailBytes)
  return {
    push: (piece) => {
      const kept = piece.slice(-tailBytes)
      pieces.push(kept)
      size += kept.byteLength
      if (size < 2 * tailBytes && pieces.length < 256) return
      pieces = [joined()]
      size = pieces[0]?.byteLength ?? 0
    },
    bytes: joined
  }
}
