/** Skills, their files and artifacts as resources. */
import { type McpServer, ResourceNotFoundError } from "@modelcontextprotocol/server"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Content from "./content.ts"
import * as Served from "./served.ts"
import * as SkillSource from "./skillSource.ts"
import * as SkillUris from "./skillUris.ts"

const listed = (skill: SkillCatalog.Skill) => ({
  uri: SkillUris.ofFile(skill, SkillUris.document),
  name: skill.name,
  description: skill.description,
  mimeType: "text/markdown"
})

export const templates = [
  {
    name: "skill",
    title: "Files of skills",
    uriTemplate: SkillUris.skillTemplate,
    description: "A file of a skill; its instructions are SKILL.md"
  },
  {
    name: "artifact",
    title: "Artifacts",
    uriTemplate: SkillUris.artifactTemplate,
    description: "A file that a run made, or output that was too long to be shown at once"
  }
]

const readArtifact = Effect.fnUntraced(function*({ tools }: Served.Served, uri: string, id: string) {
  const artifact = Option.getOrUndefined(yield* tools.artifact(id))
  if (artifact === undefined) return yield* Effect.fail(new ResourceNotFoundError(uri))
  return { contents: [Content.contentsOf(uri, artifact.mime, artifact.data)] }
})

const readFile = Effect.fnUntraced(function*({ catalog, entries }: Served.Served, uri: string, place: SkillUris.Place) {
  const skill = Served.skillAt(yield* catalog.skills, place)
  if (skill === undefined) return yield* Effect.fail(new ResourceNotFoundError(uri))
  const data = yield* Effect.mapError(entries.read(skill, place.path), ({ message }) => Served.internal(message))
  if (data === undefined) return yield* Effect.fail(new ResourceNotFoundError(uri))
  return { contents: [Content.contentsOf(uri, SkillSource.mimeOf(place.path), data)] }
})

export const register = ({ server }: McpServer, served: Served.Served): void => {
  server.setRequestHandler("resources/list", ({ params }, context) =>
    served.run(
      Effect.gen(function*() {
        const skills = yield* served.catalog.skills
        const { items, next } = yield* Served.page(skills, params?.cursor, served.pageSize, Served.keyOf)
        return { resources: items.map(listed), ...next }
      }),
      context
    ))
  server.setRequestHandler("resources/templates/list", () => ({ resourceTemplates: templates }))
  server.setRequestHandler("resources/read", ({ params: { uri } }, context) => {
    const id = SkillUris.parseArtifact(uri)
    const place = id === undefined ? SkillUris.parseSkill(uri) : undefined
    if (id === undefined && place === undefined) throw new ResourceNotFoundError(uri)
    return served.run(
      id !== undefined
        ? readArtifact(served, uri, id)
        : readFile(served, uri, place ?? { label: "", name: "", path: "" }),
      context
    )
  })
}
