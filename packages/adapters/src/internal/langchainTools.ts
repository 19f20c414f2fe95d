/** Tools of `@langchain/core`, as LangChain and LangGraph both take them. */
import type { CallbackManagerForToolRun } from "@langchain/core/callbacks/manager"
import { ToolMessage } from "@langchain/core/messages"
import { DynamicStructuredTool, type ToolSchemaBase } from "@langchain/core/tools"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type { Tool, Toolbox } from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as ToolError from "@skillscale/tools/ToolError"
import * as Images from "./images.ts"
import * as ModelError from "./modelError.ts"

/** A file that a run made. */
export interface SkillFile extends Omit<Artifacts.Artifact, "data"> {
  readonly base64: string
}

/** Why a call failed. */
export interface SkillFailure {
  /** As in `ToolError`: `SkillFailed`, `Timeout`, … */
  readonly reason: ToolError.Reason["_tag"]
  readonly message: string
  readonly isRetryable: boolean
  readonly exitCode: number | undefined
}

/** What the application finds in `ToolMessage.artifact`. Plain JSON: it goes through checkpoints. */
export interface SkillArtifact {
  readonly structured: unknown
  readonly files: ReadonlyArray<SkillFile>
  readonly error: SkillFailure | undefined
}

/** What the application hears while a tool runs. */
export interface SkillProgress {
  readonly type: "skill_progress"
  readonly tool: string
  readonly toolCallId: string | undefined
  readonly progress: SkillTools.Progress
}

/**
 * Tells the model of the skill's schema, and leaves it to the tool to look at what comes. LangChain would read the schema as of
 * an older draft, and tell the model where its own sources failed.
 */
export class SkillTool extends DynamicStructuredTool<ToolSchemaBase> {
  override call(...args: Parameters<DynamicStructuredTool["call"]>): ReturnType<DynamicStructuredTool["call"]> {
    return super.call.apply(Object.create(this, { schema: { value: true } }), args)
  }
}

/** What LangGraph adds to the configuration of a tool. */
interface Runtime {
  readonly signal?: AbortSignal | undefined
  readonly toolCall?: { readonly id?: string | undefined } | undefined
  readonly writer?: ((chunk: unknown) => void) | null | undefined
}

const fileOf = ({ data, ...file }: Artifacts.Artifact): SkillFile => ({ ...file, base64: Images.base64(data) })

const failureOf = ({ isRetryable, message, reason }: ToolError.ToolError): SkillFailure => ({
  reason: reason._tag,
  message,
  isRetryable,
  exitCode: "exitCode" in reason ? reason.exitCode : undefined
})

/** Output that is passed on while it is produced costs more than all of it at the end. */
const isHeard = (manager: CallbackManagerForToolRun | undefined, { writer }: Runtime): boolean =>
  typeof writer === "function" ||
  manager?.handlers.some(({ handleToolEvent }) => handleToolEvent !== undefined) === true

const make = (toolbox: Toolbox, { description, hints, inputSchema, name, outputSchema, title }: Tool): SkillTool =>
  new SkillTool({
    name,
    description,
    schema: inputSchema,
    responseFormat: "content_and_artifact",
    metadata: { title, hints, outputSchema },
    func: async (input, manager, config: Runtime = {}) => {
      const toolCallId = config.toolCall?.id
      try {
        const { artifacts, structured, text } = await toolbox.call(name, input, {
          signal: config.signal,
          onProgress: !isHeard(manager, config) ? undefined : async (progress) => {
            const event: SkillProgress = { type: "skill_progress", tool: name, toolCallId, progress }
            config.writer?.(event)
            await manager?.handleToolEvent(event)
          }
        })
        const artifact: SkillArtifact = { structured, files: artifacts.map(fileOf), error: undefined }
        return [text, artifact]
      } catch (error) {
        if (!(error instanceof ToolError.ToolError) || toolCallId === undefined) throw ModelError.modelError(error)
        const artifact: SkillArtifact = {
          structured: undefined,
          files: error.artifacts.map(fileOf),
          error: failureOf(error)
        }
        // Thrown, it would end agents whose middleware wraps their tools, and reach the model with advice added.
        const message = new ToolMessage({
          status: "error",
          name,
          tool_call_id: toolCallId,
          content: error.text,
          artifact
        })
        return [message, undefined]
      }
    }
  })

export interface Tools {
  /** The tools now, the same array until the skills differ. */
  readonly current: () => Array<SkillTool>
  /** Whether this is, or was, a tool of the toolbox. */
  readonly has: (tool: unknown) => boolean
}

/** Makes the tools, each once: it follows its skill, since agents that run know tools by what they are, not by their names. */
export const follow = (toolbox: Toolbox): Tools => {
  const made = new WeakSet()
  let source: ReadonlyArray<Tool> = []
  let byName = new Map<string, SkillTool>()
  let current: Array<SkillTool> = []
  const renew = (tool: Tool): SkillTool => {
    const before = byName.get(tool.name)
    if (before === undefined) {
      const first = make(toolbox, tool)
      made.add(first)
      return first
    }
    before.description = tool.description
    before.schema = tool.inputSchema
    before.metadata = { title: tool.title, hints: tool.hints, outputSchema: tool.outputSchema }
    return before
  }
  return {
    current: () => {
      const now = toolbox.tools()
      if (now !== source) {
        source = now
        current = now.map(renew)
        byName = new Map(current.map((tool) => [tool.name, tool]))
      }
      return current
    },
    has: (tool) => typeof tool === "object" && tool !== null && made.has(tool)
  }
}
