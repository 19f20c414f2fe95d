/**
 * Finds what a script says of its progress: lines of standard error that begin with `::progress::`. They stay in standard
 * error.
 */

const prefix = "::progress::"
/** What is kept of a line behind its prefix, in bytes. */
const maxBytes = 1024
const newline = 10

/** Makes a function that takes the pieces of standard error and returns what the lines that ended say. */
export const make = (): (piece: Uint8Array) => ReadonlyArray<string> => {
  let line = Buffer.alloc(0)

  const keep = (bytes: Uint8Array): void => {
    const room = prefix.length + maxBytes - line.length
    if (room > 0 && bytes.length > 0) line = Buffer.concat([line, bytes.subarray(0, room)])
  }
  const end = (): string | undefined => {
    const said = line.toString("utf8")
    line = Buffer.alloc(0)
    return said.startsWith(prefix) ? said.slice(prefix.length).trim() : undefined
  }

  return (piece) => {
    const said: Array<string> = []
    for (let from = 0;;) {
      const to = piece.indexOf(newline, from)
      keep(piece.subarray(from, to === -1 ? undefined : to))
      if (to === -1) return said
      const content = end()
      if (content !== undefined) said.push(content)
      from = to + 1
    }
  }
}
