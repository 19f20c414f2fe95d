import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"

type Candidate = Pick<SkillDiscovery.Skill, "name" | "description">

const stopWords = new Set(
  ("a an and any are as at be but by can do for from how i in into is it its me my of on or our please so some that " +
    "the their them then this to up use used uses using was we what when which who will with you your skill").split(" ")
)

const clearMargin = 1.5
const minScore = 1
const maxWords = 400
const maxCharacters = 16_384

const stem = (word: string) => word.replace(/(ies)$/, "y").replace(/(?:ing|ers?|ed|es|s|e)$/, "")

const words = (text: string): ReadonlyArray<string> =>
  (text.slice(0, maxCharacters).toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [])
    .slice(0, maxWords)
    .filter((word) => word.length > 1 && !stopWords.has(word))
    .map(stem)

/**
 * Finds the one skill that a plain text clearly asks for: words that few skills share count more, words of the name
 * count three times. No clear winner, no match.
 */
export const match = <S extends Candidate>(text: string, skills: ReadonlyArray<S>): S | undefined => {
  const asked = new Set(words(text))
  const profiles = skills.map((skill) => ({
    skill,
    name: new Set(words(skill.name)),
    all: new Set([...words(skill.name), ...words(skill.description)])
  }))
  const rarity = (word: string) => {
    const holders = profiles.filter((profile) => profile.all.has(word)).length
    return holders === 0 ? 0 : Math.log(1 + profiles.length / holders)
  }
  const ranked = profiles
    .map(({ all, name, skill }) => ({
      skill,
      score: [...asked].reduce((sum, word) => all.has(word) ? sum + rarity(word) * (name.has(word) ? 3 : 1) : sum, 0)
    }))
    .sort((a, b) => b.score - a.score)
  const [best, second] = ranked
  if (best === undefined || best.score < minScore) return undefined
  return second === undefined || best.score >= second.score * clearMargin ? best.skill : undefined
}
