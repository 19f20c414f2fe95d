/**
 * Skills for the tool runner of Anthropic's SDK (`@anthropic-ai/sdk`).
 *
 * ```ts
 * import Anthropic from "@anthropic-ai/sdk"
 * import { connect } from "@skillscale/adapters/Anthropic"
 *
 * await using skills = await connect()
 * const request = { model: "claude-opus-5", max_tokens: 4096, system: skills.prompt(), tools: skills.tools }
 * const answer = await new Anthropic().beta.messages.toolRunner({ ...request, messages: [{ role: "user", content: "…" }] })
 * ```
 *
 * A tool that fails answers with `is_error` and what the model should read. Aborting the runner's `signal` ends the process on
 * the server. The runner has no channel for the progress of tools or for files, so `onProgress`, `onOutput`
 * and `onError` are options.
 *
 * @since 0.1.0
 */
import type { BetaRunnableTool, BetaToolRunContext } from "@anthropic-ai/sdk/lib/tools/BetaRunnableTool"
import type { BetaToolRunner } from "@anthropic-ai/sdk/lib/tools/BetaToolRunner"
import { ToolError as RunnerError } from "@anthropic-ai/sdk/lib/tools/ToolError"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { ToolError } from "@skillscale/tools/ToolError"
import { type Connected, connected } from "./internal/connected.ts"
import * as Images from "./internal/images.ts"
import { translated } from "./internal/translated.ts"

/**
 * The call that something happens in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly tool: string
  /** The id of the model's `tool_use`. */
  readonly id: string | undefined
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
  /** Sees what a tool answered, with the files that a run made and what its output schema describes, before the model does. */
  readonly onOutput?: ((output: SkillTools.Output, call: Call) => void | Promise<void>) | undefined
  /** Sees why a tool failed, with the files that its run left, before the model does. */
  readonly onError?: ((error: ToolError, call: Call) => void | Promise<void>) | undefined
  /**
   * Whether the model is shown the images of an answer: PNG, JPEG, GIF and WebP, at most 10 of at most 3.75 MB each. By default
   * it is; `false` for models that cannot see.
   */
  readonly images?: boolean | undefined
}

/**
 * Where the proxy is, which skills and tools there are, and how they answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions extends PromiseTools.ConnectOptions, Options {}

/**
 * The skills for tool runners. Its functions need no `this`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skills extends Connected {
  /** The tools now. A runner keeps those that it began with, unless it is made to `follow`. */
  readonly tools: Array<BetaRunnableTool<unknown>>
  /**
   * Adds to a runner what is new from now on, and removes what is gone, until the returned value is disposed. The runner tells
   * its model with the next request, for which its `betas` have to have `inline-tools-2026-09-15`.
   */
  readonly follow: (runner: Pick<BetaToolRunner<boolean>, "addTools" | "removeTools">) => Disposable
}

const contentOf = ({ artifacts, text }: SkillTools.Output, isSeeing: boolean) => {
  const images = isSeeing ? Images.images(artifacts) : []
  return images.length === 0 ? text : [
    { type: "text" as const, text },
    ...images.map(({ file, mime }) => ({
      type: "image" as const,
      source: { type: "base64" as const, media_type: mime, data: Images.base64(file.data) }
    }))
  ]
}

const toolOf = (tool: PromiseTools.Tool, options: Options): BetaRunnableTool<unknown> => {
  const { description, inputSchema, name } = tool
  const { images = true, onError, onOutput, onProgress } = options
  return {
    type: "custom",
    name,
    description,
    input_schema: inputSchema,
    parse: (input) => input,
    run: async (input, context?: BetaToolRunContext) => {
      const where: Call = { tool: name, id: context?.toolUse.id }
      try {
        const output = await tool.call(input, {
          signal: context?.signal ?? undefined,
          ...onProgress === undefined ? {} : { onProgress: (progress) => onProgress(progress, where) }
        })
        await onOutput?.(output, where)
        return contentOf(output, images)
      } catch (error) {
        if (!(error instanceof ToolError)) throw error
        await onError?.(error, where)
        throw new RunnerError(error.text)
      }
    }
  }
}

/** What differs: of a skill that was edited the tool is another. */
const versions = (tools: ReadonlyArray<PromiseTools.Tool>): ReadonlyMap<string, string | undefined> =>
  new Map(tools.map(({ name, skill }) => [name, skill?.digest]))

/**
 * Makes the tools of a toolbox those of this framework. Closing them closes the toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox, options: Options = {}): Skills => {
  const current = translated(toolbox, (tools) => tools.map((tool) => toolOf(tool, options)))
  return {
    get tools() {
      return [...current()]
    },
    follow: (runner) => {
      let known = versions(toolbox.tools())
      const end = toolbox.onChange((tools) => {
        const before = known
        known = versions(tools)
        const gone = Array.from(before.keys()).filter((name) => !known.has(name))
        const fresh = current().filter((tool) =>
          "name" in tool && (!before.has(tool.name) || before.get(tool.name) !== known.get(tool.name))
        )
        runner.removeTools(...gone)
        runner.addTools(...fresh)
      })
      return { [Symbol.dispose]: end }
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
