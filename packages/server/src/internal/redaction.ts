/**
 * Takes secret values out of bytes that leave the server, also where a value is spread over several pieces.
 */
const replacement = Buffer.from("[redacted]")

/** Shorter values are not taken out: they occur everywhere, and the gaps would tell them. */
export const minLength = 4

export interface Redactor {
  /** Takes the secrets out of a whole. With `cut`, the end may hold the beginning of a secret, which goes too. */
  readonly all: (bytes: Uint8Array, cut: boolean) => Uint8Array
  /** Begins a sequence of pieces: returns for each what may go out, and for the end what was held back. */
  readonly pieces: () => (bytes: Uint8Array | undefined) => Uint8Array
}

const variantsOf = (value: string): ReadonlyArray<string> => [
  value,
  value.trim(),
  ...value.split(/\r?\n/).map((line) => line.trim()).filter((line) => line.length >= 8),
  encodeURIComponent(Buffer.from(value).toString("utf8")),
  JSON.stringify(value).slice(1, -1)
]

/** The occurrences of needles, from left to right, the longest first, without overlaps. */
function* hits(bytes: Buffer, needles: ReadonlyArray<Buffer>) {
  const next = needles.map((needle) => bytes.indexOf(needle))
  for (let from = 0;;) {
    let at = -1
    let length = 0
    for (const [index, needle] of needles.entries()) {
      let position = next[index] ?? -1
      if (position !== -1 && position < from) {
        position = bytes.indexOf(needle, from)
        next[index] = position
      }
      if (position !== -1 && (at === -1 || position < at)) {
        at = position
        length = needle.length
      }
    }
    if (at === -1) return
    from = at + length
    yield { at, end: from }
  }
}

/** Replaces what is complete; `rest` is where the end begins that `hold` keeps back. */
const replace = (bytes: Buffer, needles: ReadonlyArray<Buffer>, hold: boolean): { clean: Buffer; rest: number } => {
  const parts: Array<Uint8Array> = []
  let from = 0
  for (const { at, end } of hits(bytes, needles)) {
    if (hold && isBeginning(bytes.subarray(at), needles)) {
      return { clean: Buffer.concat([...parts, bytes.subarray(from, at)]), rest: at }
    }
    parts.push(bytes.subarray(from, at), replacement)
    from = end
  }
  const rest = hold ? bytes.length - beginning(bytes.subarray(from), needles) : bytes.length
  return {
    clean: parts.length === 0 ? bytes.subarray(0, rest) : Buffer.concat([...parts, bytes.subarray(from, rest)]),
    rest
  }
}

const isBeginning = (bytes: Buffer, needles: ReadonlyArray<Buffer>): boolean =>
  needles.some((needle) => needle.length > bytes.length && needle.subarray(0, bytes.length).equals(bytes))

/** The length of the longest end of `bytes` that a secret begins with. */
const beginning = (bytes: Buffer, needles: ReadonlyArray<Buffer>): number => {
  let longest = 0
  for (const needle of needles) {
    for (let length = Math.min(needle.length - 1, bytes.length); length > longest; length--) {
      if (bytes.subarray(bytes.length - length).equals(needle.subarray(0, length))) longest = length
    }
  }
  return longest
}

export const make = (secrets: ReadonlyArray<string>): Redactor => {
  const variants = new Set(secrets.flatMap(variantsOf).filter((value) => value.length >= minLength))
  const needles = [...variants].map((value) => Buffer.from(value)).sort((a, b) => b.length - a.length)
  if (needles.length === 0) return { all: (bytes) => bytes, pieces: () => (bytes) => bytes ?? new Uint8Array() }
  return {
    all: (bytes, cut) => {
      const whole = Buffer.from(bytes)
      const { clean, rest } = replace(whole, needles, cut)
      return whole.length - rest < minLength
        ? Buffer.concat([clean, whole.subarray(rest)])
        : Buffer.concat([clean, replacement])
    },
    pieces: () => {
      let held = Buffer.alloc(0)
      return (bytes) => {
        const whole = Buffer.concat([held, bytes ?? new Uint8Array()])
        const { clean, rest } = replace(whole, needles, bytes !== undefined)
        held = Buffer.from(whole.subarray(rest))
        return clean
      }
    }
  }
}
