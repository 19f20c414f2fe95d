/** The catalog as ADK's registry of skills, which has them with all of their files. */
import type { Frontmatter, Resources, Script, Skill, SkillRegistry } from "@google/adk"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import { isUtf8 } from "node:buffer"

/** Files of one skill, and their bytes, as every host of skills has to take them. The text of others says that they are too many. */
const maxFiles = 512
const maxBytes = 16 * 1024 * 1024
/** How many are read at a time. */
const concurrency = 8

/** ADK hands an executor the files of a skill and not its name. This one tells. */
export const marker = ".skillscale"

type Files = Record<string, string | Buffer>

/** ADK gives its model the resources as they are; their names are enough. */
class SkillFiles implements Resources {
  readonly references: Files = {}
  readonly assets: Files = {}
  readonly scripts: Record<string, Script> = {}

  toJSON() {
    return {
      references: Object.keys(this.references),
      assets: Object.keys(this.assets).filter((name) => name !== marker),
      scripts: Object.keys(this.scripts)
    }
  }
}

interface File {
  readonly path: string
  readonly size: number
}

const textOf = (content: string | Buffer): string => typeof content === "string" ? content : content.toString("utf8")

const place = (files: SkillFiles, path: string, content: string | Buffer): void => {
  const slash = path.indexOf("/")
  const name = path.slice(slash + 1)
  switch (path.slice(0, slash)) {
    case "references":
      files.references[name] = content
      return
    case "assets":
      files.assets[name] = content
      return
    case "scripts":
      files.scripts[name] = { src: textOf(content) }
  }
}

const isPlaced = ({ path }: File): boolean => /^(references|assets|scripts)\/./.test(path)

const stringOf = (value: unknown): string | undefined => typeof value === "string" ? value : undefined

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const frontmatterOf = ({ description, name }: SkillCatalog.Skill, given: unknown): Frontmatter => {
  const matter = isRecord(given) ? given : {}
  const license = stringOf(matter["license"])
  const compatibility = stringOf(matter["compatibility"])
  const allowedTools = stringOf(matter["allowed-tools"])
  return {
    name,
    description,
    ...license === undefined ? {} : { license },
    ...compatibility === undefined ? {} : { compatibility },
    ...allowedTools === undefined ? {} : { allowedTools },
    ...isRecord(matter["metadata"]) ? { metadata: matter["metadata"] } : {}
  }
}

const fetch = async (toolbox: Toolbox, skill: SkillCatalog.Skill): Promise<Skill> => {
  const { frontMatter, instructions, resources } = await toolbox.describe(skill)
  const files = new SkillFiles()
  const wanted = resources.filter(isPlaced)
  let bytes = 0
  const within = wanted.filter(({ size }, index) => {
    if (index >= maxFiles || bytes + size > maxBytes) return false
    bytes += size
    return true
  })
  wanted.filter((file) => !within.includes(file)).forEach(({ path }) =>
    place(files, path, `[${path} is too much to be shown]`)
  )
  for (let from = 0; from < within.length; from += concurrency) {
    const read = await Promise.all(
      within.slice(from, from + concurrency).map(async ({ path }) => ({
        path,
        data: Buffer.from(await toolbox.resource(skill, path))
      }))
    )
    // In the order of the listing, not in that in which they came.
    for (const { data, path } of read) place(files, path, isUtf8(data) ? data.toString("utf8") : data)
  }
  files.assets[marker] = JSON.stringify({ skill: skill.name, topic: skill.topic })
  return { frontmatter: frontmatterOf(skill, frontMatter), instructions, resources: files }
}

export const make = (toolbox: Toolbox): SkillRegistry => {
  /** Of each skill, the last version that was asked for. */
  const fetched = new Map<string, { readonly digest: string; readonly skill: Promise<Skill> }>()
  const forget = (skills: ReadonlyArray<SkillCatalog.Skill>) => {
    const names = new Set(skills.map(({ name }) => name))
    for (const name of fetched.keys()) if (!names.has(name)) fetched.delete(name)
  }
  return {
    getSkill: async (name) => {
      const skills = toolbox.skills()
      forget(skills)
      const skill = skills.find((candidate) => candidate.name === name)
      if (skill === undefined) throw new Error(`there is no skill ${JSON.stringify(name)}`)
      const before = fetched.get(name)
      if (before?.digest === skill.digest) return before.skill
      const fetching = fetch(toolbox, skill)
      fetched.set(name, { digest: skill.digest, skill: fetching })
      fetching.catch(() => {
        if (fetched.get(name)?.skill === fetching) fetched.delete(name)
      })
      return fetching
    },
    searchSkills: async (query) => (await toolbox.search(query)).map(({ skill }) => frontmatterOf(skill, undefined)),
    searchToolDescription: () => "Finds skills by words of their name, description and instructions, the best first."
  }
}
