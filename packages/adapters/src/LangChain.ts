/**
 * Skills as tools of LangChain agents.
 *
 * ```ts
 * import { createAgent } from "langchain"
 * import { connect } from "@skillscale/adapters/LangChain"
 * await using skills = await connect()
 * const agent = createAgent({ model: "…", tools: skills.tools, systemPrompt: skills.prompt() })
 * const result = await agent.invoke({ messages: "…" })
 * ```
 *
 * The files that a run made are in the `artifact` of its `ToolMessage` (`SkillArtifact`); its progress is in the streams of
 * modes `custom` and `tools` (`SkillProgress`). A call that fails is a `ToolMessage` of status `error`. A signal that ends the agent
 * ends the process on the server.
 *
 * @since 0.1.0
 */
import { type BaseMessage, ToolMessage } from "@langchain/core/messages"
import type * as CatalogPrompt from "@skillscale/tools/CatalogPrompt"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import { type AgentMiddleware, createMiddleware } from "langchain"
import { type Connected, connected } from "./internal/connected.ts"
import * as Images from "./internal/images.ts"
import * as LangchainTools from "./internal/langchainTools.ts"

/**
 * A file that a run made.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillFile extends LangchainTools.SkillFile {}

/**
 * What an application finds in `ToolMessage.artifact`: the files of a run with their bytes, what the tool's `outputSchema`
 * describes, and why a call failed. All of it is plain JSON, so that it goes through checkpoints.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillArtifact extends LangchainTools.SkillArtifact {}

/**
 * What an application hears of a tool that runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillProgress extends LangchainTools.SkillProgress {}

/**
 * A tool of LangChain.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillTool = LangchainTools.SkillTool

/**
 * What the middleware does.
 *
 * @category models
 * @since 0.1.0
 */
export interface MiddlewareOptions {
  /** How the skills are told to the model at the end of the system prompt, or `false` for not at all. */
  readonly prompt?: CatalogPrompt.Options | false | undefined
}

/**
 * Skills for LangChain.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skills extends Connected {
  /** The tools now. A tool follows its skill; which tools an agent has does not: that is what `middleware` is for. */
  readonly tools: Array<SkillTool>
  /**
   * Makes a middleware that gives an agent the tools and the prompt, instead of `tools` and `systemPrompt`, as they are at
   * each call of the model. It shows images that skills made to models whose profile says that they see those of tools.
   */
  readonly middleware: (options?: MiddlewareOptions) => AgentMiddleware
}

const withImages = (message: BaseMessage, isOurs: (name: string) => boolean): BaseMessage => {
  if (!ToolMessage.isInstance(message) || typeof message.content !== "string" || !isOurs(message.name ?? "")) {
    return message
  }
  const { files = [] }: Partial<LangchainTools.SkillArtifact> = message.artifact ?? {}
  // Their beginning tells whether they are images.
  const images = Images.images(
    files.map((file) => ({ ...file, data: Buffer.from(file.base64.slice(0, 64), "base64") }))
  )
  if (images.length === 0) return message
  return new ToolMessage({
    ...message,
    content: [
      { type: "text", text: message.content },
      ...images.map(({ file, mime }) => ({ type: "image", mimeType: mime, data: file.base64 }))
    ]
  })
}

const seesImages = (model: object): boolean => {
  const profile = "profile" in model ? model.profile : undefined
  return typeof profile === "object" && profile !== null && "imageToolMessage" in profile &&
    profile.imageToolMessage === true
}

const middlewareOf = (
  toolbox: PromiseTools.Toolbox,
  tools: LangchainTools.Tools,
  { prompt }: MiddlewareOptions
): AgentMiddleware =>
  createMiddleware({
    name: "Skills",
    wrapModelCall: (request, handler) => {
      const current = tools.current()
      const names = new Set(current.map(({ name }) => name))
      const given = request.tools.filter((tool) => !tools.has(tool) || names.has(String(tool["name"])))
      const known = new Set(given.map((tool) => tool["name"]))
      const told = prompt === false ? "" : toolbox.prompt(prompt)
      return handler({
        ...request,
        tools: [...given, ...current.filter(({ name }) => !known.has(name))],
        ...told === "" ? {} : { systemMessage: request.systemMessage.concat(told) },
        ...seesImages(request.model)
          ? { messages: request.messages.map((message) => withImages(message, (name) => names.has(name))) }
          : {}
      })
    },
    wrapToolCall: (request, handler) => {
      if (request.tool !== undefined) return handler(request)
      const tool = tools.current().find(({ name }) => name === request.toolCall.name)
      return handler({ ...request, tool })
    }
  })

/**
 * Makes tools of LangChain of a toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox): Skills => {
  const tools = LangchainTools.follow(toolbox)
  return {
    get tools() {
      return tools.current()
    },
    middleware: (options = {}) => middlewareOf(toolbox, tools, options),
    ...connected(toolbox)
  }
}

/**
 * Connects to the proxy and makes tools of LangChain of its skills. Rejects when the proxy or the catalog cannot be reached.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = async (
  options?: Parameters<typeof PromiseTools.connect>[0]
): Promise<Skills> => fromToolbox(await PromiseTools.connect(options))
