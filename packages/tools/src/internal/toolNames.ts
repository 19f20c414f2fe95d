/**
 * Names that all models and frameworks accept: at most 63 of `[A-Za-z0-9_-]`, a letter or `_` first, and each only once. Gemini asks
 * for that beginning, and Mastra cuts names after 63. Frameworks keep tools in plain objects, so that what these have is no name.
 */
import { createHash } from "node:crypto"

export const maxName = 63

const isName = /^[A-Za-z_][A-Za-z0-9_-]{0,62}$/

/** Digits of a digest at first, and how many more there are each time that names are the same all the same. */
const digits: number = 8

/** With so many, only the same skill has the same. */
const maxDigits = 32

interface Wanted {
  readonly name: string
  readonly topic: string
}

/** Something like the name that is one: other characters become `_`, and a digest of what it is of tells it from its like. */
const fitting = ({ name, topic }: Wanted, length: number): string => {
  const digest = createHash("sha256").update(JSON.stringify([topic, name])).digest("hex").slice(0, length)
  const clean = name.replaceAll(/[^A-Za-z0-9_-]+/g, "_")
  const begun = /^[A-Za-z_]/.test(clean) ? clean : clean === "" ? "skill" : `skill_${clean}`
  return `${begun.slice(0, maxName - 1 - digest.length)}_${digest}`
}

const countOf = (names: ReadonlyArray<string>): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

/**
 * Names tools after what they are for. A name that is not accepted, that is taken, or that two of them have, is told apart by a
 * digest of what it is the name of, so that it depends on nothing else and stays the same: eight digits, and more only where that
 * is another's name.
 */
export const make = (wanted: ReadonlyArray<Wanted>, taken: ReadonlySet<string>): ReadonlyArray<string> => {
  const isTaken = (name: string) => taken.has(name) || name in Object.prototype
  const counts = countOf(wanted.map(({ name }) => name))
  const lengths = wanted.map(({ name }) => isName.test(name) && !isTaken(name) && counts.get(name) === 1 ? 0 : digits)
  for (;;) {
    const names = wanted.map((each, index) => lengths[index] ? fitting(each, lengths[index]) : each.name)
    const uses = countOf(names)
    let isDone = true
    names.forEach((name, index) => {
      const length = lengths[index] ?? 0
      if (length === 0 || length >= maxDigits || uses.get(name) === 1 && !isTaken(name)) return
      lengths[index] = length + digits
      isDone = false
    })
    if (isDone) return names
  }
}
