/**
 * Finds the skills below a directory and keeps the catalog current while they change.
 *
 * A skill is a folder that holds a file named exactly `SKILL.md`; folders below it belong to it. The search goes six
 * folders deep, visits at most 2,000 folders, and leaves out `node_modules`, `__pycache__` and hidden folders other than
 * `.agents` and `.claude`. A skill that cannot be read is left out with a diagnostic, and the others stay. Reading the
 * front matter is left to `SkillManifest`, running scripts to the server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Path from "node:path"
import type * as Control from "./Control.ts"
import * as SkillCatalog from "./internal/skillCatalog.ts"
import * as SkillFiles from "./internal/skillFiles.ts"
import * as SkillLive from "./internal/skillLive.ts"
import * as SkillScan from "./internal/skillScan.ts"
import * as SkillSchemas from "./internal/skillSchemas.ts"
import * as SkillManifest from "./SkillManifest.ts"

/**
 * One file of a skill. `path` is relative to the skill's root, with `/`. A link is listed as what it leads to.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillFile {
  readonly path: string
  readonly size: number
  readonly executable: boolean
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string
}

/**
 * A skill as it was found on disk.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skill {
  readonly name: string
  readonly description: string
  /** The name of the folder that holds the skill's folder, in lower case, other characters replaced by `-`. */
  readonly category: string
  readonly topic: string
  /** The skill's folder, absolute. */
  readonly root: string
  /** The skill's `SKILL.md`, absolute. */
  readonly file: string
  readonly manifest: SkillManifest.SkillManifest
  /** `sha256:` and 64 hexadecimal digits; see `digest`. */
  readonly digest: string
  /** Every file of the skill, sorted by path. */
  readonly files: ReadonlyArray<SkillFile>
  /** The entry point, relative to the root: the first of `scripts/run.sh`, `.py`, `.mjs`, `.js`, `.ts` that exists. */
  readonly entry: Option.Option<string>
  /** What can be run, relative to the root. */
  readonly scripts: ReadonlyArray<string>
  /** The JSON Schema of what the entry point reads: the file that `metadata: skillscale.input` names. */
  readonly input: Option.Option<Schema.JsonObject>
  /** The JSON Schema of what the entry point writes: the file that `metadata: skillscale.output` names. */
  readonly output: Option.Option<Schema.JsonObject>
  /** Why the entry point must not be called: a schema that the skill declares cannot be used. */
  readonly refusal: Option.Option<string>
  readonly diagnostics: ReadonlyArray<SkillManifest.Diagnostic>
}

/**
 * A skill's `SKILL.md`. `frontMatter` is as in `SkillManifest.Parsed`; the instructions are what follows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Document {
  readonly frontMatter: Schema.JsonObject
  readonly instructions: string
  /** In bytes. */
  readonly size: number
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string
}

/**
 * All skills below a directory, sorted by name, and everything that was found wrong with them and with others.
 *
 * @category models
 * @since 0.1.0
 */
export interface Catalog {
  readonly skills: ReadonlyArray<Skill>
  readonly diagnostics: ReadonlyArray<SkillManifest.Diagnostic>
}

/**
 * Nothing is there.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {}) {}

/**
 * It is there, but is not a directory, or not a file.
 *
 * @category errors
 * @since 0.1.0
 */
export class WrongKind extends Schema.TaggedError<WrongKind>()("WrongKind", {
  expected: Schema.Literals(["directory", "file"])
}) {}

/**
 * The path is absolute, goes up, or leads out of the skill through a link.
 *
 * @category errors
 * @since 0.1.0
 */
export class Outside extends Schema.TaggedError<Outside>()("Outside", {}) {}

/**
 * More than may be read at once.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", {
  limit: Schema.Finite,
  unit: Schema.Literals(["bytes", "files"])
}) {}

/**
 * It is there, but cannot be read.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", { cause: Schema.Defect() }) {}

/**
 * The only error of this module; `reason` says what is wrong with which path.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillDiscoveryError extends Schema.TaggedError<SkillDiscoveryError>()("SkillDiscoveryError", {
  operation: Schema.Literals(["scan", "digest", "read"]),
  path: Schema.String,
  reason: Schema.Union([NotFound, WrongKind, Outside, TooLarge, Unreadable])
}) {
  override readonly cause = this.reason
  override get message() {
    return this.messageOf(this.path)
  }
  /** Says it of a path as it was asked for, to those who are not to know where the skill lies. */
  messageOf(path: string): string {
    const hint = this.operation === "scan" ? ": create it, or name another one" : ""
    const failed = `cannot ${this.operation} ${path}`
    switch (this.reason._tag) {
      case "NotFound":
        return `${failed}: it does not exist${hint}`
      case "WrongKind":
        return `${failed}: it is not a ${this.reason.expected}${hint}`
      case "Outside":
        return `${failed}: it is not a path inside the skill`
      case "TooLarge":
        return `${failed}: more than ${this.reason.limit} ${this.reason.unit}`
      case "Unreadable":
        return `${failed}: ${causeOf(this.reason.cause, path === this.path)}`
    }
  }
}

/** What the system says names the path; its code does not. */
const causeOf = (cause: unknown, isWhole: boolean): string => {
  if (!(cause instanceof Error)) return String(cause)
  return isWhole || !("code" in cause) ? cause.message : String(cause.code)
}

/**
 * Knows the skills below one directory.
 *
 * @category services
 * @since 0.1.0
 */
export class SkillDiscovery extends Context.Service<SkillDiscovery, {
  /** The current catalog, from memory. */
  readonly catalog: Effect.Effect<Catalog>
  /** Looks a skill up by its exact name, in memory. */
  readonly find: (name: string) => Effect.Effect<Option.Option<Skill>>
  /** Emits the current catalog, then every one that differs from the one before. Never ends by itself. */
  readonly changes: Stream.Stream<Catalog>
  /** Scans now. Fails, and keeps the catalog, when the directory cannot be read. */
  readonly refresh: Effect.Effect<Catalog, SkillDiscoveryError>
  /** Reads the `SKILL.md` of a skill, as it is on disk now. */
  readonly document: (skill: Skill) => Effect.Effect<Document, SkillDiscoveryError>
  /** Reads the instructions of a skill: what follows the front matter of its `SKILL.md` on disk now. */
  readonly instructions: (skill: Skill) => Effect.Effect<string, SkillDiscoveryError>
  /** Lists the files of a skill, without `SKILL.md`. */
  readonly resources: (skill: Skill) => ReadonlyArray<SkillFile>
  /** Reads one file of a skill, also `SKILL.md`; it must lie in the skill's folder after links are followed. */
  readonly resource: (skill: Skill, path: string) => Effect.Effect<Uint8Array, SkillDiscoveryError>
}>()("@skillscale/core/SkillDiscovery") {}

/**
 * How to discover skills, and how to notice that they changed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly directory: string
  /** Whether changes on disk become visible by themselves. `true` by default. */
  readonly watch?: boolean | undefined
  /** How long the disk must have been quiet before it is scanned, at most 20 times in a row. 50 ms by default. */
  readonly debounce?: Duration.Input | undefined
  /** How often the disk is scanned although nothing was reported. 5 s by default. */
  readonly rescan?: Duration.Input | undefined
  /** The largest file that `resource` reads, in bytes. 16 MiB by default. */
  readonly maxResourceBytes?: number | undefined
}

type Operation = SkillDiscoveryError["operation"]

const classify = (operation: Operation, path: string) => (cause: unknown): SkillDiscoveryError => {
  const reason = cause instanceof SkillFiles.Outside
    ? new Outside()
    : cause instanceof SkillFiles.NotAFile
    ? new WrongKind({ expected: "file" })
    : cause instanceof SkillFiles.NotADirectory
    ? new WrongKind({ expected: "directory" })
    : cause instanceof SkillFiles.LimitExceeded
    ? new TooLarge({ limit: cause.limit, unit: cause.unit })
    : SkillFiles.isMissing(cause)
    ? new NotFound()
    : new Unreadable({ cause })
  return new SkillDiscoveryError({ operation, path, reason })
}

const attempt = <A>(operation: Operation, path: string, read: (signal: AbortSignal) => Promise<A>) =>
  Effect.tryPromise({ try: read, catch: classify(operation, path) })

const scanWith = (
  directory: string,
  previous: SkillScan.Scan | undefined
): Effect.Effect<SkillScan.Scan, SkillDiscoveryError> => {
  const path = Path.resolve(directory)
  return attempt("scan", path, (signal) => SkillScan.scan(path, previous, signal))
}

const traced = Effect.withSpan("SkillDiscovery.scan")

/**
 * Scans a directory once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const scan = (options: Pick<Options, "directory">): Effect.Effect<Catalog, SkillDiscoveryError> =>
  traced(Effect.map(scanWith(options.directory, undefined), ({ catalog }) => catalog))

const service = (
  primitive: Pick<SkillDiscovery["Service"], "refresh"> & {
    readonly ref: SubscriptionRef.SubscriptionRef<Catalog>
    readonly read: (skill: Skill, path: string, maxBytes: number) => Effect.Effect<Uint8Array, SkillDiscoveryError>
    readonly maxResourceBytes: number
  }
): SkillDiscovery["Service"] => {
  const catalog = SubscriptionRef.get(primitive.ref)
  const document = Effect.fnUntraced(function*(skill: Skill) {
    const bytes = yield* primitive.read(skill, "SKILL.md", SkillManifest.maxBytes)
    return yield* Result.match(SkillCatalog.parseText(skill.root, bytes), {
      onSuccess: ({ body, frontMatter }) =>
        Effect.succeed({
          frontMatter,
          instructions: body,
          size: bytes.byteLength,
          sha256: SkillFiles.sha256Of(bytes)
        }),
      onFailure: ({ diagnostics }) => {
        const cause = new Error(diagnostics.find(({ severity }) => severity === "error")?.message)
        return Effect.fail(classify("read", skill.file)(cause))
      }
    })
  })
  return SkillDiscovery.of({
    catalog,
    find: (name) =>
      Effect.map(catalog, ({ skills }) => Option.fromNullishOr(skills.find((skill) => skill.name === name))),
    changes: SubscriptionRef.changes(primitive.ref),
    refresh: primitive.refresh,
    document,
    instructions: (skill) => Effect.map(document(skill), ({ instructions }) => instructions),
    resources: (skill) => skill.files.filter(({ path }) => path !== "SKILL.md"),
    resource: (skill, path) => primitive.read(skill, path, primitive.maxResourceBytes)
  })
}

const defaultMaxResourceBytes = 16_777_216

/**
 * Scans a directory, and again whenever something below it changes, for as long as the scope is open.
 *
 * Every folder is watched by itself. A scan begins when the disk was quiet for `debounce`, and every `rescan` although
 * nothing was reported, which finds what watching cannot see, such as the target of a link outside of the directory. It
 * reads only files whose size, times or inode changed. Where the system refuses more watches, the directory is scanned at
 * least every second instead, with a warning in the log. While the directory is gone, the catalog is empty.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<SkillDiscovery["Service"], SkillDiscoveryError, Scope.Scope> {
  const live = yield* SkillLive.make({
    scan: (previous) => scanWith(options.directory, previous),
    gone: (error) =>
      error.reason._tag === "NotFound" || error.reason._tag === "WrongKind"
        ? Option.some(SkillCatalog.fault("error", "Unreadable", error.path, error.message))
        : Option.none(),
    watch: options.watch ?? true,
    debounce: Duration.fromInputUnsafe(options.debounce ?? "50 millis"),
    rescan: Duration.fromInputUnsafe(options.rescan ?? "5 seconds")
  })
  return service({
    ref: live.catalog,
    // The scans that happen by themselves would fill the traces.
    refresh: traced(live.refresh),
    read: (skill, path, maxBytes) =>
      attempt(
        "read",
        Path.join(skill.root, path),
        (signal) => SkillFiles.readInside(skill.root, path, maxBytes, signal)
      ),
    maxResourceBytes: options.maxResourceBytes ?? defaultMaxResourceBytes
  })
})

/**
 * Provides the skills of a directory, as `make` does.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<SkillDiscovery, SkillDiscoveryError> =>
  Layer.effect(SkillDiscovery, make(options))

/**
 * Provides skills that exist only in memory, for tests: `{ "data/csv-analyzer": { "SKILL.md": "…" } }`. The keys are the
 * folders of the skills, the values their files. Nothing changes.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory = (
  skills: Readonly<Record<string, Readonly<Record<string, string>>>>
): Layer.Layer<SkillDiscovery> =>
  Layer.effect(
    SkillDiscovery,
    Effect.gen(function*() {
      const candidates = Object.entries(skills).map(([path, files]) =>
        SkillCatalog.fromMemory(`/skills/${path}`, files)
      )
      const ref = yield* SubscriptionRef.make(SkillCatalog.toCatalog(candidates, []))
      return service({
        ref,
        refresh: SubscriptionRef.get(ref),
        read: (skill, path) => {
          const text = skills[Path.relative("/skills", skill.root)]?.[path]
          return text === undefined
            ? Effect.fail(
              new SkillDiscoveryError({ operation: "read", path: Path.join(skill.root, path), reason: new NotFound() })
            )
            : Effect.succeed(Buffer.from(text))
        },
        maxResourceBytes: defaultMaxResourceBytes
      })
    })
  )

/**
 * Computes the digest of a skill: SHA-256 over `path`, NUL, the hexadecimal SHA-256 of the content, NUL, for every file,
 * in the order of the UTF-8 bytes; written as `sha256:` and 64 hexadecimal digits.
 *
 * Modes and times do not count, since the interpreter follows from the name and the content. A link counts as the content
 * that it leads to. Every file counts except those of `isIgnored`, links that leave the skill, and what is no file: a
 * working copy that holds nothing but `files` runs nothing that the digest does not cover.
 *
 * @category combinators
 * @since 0.1.0
 */
export const digest: (files: ReadonlyArray<Pick<SkillFile, "path" | "sha256">>) => string = SkillCatalog.digest

/**
 * Computes the digest of a folder as it is on disk now, with the same rules and limits as the catalog does.
 *
 * @category combinators
 * @since 0.1.0
 */
export const digestDirectory = (root: string): Effect.Effect<string, SkillDiscoveryError> =>
  attempt("digest", root, (signal) => SkillScan.digestFolder(root, signal))

/**
 * Reads the schemas that a skill declares as they are on disk now, and tells what is wrong with them.
 *
 * @category combinators
 * @since 0.1.0
 */
export const schemaFlaws = (
  root: string,
  manifest: Pick<SkillManifest.SkillManifest, "metadata">
): Effect.Effect<ReadonlyArray<SkillManifest.Diagnostic>> =>
  Effect.gen(function*() {
    const contents = new Map<string, SkillSchemas.Content>()
    for (const path of SkillSchemas.files(manifest)) {
      const bytes = yield* Effect.result(attempt("read", Path.join(root, path), (signal) =>
        SkillFiles.readInside(root, path, SkillSchemas.maxFileBytes, signal)))
      contents.set(
        path,
        Result.mapError(bytes, ({ message, reason }) =>
          reason._tag === "NotFound" ? "there is no such file in the skill" : message)
      )
    }
    return SkillSchemas.gather(root, manifest, (path) =>
      contents.get(path) ?? SkillSchemas.missing).diagnostics
  })

/**
 * The largest file that is read as a schema, in bytes: 64 KiB. `JsonSchema.maxBytes` bounds what is in it.
 *
 * @category models
 * @since 0.1.0
 */
export const maxSchemaFileBytes: number = SkillSchemas.maxFileBytes

/**
 * Tells what a catalog says of a skill, as far as its files tell it: without what its server adds, its state and its hints.
 *
 * @category getters
 * @since 0.1.0
 */
export const info = (skill: Skill): Control.SkillInfo => ({
  name: skill.name,
  description: skill.description,
  category: skill.category,
  topic: skill.topic,
  digest: skill.digest,
  entry: Option.getOrNull(skill.entry),
  scripts: skill.scripts,
  env: SkillManifest.env(skill.manifest),
  ...Option.match(skill.input, { onNone: () => ({}), onSome: (input) => ({ input }) }),
  ...Option.match(skill.output, { onNone: () => ({}), onSome: (output) => ({ output }) })
})

/**
 * Tells whether a path relative to a skill's root is no file of the skill: the Python environment `.venv` at the root, which
 * belongs to the machine as installed packages do; `.git` and what is below it, `.DS_Store`, and `*.pyc` in a folder named
 * `__pycache__`. A working copy must leave them out, since Python runs what it finds there.
 *
 * @category guards
 * @since 0.1.0
 */
export const isIgnored: (path: string) => boolean = SkillFiles.isIgnored

/**
 * Writes the `<available_skills>` block of the open format for a model's prompt: each tag on its own line, values escaped
 * as Python's `html.escape` does.
 *
 * @category combinators
 * @since 0.1.0
 */
export const availableSkills: (skills: ReadonlyArray<Pick<Skill, "name" | "description" | "file">>) => string =
  SkillCatalog.availableSkills
