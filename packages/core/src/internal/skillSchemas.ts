import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Path from "node:path"
import * as JsonSchema from "../JsonSchema.ts"
import * as Protocol from "../Protocol.ts"
import type { Diagnostic, SkillManifest } from "../SkillManifest.ts"
import * as Metadata from "./skillMetadata.ts"

export const maxFileBytes = 65_536

/** What a skill's files say of its entry point. */
export interface Declared {
  readonly input: Option.Option<Schema.JsonObject>
  readonly output: Option.Option<Schema.JsonObject>
  /** Why the entry point is not called, as long as a schema cannot be used. */
  readonly refusal: Option.Option<string>
  readonly diagnostics: ReadonlyArray<Diagnostic>
}

/** The bytes of a file, or why there are none. */
export type Content = Result.Result<Uint8Array, string>

export const missing: Content = Result.fail("there is no such file in the skill")
export const tooLarge: Content = Result.fail(`the file has more than ${maxFileBytes} bytes`)

const isPath = Schema.is(Protocol.RelativePath)

const isObject = (value: Schema.Json): value is Schema.JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const read = (bytes: Uint8Array): Result.Result<Schema.JsonObject, string> => {
  let value: Schema.Json
  try {
    value = JSON.parse(utf8.decode(bytes))
  } catch (cause) {
    return Result.fail(`it is not JSON in UTF-8: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  if (!isObject(value)) {
    return Result.fail(
      "it is not an object; true, which takes anything, and false, which takes nothing, tell a caller nothing"
    )
  }
  return Result.map(JsonSchema.compile(value), () => value)
}

/** The keys below `metadata`, and the paths there. */
const paths = ({ metadata }: Pick<SkillManifest, "metadata">) =>
  ([["input", Metadata.inputKey], ["output", Metadata.outputKey]] as const).flatMap(([kind, key]) => {
    const path = metadata[key]
    return path === undefined ? [] : [{ kind, key, path }]
  })

/** The files that have to be read. */
export const files = (manifest: Pick<SkillManifest, "metadata">): ReadonlyArray<string> =>
  paths(manifest).map(({ path }) => path).filter(isPath)

/** Reads the schemas that a skill declares. `content` finds a file of the skill by its path. */
export const gather = (
  root: string,
  manifest: Pick<SkillManifest, "metadata">,
  content: (path: string) => Content
): Declared => {
  const found: { input: Declared["input"]; output: Declared["output"] } = {
    input: Option.none(),
    output: Option.none()
  }
  const problems: Array<string> = []
  const diagnostics: Array<Diagnostic> = []
  for (const { key, kind, path } of paths(manifest)) {
    const bytes = isPath(path)
      ? content(path)
      : Result.fail("it is not a path inside the skill, with / and without . or ..")
    const schema = Result.flatMap(bytes, read)
    if (Result.isSuccess(schema)) {
      found[kind] = Option.some(schema.success)
      continue
    }
    const problem = `${key} names ${JSON.stringify(path)}, which is no usable JSON Schema: ${schema.failure}`
    problems.push(problem)
    diagnostics.push({
      severity: "warning",
      file: Path.join(root, Result.isSuccess(bytes) ? path : "SKILL.md"),
      line: 1,
      code: "InvalidSchema",
      message: `${problem}; calls of the entry point are refused`
    })
  }
  return { ...found, refusal: problems.length === 0 ? Option.none() : Option.some(problems.join("; ")), diagnostics }
}
