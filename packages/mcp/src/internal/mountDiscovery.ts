/** The skills of a mount as those of a folder, all of which is in memory. */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as MountSkills from "./mountSkills.ts"

const missing = (path: string) =>
  new SkillDiscovery.SkillDiscoveryError({ operation: "read", path, reason: new SkillDiscovery.NotFound() })

export const make = (
  mounts: SubscriptionRef.SubscriptionRef<MountSkills.Mounts>
): SkillDiscovery.SkillDiscovery["Service"] => {
  const catalog = Effect.map(SubscriptionRef.get(mounts), (now) => now.catalog)

  /** Another one has the name when the tool changed meanwhile. */
  const mounted = (skill: SkillDiscovery.Skill, path: string) =>
    Effect.flatMap(SubscriptionRef.get(mounts), ({ byName }) => {
      const found = byName.get(skill.name)
      return found?.skill.digest === skill.digest
        ? Effect.succeed(found)
        : Effect.fail(missing(`${skill.root}/${path}`))
    })

  const document = (skill: SkillDiscovery.Skill) => Effect.map(mounted(skill, "SKILL.md"), (found) => found.document)

  return SkillDiscovery.SkillDiscovery.of({
    catalog,
    find: (name) =>
      Effect.map(SubscriptionRef.get(mounts), ({ byName }) => Option.fromNullishOr(byName.get(name)?.skill)),
    changes: Stream.map(SubscriptionRef.changes(mounts), (now) => now.catalog),
    refresh: catalog,
    document,
    instructions: (skill) => Effect.map(document(skill), ({ instructions }) => instructions),
    resources: (skill) => skill.files.filter(({ path }) => path !== "SKILL.md"),
    resource: (skill, path) =>
      Effect.flatMap(mounted(skill, path), ({ contents }) => {
        const bytes = contents.get(path)
        return bytes === undefined ? Effect.fail(missing(`${skill.root}/${path}`)) : Effect.succeed(bytes)
      })
  })
}
