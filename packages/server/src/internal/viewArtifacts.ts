import * as Protocol from "@skillscale/core/Protocol"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import mime from "mime"
import * as Path from "node:path"
import * as ViewFiles from "./viewFiles.ts"

export interface Artifact {
  readonly path: string
  readonly size: number
  readonly sha256: string
  readonly mime: string
  readonly data: Uint8Array
}

export interface Artifacts {
  readonly artifacts: ReadonlyArray<Artifact>
  readonly truncated: boolean
}

export interface Limits {
  readonly maxArtifacts: number
  readonly maxArtifactBytes: number
  readonly maxEntries: number
}

export const none: Artifacts = { artifacts: [], truncated: false }

const isRelativePath = Schema.is(Protocol.RelativePath)

const readArtifact = (path: string, size: number): Effect.Effect<Uint8Array | undefined> =>
  Effect.tryPromise(() => ViewFiles.read(path, size)).pipe(
    Effect.catch((error) => Effect.as(Effect.logWarning("cannot read an artifact", path, error), undefined))
  )

/** The files of a skill as what was placed; whether a file was touched shows in its content only. */
export const placedBySkill = (files: SkillDiscovery.Skill["files"]): ReadonlyMap<string, ViewFiles.Placed> =>
  new Map(files.map(({ path, sha256 }) => [path, { fingerprint: "", sha256: () => sha256 }]))

/** What was placed below an overlay; whether a file was touched shows in its content only. */
export const byContent = (placed: ReadonlyMap<string, ViewFiles.Placed>): ReadonlyMap<string, ViewFiles.Placed> =>
  new Map(Array.from(placed, ([path, { sha256 }]) => [path, { fingerprint: "", sha256 }]))

/** Reads the regular files below `root` whose content differs from what was placed there. */
export const collect = Effect.fnUntraced(function*(
  root: string,
  placed: ReadonlyMap<string, ViewFiles.Placed>,
  limits: Limits
) {
  const { complete, entries } = yield* ViewFiles.list(root, limits.maxEntries)
  const changed = entries
    .filter((entry) => placed.get(entry.path)?.fingerprint !== entry.fingerprint)
    .sort((a, b) => a.path < b.path ? -1 : 1)
  const artifacts: Array<Artifact> = []
  let bytes = 0
  let truncated = !complete
  for (const { path, size } of changed) {
    const fits = artifacts.length < limits.maxArtifacts && bytes + size <= limits.maxArtifactBytes
    const data = fits && isRelativePath(path) ? yield* readArtifact(Path.join(root, path), size) : undefined
    if (data === undefined) {
      truncated = true
      continue
    }
    const sha256 = ViewFiles.sha256(data)
    if (placed.get(path)?.sha256() === sha256) continue
    bytes += data.byteLength
    artifacts.push({
      path,
      size: data.byteLength,
      sha256,
      mime: mime.getType(path) ?? "application/octet-stream",
      data
    })
  }
  return { artifacts, truncated }
})

/** Keeps what a run wrote over the files that were placed, which the executor shows before the overlay goes. */
export const overlaid = (placed: () => ReadonlyMap<string, ViewFiles.Placed>, limits: Limits) => {
  let written = none
  return {
    onWritten: (folder: string) =>
      Effect.map(collect(folder, placed(), limits), (artifacts) => {
        written = artifacts
      }),
    artifacts: Effect.sync(() => written)
  }
}
