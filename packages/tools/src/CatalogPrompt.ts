/**
 * What a model is told of the skills before it asks: their names and descriptions, as the `<available_skills>` block of the open
 * Agent Skills format, within a budget.
 *
 * @since 0.1.0
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Listing from "./internal/listing.ts"
import * as ModelText from "./internal/modelText.ts"
import * as Vocabulary from "./internal/vocabularyNames.ts"
import type * as SkillCatalog from "./SkillCatalog.ts"

/**
 * How long the prompt may be.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Characters of the whole prompt. By default 15,000. Nothing is told where not one skill fits. */
  readonly budget?: number | undefined
  /** Which tools the model has that are not of one skill; others are not named. By default all; a toolbox says those that it has. */
  readonly vocabulary?: ReadonlyArray<Vocabulary.Name> | false | undefined
  /** Whether there is a tool for each skill. By default there is; a toolbox says whether it has those. */
  readonly skillTools?: boolean | undefined
}

/** A description is not cut shorter than this; rather fewer skills are listed. */
const shortest = 60

/** What there are skills for, and the tools that the model has for them. */
const introduction = (has: (tool: Vocabulary.Name) => boolean, skillTools: boolean): string => {
  const reading = has("load_skill")
    ? "before you do a task that a skill is for, read its instructions with load_skill"
    : ""
  const ways = [...has("run_skill_script") ? ["run_skill_script"] : [], ...skillTools ? ["the tool of its name"] : []]
  const running = ways.length === 0 ? "" : `run its scripts with ${ways.join(", or with ")}`
  const how = [reading, running].filter((part) => part !== "").join("; ")
  const opening = "You have skills: instructions, and scripts that run on a server."
  return how === "" ? opening : `${opening} ${how[0]?.toUpperCase()}${how.slice(1)}.`
}

const severalTopics =
  "Skills of several topics have the same name: name the topic, too, which its location begins with."

const rest = (count: number, finding: string): string =>
  `${count} more skill${count === 1 ? " is" : "s are"} not listed here${finding}.`

type Listed = Pick<SkillCatalog.Skill, "name" | "description" | "topic">

const block = (skills: ReadonlyArray<Listed>, length: number): string =>
  SkillDiscovery.availableSkills(
    skills.map(({ description, name, topic }) => ({
      name,
      description: ModelText.oneLine(description, length),
      file: `skill://${topic}/${name}/SKILL.md`
    }))
  )

/** Skills, what is said before them, and how those are found that are not listed. */
interface Told {
  readonly begin: string
  readonly finding: string
  readonly skills: ReadonlyArray<SkillCatalog.Skill>
}

const write = (
  { begin, finding, skills }: Told,
  listed: ReadonlyArray<SkillCatalog.Skill>,
  length: number
): string =>
  [
    begin,
    block(listed, length),
    ...listed.length < skills.length ? [rest(skills.length - listed.length, finding)] : []
  ].join("\n\n")

const empty = block([], 0).length

const sizeOf = (skill: Listed, length: number): number => block([skill], length).length - empty

/** No skill takes less. */
const least = sizeOf({ name: "", description: "", topic: "" }, 0)

/** Whether the prompt is short enough with all skills. Looks at no more of them than are too many. */
const isWithin = (budget: number, { begin, skills }: Told, length: number): boolean => {
  let size = begin.length + 2 + empty
  for (const skill of skills) {
    size += sizeOf(skill, length)
    if (size > budget) return false
  }
  return size <= budget
}

/** Those that fit, one after the other, besides the line that says how many do not; one that is too long is passed over. */
const fitting = (budget: number, { begin, finding, skills }: Told): ReadonlyArray<SkillCatalog.Skill> => {
  let room = budget - (begin.length + 2 + empty + 2 + rest(skills.length, finding).length)
  const listed: Array<SkillCatalog.Skill> = []
  for (const skill of skills) {
    if (room < least) break
    const size = sizeOf(skill, shortest)
    if (size > room) continue
    listed.push(skill)
    room -= size
  }
  return listed
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
 * else with those skills that fit, in their order, and how many there are besides. Empty without skills.
 *
 * @category constructors
 * @since 0.1.0
 */
export const catalogPrompt = (
  skills: ReadonlyArray<SkillCatalog.Skill>,
  { budget = 15_000, skillTools = true, vocabulary = Vocabulary.names }: Options = {}
): string => {
  if (skills.length === 0) return ""
  const longest = Math.max(...skills.map(({ description }) => description.length))
  const has = (tool: Vocabulary.Name) => vocabulary !== false && vocabulary.includes(tool)
  const begin = introduction(has, skillTools)
  const finder = (["search_skills", "list_skills"] as const).find(has)
  const told = {
    begin: Listing.doubled(skills).size === 0 ? begin : `${begin} ${severalTopics}`,
    finding: finder === undefined ? "" : `: find them with ${finder}`,
    skills
  }
  const isShort = (length: number) => isWithin(budget, told, length)
  if (isShort(longest)) return write(told, skills, longest)
  if (isShort(shortest)) return write(told, skills, largest(shortest, longest, isShort))
  const listed = fitting(budget, told)
  return listed.length === 0 ? "" : write(told, listed, shortest)
}
