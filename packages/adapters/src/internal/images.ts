/** Images that skills made, for models that see them. */
import type * as Artifacts from "@skillscale/tools/Artifacts"

/** What every model that sees images takes. */
const types: ReadonlySet<string> = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"])
/** Bytes of one image: 5 MB in base64, the least that providers allow. */
const maxImage = 3_750_000
/** Images of one answer. */
const maxImages = 8

export interface Image {
  readonly path: string
  readonly mime: string
  readonly base64: string
}

export const of = (artifacts: ReadonlyArray<Artifacts.Artifact>): ReadonlyArray<Image> =>
  artifacts
    .filter(({ mime, size }) => types.has(mime) && size > 0 && size <= maxImage)
    .slice(0, maxImages)
    .map(({ data, mime, path }) => ({
      path,
      mime,
      base64: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64")
    }))
