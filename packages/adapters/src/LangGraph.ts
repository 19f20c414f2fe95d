/**
 * Skills in graphs of LangGraph: as tools of the agents in a graph, as nodes, and as a graph that routes, invokes and formats.
 *
 * ```ts
 * import { connect } from "@skillscale/adapters/LangGraph"
 * await using skills = await connect()
 * const graph = skills.graph({ model })
 * const result = await graph.invoke({ messages: "…" })
 * ```
 *
 * The nodes read and write `messages` (`MessagesAnnotation`), so that they fit into other graphs: what a node of this module decided is
 * an `AIMessage` with tool calls, and what a skill answered a `ToolMessage`, with the files of the run in its `artifact`. Progress is
 * in the streams of modes `custom` and `tools`. A signal that ends the graph ends the process on the server.
 *
 * @since 0.1.0
 */
import type { BaseChatModel } from "@langchain/core/language_models/chat_models"
import { AIMessage, type BaseMessage, SystemMessage, ToolMessage } from "@langchain/core/messages"
import type { RunnableConfig } from "@langchain/core/runnables"
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph"
import { ToolNode } from "@langchain/langgraph/prebuilt"
import type * as CatalogPrompt from "@skillscale/tools/CatalogPrompt"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import { type Connected, connected } from "./internal/connected.ts"
import * as LangchainTools from "./internal/langchainTools.ts"
import * as MatchRoute from "./internal/matchRoute.ts"

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
 * The state that the nodes share.
 *
 * @category models
 * @since 0.1.0
 */
export interface State {
  readonly messages: Array<BaseMessage>
}

/**
 * A node: reads the messages and adds some.
 *
 * @category models
 * @since 0.1.0
 */
export type Node = (state: State, config?: RunnableConfig) => Promise<{ readonly messages: Array<BaseMessage> }>

/**
 * How a request finds its skill.
 *
 * @category models
 * @since 0.1.0
 */
export interface RouteOptions {
  /** Decides, with the tools as they are then. Without one, the last message is searched for in the catalog. */
  readonly model?: BaseChatModel | undefined
  /** How the skills are told to the model, or `false` for not at all. */
  readonly prompt?: CatalogPrompt.Options | false | undefined
  /** Without a model: how many times better than the second the best skill must fit to be taken. By default 1.5. */
  readonly margin?: number | undefined
  /**
   * Without a model: makes the arguments of the skill's tool of the text. By default the text is the skill's input, and read as JSON
   * where the skill says what it takes.
   */
  readonly arguments?: ((text: string, skill: SkillCatalog.Skill) => Readonly<Record<string, unknown>>) | undefined
}

/**
 * How answers of skills become one of the graph.
 *
 * @category models
 * @since 0.1.0
 */
export interface FormatOptions {
  /** Writes the answer. Without one, it is what the skills answered. */
  readonly model?: BaseChatModel | undefined
}

/**
 * The whole graph.
 *
 * @category models
 * @since 0.1.0
 */
export interface GraphOptions extends RouteOptions {
  /** How the graph is compiled: with a checkpointer, a store, a name. */
  readonly compile?: Parameters<StateGraph<typeof MessagesAnnotation>["compile"]>[0]
}

const build = (nodes: { readonly route: Node; readonly invoke: ToolNode; readonly format: Node }) =>
  new StateGraph(MessagesAnnotation)
    .addNode("route", nodes.route)
    .addNode("invoke", nodes.invoke)
    .addNode("format", nodes.format)
    .addEdge(START, "route")
    .addConditionalEdges("route", ({ messages }) => callsOf(messages).length > 0 ? "invoke" : END, ["invoke", END])
    .addEdge("invoke", "format")
    .addEdge("format", END)

/**
 * The graph that routes, invokes and formats.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillGraph = ReturnType<ReturnType<typeof build>["compile"]>

/**
 * Skills for LangGraph.
 *
 * @category models
 * @since 0.1.0
 */
export interface Skills extends Connected {
  /** The tools now, for `ToolNode`, `bindTools` and agents. A tool follows its skill. */
  readonly tools: Array<SkillTool>
  /** Makes a node that decides which skill to call: it adds an `AIMessage`, with tool calls if there is a skill for the request. */
  readonly route: (options?: RouteOptions) => Node
  /** Makes a node that runs the tool calls of the last `AIMessage`, with the tools as they are then. */
  readonly invoke: (options?: ConstructorParameters<typeof ToolNode>[1]) => ToolNode
  /** Makes a node that adds an `AIMessage` with the answer to what the last skills answered. */
  readonly format: (options?: FormatOptions) => Node
  /** Makes the graph: `route`, then, if there are tool calls, `invoke` and `format`. */
  readonly graph: (options?: GraphOptions) => SkillGraph
}

const callsOf = (messages: ReadonlyArray<BaseMessage>): NonNullable<AIMessage["tool_calls"]> => {
  const last = messages.at(-1)
  return last !== undefined && AIMessage.isInstance(last) ? last.tool_calls ?? [] : []
}

/** The answers after the last message that is none. */
const answersOf = (messages: ReadonlyArray<BaseMessage>): ReadonlyArray<ToolMessage> =>
  messages.slice(messages.findLastIndex((message) => !ToolMessage.isInstance(message)) + 1)
    .filter((message) => ToolMessage.isInstance(message))

const routeByModel = (
  model: BaseChatModel,
  toolbox: PromiseTools.Toolbox,
  tools: LangchainTools.Tools,
  prompt: RouteOptions["prompt"]
): Node => {
  if (model.bindTools === undefined) throw new Error(`the model ${model._llmType()} takes no tools`)
  const bind = model.bindTools.bind(model)
  let bound: { readonly tools: Array<SkillTool>; readonly model: ReturnType<typeof bind> } | undefined
  return async ({ messages }, config) => {
    const current = tools.current()
    if (bound?.tools !== current) bound = { tools: current, model: bind(current) }
    const told = prompt === false ? "" : toolbox.prompt(prompt)
    const asked = told === "" ? messages : [new SystemMessage(told), ...messages]
    return { messages: [await bound.model.invoke(asked, config)] }
  }
}

const formatted = ({ model }: FormatOptions): Node => async ({ messages }, config) => {
  if (model !== undefined) return { messages: [await model.invoke(messages, config)] }
  return { messages: [new AIMessage(answersOf(messages).map(({ text }) => text).join("\n\n"))] }
}

/** Knows the tools of now, where a `ToolNode` has those that it was made with. */
const followingNode = (
  tools: LangchainTools.Tools,
  options: ConstructorParameters<typeof ToolNode>[1]
): ToolNode => Object.defineProperty(new ToolNode([], options), "tools", { get: tools.current })

/**
 * Makes tools, nodes and graphs of LangGraph of a toolbox.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromToolbox = (toolbox: PromiseTools.Toolbox): Skills => {
  const tools = LangchainTools.follow(toolbox)
  const route = ({ model, prompt, ...options }: RouteOptions = {}): Node =>
    model === undefined ? MatchRoute.make(toolbox, options) : routeByModel(model, toolbox, tools, prompt)
  const invoke: Skills["invoke"] = (options) => followingNode(tools, options)
  const format: Skills["format"] = (options = {}) => formatted(options)
  return {
    get tools() {
      return tools.current()
    },
    route,
    invoke,
    format,
    graph: ({ compile, ...options } = {}) =>
      build({ route: route(options), invoke: invoke(), format: format({ model: options.model }) }).compile(compile),
    ...connected(toolbox)
  }
}

/**
 * Connects to the proxy and makes tools, nodes and graphs of LangGraph of its skills. Rejects when the proxy or the catalog cannot
 * be reached.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = async (
  options?: Parameters<typeof PromiseTools.connect>[0]
): Promise<Skills> => fromToolbox(await PromiseTools.connect(options))
