/** The names of the tools that are not of one skill, as models know them. */
import * as Suggestion from "@skillscale/core/Suggestion"

export const names = [
  "list_skills",
  "search_skills",
  "load_skill",
  "read_skill_resource",
  "run_skill_script",
  "read_artifact"
] as const

export type Name = typeof names[number]

/** The first that is none of them, as a program without types may give it, and what it resembles. */
export const wrong = (wanted: ReadonlyArray<string>): string | undefined => {
  const name = wanted.find((each) => !names.some((known) => known === each))
  if (name === undefined) return undefined
  const near = Suggestion.near(name, names)
  const hint = near.length === 0 ? `; there are ${names.join(", ")}` : `; did you mean ${near.join(", ")}?`
  return `there is no tool ${JSON.stringify(name)} in the vocabulary${hint}`
}
