/**
 * Skills as tools of agents of Mastra.
 *
 * ```ts
 * import { Agent } from "@mastra/core/agent"
 * import { connect } from "@skillscale/adapters/Mastra"
 * await using skills = await connect()
 * const agent = new Agent({
 *   id: "helper", name: "Helper", model: "…", tools: () => skills.tools, instructions: () => skills.prompt()
 * })
 * const { text } = await agent.generate("…")
 * ```
 *
 * A tool's result has the files of the run with their bytes (`SkillOutput`); the model gets the text, and images as such. Its progress
 * comes through `context.writer`, as chunks `tool-output` of the stream. A call that fails is a tool error. The abort signal of an
 * agent, or of an MCP client, ends the process on the server.
 *
 * @since 0.1.0
 */
import type { ProcessInputStepArgs, ProcessInputStepResult, Processor } from "@mastra/core/processors"
import { createTool } from "@mastra/core/tools"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { type Connected, connected } from "./internal/connected.ts"
import * as MastraOutput from "./internal/mastraOutput.ts"
import * as ModelError from "./internal/modelError.ts"
import * as PassedSchema from "./internal/passedSchema.ts"

/**
 * What a tool returns.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillOutput extends MastraOutput.SkillOutput {}

/**
 * A file that a run made.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillFile extends MastraOutput.SkillFile {}

/**
 * What an application hears of a tool that runs: the `output` of a chunk `tool-output`.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillProgress {
  readonly type: "skill_progress"
  readonly tool: string
  readonly progress: SkillTools.Progress
}

/**
 * A tool of Mastra.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillTool = ReturnType<typeof make>

/**
 * Skills for Mastra.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skills extends Connected {
  /** The tools now by name. Given as a function, `tools: () => skills.tools`, an agent has those of when a run of it begins. */
  readonly tools: Record<string, SkillTool>
  /** Gives each step of a run the tools as they are then, besides those of the agent: for `inputProcessors`, instead of `tools`. */
  readonly processor: Processor<"skillscale"> & {
    readonly processInputStep: (args: ProcessInputStepArgs) => ProcessInputStepResult
  }
}

const make = (tool: PromiseTools.Tool) => {
  const { description, hints, inputSchema, name, title } = tool
  return createTool({
    id: name,
    title,
    description,
    inputSchema: PassedSchema.make(inputSchema),
    outputSchema: PassedSchema.make(MastraOutput.schemaOf(tool)),
    mcp: {
      annotations: {
        title,
        readOnlyHint: hints.readOnly,
        destructiveHint: hints.destructive,
        idempotentHint: hints.idempotent,
        openWorldHint: hints.openWorld
      }
    },
    toModelOutput: MastraOutput.forModel,
    execute: async (input, { abortSignal, mcp, writer }): Promise<SkillOutput> => {
      try {
        const output = await tool.call(input, {
          signal: abortSignal ?? mcp?.extra.signal,
          // Output that is passed on while it is produced costs more than all of it at the end.
          onProgress: writer === undefined
            ? undefined
            : (progress) => writer.write({ type: "skill_progress", tool: name, progress } satisfies SkillProgress)
        })
        return MastraOutput.outputOf(output)
      } catch (error) {
        throw ModelError.modelError(error)
      }
    }
  })
}

/**
 * Makes tools of Mastra of a toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox): Skills => {
  let source: ReadonlyArray<PromiseTools.Tool> = []
  let made: Record<string, SkillTool> = {}
  const current = () => {
    const now = toolbox.tools()
    if (now !== source) {
      source = now
      made = Object.fromEntries(now.map((tool) => [tool.name, make(tool)]))
    }
    return made
  }
  return {
    get tools() {
      return current()
    },
    processor: {
      id: "skillscale",
      processInputStep: ({ tools }) => ({ tools: { ...tools, ...current() } })
    },
    ...connected(toolbox)
  }
}

/**
 * Connects to the proxy and makes tools of Mastra of its skills. Rejects when the proxy or the catalog cannot be reached.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = async (
  options?: Parameters<typeof PromiseTools.connect>[0]
): Promise<Skills> => fromToolbox(await PromiseTools.connect(options))
