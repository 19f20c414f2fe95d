/** The images among files that a model can be shown, as the APIs of models take them. */
import type * as Artifacts from "@skillscale/tools/Artifacts"

type Content = Pick<Artifacts.Artifact, "data" | "size">

export interface Image<File extends Content> {
  readonly mime: "image/png" | "image/jpeg" | "image/gif" | "image/webp"
  readonly file: File
}

/** So that one is at most 5 MB in base64, which Anthropic's API allows; others allow more. */
const maxBytes = 3_750_000
/** Of one answer. */
const maxImages = 10

/** An API refuses the whole conversation for one image that is none, so what a file is called does not count. */
const signatures = [
  ["image/png", /^\x89PNG\r\n\x1a\n\0\0\0\rIHDR/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF[^]{4}WEBP/]
] as const

const imageOf = <File extends Content>(file: File): ReadonlyArray<Image<File>> => {
  if (file.size > maxBytes) return []
  const begin = Buffer.from(file.data.subarray(0, 16)).toString("latin1")
  const found = signatures.find(([, signature]) => signature.test(begin))
  return found === undefined ? [] : [{ mime: found[0], file }]
}

export const images = <File extends Content>(files: ReadonlyArray<File>): ReadonlyArray<Image<File>> =>
  files.flatMap(imageOf).slice(0, maxImages)

export const base64 = (data: Uint8Array): string =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64")
