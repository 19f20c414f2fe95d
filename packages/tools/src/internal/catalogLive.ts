/** The current skills: one version of each, as far as they are wanted. */
import type * as ClientError from "@skillscale/client/ClientError"
import type * as SkillClient from "@skillscale/client/SkillClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as SkillCatalog from "../SkillCatalog.ts"

type Skill = SkillCatalog.Skill
type Skills = ReadonlyArray<Skill>

export interface Live {
  readonly skills: Effect.Effect<Skills>
  readonly changes: Stream.Stream<Skills>
}

const compare = (one: string, other: string): number => one < other ? -1 : one > other ? 1 : 0

const isBetter = (one: Skill, other: Skill): boolean =>
  (one.servers.length - other.servers.length || compare(other.digest, one.digest)) > 0

/** One version of each skill of each topic: the one that most servers have. */
export const select = (entries: Skills, wanted: SkillCatalog.Options["skills"]): Skills => {
  const isWanted = wanted === undefined
    ? () => true
    : typeof wanted === "function"
    ? wanted
    : ({ name }: Skill) => wanted.includes(name)
  const best = new Map<string, Skill>()
  for (const skill of entries) {
    if (!isWanted(skill)) continue
    const key = JSON.stringify([skill.name, skill.topic])
    const other = best.get(key)
    if (other === undefined || isBetter(skill, other)) best.set(key, skill)
  }
  return Array.from(best.values()).sort((a, b) => compare(a.name, b.name) || compare(a.topic, b.topic))
}

/** The catalog of the servers. A skill is read at a replica that serves this version of it. */
export const sourceOf = (client: SkillClient.SkillClient["Service"]): SkillCatalog.Source => {
  const at = ({ digest, servers, topic }: Skill) => ({ topic, digest, server: servers[0] })
  return {
    changes: client.changes,
    describe: (skill) => client.describe(skill.name, at(skill)),
    resource: (skill, path) => client.resource(skill.name, path, at(skill))
  }
}

/** Follows a source. When it breaks, it is followed anew. `prepare` takes in the skills before anybody hears of them. */
export const make = Effect.fnUntraced(function*(
  source: Pick<SkillCatalog.Source, "changes">,
  wanted: SkillCatalog.Options["skills"],
  prepare: (skills: Skills) => void
) {
  const current = yield* SubscriptionRef.make<Skills>([])
  const first = Deferred.makeUnsafe<void, ClientError.ClientError>()
  yield* Stream.runForEach(source.changes, (entries) =>
    Effect.suspend(() => {
      const skills = select(entries, wanted)
      prepare(skills)
      return SubscriptionRef.set(current, skills)
    }).pipe(Effect.andThen(Effect.sync(() => Deferred.doneUnsafe(first, Effect.void))))).pipe(
      Effect.tapError((error) => Effect.sync(() => Deferred.doneUnsafe(first, Effect.fail(error)))),
      Effect.retry({ while: ({ reason }) => reason._tag !== "Closed", schedule: Schedule.spaced("1 second") }),
      Effect.ignore,
      Effect.forkScoped
    )
  yield* Deferred.await(first)
  return { skills: SubscriptionRef.get(current), changes: SubscriptionRef.changes(current) } satisfies Live
})
