/** The catalog of a folder: what its servers would tell. */
import * as ClientError from "@skillscale/client/ClientError"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import type * as SkillCatalog from "../SkillCatalog.ts"

export const sourceOf = (
  discovery: SkillDiscovery.SkillDiscovery["Service"],
  topic: string | undefined
): SkillCatalog.Source => {
  const skillOf = (skill: SkillDiscovery.Skill): SkillCatalog.Skill => ({
    ...SkillDiscovery.info(skill),
    ...topic === undefined ? {} : { topic },
    servers: []
  })

  const failed =
    (operation: "describe" | "resource", skill: string, path: string) => (error: SkillDiscovery.SkillDiscoveryError) =>
      new ClientError.ClientError({
        operation,
        skill,
        reason: new ClientError.BadRequest({ detail: error.messageOf(JSON.stringify(path)) })
      })

  const changed = (
    operation: "describe" | "resource",
    { digest, name }: Pick<SkillCatalog.Skill, "digest" | "name">
  ) => {
    const reason = new ClientError.SkillChanged({ digest, detail: `skill ${name} has changed; look at it again` })
    return new ClientError.ClientError({ operation, skill: name, reason })
  }

  const find = Effect.fnUntraced(function*(operation: "describe" | "resource", skill: SkillCatalog.Skill) {
    const found = Option.getOrUndefined(yield* discovery.find(skill.name))
    return found?.digest === skill.digest ? found : yield* changed(operation, skill)
  })

  /** A file may have been written to since its folder was scanned. */
  const isKept = ({ files }: SkillDiscovery.Skill, path: string, sha256: string): boolean =>
    files.some((file) => file.path === path && file.sha256 === sha256)

  return {
    changes: Stream.map(discovery.changes, ({ skills }) => skills.map(skillOf)),
    describe: Effect.fnUntraced(function*(skill) {
      const found = yield* find("describe", skill)
      const { frontMatter, instructions, sha256, size } = yield* Effect.mapError(
        discovery.document(found),
        failed("describe", skill.name, "SKILL.md")
      )
      if (!isKept(found, "SKILL.md", sha256)) return yield* changed("describe", skill)
      const resources = discovery.resources(found).map(({ path, sha256, size }) => ({ path, sha256, size }))
      return {
        skill: skillOf(found),
        instructions,
        frontMatter,
        document: { path: "SKILL.md", size, sha256 },
        resources
      }
    }),
    resource: Effect.fnUntraced(function*(skill, path) {
      const found = yield* find("resource", skill)
      const data = yield* Effect.mapError(discovery.resource(found, path), failed("resource", skill.name, path))
      const sha256 = createHash("sha256").update(data).digest("hex")
      return isKept(found, path, sha256) ? data : yield* changed("resource", skill)
    })
  }
}
