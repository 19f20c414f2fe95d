/** Skills as prompts, for people to choose: one that takes the name of a skill, and one for each skill that has a tool. */
import type { McpServer, Prompt } from "@modelcontextprotocol/server"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as Effect from "effect/Effect"
import * as Served from "./served.ts"

export const anySkill = "use-skill"

/** The longest instructions, in characters. */
const maxInstructions = 100_000
/** Arguments of one prompt. */
const maxArguments = 50

const task = { name: "task", description: "What to do with it" }

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** What the skill reads, as its schema tells: by name. */
export const propertiesOf = (
  { input }: SkillCatalog.Skill
): ReadonlyArray<readonly [string, Readonly<Record<string, unknown>>]> => {
  const properties = input?.["properties"]
  return isObject(properties)
    ? Object.entries(properties).slice(0, maxArguments).map(([name, schema]) => [name, isObject(schema) ? schema : {}])
    : []
}

const argumentsOf = (skill: SkillCatalog.Skill): NonNullable<Prompt["arguments"]> => {
  const required = skill.input?.["required"]
  const properties = propertiesOf(skill).map(([name, { description }]) => ({
    name,
    ...typeof description === "string" ? { description } : {},
    required: Array.isArray(required) && required.includes(name)
  }))
  return properties.length === 0 ? [task] : properties
}

const any: Prompt = {
  name: anySkill,
  title: "Use a skill",
  description: "Gives the instructions of a skill",
  arguments: [{ name: "skill", description: "The skill's name", required: true }, task]
}

/** The skills that have prompts of their own, by the names of those. */
export const skillsOf = (tools: ReadonlyArray<SkillTools.Tool>): ReadonlyMap<string, SkillCatalog.Skill> =>
  new Map(tools.flatMap(({ name, skill }) => skill === undefined || name === anySkill ? [] : [[name, skill] as const]))

const write = (
  skill: SkillCatalog.Skill,
  tool: string | undefined,
  instructions: string,
  given: Readonly<Record<string, string>>
): string => {
  const body = instructions.trim()
  const cut = body.length > maxInstructions ? "\n[cut here; read_skill_resource has all of SKILL.md]" : ""
  const how = skill.scripts.length === 0
    ? []
    : [
      `Its scripts run on a server: use ${
        tool === undefined || skill.entry === null ? "" : `the tool ${tool}, or `
      }run_skill_script with the skill ${JSON.stringify(skill.name)} and the topic ${JSON.stringify(skill.topic)}.`
    ]
  const what = Object.entries(given).filter(([, value]) => value !== "").map(([name, value]) =>
    name === task.name ? value : `${name}: ${value}`
  )
  return [
    `Use the skill ${skill.name}: ${skill.description}`,
    `<skill_content name=${JSON.stringify(skill.name)} digest="${skill.digest}">\n${
      body.slice(0, maxInstructions).replaceAll(/<(?=\/?skill_content\b)/gi, "&lt;")
    }${cut}\n</skill_content>`,
    ...how,
    ...what.length === 0 ? [] : [what.join("\n")]
  ].join("\n\n")
}

const get = Effect.fnUntraced(function*(
  { catalog, tools }: Served.Served,
  name: string,
  given: Readonly<Record<string, string>>
) {
  const own = skillsOf(yield* tools.tools).get(name)
  if (own === undefined && name !== anySkill) {
    return yield* Effect.fail(Served.invalid(`there is no prompt ${JSON.stringify(name)}`))
  }
  const { skill: wanted = "", ...rest } = own === undefined ? given : { ...given, skill: undefined }
  if (own === undefined && wanted === "") return yield* Effect.fail(Served.invalid("the argument skill is missing"))
  const skill = own ?? (yield* Effect.mapError(catalog.find(wanted), ({ message }) => Served.invalid(message)))
  const missing = own === undefined
    ? undefined
    : argumentsOf(own).find((argument) => argument.required === true && (given[argument.name] ?? "") === "")
  if (missing !== undefined) return yield* Effect.fail(Served.invalid(`the argument ${missing.name} is missing`))
  const { instructions } = yield* Effect.mapError(catalog.describe(skill), ({ message }) => Served.internal(message))
  const text = write(skill, own === undefined ? undefined : name, instructions, own === undefined ? rest : given)
  return {
    description: skill.description,
    messages: [{ role: "user" as const, content: { type: "text" as const, text } }]
  }
})

export const register = ({ server }: McpServer, served: Served.Served): void => {
  server.setRequestHandler("prompts/list", ({ params }, context) =>
    served.run(
      Effect.gen(function*() {
        const own = Array.from(skillsOf(yield* served.tools.tools), ([name, skill]) => ({
          key: `1${Served.keyOf(skill)}`,
          prompt: { name, description: skill.description, arguments: argumentsOf(skill) }
        }))
        const all = [{ key: "0", prompt: any }, ...own]
        const { items, next } = yield* Served.page(all, params?.cursor, served.pageSize, ({ key }) => key)
        return { prompts: items.map(({ prompt }) => prompt), ...next }
      }),
      context
    ))
  server.setRequestHandler(
    "prompts/get",
    ({ params }, context) => served.run(get(served, params.name, params.arguments ?? {}), context)
  )
}
