/** The catalog of a folder: what its servers would tell. */
import * as ClientError from "@skillscale/client/ClientError"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as SkillCatalog from "../SkillCatalog.ts"

const skillOf = (skill: SkillDiscovery.Skill): SkillCatalog.Skill => ({ ...SkillDiscovery.info(skill), servers: [] })

export const sourceOf = (discovery: SkillDiscovery.SkillDiscovery["Service"]): SkillCatalog.Source => {
  const failed = (operation: "describe" | "resource", skill: string) => (error: { readonly message: string }) =>
    new ClientError.ClientError({
      operation,
      skill,
      reason: new ClientError.BadRequest({ detail: error.message })
    })

  const find = Effect.fnUntraced(function*(operation: "describe" | "resource", { digest, name }: SkillCatalog.Skill) {
    const found = Option.getOrUndefined(yield* discovery.find(name))
    if (found?.digest === digest) return found
    const reason = new ClientError.SkillChanged({ digest, detail: `skill ${name} has changed; look at it again` })
    return yield* new ClientError.ClientError({ operation, skill: name, reason })
  })

  return {
    changes: Stream.map(discovery.changes, ({ skills }) => skills.map(skillOf)),
    describe: Effect.fnUntraced(function*(skill) {
      const found = yield* find("describe", skill)
      const { frontMatter, instructions, sha256, size } = yield* Effect.mapError(
        discovery.document(found),
        failed("describe", skill.name)
      )
      const resources = discovery.resources(found).map(({ path, sha256, size }) => ({ path, sha256, size }))
      return {
        skill: skillOf(found),
        instructions,
        frontMatter,
        document: { path: "SKILL.md", size, sha256 },
        resources
      }
    }),
    resource: (skill, path) =>
      Effect.flatMap(
        find("resource", skill),
        (found) => Effect.mapError(discovery.resource(found, path), failed("resource", skill.name))
      )
  }
}
