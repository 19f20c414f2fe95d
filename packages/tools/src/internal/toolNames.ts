/** Names that all models accept: at most 64 of `[A-Za-z0-9_-]`, and each only once. */
import { createHash } from "node:crypto"

export const maxName = 64

const isName = /^[A-Za-z0-9_-]{1,64}$/

const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8)

/** Something like the name that is one: other characters become `_`, and eight digits of its digest tell it from its like. */
const fitting = (name: string, identity: string): string => {
  const clean = name.replaceAll(/[^A-Za-z0-9_-]+/g, "_").slice(0, maxName - 9)
  return `${clean === "" ? "skill" : clean}_${digestOf(identity)}`
}

/**
 * Names tools after what they are for. A name that no model accepts, that is taken, or that two of them have, is told apart by a
 * digest of what it is the name of, so that it depends on nothing else and stays the same.
 */
export const make = (
  wanted: ReadonlyArray<{ readonly name: string; readonly topic: string }>,
  taken: ReadonlySet<string>
): ReadonlyArray<string> => {
  const counts = new Map<string, number>()
  for (const { name } of wanted) counts.set(name, (counts.get(name) ?? 0) + 1)
  return wanted.map(({ name, topic }) =>
    isName.test(name) && !taken.has(name) && counts.get(name) === 1
      ? name
      : fitting(name, JSON.stringify([topic, name]))
  )
}
