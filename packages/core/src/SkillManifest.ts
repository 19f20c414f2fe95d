/**
 * Reads `SKILL.md`: YAML front matter between `---` lines, and the instructions that follow.
 *
 * `parse` is lenient, so that real skills load: what the open Agent Skills format forbids, but a reader can do without, is
 * a warning. `validate` is strict: the same findings are errors. Both bound what hostile text can cost: 1 MiB for the file,
 * 64 KiB for the front matter, 10,000 YAML values with 256 Ki characters after aliases are expanded, 32 levels. Which files are skills is left to
 * `SkillDiscovery`.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as FrontMatter from "./internal/skillFrontMatter.ts"
import * as Metadata from "./internal/skillMetadata.ts"

/**
 * The largest `SKILL.md` that is read, in UTF-8 bytes: 1 MiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes = 1_048_576

/**
 * The largest front matter that is read, in UTF-8 bytes: 64 KiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxFrontMatterBytes = 65_536

/**
 * What a diagnostic is about, stable enough to match on.
 *
 * @category models
 * @since 0.1.0
 */
export const DiagnosticCode = Schema.Literals([
  "TooLarge",
  "NoFrontMatter",
  "InvalidYaml",
  "RepairedYaml",
  "ReservedKey",
  "UnknownField",
  "MissingName",
  "InvalidName",
  "NameMismatch",
  "MissingDescription",
  "InvalidDescription",
  "InvalidLicense",
  "InvalidCompatibility",
  "InvalidMetadata",
  "InvalidAllowedTools",
  "InvalidEnv",
  "ReservedEnv",
  "InvalidTimeout",
  "InvalidSchema",
  "DuplicateName",
  "Unreadable",
  "SkippedLink",
  "LimitExceeded"
])

/**
 * @category models
 * @since 0.1.0
 */
export type DiagnosticCode = typeof DiagnosticCode.Type

/**
 * One finding in a skill: an `error` keeps the skill from loading, a `warning` does not. Lines and columns count from 1.
 *
 * @category models
 * @since 0.1.0
 */
export const Diagnostic = Schema.Struct({
  severity: Schema.Literals(["error", "warning"]),
  file: Schema.String,
  line: Schema.Int,
  column: Schema.optionalKey(Schema.Int),
  code: DiagnosticCode,
  message: Schema.String
})

/**
 * @category models
 * @since 0.1.0
 */
export type Diagnostic = typeof Diagnostic.Type

/**
 * The front matter of a skill. `name` follows `^[a-z0-9]+(-[a-z0-9]+)*$` in a valid skill, but not in every skill that
 * loads. `allowedTools` is informative only and never a grant. `extra` keeps the fields that the format does not know.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillManifest = Schema.Struct({
  name: Schema.String,
  description: Schema.String,
  license: Schema.optionalKey(Schema.String),
  compatibility: Schema.optionalKey(Schema.String),
  metadata: Schema.Record(Schema.String, Schema.String),
  allowedTools: Schema.optionalKey(Schema.String),
  extra: Schema.Record(Schema.String, Schema.Unknown)
})

/**
 * @category models
 * @since 0.1.0
 */
export interface SkillManifest extends Schema.Schema.Type<typeof SkillManifest> {}

/**
 * Where the text came from: `file` is only named in diagnostics, `folder` is the name that the skill's folder has.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  readonly file: string
  readonly folder: string
}

/**
 * A skill that loads. `body` is the text after the front matter, which begins at `bodyLine`. `frontMatter` has all of its fields as
 * YAML means them: numbers, lists and mappings stay what they are. What JSON has no number for, such as `.inf`, is text there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Parsed {
  readonly manifest: SkillManifest
  readonly frontMatter: Schema.JsonObject
  readonly body: string
  readonly bodyLine: number
  readonly diagnostics: ReadonlyArray<Diagnostic>
}

/**
 * A skill that does not load: at least one of the diagnostics is an error.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rejected {
  readonly diagnostics: ReadonlyArray<Diagnostic>
}

const fromProblem = (problem: FrontMatter.Problem, severity: Diagnostic["severity"], file: string): Diagnostic => ({
  severity,
  file,
  line: problem.line,
  column: problem.column,
  code: problem.code,
  message: problem.message
})

/**
 * Reads a skill leniently. Fails without front matter, with unreadable YAML, and without a description.
 *
 * Where a colon in a plain value breaks the YAML, the value is taken as if it were quoted. A name that is missing or
 * unusable is replaced by the folder's.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse = (text: string, source: Source): Result.Result<Parsed, Rejected> => {
  const { file } = source
  if (Buffer.byteLength(text) > maxBytes) {
    const message = `larger than ${maxBytes} bytes: move text into files that SKILL.md refers to`
    return Result.fail({ diagnostics: [{ severity: "error", file, line: 1, code: "TooLarge", message }] })
  }
  const read = FrontMatter.read(text, maxFrontMatterBytes)
  if (Result.isFailure(read)) {
    return Result.fail({ diagnostics: read.failure.map((problem) => fromProblem(problem, "error", file)) })
  }
  const { body, bodyLine, entries, problems } = read.success
  const diagnostics = problems.map((problem) => fromProblem(problem, "warning", file))
  const manifest = interpret(
    entries,
    source.folder,
    (severity, code, at, message) =>
      diagnostics.push({ severity, file, line: at?.line ?? 1, ...(at && { column: at.column }), code, message })
  )
  return diagnostics.some((diagnostic) => diagnostic.severity === "error")
    ? Result.fail({ diagnostics })
    : Result.succeed({ manifest, frontMatter: FrontMatter.plainFields(entries), body, bodyLine, diagnostics })
}

/**
 * Reads a skill strictly: everything that `parse` warns of is an error. What it accepts follows the open format.
 *
 * @category constructors
 * @since 0.1.0
 */
export const validate = (text: string, source: Source): Result.Result<Parsed, Rejected> => {
  const parsed = parse(text, source)
  const { diagnostics } = Result.isSuccess(parsed) ? parsed.success : parsed.failure
  return diagnostics.length === 0
    ? parsed
    : Result.fail({ diagnostics: diagnostics.map((diagnostic) => ({ ...diagnostic, severity: "error" })) })
}

type Report = (
  severity: Diagnostic["severity"],
  code: DiagnosticCode,
  at: FrontMatter.Position | undefined,
  message: string
) => void

type Entries = ReadonlyMap<string, FrontMatter.Value>

const known = new Set(["name", "description", "license", "compatibility", "metadata", "allowed-tools"])

const interpret = (entries: Entries, folder: string, report: Report): SkillManifest => {
  const name = readName(entries.get("name"), folder, report)
  const description = readDescription(entries.get("description"), report)
  const license = readText("license", "InvalidLicense", entries, report)
  const compatibility = readText("compatibility", "InvalidCompatibility", entries, report)
  if (compatibility !== undefined && lengthOf(compatibility) > 500) {
    report(
      "warning",
      "InvalidCompatibility",
      entries.get("compatibility"),
      "compatibility is longer than 500 characters"
    )
  }
  const metadata = readMetadata(entries.get("metadata"), report)
  const allowedTools = readAllowedTools(entries.get("allowed-tools"), report)
  const extra: Record<string, unknown> = {}
  for (const [key, value] of entries) {
    if (!known.has(key)) {
      extra[key] = FrontMatter.plain(value)
      report("warning", "UnknownField", value, `the open format does not know the field ${key}: move it below metadata`)
    }
  }
  return {
    name,
    description,
    ...(license !== undefined && { license }),
    ...(compatibility !== undefined && { compatibility }),
    metadata,
    ...(allowedTools !== undefined && { allowedTools }),
    extra
  }
}

const lengthOf = (text: string): number => Array.from(text).length

const readName = (value: FrontMatter.Value | undefined, folder: string, report: Report): string => {
  const name = value?.kind === "scalar" ? value.text.trim() : ""
  if (name === "" || /\p{Cc}/u.test(name)) {
    const code = value === undefined ? "MissingName" : "InvalidName"
    const severity = folder === "" || /\p{Cc}/u.test(folder) ? "error" : "warning"
    const problem = value === undefined ? "missing" : "unusable"
    report(severity, code, value, `name is ${problem}: taking the folder's, ${JSON.stringify(folder)}`)
    return folder
  }
  if (lengthOf(name) > 64 || !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) {
    report(
      "warning",
      "InvalidName",
      value,
      `expected a name of at most 64 lower-case letters, digits and single hyphens between them, got ${
        JSON.stringify(name)
      }`
    )
  }
  if (name !== folder) {
    report("warning", "NameMismatch", value, `the name ${name} differs from the folder's, ${folder}`)
  }
  return name
}

const readDescription = (value: FrontMatter.Value | undefined, report: Report): string => {
  if (value !== undefined && value.kind !== "scalar") {
    report("error", "InvalidDescription", value, "expected the description to be text")
    return ""
  }
  const description = value?.text.trim() ?? ""
  if (description === "") {
    report("error", "MissingDescription", value, "description is missing: say what the skill does and when to use it")
  } else if (lengthOf(description) > 1_024) {
    report("warning", "InvalidDescription", value, "description is longer than 1024 characters")
  } else if (typeof value?.value !== "string") {
    report("warning", "InvalidDescription", value, "description is not text: put it in quotes")
  }
  return description
}

const readText = (
  key: string,
  code: DiagnosticCode,
  entries: Entries,
  report: Report
): string | undefined => {
  const value = entries.get(key)
  if (value === undefined) {
    return undefined
  }
  const text = value.kind === "scalar" ? value.text.trim() : ""
  if (text === "") {
    report("warning", code, value, `${key} is ignored: expected text`)
    return undefined
  }
  if (value.kind === "scalar" && typeof value.value !== "string") {
    report("warning", code, value, `${key} is not text: put it in quotes`)
  }
  return text
}

const readMetadata = (value: FrontMatter.Value | undefined, report: Report): Record<string, string> => {
  const metadata: Record<string, string> = {}
  if (value === undefined) {
    return metadata
  }
  if (value.kind !== "map") {
    report("warning", "InvalidMetadata", value, "metadata is ignored: expected a mapping of names to text")
    return metadata
  }
  for (const [key, entry] of value.entries) {
    metadata[key] = entry.kind === "scalar" ? entry.text : JSON.stringify(FrontMatter.plain(entry))
    if (entry.kind !== "scalar" || typeof entry.value !== "string") {
      report("warning", "InvalidMetadata", entry, `the value of metadata ${key} is not text: put it in quotes`)
    }
  }
  reportSkillScale(metadata, value.entries, report)
  reportAsks(metadata, value.entries, report)
  return metadata
}

const reportSkillScale = (metadata: Record<string, string>, entries: Entries, report: Report): void => {
  for (const name of Metadata.envNames(metadata)) {
    if (!Metadata.isEnvName(name)) {
      report(
        "warning",
        "InvalidEnv",
        entries.get(Metadata.envKey),
        `${Metadata.envKey}: ${JSON.stringify(name)} is not a variable's name`
      )
    } else if (Metadata.isReservedEnv(name)) {
      report(
        "warning",
        "ReservedEnv",
        entries.get(Metadata.envKey),
        `${Metadata.envKey}: ${name} is reserved and is not injected`
      )
    }
  }
  const duration = Metadata.readTimeout(metadata)
  if (duration !== undefined && Result.isFailure(duration)) {
    report("warning", "InvalidTimeout", entries.get(Metadata.timeoutKey), `${Metadata.timeoutKey}: ${duration.failure}`)
  }
}

const reportAsks = (metadata: Record<string, string>, entries: Entries, report: Report): void => {
  for (const [key, problem] of Metadata.unusable(metadata)) {
    report("warning", "InvalidMetadata", entries.get(key), `${key}: ${problem}`)
  }
}

const readAllowedTools = (value: FrontMatter.Value | undefined, report: Report): string | undefined => {
  if (value === undefined) {
    return undefined
  }
  if (value.kind === "scalar" && typeof value.value === "string") {
    return value.text.trim()
  }
  const items = value.kind === "list" ? value.items.flatMap((item) => item.kind === "scalar" ? [item.text] : []) : []
  report(
    "warning",
    "InvalidAllowedTools",
    value,
    "expected allowed-tools to be one text, with spaces between the tools"
  )
  return items.length > 0 ? items.join(" ") : undefined
}

/**
 * What a skill may ask for, by its key below `skillscale.` in the metadata: whether it needs the network (`network`, true or
 * false), may start warm (`warm`, true or false) and may run twice for one call (`idempotent`, true or false); and the most that its run needs: memory and written files (`memory`,
 * `disk`, such as `512MiB`), processes and threads (`processes`) and CPU time of each process in seconds (`cpu`).
 *
 * @category schemas
 * @since 0.1.0
 */
export const asks = Metadata.asks

/**
 * Tells whether a skill may never set a variable: it belongs to SkillScale (`SKILL_DIR`, `SKILLSCALE_…`), or it decides
 * which code runs (`PATH`, `LD_…`, `BASH_…`, `PYTHON…`, `NODE_OPTIONS` and their like).
 *
 * @category guards
 * @since 0.1.0
 */
export const isReservedEnv: (name: string) => boolean = Metadata.isReservedEnv

/**
 * Lists the secrets that the skill asks for by name in `metadata: skillscale.env`, separated by spaces or commas. Leaves
 * out what is no name of a variable and what is reserved.
 *
 * @category getters
 * @since 0.1.0
 */
export const env = (manifest: Pick<SkillManifest, "metadata">): ReadonlyArray<string> =>
  Metadata.envNames(manifest.metadata).filter((name) => Metadata.isEnvName(name) && !isReservedEnv(name))

/**
 * Reads how long the skill may run from `metadata: skillscale.timeout`, such as `30s`, or milliseconds. None where it is
 * absent or malformed.
 *
 * @category getters
 * @since 0.1.0
 */
export const timeout = (manifest: Pick<SkillManifest, "metadata">): Option.Option<Duration.Duration> =>
  Option.flatMap(Option.fromNullishOr(Metadata.readTimeout(manifest.metadata)), Result.getSuccess)

/**
 * Reads whether a call of the skill may run twice from `metadata: skillscale.idempotent`. None where it is absent or malformed.
 *
 * @category getters
 * @since 0.1.0
 */
export const idempotent = (manifest: Pick<SkillManifest, "metadata">): Option.Option<boolean> =>
  Option.flatMap(Option.fromNullishOr(Metadata.readIdempotent(manifest.metadata)), Result.getSuccess)
