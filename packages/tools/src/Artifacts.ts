/**
 * What tools gave out besides their text: files that runs made, and output that was too long for a model. Kept in memory, within
 * bounds, the oldest going first, so that a model can read it, and hand it to another skill.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"

/**
 * A file or a text, under a name of its own.
 *
 * @category models
 * @since 0.1.0
 */
export const Artifact = Schema.Struct({
  /** The first 16 hexadecimal digits of `sha256`: the same content has the same name. */
  id: Schema.String,
  /** The path that the run gave it, or what it is: `stdout.txt`, which is `stdout_2.txt` where the run made a file of that path. */
  path: Schema.String,
  mime: Schema.String,
  /** In bytes. */
  size: Schema.Natural,
  sha256: Schema.String,
  data: Schema.Uint8Array
})

/**
 * The type of `Artifact`.
 *
 * @category models
 * @since 0.1.0
 */
export type Artifact = typeof Artifact.Type

/**
 * How much is kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Bytes of all artifacts. By default 64 MiB. One that is larger alone is given out and not kept. */
  readonly maxBytes?: number | undefined
  /** How many. By default 1,000. */
  readonly maxCount?: number | undefined
}

/**
 * Keeps artifacts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Artifacts {
  /** Takes in a file and names it. */
  readonly put: (file: { readonly path: string; readonly mime: string; readonly data: Uint8Array }) => Artifact
  readonly get: (id: string) => Artifact | undefined
}

/**
 * Makes an empty store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({ maxBytes = 64 * 1024 * 1024, maxCount = 1000 }: Options = {}): Artifacts => {
  const kept = new Map<string, Artifact>()
  let bytes = 0
  return {
    put: ({ data, mime, path }) => {
      const sha256 = createHash("sha256").update(data).digest("hex")
      const artifact = { id: sha256.slice(0, 16), path, mime, size: data.byteLength, sha256, data }
      const same = kept.get(artifact.id)
      if (same !== undefined) {
        kept.delete(artifact.id)
        bytes -= same.size
      }
      if (artifact.size > maxBytes) return artifact
      kept.set(artifact.id, artifact)
      bytes += artifact.size
      for (const [id, { size }] of kept) {
        if (bytes <= maxBytes && kept.size <= maxCount) break
        kept.delete(id)
        bytes -= size
      }
      return artifact
    },
    get: (id) => kept.get(id)
  }
}
