/**
 * Finds what a script says of its progress: lines of standard error that begin with `::progress::`. They stay in standard
 * error. However much else there is, looking through it costs little.
 */

const prefix = Buffer.from("::progress::")
const newline = 10
const beginning = Buffer.concat([Uint8Array.of(newline), prefix])
/** What is kept of a line behind its prefix, in bytes. */
const maxBytes = 1024

const mayBeOne = (line: Buffer): boolean =>
  line.subarray(0, prefix.length).equals(prefix.subarray(0, Math.min(line.length, prefix.length)))

/** Makes a function that takes the pieces of standard error and returns what the lines that ended, or are too long, say. */
export const make = (): (piece: Uint8Array) => ReadonlyArray<string> => {
  /** The line so far; none when it is of no interest any more. */
  let line: Buffer | undefined = Buffer.alloc(0)

  return (data) => {
    const piece = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    const said: Array<string> = []
    for (let from = 0; from < piece.length;) {
      if (line === undefined) {
        const next = piece.indexOf(beginning, from)
        // If none is whole, one may begin at the end.
        const at = next === -1 ? piece.lastIndexOf(newline) : next
        if (at < from) return said
        line = Buffer.alloc(0)
        from = at + 1
        continue
      }
      const newlineAt = piece.indexOf(newline, from)
      const end = newlineAt === -1 ? piece.length : newlineAt
      const to = Math.min(end, from + prefix.length + maxBytes - line.length)
      line = Buffer.concat([line, piece.subarray(from, to)])
      from = to
      const isOver = newlineAt === to || line.length === prefix.length + maxBytes
      if (!isOver && mayBeOne(line)) return said
      if (line.length >= prefix.length && mayBeOne(line)) said.push(line.toString("utf8", prefix.length).trim())
      line = undefined
    }
    return said
  }
}
