/** Input files as a model names them: text, base64, or an artifact of an earlier call. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Artifacts from "../Artifacts.ts"
import * as ToolError from "../ToolError.ts"

const InputFile = Schema.Struct({
  path: Schema.String.annotate({ description: "Where the script finds it, relative to its working directory" }),
  text: Schema.optionalKey(Schema.String.annotate({ description: "Its content as text" })),
  base64: Schema.optionalKey(Schema.String.annotate({ description: "Its content as base64, instead of text" })),
  artifact: Schema.optionalKey(
    Schema.String.annotate({ description: "The id of an artifact of an earlier call, instead of text" })
  )
})

export const InputFiles = Schema.Array(InputFile).annotate({
  description: "Files to place in the script's working directory"
})

const isBase64 = /^[A-Za-z0-9+/]*={0,2}$/

const bytesOf = (file: typeof InputFile.Type, artifacts: Artifacts.Artifacts) => {
  const given = [file.text, file.base64, file.artifact].filter((value) => value !== undefined).length
  if (given !== 1) {
    return Effect.fail(
      new ToolError.BadArguments({
        detail: `file ${JSON.stringify(file.path)} has ${given} contents; give one of text, base64 and artifact`
      })
    )
  }
  if (file.text !== undefined) return Effect.succeed<Uint8Array>(Buffer.from(file.text))
  if (file.base64 !== undefined) {
    return isBase64.test(file.base64) && file.base64.length % 4 === 0
      ? Effect.succeed<Uint8Array>(Buffer.from(file.base64, "base64"))
      : Effect.fail(
        new ToolError.BadArguments({ detail: `the base64 of file ${JSON.stringify(file.path)} is not valid` })
      )
  }
  const id = file.artifact ?? ""
  const artifact = artifacts.get(id)
  return artifact === undefined
    ? Effect.fail(new ToolError.ArtifactNotFound({ artifact: id }))
    : Effect.succeed(artifact.data)
}

/** Reads the files by their path. */
export const read = Effect.fnUntraced(function*(
  files: typeof InputFiles.Type,
  artifacts: Artifacts.Artifacts
) {
  const read: Record<string, Uint8Array> = Object.create(null)
  for (const file of files) {
    if (read[file.path] !== undefined) {
      return yield* new ToolError.BadArguments({ detail: `there are two files ${JSON.stringify(file.path)}` })
    }
    read[file.path] = yield* bytesOf(file, artifacts)
  }
  return { ...read }
})
