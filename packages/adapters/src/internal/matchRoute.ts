/** Routes a request to the skill that the search of the catalog finds, without a model. */
import { AIMessage, type BaseMessage } from "@langchain/core/messages"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import { randomUUID } from "node:crypto"

export interface Options {
  readonly margin?: number | undefined
  readonly arguments?: ((text: string, skill: SkillCatalog.Skill) => Readonly<Record<string, unknown>>) | undefined
}

interface State {
  readonly messages: ReadonlyArray<BaseMessage>
}

const clearMargin = 1.5
/** How many skills are named when none fits clearly. */
const maxNamed = 5

const searched = 20

/** One with scripts and no entry point wants to be told which. */
const isCallable = ({ entry, scripts }: SkillCatalog.Skill): boolean => entry !== null || scripts.length === 0

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const parsed = (text: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : { input: value }
  } catch {
    return { input: text }
  }
}

const nothingFits = (found: ReadonlyArray<SkillCatalog.Found>): AIMessage => {
  const lines = found.slice(0, maxNamed).map(({ skill: { description, name } }) => `- ${name}: ${description}`)
  return new AIMessage(
    lines.length === 0
      ? "No skill fits this request."
      : ["No skill clearly fits this request. Those that come near:", ...lines].join("\n")
  )
}

/** The call of the vocabulary that does what the tool of the skill would with these arguments. */
const named = ({ entry, input: schema, name, topic }: SkillCatalog.Skill, args: Readonly<Record<string, unknown>>) => {
  const which = { skill: name, topic }
  if (entry === null) return { name: "load_skill", args: which }
  const { input, ...more } = args
  if (schema === undefined) {
    return { name: "run_skill_script", args: { ...more, ...input === undefined ? {} : { stdin: input }, ...which } }
  }
  const { properties } = schema
  const isWhole = input === undefined || isObject(properties) && "input" in properties
  return { name: "run_skill_script", args: { stdin: JSON.stringify(isWhole ? args : input), ...which } }
}

export const make = (toolbox: Toolbox, options: Options) => {
  const margin = options.margin ?? clearMargin

  const argumentsOf = (text: string, skill: SkillCatalog.Skill): Readonly<Record<string, unknown>> => {
    if (options.arguments !== undefined) return options.arguments(text, skill)
    if (skill.input !== undefined) return parsed(text)
    return skill.entry === null ? {} : { input: text }
  }

  const call = (text: string, skill: SkillCatalog.Skill) => {
    const tool = toolbox.tools().find((candidate) =>
      candidate.skill?.name === skill.name && candidate.skill.topic === skill.topic
    )
    const args = argumentsOf(text, skill)
    return tool === undefined ? named(skill, args) : { name: tool.name, args: { ...args } }
  }

  return async ({ messages }: State) => {
    const text = messages.at(-1)?.text ?? ""
    const found = (await toolbox.search(text, { limit: searched })).filter(({ skill }) => isCallable(skill))
    const [best, second] = found
    if (best === undefined || second !== undefined && best.score < second.score * margin) {
      return { messages: [nothingFits(found)] }
    }
    const toolCall = { type: "tool_call" as const, id: `call_${randomUUID()}`, ...call(text, best.skill) }
    return { messages: [new AIMessage({ content: "", tool_calls: [toolCall] })] }
  }
}
