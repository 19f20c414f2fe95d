/** What a tool gave out, as content of MCP: its text, then its files. */
import type { ContentBlock } from "@modelcontextprotocol/server"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { isUtf8 } from "node:buffer"
import * as SkillUris from "./skillUris.ts"

/** What of the files of a run goes into its answer; of what does not there are links. */
export interface Bounds {
  /** Bytes of a file. */
  readonly file: number
  /** Bytes of an image or a sound. */
  readonly media: number
  /** Bytes of all files together. */
  readonly total: number
  /** Files, and links to files. Of further ones only the text tells. */
  readonly count: number
}

const isText = (bytes: Uint8Array): boolean => isUtf8(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")

/** The contents of a resource: as text where that loses nothing. */
export const contentsOf = (uri: string, mimeType: string, data: Uint8Array) =>
  isText(data)
    ? { uri, mimeType, text: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8") }
    : { uri, mimeType, blob: base64(data) }

const mediaOf = (mime: string): "image" | "audio" | undefined =>
  // SVG is a text, and for many hosts no image.
  mime.startsWith("image/") && mime !== "image/svg+xml" ? "image" : mime.startsWith("audio/") ? "audio" : undefined

const linkTo = (artifact: Artifacts.Artifact): ContentBlock => ({
  type: "resource_link",
  uri: SkillUris.ofArtifact(artifact),
  name: artifact.path,
  mimeType: artifact.mime,
  size: artifact.size
})

const embed = (artifact: Artifacts.Artifact): ContentBlock => {
  const media = mediaOf(artifact.mime)
  return media === undefined
    ? { type: "resource", resource: contentsOf(SkillUris.ofArtifact(artifact), artifact.mime, artifact.data) }
    : { type: media, data: base64(artifact.data), mimeType: artifact.mime }
}

export const contentOf = (
  output: Pick<SkillTools.Output, "artifacts" | "text">,
  bounds: Bounds
): Array<ContentBlock> => {
  let left = bounds.total
  return [
    { type: "text", text: output.text },
    ...output.artifacts.slice(0, bounds.count).map((artifact) => {
      const limit = mediaOf(artifact.mime) === undefined ? bounds.file : bounds.media
      if (artifact.size > Math.min(limit, left)) return linkTo(artifact)
      left -= artifact.size
      return embed(artifact)
    })
  ]
}
