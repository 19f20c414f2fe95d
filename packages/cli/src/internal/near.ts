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

/** The known name that one resembles most, when it does at all. */
export const nearest = (name: string, known: ReadonlyArray<string>): string | undefined => {
  const asked = name.slice(0, 64)
  const limit = Math.max(2, Math.floor(asked.length / 3))
  return known
    .map((other) => ({ other, score: distance(asked, other) }))
    .filter(({ score }) => score <= limit)
    .sort((a, b) => a.score - b.score)[0]?.other
}
