/** The catalog for the skills extension (SEP-2640): entries with digests, and folders. */
import { DIRECTORY_MIME_TYPE, type SkillSource } from "@modelcontextprotocol/server/ext/skills"
import type * as ClientError from "@skillscale/client/ClientError"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as Effect from "effect/Effect"
import mime from "mime"
import * as Served from "./served.ts"
import * as SkillUris from "./skillUris.ts"

/** How many skills are described at a time. */
const concurrency = 8
/** Skills on a page of `skills/list`. */
const pageSize = 100

export const mimeOf = (path: string): string =>
  mime.getType(path) ?? (path.endsWith(".md") ? "text/markdown" : "application/octet-stream")

/** One that cannot be described now, as when it has just changed, is not told of. */
const tolerant = <A>(effect: Effect.Effect<A, ClientError.ClientError>): Effect.Effect<A | undefined> =>
  Effect.catch(effect, (error) =>
    Effect.as(
      Effect.logDebug("a skill could not be described").pipe(Effect.annotateLogs({ reason: error.message })),
      undefined
    ))

const childrenOf = (
  skill: SkillCatalog.Skill,
  files: Iterable<readonly [string, { readonly size: number } | undefined]>,
  folder: string
) => {
  const prefix = folder === "" ? "" : `${folder}/`
  const children = new Map<string, { uri: string; name: string; mimeType: string; size?: number }>()
  for (const [path, file] of files) {
    if (!path.startsWith(prefix)) continue
    const [name = "", ...below] = path.slice(prefix.length).split("/")
    const uri = SkillUris.ofFile(skill, `${prefix}${name}`)
    children.set(
      uri,
      below.length > 0 ? { uri, name, mimeType: DIRECTORY_MIME_TYPE } : {
        uri,
        name,
        mimeType: mimeOf(name),
        ...file === undefined ? {} : { size: file.size }
      }
    )
  }
  return Array.from(children.values()).sort((one, other) => one.uri < other.uri ? -1 : 1)
}

export const make = (served: Served.Served): SkillSource => {
  const { catalog, entries, run } = served

  const describedAt = Effect.fnUntraced(function*(place: SkillUris.Place | undefined) {
    const skill = place === undefined ? undefined : Served.skillAt(yield* catalog.skills, place)
    const described = skill === undefined ? undefined : yield* tolerant(entries.describe(skill))
    return skill === undefined || described?.entry === undefined
      ? undefined
      : { ...described, skill, entry: described.entry }
  })

  return {
    list: ({ cursor }, context) =>
      run(
        Effect.gen(function*() {
          const { items, next } = yield* Served.page(yield* catalog.skills, cursor, pageSize, Served.keyOf)
          const described = yield* Effect.forEach(items, (skill) => tolerant(entries.describe(skill)), { concurrency })
          return { skills: described.flatMap((one) => one?.entry ?? []), ...next }
        }),
        context
      ),
    get: (uri, context) =>
      run(
        Effect.gen(function*() {
          const place = SkillUris.parseSkill(uri)
          return place?.path === SkillUris.document ? (yield* describedAt(place))?.entry : undefined
        }),
        context
      ),
    readDirectory: (uri, { cursor }, context) =>
      run(
        Effect.gen(function*() {
          const place = SkillUris.parseSkill(uri)
          const described = yield* describedAt(place)
          if (place === undefined || described === undefined || described.files.has(place.path)) return undefined
          const children = childrenOf(described.skill, described.files, place.path)
          if (children.length === 0) return undefined
          const { items, next } = yield* Served.page(children, cursor, served.pageSize, (child) => child.uri)
          return { resources: items, ...next }
        }),
        context
      ),
    // Resources are read and listed by the handlers of this server, which also has artifacts.
    read: async () => undefined
  }
}
