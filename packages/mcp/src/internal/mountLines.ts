/** Splits what a process writes into lines, without keeping more of one than is allowed. */

const newline = 10
/** What is kept of each end of a line that is too long. */
const edgeBytes = 4096

/** Hears of the lines, without their line feeds. */
export interface Listener {
  readonly onLine: (line: Buffer) => void
  /** A line was longer than allowed; this is how it begins and ends. */
  readonly onOverlong: (begin: Buffer, end: Buffer) => void
}

/** Makes a function that takes the pieces. */
export const make = (maxBytes: number, { onLine, onOverlong }: Listener): (piece: Uint8Array) => void => {
  let pieces: Array<Buffer> = []
  let size = 0
  /** How the line began, once it is too long. */
  let begin: Buffer | undefined
  let end = Buffer.alloc(0)

  const keep = (piece: Buffer): void => {
    size += piece.byteLength
    if (begin === undefined && size <= maxBytes) {
      pieces.push(piece)
      return
    }
    begin ??= Buffer.from(Buffer.concat([...pieces, piece]).subarray(0, edgeBytes))
    end = Buffer.from(Buffer.concat([end, ...pieces.slice(-1), piece]).subarray(-edgeBytes))
    pieces = []
  }

  const finish = (): void => {
    if (begin !== undefined) onOverlong(begin, end)
    else if (size > 0) onLine(pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces))
    pieces = []
    size = 0
    begin = undefined
    end = Buffer.alloc(0)
  }

  return (data) => {
    const piece = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    for (let from = 0; from < piece.byteLength;) {
      const at = piece.indexOf(newline, from)
      keep(piece.subarray(from, at === -1 ? piece.byteLength : at))
      if (at === -1) return
      finish()
      from = at + 1
    }
  }
}
