/**
 * Skills as tools of an agent: described by plain JSON Schema, called with plain JSON, answered with text for a model and files
 * for everybody else. What one framework or another makes of that is left to its adapter.
 *
 * There is one tool for each skill, and the tools that models already know for skills (`vocabulary`): they list and search skills, read
 * their instructions and files, run their scripts and read what was too long. All of them follow the catalog.
 * Interrupting a call ends its process on the server.
 *
 * @since 0.1.0
 */
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Suggestion from "@skillscale/core/Suggestion"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Artifacts from "./Artifacts.ts"
import * as CatalogPrompt from "./CatalogPrompt.ts"
import * as Failing from "./internal/failing.ts"
import * as Running from "./internal/running.ts"
import * as SkillTool from "./internal/skillTool.ts"
import * as ToolNames from "./internal/toolNames.ts"
import * as Vocabulary from "./internal/vocabulary.ts"
import * as VocabularyNames from "./internal/vocabularyNames.ts"
import * as SkillCatalog from "./SkillCatalog.ts"
import * as ToolError from "./ToolError.ts"

/**
 * A JSON Schema (2020-12) of an object, as plain data.
 *
 * @category models
 * @since 0.1.0
 */
export interface ObjectSchema {
  readonly type: "object"
  readonly [keyword: string]: unknown
}

/**
 * What calling a tool may do, as its server says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hints {
  /** Changes nothing anywhere. */
  readonly readOnly: boolean
  /** May destroy something. */
  readonly destructive: boolean
  /** A second call with the same arguments does nothing more. */
  readonly idempotent: boolean
  /** Reaches others, as over a network. */
  readonly openWorld: boolean
}

/**
 * What happens while a tool runs.
 *
 * @category models
 * @since 0.1.0
 */
export type Progress =
  | { readonly _tag: "Accepted"; readonly server: string | undefined }
  | { readonly _tag: "Output"; readonly stream: "stdout" | "stderr"; readonly text: string }
  /** What the script says of its progress (`::progress::`). */
  | { readonly _tag: "Progress"; readonly message: string }

/**
 * What a call may ask for besides its arguments.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallOptions {
  /** Sees what happens while the tool runs; a slow one slows the script, until the time is over that the call may take. */
  readonly onProgress?: ((progress: Progress) => Effect.Effect<void>) | undefined
}

/**
 * What a tool answers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Output {
  /** For the model: at most `maxOutput` characters. What is not all there is in an artifact that the text names. */
  readonly text: string
  /** What `outputSchema` describes, where the tool has one. */
  readonly structured: unknown
  /** Files that the run made, and what was too long for `text`. */
  readonly artifacts: ReadonlyArray<Artifacts.Artifact>
  /** All that a script printed, one of `artifacts`, where `text` does not have it: it is too long, or not text. */
  readonly whole?: Artifacts.Artifact | undefined
}

/**
 * A tool.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tool {
  /** At most 63 of `[A-Za-z0-9_-]`, a letter or `_` first; no two tools have the same. */
  readonly name: string
  readonly title: string
  /** At most 1,024 characters. */
  readonly description: string
  readonly inputSchema: ObjectSchema
  readonly outputSchema: ObjectSchema | undefined
  readonly hints: Hints
  /** The skill that this tool runs; none for those of the vocabulary. */
  readonly skill: SkillCatalog.Skill | undefined
  /** Calls the tool with arguments as a model gives them; what its schema does not allow is `BadArguments` or `InvalidInput`. */
  readonly call: (input: unknown, options?: CallOptions) => Effect.Effect<Output, ToolError.ToolError>
}

/**
 * The names of the tools that are not of one skill.
 *
 * @category models
 * @since 0.1.0
 */
export type VocabularyName = VocabularyNames.Name

/**
 * Which tools there are, and their bounds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Whether there is a tool for each skill: as long as there are at most so many skills, none when there are more, since
   * models do badly with very many tools. By default 100; `false` for none.
   */
  readonly maxSkillTools?: number | false | undefined
  /**
   * Which tools there are that are not of one skill. By default all; `false` for none. What models read names no other. A name that is none
   * of theirs is a defect.
   */
  readonly vocabulary?: ReadonlyArray<VocabularyName> | false | undefined
  /** Longest text of an answer or an error, in characters: 1,000 or more. By default 30,000. */
  readonly maxOutput?: number | undefined
  /** How long a run may take when the model does not say. By default as long as the client's calls. */
  readonly timeout?: Duration.Input | undefined
  /** How long the model may let a run take. By default 10 minutes. */
  readonly maxTimeout?: Duration.Input | undefined
  /** Whether the tool of a skill runs the version that its description is of, or fails with `SkillChanged`. By default not. */
  readonly pin?: boolean | undefined
  /**
   * How the schema that a skill declares for what it reads is told. `portable`, the default, has nothing at its root that the APIs of
   * models refuse there (`allOf`, `anyOf`, `oneOf`, `not`, `enum`, and properties whose names are not 1 to 64 of `[a-zA-Z0-9_.-]`): a
   * schema that has is that of the one property `input`. `verbatim` tells any schema of an object as it is.
   */
  readonly schemas?: "portable" | "verbatim" | undefined
  /** How many artifacts are kept for the model to read. */
  readonly artifacts?: Artifacts.Options | undefined
}

/**
 * The tools of an agent.
 *
 * @category services
 * @since 0.1.0
 */
export class SkillTools extends Context.Service<SkillTools, {
  /** The tools now: the vocabulary, then those of skills by name. */
  readonly tools: Effect.Effect<ReadonlyArray<Tool>>
  /** Emits the tools now, and again whenever the skills differ. */
  readonly changes: Stream.Stream<ReadonlyArray<Tool>>
  /** Calls a tool by its name. */
  readonly call: (name: string, input: unknown, options?: CallOptions) => Effect.Effect<Output, ToolError.ToolError>
  /** What to tell a model of the skills at first. */
  readonly prompt: (options?: CatalogPrompt.Options) => Effect.Effect<string>
  /** Looks up what a tool gave out. */
  readonly artifact: (id: string) => Effect.Effect<Option.Option<Artifacts.Artifact>>
}>()("@skillscale/tools/SkillTools") {}

/** Below this the notes of what is missing would not fit. */
const leastOutput = 1000

/**
 * Makes the tools.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<SkillTools["Service"], never, SkillCatalog.SkillCatalog | SkillClient.SkillClient> {
  const catalog = yield* SkillCatalog.SkillCatalog
  const client = yield* SkillClient.SkillClient
  const artifacts = Artifacts.make(options.artifacts)
  const wantedOutput = options.maxOutput ?? 30_000
  // Not a number is not less.
  const maxOutput = wantedOutput > leastOutput ? wantedOutput : leastOutput
  const maxSkillTools = options.maxSkillTools ?? 100
  const offered = options.vocabulary === false ? [] : options.vocabulary ?? VocabularyNames.names
  const wrong = VocabularyNames.wrong(offered)
  if (wrong !== undefined) return yield* Effect.die(new TypeError(wrong))
  const cap = { artifacts, maxOutput, has: (tool: VocabularyNames.Name) => offered.includes(tool) }
  const running = Running.make({
    ...cap,
    client,
    timeout: options.timeout,
    maxTimeoutMs: Duration.toMillis(options.maxTimeout ?? "10 minutes")
  })

  const failed = (tool: string) => (failure: Failing.Failure) => Failing.errorOf(tool, failure, cap)
  const named = ({ call, ...definition }: SkillTool.Definition, name: string): Tool => ({
    ...definition,
    name,
    call: (input, callOptions = {}) =>
      call(input, callOptions).pipe(
        Effect.mapError(failed(name)),
        Effect.withSpan("SkillTools.call", { attributes: { tool: name } }, { captureStackTrace: false })
      )
  })

  const vocabulary = Vocabulary.make({ ...cap, catalog, running }, offered)
    .map((definition) => named(definition, definition.name))
  const taken = new Set<string>(VocabularyNames.names)
  const known = new WeakMap<ReadonlyArray<SkillCatalog.Skill>, ReadonlyArray<Tool>>()

  const isEach = (skills: ReadonlyArray<SkillCatalog.Skill>): boolean =>
    maxSkillTools !== false && skills.length <= maxSkillTools

  const toolsOf = (skills: ReadonlyArray<SkillCatalog.Skill>): ReadonlyArray<Tool> => {
    const existing = known.get(skills)
    if (existing !== undefined) return existing
    const single = isEach(skills) ? skills : []
    const names = ToolNames.make(single, taken)
    const tools = [
      ...vocabulary,
      ...single.map((skill, index) =>
        named(
          SkillTool.make({
            ...cap,
            catalog,
            running,
            pin: options.pin === true,
            isVerbatim: options.schemas === "verbatim"
          }, skill),
          names[index] ?? skill.name
        )
      )
    ]
    known.set(skills, tools)
    return tools
  }

  const tools = Effect.map(catalog.skills, toolsOf)

  return SkillTools.of({
    tools,
    changes: Stream.map(catalog.changes, toolsOf),
    call: Effect.fnUntraced(function*(name, input, callOptions) {
      const current = yield* tools
      const tool = current.find((candidate) => candidate.name === name)
      if (tool !== undefined) return yield* tool.call(input, callOptions)
      const near = Suggestion.near(name, current.map((candidate) => candidate.name))
      return yield* failed(name)(new ToolError.ToolNotFound({ near }))
    }),
    prompt: (promptOptions) =>
      Effect.map(
        catalog.skills,
        (skills) =>
          CatalogPrompt.catalogPrompt(skills, { vocabulary: offered, skillTools: isEach(skills), ...promptOptions })
      ),
    artifact: (id) => Effect.sync(() => Option.fromUndefinedOr(artifacts.get(id)))
  })
})

/**
 * Provides the tools.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<SkillTools, never, SkillCatalog.SkillCatalog | SkillClient.SkillClient> =>
  Layer.effect(SkillTools, make(options))
