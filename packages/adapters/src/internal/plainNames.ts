/** Names of letters, digits and `_` alone, for frameworks that write all others with `_`, each only once. */
import { createHash } from "node:crypto"

const maxName = 64

const plain = (name: string): string => name.replaceAll(/[^A-Za-z0-9_]/g, "_")

/** What would be the same ends with eight digits of a digest of the name that it is made of; a name that is plain stays. */
export const plainNames = (names: ReadonlyArray<string>): ReadonlyMap<string, string> => {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(plain(name), (counts.get(plain(name)) ?? 0) + 1)
  return new Map(names.map((name) => {
    const written = plain(name)
    if (written === name || counts.get(written) === 1) return [name, written]
    const digest = createHash("sha256").update(name).digest("hex").slice(0, 8)
    return [name, `${written.slice(0, maxName - 9)}_${digest}`]
  }))
}
