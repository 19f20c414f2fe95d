/** A skill's instructions as a model reads them. */
import * as Effect from "effect/Effect"
import type * as SkillCatalog from "../SkillCatalog.ts"
import type * as SkillTools from "../SkillTools.ts"
import type * as ToolError from "../ToolError.ts"
import * as Listing from "./listing.ts"
import * as ModelText from "./modelText.ts"

/** As far as they take a quarter of the text at most. */
const maxFiles = 200

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("\"", "&quot;")

/** The body may not end, or begin, what it is wrapped in. */
const enclosed = (body: string): string => body.replaceAll(/<(?=\/?skill_content\b)/gi, "&lt;")

/** The lines that fit in so many characters. */
const within = (lines: ReadonlyArray<string>, room: number): ReadonlyArray<string> => {
  let length = 0
  const beyond = lines.findIndex((line) => (length += line.length + 1) > room)
  return beyond === -1 ? lines : lines.slice(0, beyond)
}

/** Wraps the body as clients of the open format do, with the names of the skill's files, which are not read. */
export const load = Effect.fnUntraced(function*(
  { catalog, ...cap }: ModelText.Cap & { readonly catalog: SkillCatalog.SkillCatalog["Service"] },
  skill: SkillCatalog.Skill
): Effect.fn.Return<SkillTools.Output, ToolError.Reason> {
  const { has, maxOutput } = cap
  const { instructions, resources } = yield* Effect.mapError(catalog.describe(skill), ({ reason }) => reason)
  // Lists and tools have no more than its beginning.
  const about = skill.description.length > Listing.maxDescription ? `${skill.description}\n\n` : ""
  const how = skill.scripts.length === 0 ? [] : [
    `Scripts run on a server, in a copy of the skill's folder${
      has("run_skill_script") ? ": use run_skill_script with a path from below" : ""
    }.`
  ]
  const listed = within(resources.slice(0, maxFiles).map(({ path }) => `<file>${escape(path)}</file>`), maxOutput / 4)
  const more = resources.length > listed.length ? [`and ${resources.length - listed.length} more`] : []
  const end = [
    ...how,
    ...resources.length === 0 ? [] : ["<skill_resources>", ...listed, ...more, "</skill_resources>"],
    "</skill_content>"
  ].join("\n")
  const begin = `<skill_content name="${escape(skill.name)}" digest="${skill.digest}">`
  const reserved = begin.length + end.length + 2
  const { text, whole } = ModelText.capped(
    enclosed(`${about}${instructions.trim()}`),
    cap,
    "SKILL.md",
    undefined,
    reserved
  )
  return {
    text: ModelText.head([begin, text, end].join("\n"), maxOutput),
    structured: undefined,
    artifacts: whole === undefined ? [] : [whole]
  }
})
