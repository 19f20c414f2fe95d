/** Skills as a model reads them in a list: one a line, within a number of characters. */
import type * as SkillCatalog from "../SkillCatalog.ts"
import type * as SkillTools from "../SkillTools.ts"
import * as ModelText from "./modelText.ts"

/** The longest description that the open format allows, in characters; a longer one is cut to it. */
export const maxDescription = 1024

const text = { type: "string" } as const
const listedSkill = {
  type: "object",
  properties: {
    name: text,
    description: text,
    topic: text,
    digest: text,
    entry: { type: ["string", "null"] },
    scripts: { type: "array", items: text }
  },
  required: ["name", "description", "topic", "digest", "entry", "scripts"]
} as const

export const schema = {
  type: "object",
  properties: { skills: { type: "array", items: listedSkill }, total: { type: "integer" } },
  required: ["skills", "total"]
} as const

const told = ({ description, digest, entry, name, scripts, topic }: SkillCatalog.Skill) => ({
  name,
  description: ModelText.cut(description, maxDescription),
  topic,
  digest,
  entry,
  scripts
})

/** The names that skills of several topics have. */
export const doubled = (skills: ReadonlyArray<SkillCatalog.Skill>): ReadonlySet<string> => {
  const seen = new Set<string>()
  return new Set(skills.flatMap(({ name }) => seen.has(name) ? [name] : (seen.add(name), [])))
}

/** One skill a line, as many as fit and at least one, each with its topic where its name alone does not tell which. */
const linesOf = (
  skills: ReadonlyArray<SkillCatalog.Skill>,
  several: ReadonlySet<string>,
  room: number
): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let length = 0
  for (const { description, name, topic } of skills) {
    const which = several.has(name) ? ` (topic ${topic})` : ""
    const line = ModelText.cut(`- ${name}${which}: ${ModelText.oneLine(description, maxDescription)}`, room)
    if (lines.length > 0 && length + line.length + 1 > room) break
    lines.push(line)
    length += line.length + 1
  }
  return lines
}

const output = (lines: ReadonlyArray<string>, skills: ReadonlyArray<SkillCatalog.Skill>, total: number) => ({
  text: lines.join("\n"),
  structured: { skills: skills.map(told), total },
  artifacts: []
})

/** What is kept free for the line that says what is missing. */
const reserved = 200

/** A page of all skills, and where the next begins. */
export const page = (
  all: ReadonlyArray<SkillCatalog.Skill>,
  { limit, offset }: { readonly limit: number; readonly offset: number },
  maxOutput: number
): SkillTools.Output => {
  const total = all.length
  if (total === 0) return output(["There are no skills."], [], 0)
  if (offset >= total) return output([`There is no skill at offset ${offset}: there are ${total} in all.`], [], total)
  const skills = all.slice(offset, offset + limit)
  const lines = linesOf(skills, doubled(all), maxOutput - reserved)
  const next = offset + lines.length
  const more = next < total ? [`[${lines.length} of ${total}; the next begin at offset ${next}]`] : []
  return output([...lines, ...more], skills.slice(0, lines.length), total)
}

/** Skills that were found, the best first. */
export const found = (
  skills: ReadonlyArray<SkillCatalog.Skill>,
  all: ReadonlyArray<SkillCatalog.Skill>,
  maxOutput: number
): SkillTools.Output => {
  const lines = linesOf(skills, doubled(all), maxOutput - reserved)
  const more = lines.length < skills.length ? [`[the best ${lines.length} of ${skills.length} that were found]`] : []
  return output([...lines, ...more], skills.slice(0, lines.length), skills.length)
}
