/**
 * Skills for Effect AI (`effect/ai`): a toolkit with its handlers, for `LanguageModel` and `Chat`.
 *
 * ```ts
 * import * as EffectAi from "@skillscale/adapters/EffectAi"
 *
 * const program = Effect.gen(function*() {
 *   const { prompt, toolkit } = yield* EffectAi.Skills
 *   const chat = yield* Chat.fromPrompt(Prompt.setSystem(Prompt.make("…"), yield* prompt()))
 *   let response = yield* chat.generateText({ prompt: [], toolkit })
 *   while (response.toolCalls.length > 0) response = yield* chat.generateText({ prompt: [], toolkit })
 *   return response.text
 * }).pipe(Effect.provide(EffectAi.layer()))
 * ```
 *
 * With `progress` a run that goes on gives preliminary results, which `streamText` streams. A tool that fails returns a failure, which the model
 * sees. Interruption ends the process on the server.
 *
 * @since 0.1.0
 */
import type * as ClientError from "@skillscale/client/ClientError"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type * as CatalogPrompt from "@skillscale/tools/CatalogPrompt"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import * as SkillTools from "@skillscale/tools/SkillTools"
import type * as ToolError from "@skillscale/tools/ToolError"
import * as Prompt from "effect/ai/Prompt"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as Images from "./internal/images.ts"
import * as SoFar from "./internal/soFar.ts"

/** There for the program, and not where results are written: to models, and to the history of a chat. */
const UnwrittenBytes = Schema.optionalKey(Schema.Never).pipe(
  Schema.decodeTo(Schema.optionalKey(Schema.Uint8Array), { decode: SchemaGetter.omit(), encode: SchemaGetter.omit() })
)

/**
 * A file that a run made. It has its bytes when it comes; of one from a stored conversation `SkillTools.artifact` has them.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillFile = Schema.Struct({
  /** As `read_artifact` and `SkillTools.artifact` know it. */
  id: Schema.String,
  path: Schema.String,
  mediaType: Schema.String,
  /** In bytes. */
  size: Schema.Int,
  sha256: Schema.String,
  data: UnwrittenBytes
})

/**
 * The result of a tool: what there is until now, each in place of the one before, and at last what it answers, of which the model
 * gets `text` and images of `files`. `text` is the end of what the script printed while it runs, 4,000 characters at most.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillResult = Schema.Union([
  Schema.Struct({
    status: Schema.Literal("running"),
    text: Schema.String,
    /** What the script said of its progress last. */
    progress: Schema.optionalKey(Schema.String)
  }),
  Schema.Struct({
    status: Schema.Literal("done"),
    text: Schema.String,
    /** What the skill's output schema describes, where it has one. */
    structured: Schema.optionalKey(Schema.Json),
    files: Schema.Array(SkillFile)
  })
])

/**
 * The type of `SkillResult`.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillResult = typeof SkillResult.Type

/**
 * Why a tool has no result. The model sees all of it.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillFailure extends Schema.TaggedError<SkillFailure>()("SkillFailure", {
  tool: Schema.String,
  /** The reason of the `ToolError`, as `SkillFailed` or `Timeout`. */
  reason: Schema.String,
  /** What a script that failed exited with. */
  exitCode: Schema.optionalKey(Schema.Int),
  text: Schema.String,
  /** What a run left that failed, where it left any. The model sees their names. */
  files: Schema.optionalKey(Schema.Array(SkillFile))
}) {
  override get message() {
    return `tool ${this.tool}: ${this.text}`
  }
}

/**
 * The tool of a skill, or one that reaches all of them.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillTool = Tool.Tool<string, {
  readonly parameters: typeof Schema.Unknown
  readonly success: typeof SkillResult
  readonly failure: typeof SkillFailure
  readonly failureMode: "return"
}>

/**
 * The tools by name.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillToolsByName = Record<string, SkillTool>

/**
 * The tools of a toolkit and those of skills.
 *
 * @category models
 * @since 0.1.0
 */
export type WithSkills<Tools extends Record<string, Tool.Any>> = Toolkit.MergedTools<
  [Toolkit.Toolkit<SkillToolsByName>, Toolkit.Toolkit<Tools>]
>

/**
 * How tools answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Whether the model is shown the images of an answer: PNG, JPEG, GIF and WebP, at most 10 of at most 3.75 MB each. By default
   * it is; `false` for models that cannot see.
   */
  readonly images?: boolean | undefined
  /** Whether there are preliminary results. By default there are none: with them a call takes about a millisecond longer. */
  readonly progress?: boolean | undefined
}

/**
 * The skills for a language model.
 *
 * @category services
 * @since 0.1.0
 */
export class Skills extends Context.Service<Skills, {
  /** The tools with their handlers, those of the moment that a request begins: give the effect, not its result, to requests. */
  readonly toolkit: Effect.Effect<Toolkit.WithHandler<SkillToolsByName>>
  /** The same with the tools of a toolkit of yours, whose handlers it needs. Of two with one name yours is taken. */
  readonly withToolkit: <Tools extends Record<string, Tool.Any>>(
    toolkit: Toolkit.Toolkit<Tools>
  ) => Effect.Effect<Toolkit.WithHandler<WithSkills<Tools>>, never, Tool.HandlersFor<Tools>>
  /** What to tell a model of the skills at first. */
  readonly prompt: (options?: CatalogPrompt.Options) => Effect.Effect<string>
}>()("@skillscale/adapters/EffectAi/Skills") {}

const filesWithBytes = (result: SkillResult) =>
  result.status === "running"
    ? []
    : result.files.flatMap(({ data, ...file }) => data === undefined ? [] : [{ ...file, data }])

const fileOf = ({ data, id, mime, path, sha256, size }: Artifacts.Artifact): typeof SkillFile.Type => ({
  id,
  path,
  mediaType: mime,
  size,
  sha256,
  data
})

const resultOf = ({ artifacts, structured, text }: SkillTools.Output): SkillResult => ({
  status: "done",
  text,
  // What tools answer was JSON.
  ...structured === undefined ? {} : { structured: structured as Schema.Json },
  files: artifacts.map(fileOf)
})

const failureOf = ({ artifacts, reason, text, tool }: ToolError.ToolError): SkillFailure =>
  new SkillFailure({
    tool,
    reason: reason._tag,
    text,
    ...reason._tag === "SkillFailed" && reason.exitCode !== undefined ? { exitCode: reason.exitCode } : {},
    ...artifacts.length === 0 ? {} : { files: artifacts.map(fileOf) }
  })

const modelOutput = (result: SkillResult, isSeeing: boolean): ReadonlyArray<Prompt.ToolModelOutputPart> => {
  const images = isSeeing ? Images.images(filesWithBytes(result)) : []
  return [
    Prompt.textPart({ text: result.text }),
    ...images.map(({ file, mime }) => Prompt.filePart({ mediaType: mime, fileName: file.path, data: file.data }))
  ]
}

const toolOf = (
  { description, hints, inputSchema, name, title }: SkillTools.Tool,
  { images = true }: Options
): SkillTool =>
  Tool.dynamic(name, {
    description,
    parameters: inputSchema,
    success: SkillResult,
    failure: SkillFailure,
    failureMode: "return",
    toModelOutput: (result: SkillResult) => modelOutput(result, images)
  })
    .annotate(Tool.Title, title)
    .annotate(Tool.Readonly, hints.readOnly)
    .annotate(Tool.Destructive, hints.destructive)
    .annotate(Tool.Idempotent, hints.idempotent)
    .annotate(Tool.OpenWorld, hints.openWorld)

const handlerOf = (tool: SkillTools.Tool, { progress = false }: Options) =>
(
  input: unknown,
  { preliminary }: Toolkit.HandlerContext<SkillTool>
): Effect.Effect<SkillResult, SkillFailure> =>
  Effect.suspend(() => {
    const soFar = SoFar.make()
    const onProgress = (event: SkillTools.Progress) => {
      const shown = soFar(event)
      return shown === undefined ? Effect.void : preliminary({ status: "running", ...shown })
    }
    return tool.call(input, progress ? { onProgress } : {})
  }).pipe(Effect.mapBoth({ onSuccess: resultOf, onFailure: failureOf }))

interface Made {
  readonly own: Toolkit.Toolkit<SkillToolsByName>
  readonly handlers: Context.Context<Tool.HandlersFor<SkillToolsByName>>
  readonly toolkit: Toolkit.WithHandler<SkillToolsByName>
}

/** Handlers go by the names of their tools: those of skills would take the place of others of the same name. */
const without = <Handlers>(handlers: Context.Context<Handlers>, toolkit: Toolkit.Any): Context.Context<Handlers> => {
  const ids = new Set(Object.values(toolkit.tools).map(({ id }) => id))
  return Context.makeUnsafe(new Map(Array.from(handlers.mapUnsafe).filter(([id]) => !ids.has(id))))
}

/**
 * Makes the skills of the tools.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<Skills["Service"], never, SkillTools.SkillTools> {
  const skillTools = yield* SkillTools.SkillTools
  const known = new WeakMap<ReadonlyArray<SkillTools.Tool>, Made>()
  const madeOf = Effect.fnUntraced(function*(tools: ReadonlyArray<SkillTools.Tool>) {
    const existing = known.get(tools)
    if (existing !== undefined) return existing
    const own = Toolkit.make(...tools.map((tool) => toolOf(tool, options)))
    const handlers = yield* own.toHandlers(
      Object.fromEntries(tools.map((tool) => [tool.name, handlerOf(tool, options)]))
    )
    const made = { own, handlers, toolkit: yield* Effect.provideContext(own, handlers) }
    known.set(tools, made)
    return made
  })
  const current = Effect.flatMap(skillTools.tools, madeOf)
  return Skills.of({
    toolkit: Effect.map(current, ({ toolkit }) => toolkit),
    withToolkit: (toolkit) =>
      Effect.flatMap(
        current,
        ({ handlers, own }) => Effect.provideContext(Toolkit.merge(own, toolkit), without(handlers, toolkit))
      ),
    prompt: skillTools.prompt
  })
})

/**
 * Provides the skills of tools that are there.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTools = (options?: Options): Layer.Layer<Skills, never, SkillTools.SkillTools> =>
  Layer.effect(Skills, make(options))

/**
 * Provides the skills of a toolbox, which lives at least as long.
 *
 * @category layers
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox, options?: Options): Layer.Layer<Skills> =>
  Layer.provide(layerTools(options), Layer.succeedContext(toolbox.context))

/**
 * Where the proxy is, which skills and tools there are, and how they answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions extends PromiseTools.ConnectOptions, Options {}

/**
 * Connects to the proxy and provides the skills of its servers, and what they are made of. Fails when the proxy or the catalog
 * cannot be reached.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: ConnectOptions = {}
): Layer.Layer<Skills | PromiseTools.Services, ClientError.ClientError> =>
  Layer.provideMerge(layerTools(options), PromiseTools.layer(options))
