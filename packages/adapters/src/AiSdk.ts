/**
 * Skills for the Vercel AI SDK (`ai`): a `ToolSet` for `generateText`, `streamText` and agents.
 *
 * ```ts
 * import { connect } from "@skillscale/adapters/AiSdk"
 * import { ToolLoopAgent } from "ai"
 *
 * await using skills = await connect()
 * const agent = new ToolLoopAgent({ model, tools: skills.tools, instructions: skills.prompt() })
 * const { text } = await agent.generate({ prompt: "…" })
 * ```
 *
 * With `progress` a run that goes on yields preliminary results, which `streamText` streams. A tool that fails throws, so that there is a
 * `tool-error` whose message the model reads; its `cause` is the `ToolError`. Aborting ends the process on the server.
 *
 * @since 0.1.0
 */
import type * as Artifacts from "@skillscale/tools/Artifacts"
import * as ObjectSchema from "@skillscale/tools/ObjectSchema"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { type GeneratedFile, jsonSchema, type JSONSchema7, type Tool, type ToolSet } from "ai"
import { type Connected, connected } from "./internal/connected.ts"
import * as Images from "./internal/images.ts"
import { live } from "./internal/liveToolSet.ts"
import { modelError } from "./internal/modelError.ts"
import { progressing } from "./internal/progressing.ts"
import * as SoFar from "./internal/soFar.ts"
import { translated } from "./internal/translated.ts"

/**
 * A file that a run made, as the SDK gives files, with its path and its name among the artifacts. Over JSON, as to a user
 * interface, it has its content in `base64`.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillFile extends GeneratedFile {
  /** As `read_artifact` and `toolbox.artifact` know it. */
  readonly id: string
  readonly path: string
  /** In bytes. */
  readonly size: number
  readonly sha256: string
}

/**
 * What a tool yields while it runs: the state until now, each in place of the one before.
 *
 * @category models
 * @since 0.1.0
 */
export interface Preliminary {
  readonly status: "running"
  /** The end of what the script printed, 4,000 characters at most. */
  readonly text: string
  /** What the script said of its progress last. */
  readonly progress?: string | undefined
}

/**
 * What a tool answers. The model gets `text`, and images of `files`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly status: "done"
  readonly text: string
  /** What the skill's output schema describes, where it has one. */
  readonly structured?: unknown
  readonly files: ReadonlyArray<SkillFile>
}

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
 * Where the proxy is, which skills and tools there are, and how they answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions extends PromiseTools.ConnectOptions, Options {}

/**
 * The skills for agents of this framework. Its functions need no `this`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skills extends Connected {
  /**
   * The tools, always current: the set itself follows the skills, also between the steps of one run. A copy, as `{ ...tools }`,
   * stays as it is.
   */
  readonly tools: ToolSet
  /** These tools and those of the skills in one set that follows the skills. Of two with one name this one is taken. */
  readonly withTools: <Tools extends ToolSet>(tools: Tools) => Tools & ToolSet
}

class File implements SkillFile {
  readonly id: string
  readonly path: string
  readonly mediaType: string
  readonly size: number
  readonly sha256: string
  readonly #data: Uint8Array

  constructor({ data, id, mime, path, sha256, size }: Artifacts.Artifact) {
    this.id = id
    this.path = path
    this.mediaType = mime
    this.size = size
    this.sha256 = sha256
    this.#data = data
  }

  get uint8Array(): Uint8Array {
    return this.#data
  }

  get base64(): string {
    return Images.base64(this.#data)
  }

  toJSON() {
    const { base64, id, mediaType, path, sha256, size } = this
    return { id, path, mediaType, size, sha256, base64 }
  }
}

const answerOf = ({ artifacts, structured, text }: SkillTools.Output): Answer => ({
  status: "done",
  text,
  ...structured === undefined ? {} : { structured },
  files: artifacts.map((artifact) => new File(artifact))
})

async function* answering(
  tool: PromiseTools.Tool,
  input: unknown,
  signal: AbortSignal | undefined
): AsyncGenerator<Preliminary | Answer> {
  const soFar = SoFar.make()
  const show = (event: SkillTools.Progress): Preliminary | undefined => {
    const shown = soFar(event)
    return shown === undefined ? undefined : { status: "running", ...shown }
  }
  try {
    yield answerOf(yield* progressing((options) => tool.call(input, options), show, signal))
  } catch (error) {
    throw modelError(error)
  }
}

const answered = async (
  tool: PromiseTools.Tool,
  input: unknown,
  signal: AbortSignal | undefined
): Promise<Answer> => {
  try {
    return answerOf(await tool.call(input, { signal }))
  } catch (error) {
    throw modelError(error)
  }
}

/** From a stored conversation it comes without the bytes but in base64. */
const contentOf = (file: SkillFile) => ({
  path: file.path,
  size: file.size,
  data: file.uint8Array ?? Buffer.from(file.base64, "base64")
})

const modelOutput = (
  output: Preliminary | Answer,
  isSeeing: boolean
): ReturnType<NonNullable<Tool["toModelOutput"]>> => {
  const images = output.status === "done" && isSeeing ? Images.images(output.files.map(contentOf)) : []
  if (images.length === 0) return { type: "text", value: output.text }
  return {
    type: "content",
    value: [
      { type: "text", text: output.text },
      ...images.map(({ file, mime }) => ({
        type: "file" as const,
        mediaType: mime,
        filename: file.path,
        data: { type: "data" as const, data: file.data }
      }))
    ]
  }
}

const text = { type: "string" } as const

const answer = {
  type: "object",
  properties: {
    status: { const: "done" },
    text,
    files: {
      type: "array",
      items: {
        type: "object",
        properties: { id: text, path: text, mediaType: text, size: { type: "integer" }, sha256: text, base64: text }
      }
    }
  },
  required: ["status", "text", "structured", "files"]
} as const

const answerSchema = (structured: SkillTools.ObjectSchema): JSONSchema7 =>
  ObjectSchema.withProperty(answer, "structured", structured)

const toolOf = (tool: PromiseTools.Tool, { images = true, progress = false }: Options): Tool => {
  const { description, hints, inputSchema, outputSchema, skill, title } = tool
  const execute = progress ? answering : answered
  const made: Tool<unknown, Preliminary | Answer> = {
    type: "dynamic",
    description,
    inputSchema: jsonSchema(inputSchema),
    ...outputSchema === undefined ? {} : { outputSchema: jsonSchema(answerSchema(outputSchema)) },
    metadata: {
      title,
      hints: { ...hints },
      ...skill === undefined ? {} : { skill: skill.name, topic: skill.topic, digest: skill.digest }
    },
    execute: (input, { abortSignal }) => execute(tool, input, abortSignal),
    toModelOutput: ({ output }) => modelOutput(output, images)
  }
  return made
}

/**
 * Makes the tools of a toolbox those of this framework. Closing them closes the toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox, options: Options = {}): Skills => {
  const current = translated(
    toolbox,
    (tools): ToolSet => Object.fromEntries(tools.map((tool) => [tool.name, toolOf(tool, options)]))
  )
  const tools = live(current)
  return {
    tools,
    withTools: (more) => live(translated(toolbox, () => ({ ...current(), ...more }))),
    ...connected(toolbox)
  }
}

/**
 * Connects to the proxy and makes the tools of its skills. Rejects when the proxy or the catalog cannot be reached.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = async (options: ConnectOptions & { readonly signal?: AbortSignal } = {}): Promise<Skills> =>
  fromToolbox(await PromiseTools.connect(options), options)
