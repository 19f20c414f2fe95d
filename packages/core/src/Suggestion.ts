/**
 * Names that resemble one that does not exist, for "did you mean".
 *
 * @since 0.1.0
 */

const maxAsked = 64
const maxSuggested = 3
const minPart = 3

const distance = (a: string, b: string): number => {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const current = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      current.push(Math.min(substituted, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1))
    }
    previous = current
  }
  return previous[b.length] ?? 0
}

/**
 * Finds the known names that resemble one, the most similar first and at most three: those that contain it or are part of
 * it, and those that it becomes with two edits or with as many as a third of its length. Case does not count.
 *
 * @category combinators
 * @since 0.1.0
 */
export const near = (name: string, known: ReadonlyArray<string>): ReadonlyArray<string> => {
  const asked = name.toLowerCase().slice(0, maxAsked)
  return known
    .map((other) => {
      const lower = other.toLowerCase()
      const isPart = asked.length >= minPart && lower.includes(asked) ||
        lower.length >= minPart && asked.includes(lower)
      return { other, score: isPart ? 0 : distance(asked, lower) }
    })
    .filter(({ score }) => score <= Math.max(2, Math.floor(asked.length / 3)))
    .sort((a, b) => a.score - b.score || (a.other < b.other ? -1 : 1))
    .slice(0, maxSuggested)
    .map(({ other }) => other)
}
