/**
 * Skills for the OpenAI Agents SDK (`@openai/agents`): function tools for its agents.
 *
 * ```ts
 * import { connect } from "@skillscale/adapters/OpenAiAgents"
 * import { Agent, run } from "@openai/agents"
 *
 * await using skills = await connect()
 * const agent = new Agent({ name: "Assistant", instructions: skills.prompt(), tools: skills.tools })
 * const { finalOutput } = await run(agent, "…")
 * ```
 *
 * A tool that fails answers the model with what it should read of that. Aborting a run ends the process on the server. This SDK
 * has no channel for the progress of tools, so `onProgress` is an option.
 *
 * @since 0.1.0
 */
import { type RunContext, type Tool, tool } from "@openai/agents"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { ToolError } from "@skillscale/tools/ToolError"
import { type Connected, connected } from "./internal/connected.ts"
import * as Images from "./internal/images.ts"
import { liveArray } from "./internal/liveArray.ts"
import { plainNames } from "./internal/plainNames.ts"
import { translated } from "./internal/translated.ts"

/**
 * What the SDK keeps of an answer besides what the model was given, in `customData` of the output's item.
 *
 * @category models
 * @since 0.1.0
 */
export interface CustomData {
  /** What the skill's output schema describes, where it has one. */
  readonly structured?: unknown
  /** The files that the run made, also one that failed, without their bytes: `Skills.files` reads those. */
  readonly files: ReadonlyArray<Omit<Artifacts.Artifact, "data">>
}

/**
 * The call that something happens in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly tool: string
  readonly callId: string | undefined
  readonly context: unknown
}

/**
 * How tools answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Sees what happens while a tool runs. The script waits for what it returns. */
  readonly onProgress?: ((progress: SkillTools.Progress, call: Call) => void | Promise<void>) | undefined
  /**
   * Whether the model is shown the images of an answer: PNG, JPEG, GIF and WebP, at most 10 of at most 3.75 MB each. By default
   * it is; `false` for models that cannot see. Over Chat Completions the SDK leaves images of tools out.
   */
  readonly images?: boolean | undefined
  /**
   * Whether tools tell their output schemas, and answer with JSON of that instead of text. Only the Responses API knows them, for
   * programs of the model that call tools. By default not.
   */
  readonly outputSchemas?: boolean | undefined
  /**
   * Longest JSON of an answer with `outputSchemas`, in characters. For a longer one the model is given an `error`, and as `text`
   * what the tool answers without output schemas, which names the artifact that has the rest. By default 30,000; that of `connect` is for
   * both.
   */
  readonly maxOutput?: number | undefined
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
   * The tools, always current, named with `_` where the SDK takes no other character: the array itself follows the skills, also between the turns of one run. A copy, as `[...tools]`,
   * stays as it is.
   */
  readonly tools: Array<Tool>
  /** These tools and those of the skills in one array that follows the skills. Of two with one name this one is taken. */
  readonly withTools: (...tools: ReadonlyArray<Tool>) => Array<Tool>
  /**
   * Reads the files that a run made, given the item of its output (`newItems` of a result). What had to make room for later files is left out: 64 MiB and
   * 1,000 files are kept unless `artifacts` says otherwise.
   */
  readonly files: (item: object) => Promise<ReadonlyArray<Artifacts.Artifact>>
}

/** The SDK passes on any schema of an object; its types know few. */
interface PlainSchema extends SkillTools.ObjectSchema {
  readonly properties: Record<string, never>
  readonly required: Array<string>
  readonly additionalProperties: true
}

const customDataOf = ({ artifacts, structured }: Pick<SkillTools.Output, "artifacts" | "structured">): CustomData => ({
  ...structured === undefined ? {} : { structured },
  files: artifacts.map(({ id, mime, path, sha256, size }) => ({ id, path, mime, size, sha256 }))
})

/** What is kept of answers until the SDK asks for it, which it does at once, by run and by call. */
const makeAnswers = () => {
  const runs = new WeakMap<object, Map<string, CustomData>>()
  return {
    put: (run: object, callId: string, output: Parameters<typeof customDataOf>[0]) => {
      const calls = runs.get(run) ?? new Map<string, CustomData>()
      runs.set(run, calls.set(callId, customDataOf(output)))
    },
    take: (run: object, callId: string): Record<string, unknown> | undefined => {
      const answer = runs.get(run)?.get(callId)
      runs.get(run)?.delete(callId)
      return answer === undefined ? undefined : { ...answer }
    }
  }
}

type Answers = ReturnType<typeof makeAnswers>

const modelOutput = ({ artifacts, text }: SkillTools.Output, isSeeing: boolean) => {
  const images = isSeeing ? Images.images(artifacts) : []
  return images.length === 0 ? text : [
    { type: "text" as const, text },
    ...images.map(({ file, mime }) => ({
      type: "image" as const,
      image: { data: Images.base64(file.data), mediaType: mime }
    }))
  ]
}

const failureText = (error: unknown): string =>
  error instanceof ToolError ? error.text : error instanceof Error ? error.message : String(error)

/** What the output schema describes, where it is not too long for a model. */
const structuredOutput = ({ structured, text }: SkillTools.Output, maxOutput = 30_000): unknown => {
  const { length } = JSON.stringify(structured) ?? ""
  return length <= maxOutput
    ? structured
    : { error: `The answer has ${length} characters of JSON, more than the ${maxOutput} that are shown.`, text }
}

const toolOf = (skillTool: PromiseTools.Tool, written: string, answers: Answers, options: Options): Tool => {
  const { description, inputSchema, name } = skillTool
  const { images = true, onProgress } = options
  const call = async (
    input: unknown,
    context: RunContext<unknown> | undefined,
    { signal, toolCall }: { readonly signal?: AbortSignal; readonly toolCall?: { readonly callId: string } } = {}
  ) => {
    const where = { tool: name, callId: toolCall?.callId, context: context?.context }
    const keep = (output: Pick<SkillTools.Output, "artifacts" | "structured">) => {
      if (context !== undefined && toolCall !== undefined) answers.put(context, toolCall.callId, output)
    }
    try {
      const output = await skillTool.call(input, {
        signal,
        ...onProgress === undefined ? {} : { onProgress: (progress) => onProgress(progress, where) }
      })
      keep(output)
      return output
    } catch (error) {
      if (error instanceof ToolError && error.artifacts.length > 0) {
        keep({ artifacts: error.artifacts, structured: undefined })
      }
      throw error
    }
  }
  const common = { name: written, description, strict: false, parameters: inputSchema as PlainSchema } as const
  const customDataExtractor = ({ runContext, toolCall }: { runContext: object; toolCall: { callId: string } }) =>
    answers.take(runContext, toolCall.callId)
  return skillTool.outputSchema === undefined || options.outputSchemas !== true
    ? tool({
      ...common,
      execute: async (input: unknown, context, details) => modelOutput(await call(input, context, details), images),
      errorFunction: (_, error) => failureText(error),
      customDataExtractor
    })
    : tool({
      ...common,
      outputSchema: skillTool.outputSchema as PlainSchema,
      execute: async (input: unknown, context, details) =>
        structuredOutput(await call(input, context, details), options.maxOutput),
      errorFunction: (_, error) => ({ error: failureText(error) }),
      customDataExtractor
    })
}

const customFiles = (item: object): CustomData["files"] => {
  const data = "customData" in item ? item.customData : undefined
  return typeof data === "object" && data !== null && "files" in data ? (data as CustomData).files : []
}

/**
 * Makes the tools of a toolbox those of this framework. Closing them closes the toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox, options: Options = {}): Skills => {
  const answers = makeAnswers()
  const current = translated(toolbox, (tools) => {
    const names = plainNames(tools.map(({ name }) => name))
    return tools.map((skillTool) => toolOf(skillTool, names.get(skillTool.name) ?? skillTool.name, answers, options))
  })
  return {
    tools: liveArray(current),
    withTools: (...tools) => {
      const names = new Set(tools.map(({ name }) => name))
      return liveArray(translated(toolbox, () => [...tools, ...current().filter(({ name }) => !names.has(name))]))
    },
    files: async (item) => {
      const files = customFiles(item).map(async (file) => {
        const artifact = await toolbox.artifact(file.id)
        return artifact === undefined ? [] : [{ ...artifact, ...file }]
      })
      return (await Promise.all(files)).flat()
    },
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
