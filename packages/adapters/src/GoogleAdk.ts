/**
 * Skills as tools of agents of Google's Agent Development Kit.
 *
 * ```ts
 * import { LlmAgent } from "@google/adk"
 * import { connect } from "@skillscale/adapters/GoogleAdk"
 * await using skills = await connect()
 * const agent = new LlmAgent({ name: "helper", model: "…", tools: [skills.toolset], instruction: () => skills.prompt() })
 * ```
 *
 * The files that a run made are saved as artifacts of the session, where there is an artifact service; its progress comes as partial
 * events with `customMetadata.skill_progress`. A call that fails is an `error` in the response of its function. The signal of a
 * run ends the process on the server.
 *
 * Or ADK's own `SkillToolset` takes the skills from the servers, and runs their scripts there:
 *
 * ```ts
 * new SkillToolset([], { registry: skills.registry, codeExecutor: skills.codeExecutor })
 * ```
 *
 * @since 0.1.0
 */
import {
  BaseCodeExecutor,
  BaseTool,
  BaseToolset,
  type CodeExecutionResult,
  type ExecuteCodeParams,
  type RunAsyncToolRequest,
  type SkillRegistry
} from "@google/adk"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as AdkRegistry from "./internal/adkRegistry.ts"
import * as AdkScripts from "./internal/adkScripts.ts"
import * as AdkTool from "./internal/adkTool.ts"
import { type Connected, connected } from "./internal/connected.ts"

/**
 * What an application finds in `customMetadata.skill_progress` of a partial event.
 *
 * @category models
 * @since 0.1.0
 */
export interface SkillProgress {
  readonly tool: string
  readonly functionCallId: string | undefined
  readonly progress: SkillTools.Progress
}

/**
 * Skills for the Agent Development Kit.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skills extends Connected {
  /** The tools now. */
  readonly tools: Array<BaseTool>
  /** The tools as they are at each request to the model. Its `close`, which ADK calls after each run, does nothing. */
  readonly toolset: BaseToolset
  /** The catalog for ADK's `SkillToolset`: it is searched by words, and a skill is fetched with its files when the model asks for it. */
  readonly registry: SkillRegistry
  /**
   * Runs the scripts of skills of `registry` for ADK's `SkillToolset`, on their servers. It runs no other code: the scripts are found by
   * the name of the skill. Named arguments become `--name value`, as with ADK's own executor of local code.
   */
  readonly codeExecutor: BaseCodeExecutor
}

class SkillTool extends BaseTool {
  readonly tool: PromiseTools.Tool

  constructor(tool: PromiseTools.Tool) {
    super({ name: tool.name, description: tool.description })
    this.tool = tool
  }

  override _getDeclaration() {
    return AdkTool.declaration(this.tool)
  }

  override runAsync({ args, toolContext }: RunAsyncToolRequest): Promise<unknown> {
    return AdkTool.run(this.tool, args, toolContext)
  }
}

class FollowingToolset extends BaseToolset {
  readonly current: () => Array<BaseTool>

  constructor(current: () => Array<BaseTool>) {
    super([])
    this.current = current
  }

  override async getTools(): Promise<Array<BaseTool>> {
    return this.current()
  }

  override async close(): Promise<void> {}
}

class RemoteScripts extends BaseCodeExecutor {
  readonly toolbox: PromiseTools.Toolbox

  constructor(toolbox: PromiseTools.Toolbox) {
    super()
    this.toolbox = toolbox
  }

  override executeCode({ codeExecutionInput, invocationContext }: ExecuteCodeParams): Promise<CodeExecutionResult> {
    return AdkScripts.execute(this.toolbox, codeExecutionInput, invocationContext.abortSignal)
  }
}

/**
 * Makes tools of the Agent Development Kit of a toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox): Skills => {
  let source: ReadonlyArray<PromiseTools.Tool> = []
  let made: Array<BaseTool> = []
  const current = () => {
    const now = toolbox.tools()
    if (now !== source) {
      source = now
      made = now.map((tool) => new SkillTool(tool))
    }
    return made
  }
  return {
    get tools() {
      return current()
    },
    toolset: new FollowingToolset(current),
    registry: AdkRegistry.make(toolbox),
    codeExecutor: new RemoteScripts(toolbox),
    ...connected(toolbox)
  }
}

/**
 * Connects to the proxy and makes tools of the Agent Development Kit of its skills. Rejects when the proxy or the catalog cannot be
 * reached.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = async (
  options?: Parameters<typeof PromiseTools.connect>[0]
): Promise<Skills> => fromToolbox(await PromiseTools.connect(options))
