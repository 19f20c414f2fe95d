/** `completion/complete`: names of topics, skills and files as they are typed, and what a skill's schema allows. */
import type { McpServer } from "@modelcontextprotocol/server"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as Effect from "effect/Effect"
import * as Prompts from "./prompts.ts"
import * as Served from "./served.ts"
import * as SkillUris from "./skillUris.ts"

/** What the protocol allows. */
const maxValues = 100

const answer = (candidates: ReadonlyArray<string>, typed: string) => {
  const wanted = typed.toLowerCase()
  const all = Array.from(new Set(candidates))
  const begin = all.filter((candidate) => candidate.toLowerCase().startsWith(wanted))
  const inside = all.filter((candidate) => !begin.includes(candidate) && candidate.toLowerCase().includes(wanted))
  const values = [...begin, ...inside]
  return {
    completion: { values: values.slice(0, maxValues), total: values.length, hasMore: values.length > maxValues }
  }
}

const enumOf = (skill: SkillCatalog.Skill, argument: string): ReadonlyArray<string> => {
  const values = Prompts.propertiesOf(skill).find(([name]) => name === argument)?.[1]["enum"]
  return Array.isArray(values) ? values.map(String) : []
}

const ofPrompt = Effect.fnUntraced(function*({ catalog, tools }: Served.Served, prompt: string, argument: string) {
  if (prompt === Prompts.anySkill) {
    return argument === "skill" ? (yield* catalog.skills).map(({ name }) => name) : []
  }
  const skill = Prompts.skillsOf(yield* tools.tools).get(prompt)
  if (skill === undefined) return yield* Effect.fail(Served.invalid(`there is no prompt ${JSON.stringify(prompt)}`))
  return enumOf(skill, argument)
})

const ofSkill = Effect.fnUntraced(function*(
  { catalog, entries }: Served.Served,
  argument: string,
  given: Readonly<Record<string, string>>
) {
  const label = given["topic"]
  const skills = (yield* catalog.skills).filter(({ topic }) =>
    label === undefined || SkillUris.labelOf(topic) === label
  )
  switch (argument) {
    case "topic":
      return (yield* catalog.skills).map(({ topic }) => SkillUris.labelOf(topic))
    case "skill":
      return skills.map(({ name }) => name)
    case "path": {
      const skill = skills.find(({ name }) => name === given["skill"])
      if (skill === undefined) return []
      const { files } = yield* Effect.mapError(entries.describe(skill), ({ message }) => Served.internal(message))
      // A client puts it into the template as it is.
      return Array.from(files.keys(), SkillUris.encodePath)
    }
    default:
      return []
  }
})

const isOfSkills = (uri: string): boolean => uri === SkillUris.skillTemplate || SkillUris.parseSkill(uri) !== undefined

export const register = ({ server }: McpServer, served: Served.Served): void => {
  server.setRequestHandler("completion/complete", ({ params: { argument, context: before, ref } }, context) => {
    const candidates: Effect.Effect<ReadonlyArray<string>, ReturnType<typeof Served.invalid>> =
      ref.type === "ref/prompt"
        ? ofPrompt(served, ref.name, argument.name)
        : isOfSkills(ref.uri)
        ? ofSkill(served, argument.name, before?.arguments ?? {})
        : ref.uri === SkillUris.artifactTemplate
        ? Effect.succeed([])
        : Effect.fail(Served.invalid(`there is no resource template ${JSON.stringify(ref.uri)}`))
    return served.run(Effect.map(candidates, (all) => answer(all, argument.value)), context)
  })
}
