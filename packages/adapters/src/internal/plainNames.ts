/** Names of letters, digits and `_` alone, for frameworks that write all others with `_`, each only once. */
import { createHash } from "node:crypto"

const maxName = 63

/** Digits of a digest at first, and how many more there are each time that names are the same all the same. */
const digits = 8
/** With so many, only the same name has the same. */
const maxDigits = 32

const plain = (name: string, length: number): string => {
  const written = name.replaceAll(/[^A-Za-z0-9_]/g, "_")
  if (length === 0) return written
  const digest = createHash("sha256").update(name).digest("hex").slice(0, length)
  return `${written.slice(0, maxName - 1 - length)}_${digest}`
}

/**
 * What would be the same ends with eight digits of a digest of the name that it is made of, and with more only where that is another's
 * name; a name that is plain stays.
 */
export const plainNames = (names: ReadonlyArray<string>): ReadonlyMap<string, string> => {
  const lengths = new Map(names.map((name) => [name, 0]))
  for (;;) {
    const written = new Map(Array.from(lengths, ([name, length]) => [name, plain(name, length)]))
    const counts = new Map<string, number>()
    for (const name of written.values()) counts.set(name, (counts.get(name) ?? 0) + 1)
    const same = Array.from(written).filter(([name, as]) =>
      as !== name && counts.get(as) !== 1 && (lengths.get(name) ?? 0) < maxDigits
    )
    if (same.length === 0) return written
    for (const [name] of same) lengths.set(name, (lengths.get(name) ?? 0) + digits)
  }
}
