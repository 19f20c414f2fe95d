/** What a tool of Mastra returns, and what its model and its memory get of that. */
import type * as Artifacts from "@skillscale/tools/Artifacts"
import * as ObjectSchema from "@skillscale/tools/ObjectSchema"
import type { Tool } from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as Images from "./images.ts"

/** A file that a run made. Its bytes do not show in JSON, so that memories and traces have no copy of them. */
export interface SkillFile extends Omit<Artifacts.Artifact, "data"> {
  /** Not there in what a memory has kept: `toolbox.artifact(id)` has the bytes as long as there is room. */
  readonly data?: Uint8Array | undefined
}

/** What a tool returns. */
export interface SkillOutput {
  /** What the model reads. */
  readonly text: string
  /** What the skill says that it gives. */
  readonly structured?: unknown
  readonly files: ReadonlyArray<SkillFile>
}

const text = { type: "string" } as const

const fileSchema = {
  type: "object",
  properties: { id: text, path: text, mime: text, size: { type: "integer" }, sha256: text },
  required: ["id", "path", "mime", "size", "sha256"]
} as const

const answer = {
  type: "object",
  properties: { text, files: { type: "array", items: fileSchema } },
  required: ["text", "files"]
} as const

export const schemaOf = ({ outputSchema }: Tool): Readonly<Record<string, unknown>> =>
  outputSchema === undefined ? answer : ObjectSchema.withProperty(answer, "structured", outputSchema)

const fileOf = ({ data, ...file }: Artifacts.Artifact): SkillFile =>
  Object.defineProperty(file, "data", { value: data, enumerable: false })

export const outputOf = ({ artifacts, structured, text }: SkillTools.Output): SkillOutput => ({
  text,
  ...structured === undefined ? {} : { structured },
  files: artifacts.map(fileOf)
})

const isOutput = (output: unknown): output is SkillOutput =>
  typeof output === "object" && output !== null && "text" in output && typeof output.text === "string" &&
  "files" in output && Array.isArray(output.files)

/** The text, and the images as such. */
export const forModel = (output: unknown): unknown => {
  if (!isOutput(output)) return { type: "json", value: output }
  const images = Images.images(output.files.flatMap(({ data, size }) => data === undefined ? [] : [{ data, size }]))
  if (images.length === 0) return { type: "text", value: output.text }
  return {
    type: "content",
    value: [
      { type: "text", text: output.text },
      ...images.map(({ file, mime }) => ({ type: "media", mediaType: mime, data: Images.base64(file.data) }))
    ]
  }
}
