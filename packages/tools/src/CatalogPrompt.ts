/**
 * What a model is told of the skills before it asks: their names and descriptions, as the `<available_skills>` block of the open
 * Agent Skills format, within a budget.
 *
 * @since 0.1.0
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Listing from "./internal/listing.ts"
import * as ModelText from "./internal/modelText.ts"
import type * as SkillCatalog from "./SkillCatalog.ts"

/**
 * How long the prompt may be.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Characters of the whole prompt. By default 15,000. Nothing is told where not even one name fits. */
  readonly budget?: number | undefined
}

/** A description is not cut shorter than this; rather fewer skills are listed. */
const shortest = 60

const introduction =
  "You have skills: instructions, and scripts that run on a server. Before you do a task that a skill is for, read its " +
  "instructions with load_skill; run its scripts with run_skill_script, or with the tool of its name."

const severalTopics =
  "Skills of several topics have the same name: name the topic, too, which its location begins with."

const rest = (count: number): string =>
  `${count} more skill${count === 1 ? " is" : "s are"} not listed here: find them with search_skills.`

const block = (skills: ReadonlyArray<SkillCatalog.Skill>, length: number): string =>
  SkillDiscovery.availableSkills(
    skills.map(({ description, name, topic }) => ({
      name,
      description: ModelText.oneLine(description, length),
      file: `skill://${topic}/${name}/SKILL.md`
    }))
  )

/** Skills, and what is said before them. */
interface Told {
  readonly begin: string
  readonly skills: ReadonlyArray<SkillCatalog.Skill>
}

const write = ({ begin, skills }: Told, count: number, length: number): string =>
  [
    begin,
    block(skills.slice(0, count), length),
    ...count < skills.length ? [rest(skills.length - count)] : []
  ].join("\n\n")

const empty = block([], 0).length

/** Whether the prompt is short enough. Looks at no more skills than are too many. */
const isWithin = (budget: number, { begin, skills }: Told, count: number, length: number): boolean => {
  let size = begin.length + 2 + empty + (count < skills.length ? rest(skills.length - count).length + 2 : 0)
  for (let index = 0; index < count && size <= budget; index++) {
    size += block(skills.slice(index, index + 1), length).length - empty
  }
  return size <= budget
}

/** The largest number from `from` to `to` that fits; `from` is taken to fit. */
const largest = (from: number, to: number, fits: (value: number) => boolean): number => {
  let low = from
  let high = to
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  return low
}

/**
 * Writes the prompt: all skills with their whole descriptions if that fits, else with descriptions that are cut to one length,
 * else as many skills as fit, and how many there are besides. Empty without skills.
 *
 * @category constructors
 * @since 0.1.0
 */
export const catalogPrompt = (
  skills: ReadonlyArray<SkillCatalog.Skill>,
  { budget = 15_000 }: Options = {}
): string => {
  if (skills.length === 0) return ""
  const longest = Math.max(...skills.map(({ description }) => description.length))
  const told = {
    begin: Listing.doubled(skills).size === 0 ? introduction : `${introduction} ${severalTopics}`,
    skills
  }
  const isShort = (length: number) => isWithin(budget, told, skills.length, length)
  const isFew = (count: number) => isWithin(budget, told, count, shortest)
  if (isShort(longest)) return write(told, skills.length, longest)
  if (isShort(shortest)) return write(told, skills.length, largest(shortest, longest, isShort))
  return isFew(1) ? write(told, largest(1, skills.length, isFew), shortest) : ""
}
