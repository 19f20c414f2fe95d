/**
 * The skills that there are, in memory and always current: listed, searched and read.
 *
 * The live catalog follows the servers (`SkillClient.changes`); one of a folder follows that folder. Of several versions of a
 * skill on one topic it has the one that most servers serve. The instructions of skills are read in the background and
 * found by `search`, too. Running skills is left to `SkillTools`.
 *
 * @since 0.1.0
 */
import * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import type * as Control from "@skillscale/core/Control"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Suggestion from "@skillscale/core/Suggestion"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as CatalogFolder from "./internal/catalogFolder.ts"
import * as CatalogIndex from "./internal/catalogIndex.ts"
import * as CatalogLive from "./internal/catalogLive.ts"

/**
 * A skill, and the replicas that serve this version of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skill extends SkillClient.CatalogEntry {}

/**
 * A skill that was found, and how well it fits: higher is better, and only comparable within one search.
 *
 * @category models
 * @since 0.1.0
 */
export interface Found {
  readonly skill: Skill
  readonly score: number
}

/**
 * How skills are followed and indexed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Which skills there are for this catalog: these names, or those for which it is true. By default all. */
  readonly skills?: ReadonlyArray<string> | ((skill: Skill) => boolean) | undefined
}

/**
 * How skills of a folder are followed and indexed.
 *
 * @category models
 * @since 0.1.0
 */
export interface FolderOptions extends Options {
  /**
   * The topic that servers run them on, as `TOPIC_DATA_PROCESSING`. Without, it is that of the folder which holds the skill's, as for the servers
   * (`data-processing`): a copy has to have folders of the same names.
   */
  readonly topic?: string | undefined
}

/**
 * Knows the skills.
 *
 * @category services
 * @since 0.1.0
 */
export class SkillCatalog extends Context.Service<SkillCatalog, {
  /** The skills now, from memory, ordered by name, then topic. */
  readonly skills: Effect.Effect<ReadonlyArray<Skill>>
  /** Emits the skills now, and again whenever they differ. */
  readonly changes: Stream.Stream<ReadonlyArray<Skill>>
  /** Looks a skill up by its exact name; of several topics the first by name, unless one is given. */
  readonly find: (name: string, topic?: string) => Effect.Effect<Skill, ClientError.SkillNotFound>
  /**
   * Finds skills by words of their name, description and instructions, the best first: also by beginnings of words, and with a
   * letter wrong. At most `limit`, by default 10.
   */
  readonly search: (
    query: string,
    options?: { readonly limit?: number | undefined }
  ) => Effect.Effect<ReadonlyArray<Found>>
  /** Returns when the instructions of all skills that there are now have been read, or could not be. */
  readonly indexed: Effect.Effect<void>
  /** Reads the instructions of a skill, its front matter and the list of its files. */
  readonly describe: (skill: Skill) => Effect.Effect<Control.SkillReply, ClientError.ClientError>
  /** Reads one file of a skill, also `SKILL.md`. */
  readonly resource: (skill: Skill, path: string) => Effect.Effect<Uint8Array, ClientError.ClientError>
}>()("@skillscale/tools/SkillCatalog") {}

/**
 * What a catalog is made of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  /** Emits every skill of every topic, in every version, now and whenever they differ. */
  readonly changes: Stream.Stream<ReadonlyArray<Skill>, ClientError.ClientError>
  readonly describe: SkillCatalog["Service"]["describe"]
  readonly resource: SkillCatalog["Service"]["resource"]
}

/**
 * Makes a catalog that is current when it is there. Fails when its source has nothing to say at first.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  source: Source,
  options: Options = {}
): Effect.fn.Return<SkillCatalog["Service"], ClientError.ClientError, Scope.Scope> {
  const index = CatalogIndex.make(source.describe)
  const live = yield* CatalogLive.make(source, options.skills, index.list)
  yield* index.follow(live)
  return SkillCatalog.of({
    skills: live.skills,
    changes: live.changes,
    find: Effect.fnUntraced(function*(name, topic) {
      const skills = yield* live.skills
      const found = skills.find((skill) => skill.name === name && (topic === undefined || skill.topic === topic))
      if (found !== undefined) return found
      const available = Array.from(new Set(skills.map((skill) => skill.name)))
      return yield* new ClientError.SkillNotFound({ skill: name, near: Suggestion.near(name, available), available })
    }),
    search: (query, { limit = 10 } = {}) => index.search(query, limit),
    indexed: index.complete,
    describe: source.describe,
    resource: source.resource
  })
})

/**
 * Provides the catalog of the servers, as it is now and will be.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<SkillCatalog, ClientError.ClientError, SkillClient.SkillClient> =>
  Layer.effect(
    SkillCatalog,
    Effect.flatMap(SkillClient.SkillClient, (client) => make(CatalogLive.sourceOf(client), options))
  )

/**
 * Provides the skills of the folder that `SkillDiscovery` knows, for agents that have a copy of them: nobody is asked what there
 * is. They still run on servers of their topics.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFolder = (
  options: FolderOptions = {}
): Layer.Layer<SkillCatalog, ClientError.ClientError, SkillDiscovery.SkillDiscovery> =>
  Layer.effect(
    SkillCatalog,
    Effect.flatMap(SkillDiscovery.SkillDiscovery, (discovery) =>
      make(CatalogFolder.sourceOf(discovery, options.topic), options))
  )
