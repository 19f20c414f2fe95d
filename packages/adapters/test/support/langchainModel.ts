/** A chat model of LangChain that says what the test tells it. */
import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager"
import { BaseChatModel, type BindToolsInput } from "@langchain/core/language_models/chat_models"
import { AIMessage, type BaseMessage, ToolMessage } from "@langchain/core/messages"
import type { ChatResult } from "@langchain/core/outputs"
import type { SkillArtifact } from "@skillscale/adapters/LangChain"
import type { Ask, Conversation } from "../frameworkSuite.ts"

export class ScriptedModel extends BaseChatModel {
  readonly asks: ReadonlyArray<Ask | (() => Promise<Ask>)>
  /** The messages of each call. */
  readonly calls: Array<ReadonlyArray<BaseMessage>> = []
  /** The names of the tools with each call. */
  readonly offered: Array<ReadonlyArray<string>> = []
  seesImages = false

  constructor(asks: ReadonlyArray<Ask | (() => Promise<Ask>)>) {
    super({})
    this.asks = asks
  }

  override get profile() {
    return { imageToolMessage: this.seesImages }
  }

  override _llmType() {
    return "scripted"
  }

  override bindTools(tools: Array<BindToolsInput>) {
    return this.withConfig({ tools } as Record<string, unknown>)
  }

  override async _generate(
    messages: Array<BaseMessage>,
    options: this["ParsedCallOptions"],
    _manager?: CallbackManagerForLLMRun
  ): Promise<ChatResult> {
    const tools = "tools" in options && Array.isArray(options.tools) ? options.tools : []
    this.offered.push(tools.map(({ name }: { readonly name: string }) => name))
    this.calls.push(messages)
    const turn = this.calls.length - 1
    const next = this.asks[turn]
    if (next === undefined) return { generations: [{ text: "done", message: new AIMessage("done") }] }
    const { input, tool } = typeof next === "function" ? await next() : next
    const message = new AIMessage({
      content: "",
      tool_calls: [{ type: "tool_call", id: `call_${turn}`, name: tool, args: { ...input } }]
    })
    return { generations: [{ text: "", message }] }
  }
}

const files = (message: ToolMessage): Conversation["files"] => {
  const { files }: SkillArtifact = message.artifact
  return files.map(({ base64, path }) => ({ path, data: Buffer.from(base64, "base64") }))
}

/** What a conversation came to, as LangChain's messages tell it. */
export const told = (
  model: ScriptedModel,
  messages: ReadonlyArray<BaseMessage>,
  progress: Conversation["progress"]
): Conversation => {
  const answers = messages.filter((message) => ToolMessage.isInstance(message))
  return {
    given: answers.map((message) => ({ text: message.text, isError: message.status === "error" })),
    offered: model.offered[model.asks.length - 1] ?? [],
    files: answers.flatMap(files),
    progress
  }
}
