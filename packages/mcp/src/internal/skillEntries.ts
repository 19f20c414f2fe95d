/**
 * What the skills extension tells of a skill: its front matter and the digests of its files. Asked of a replica that serves the
 * version in the catalog, once for each version, and kept within a bound.
 */
import { type Skill as Entry, SKILL_LIMITS } from "@modelcontextprotocol/server/ext/skills"
import * as ClientError from "@skillscale/client/ClientError"
import type * as Control from "@skillscale/core/Control"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as SkillUris from "./skillUris.ts"

export interface Described {
  /** Every file by its path. Of `SKILL.md` nothing is known where the server does not tell. */
  readonly files: ReadonlyMap<string, { readonly size: number; readonly sha256: string } | undefined>
  /** Absent for skills that hosts have to refuse. */
  readonly entry: Entry | undefined
}

export interface SkillEntries {
  readonly describe: (skill: SkillCatalog.Skill) => Effect.Effect<Described, ClientError.ClientError>
  /** What was described of this version before, if it is still there. */
  readonly known: (skill: SkillCatalog.Skill) => Described | undefined
  /** Reads a file, and fails when it is not the one that was described. */
  readonly read: (
    skill: SkillCatalog.Skill,
    path: string
  ) => Effect.Effect<Uint8Array | undefined, ClientError.ClientError>
}

/** Files of all skills that are remembered: some 30 MB. */
const maxFiles = 100_000
/** How many replicas are asked before a read fails. */
const maxReplicas = 3

const isName = /^[a-z0-9]+(?:-[a-z0-9]+)*$/

const isBetween = (text: unknown, least: number, most: number): boolean => {
  const length = typeof text === "string" ? Array.from(text).length : -1
  return length >= least && length <= most
}

/** What the extension does not allow, which hosts would refuse. */
const problemOf = (skill: SkillCatalog.Skill, { document, frontMatter, resources }: Control.SkillReply) => {
  if (frontMatter === undefined || document === undefined) return "its server is too old to tell its front matter"
  const { compatibility, description, metadata, name } = frontMatter
  if (name !== skill.name) return "its front matter has another name"
  if (name.length > 64 || !isName.test(name)) return "its name is not one of the open format"
  if (!isBetween(description, 1, 1024)) {
    return "its description is not one of 1 to 1,024 characters"
  }
  if (compatibility !== undefined && !isBetween(compatibility, 1, 500)) {
    return "its compatibility is not one of 1 to 500 characters"
  }
  const isText = typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) &&
    Object.values(metadata).every((value) => typeof value === "string")
  if (metadata !== undefined && !isText) return "its metadata has values that are not text"
  if (resources.length + 1 > SKILL_LIMITS.files) return `it has more than ${SKILL_LIMITS.files} files`
  const size = resources.reduce((sum, resource) => sum + resource.size, document.size)
  return size > SKILL_LIMITS.bytes ? `it is larger than ${SKILL_LIMITS.bytes} bytes` : undefined
}

const entryOf = (skill: SkillCatalog.Skill, { document, frontMatter, resources }: Control.SkillReply): Entry => ({
  uri: SkillUris.ofFile(skill, SkillUris.document),
  frontmatter: { ...frontMatter, name: skill.name, description: String(frontMatter?.["description"]) },
  resources: [...document === undefined ? [] : [{ ...document, path: SkillUris.document }], ...resources]
    .map(({ path, sha256, size }) => ({ uri: SkillUris.ofFile(skill, path), digest: `sha256:${sha256}`, size }))
    .sort((one, other) => one.uri < other.uri ? -1 : 1),
  _meta: { "skillscale/digest": skill.digest }
})

/** Asks the replicas of this version one after the other, until one answers. */
const atReplicas = <A>(
  skill: SkillCatalog.Skill,
  ask: (skill: SkillCatalog.Skill) => Effect.Effect<A, ClientError.ClientError>
): Effect.Effect<A, ClientError.ClientError> => {
  const [first, ...rest] = skill.servers.slice(0, maxReplicas)
  return rest.reduce(
    (asking, server) =>
      Effect.catchIf(asking, (error) => error.isRetryable, () => ask({ ...skill, servers: [server] })),
    ask(first === undefined ? skill : { ...skill, servers: [first] })
  )
}

/** What was described, within `maxFiles`; what was not asked for goes first. */
const memory = () => {
  const kept = new Map<string, Described>()
  let files = 0
  const keyOf = ({ digest, name, topic }: SkillCatalog.Skill): string => JSON.stringify([topic, name, digest])

  const forget = (key: string): void => {
    files -= kept.get(key)?.files.size ?? 0
    kept.delete(key)
  }

  const keep = (skill: SkillCatalog.Skill, described: Described): void => {
    forget(keyOf(skill))
    kept.set(keyOf(skill), described)
    files += described.files.size
    for (const oldest of kept.keys()) {
      if (files <= maxFiles) break
      forget(oldest)
    }
  }

  const known = (skill: SkillCatalog.Skill): Described | undefined => {
    const described = kept.get(keyOf(skill))
    if (described !== undefined) keep(skill, described)
    return described
  }

  return { keep, known }
}

export const make = (
  catalog: Pick<SkillCatalog.SkillCatalog["Service"], "describe" | "resource">
): SkillEntries => {
  const { keep, known } = memory()

  const describe = Effect.fnUntraced(function*(skill: SkillCatalog.Skill) {
    const existing = known(skill)
    if (existing !== undefined) return existing
    const reply = yield* atReplicas(skill, catalog.describe)
    const problem = problemOf(skill, reply)
    if (problem !== undefined) {
      yield* Effect.logWarning("a skill is left out of the MCP skills extension").pipe(
        Effect.annotateLogs({ skill: skill.name, topic: skill.topic, problem })
      )
    }
    const described: Described = {
      files: new Map([
        [SkillUris.document, reply.document],
        ...reply.resources.map((resource) => [resource.path, resource] as const)
      ]),
      entry: problem === undefined ? entryOf(skill, reply) : undefined
    }
    keep(skill, described)
    return described
  })

  return {
    known,
    describe,
    read: Effect.fnUntraced(function*(skill, path) {
      const { files } = yield* describe(skill)
      if (!files.has(path)) return undefined
      const data = yield* atReplicas(skill, (at) => catalog.resource(at, path))
      const expected = files.get(path)
      const sha256 = createHash("sha256").update(data).digest("hex")
      if (expected === undefined || expected.sha256 === sha256) return data
      return yield* new ClientError.ClientError({
        operation: "resource",
        skill: skill.name,
        reason: new ClientError.ProtocolError({ detail: `${path} is not the file that its server told of` })
      })
    })
  }
}
