/** Skills in LangGraph: as tools of an agent in a graph, and in the graph that routes, invokes and formats. */
import { assert, describe } from "@effect/vitest"
import { AIMessage, type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages"
import { END, MemorySaver, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph"
import { createReactAgent, ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt"
import { fromToolbox, type SkillArtifact, type Skills } from "@skillscale/adapters/LangGraph"
import { addSkill, type Ask, type Conversation, type Driver, eventually, inWorld, suite } from "./frameworkSuite.ts"
import { runExample } from "./support/examples.ts"
import { ScriptedModel, told } from "./support/langchainModel.ts"
import { chatCompletions } from "./support/chatCompletions.ts"
import { serve } from "./support/providers.ts"

interface Graph {
  readonly stream: (
    input: { readonly messages: Array<BaseMessage> },
    options: { readonly streamMode: ["values", "custom"]; readonly signal?: AbortSignal }
  ) => Promise<AsyncIterable<[string, unknown]>>
}

const isState = (chunk: unknown): chunk is { readonly messages: ReadonlyArray<BaseMessage> } =>
  typeof chunk === "object" && chunk !== null && "messages" in chunk

const run = async (graph: Graph, model: ScriptedModel, signal: AbortSignal | undefined): Promise<Conversation> => {
  const progress: Array<string> = []
  let messages: ReadonlyArray<BaseMessage> = []
  const stream = await graph.stream(
    { messages: [new HumanMessage("go on")] },
    { streamMode: ["values", "custom"], ...signal === undefined ? {} : { signal } }
  )
  for await (const [mode, chunk] of stream) {
    if (mode === "custom") progress.push(JSON.stringify(chunk))
    else if (isState(chunk)) messages = chunk.messages
  }
  return told(model, messages, progress)
}

const agents = (make: (skills: Skills, model: ScriptedModel) => unknown): Driver => ({
  converse: (toolbox, asks, { signal }) => {
    const model = new ScriptedModel(asks)
    return run(make(fromToolbox(toolbox), model) as Graph, model, signal)
  }
})

suite(
  "LangGraph, with prebuilt tools",
  agents((skills, model) => createReactAgent({ llm: model, tools: new ToolNode(skills.tools) }))
)

suite(
  "LangGraph, with nodes",
  agents((skills, model) =>
    new StateGraph(MessagesAnnotation)
      .addNode("agent", skills.route({ model }))
      .addNode("tools", skills.invoke())
      .addEdge(START, "agent")
      .addConditionalEdges("agent", toolsCondition, ["tools", END])
      .addEdge("tools", "agent")
      .compile()
  )
)

suite("LangGraph, with the graph", {
  converse: async (toolbox, asks, { signal }) => {
    const skills = fromToolbox(toolbox)
    const conversations: Array<Conversation> = []
    for (const ask of asks) {
      const model = new ScriptedModel([ask])
      // Its type says which modes it streams by overloads that no structure of one fits.
      conversations.push(await run(skills.graph({ model }) as unknown as Graph, model, signal))
    }
    return {
      given: conversations.flatMap(({ given }) => given),
      offered: conversations.at(-1)?.offered ?? [],
      files: conversations.flatMap(({ files }) => files),
      progress: conversations.flatMap(({ progress }) => progress ?? [])
    }
  }
})

const answer = async (skills: Skills, text: string, options?: Parameters<Skills["graph"]>[0]) =>
  (await skills.graph(options).invoke({ messages: [new HumanMessage(text)] })).messages

describe("skills in LangGraph", () => {
  inWorld("routes by match without a model", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const messages = await answer(skills, "please shout")
    assert.deepStrictEqual(messages.map((message) => message.getType()), ["human", "ai", "tool", "ai"])
    assert.strictEqual(messages.at(-1)?.text, "PLEASE SHOUT")
    const whispered = await answer(skills, "shout", { arguments: (text) => ({ input: `not ${text}` }) })
    assert.strictEqual(whispered.at(-1)?.text, "NOT SHOUT")
    const failed = await answer(skills, "failing")
    assert.include(failed.at(-1)?.text, "the disk is on fire")
  })

  inWorld("routes by match to skills that have no tools of their own", async (world) => {
    await using toolbox = await world.connect({ maxSkillTools: false })
    const skills = fromToolbox(toolbox)
    assert.strictEqual((await answer(skills, "please shout")).at(-1)?.text, "PLEASE SHOUT")
    const whispered = await answer(skills, "shout", {
      arguments: (text) => ({ input: `not ${text}`, args: ["-d", "O"] })
    })
    assert.strictEqual(whispered.at(-1)?.text, "NOT SHOUT")
    const [, called] = whispered
    assert.deepStrictEqual(called !== undefined && AIMessage.isInstance(called) ? called.tool_calls?.[0]?.args : {}, {
      skill: "shout",
      topic: "TOPIC_TESTING",
      stdin: "not shout",
      args: ["-d", "O"]
    })
    const added = await answer(skills, "adding", { arguments: () => ({ a: 1, b: 2 }) })
    assert.include(added.at(-1)?.text, "{\"sum\": 3}")
  })

  inWorld("routes by match to the skill that was found, on its topic", async (world) => {
    await using toolbox = await world.connect({ maxSkillTools: false })
    const [found] = await toolbox.search("shout")
    if (found === undefined) throw new Error("there is no shout")
    const other = { ...found.skill, topic: "TOPIC_OTHER" }
    const skills = fromToolbox({ ...toolbox, search: async () => [{ skill: other, score: 1 }] })
    const { messages } = await skills.route()({ messages: [new HumanMessage("shout")] })
    assert.deepInclude(AIMessage.isInstance(messages[0]) ? messages[0].tool_calls?.[0]?.args : {}, {
      topic: "TOPIC_OTHER"
    })
    const guide = { ...other, entry: null, scripts: [] }
    const reading = fromToolbox({ ...toolbox, search: async () => [{ skill: guide, score: 1 }] })
    const read = (await reading.route()({ messages: [new HumanMessage("shout")] })).messages[0]
    const call = AIMessage.isInstance(read) ? read.tool_calls?.[0] : undefined
    assert.deepStrictEqual([call?.name, call?.args], ["load_skill", { skill: "shout", topic: "TOPIC_OTHER" }])
  })

  inWorld("calls nothing where no skill clearly fits, and says which come near", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const near = await answer(skills, "shout drawing talking failing")
    assert.deepStrictEqual(near.map((message) => message.getType()), ["human", "ai"])
    assert.match(near.at(-1)?.text ?? "", /^No skill clearly fits[^]*\n- (shout|drawing|talking|failing): /)
    const none = await answer(skills, "xyzzy")
    assert.strictEqual(none.at(-1)?.text, "No skill fits this request.")
    const anyway = await answer(skills, "shout drawing talking failing", { margin: 1 })
    assert.strictEqual(anyway.length, 4)
  })

  inWorld("runs a graph as long as the model has no need of a skill, and keeps its state", async (world) => {
    await using toolbox = await world.connect()
    const graph = fromToolbox(toolbox).graph({
      model: new ScriptedModel([]),
      compile: { checkpointer: new MemorySaver() }
    })
    const config = { configurable: { thread_id: "one" } }
    const first = await graph.invoke({ messages: [new HumanMessage("hello")] }, config)
    assert.deepStrictEqual(first.messages.map(({ text }) => text), ["hello", "done"])
    const second = await graph.invoke({ messages: [new HumanMessage("again")] }, config)
    assert.strictEqual(second.messages.length, 4)
  })

  inWorld("follows the catalog with an agent that was made before", async (world) => {
    await using toolbox = await world.connect()
    const skills = fromToolbox(toolbox)
    const newcomer: Ask = { tool: "newcomer", input: {} }
    const model = new ScriptedModel([
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "newcomer"))
        return newcomer
      },
      newcomer
    ])
    const agent = createReactAgent({ llm: () => model.bindTools(skills.tools), tools: skills.invoke() })
    const { messages } = await agent.invoke({ messages: [new HumanMessage("go on")] })
    assert.notInclude([...model.offered[0] ?? []], "newcomer")
    assert.include([...model.offered[1] ?? []], "newcomer")
    assert.deepStrictEqual(
      messages.filter((message) => ToolMessage.isInstance(message)).map(({ text }) => text),
      ["I am new", "I am new"]
    )
  })

  inWorld("keeps the files of a run over a checkpoint", async (world) => {
    await using toolbox = await world.connect()
    const graph = fromToolbox(toolbox).graph({ compile: { checkpointer: new MemorySaver() } })
    const config = { configurable: { thread_id: "one" } }
    await graph.invoke({ messages: [new HumanMessage("drawing")] }, config)
    const { values } = await graph.getState(config)
    const [, , tool, last] = (values as { readonly messages: ReadonlyArray<BaseMessage> }).messages
    assert.isTrue(last !== undefined && AIMessage.isInstance(last))
    const artifact: SkillArtifact = tool !== undefined && ToolMessage.isInstance(tool) ? tool.artifact : undefined
    const table = artifact.files.find(({ path }) => path === "out/table.csv")
    assert.strictEqual(Buffer.from(table?.base64 ?? "", "base64").toString(), "a,b\n1,2\n")
  })

  inWorld("is what the example shows", async (world) => {
    await using provider = await serve(chatCompletions, [{ tool: "shout", input: { input: "hello" } }])
    const env = { OPENAI_BASE_URL: `${provider.url}/v1`, OPENAI_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("langgraph", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })

  inWorld("is what the example shows without a model", async (world) => {
    const { code, stderr, stdout } = await runExample("langgraph", world, {}, ["please shout"])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "PLEASE SHOUT\n", stderr: "" })
  })
})
