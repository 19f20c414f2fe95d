/** Schemas with references inside of those that frameworks tell: Mastra writes these anew for models of Gemini. */
import { assert, describe } from "@effect/vitest"
import { Agent } from "@mastra/core/agent"
import type { MastraModelConfig } from "@mastra/core/llm"
import { MastraLanguageModelV2Mock } from "@mastra/core/test-utils/llm-mock"
import * as AiSdk from "@skillscale/adapters/AiSdk"
import * as Mastra from "@skillscale/adapters/Mastra"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import { asSchema } from "ai"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, eventually, inWorld, type World } from "./frameworkSuite.ts"
import { items } from "./support/providers.ts"

const usage = { inputTokens: 1, outputTokens: 1, totalTokens: 2 }

const $defs = { tree: { type: "object", properties: { leaves: { type: "integer" } } } }

/** The tools, with one that takes and gives trees. */
const planting = async (world: World): Promise<Toolbox> => {
  addSkill(world.directory, "planting", "cat\n")
  const root = Path.join(world.directory, "testing", "planting")
  Fs.writeFileSync(
    Path.join(root, "SKILL.md"),
    "---\nname: planting\ndescription: Plants.\nmetadata:\n  skillscale.input: input.json\n  skillscale.output: output.json\n---\n"
  )
  const schema = { type: "array", items: { $ref: "#/$defs/tree" }, $defs }
  for (const file of ["input.json", "output.json"]) Fs.writeFileSync(Path.join(root, file), JSON.stringify(schema))
  const toolbox = await world.connect()
  await eventually(
    "the tool is there",
    () =>
      toolbox.tools().some(({ inputSchema, name, outputSchema }) =>
        name === "planting" && "$defs" in inputSchema && outputSchema !== undefined
      )
  )
  return toolbox
}

describe("a schema with references in the answer of a tool", () => {
  const isRight = (schema: unknown): void => {
    assert.deepNestedInclude(schema, {
      "properties.structured.properties.result.items": { $ref: "#/$defs/tree" },
      "$defs.tree.properties.leaves": { type: "integer" }
    })
    assert.notInclude(JSON.stringify(schema), "$id")
  }

  inWorld("means with Mastra and the AI SDK what it does for the skill", async (world) => {
    await using toolbox = await planting(world)
    isRight(
      Mastra.fromToolbox(toolbox).tools["planting"]?.outputSchema?.["~standard"].jsonSchema.output({
        target: "draft-2020-12"
      })
    )
    const { outputSchema } = AiSdk.fromToolbox(toolbox).tools["planting"] ?? {}
    isRight(await asSchema(outputSchema).jsonSchema)
  })
})

describe("a schema with references in Mastra", () => {
  inWorld("means for Gemini what it does for the skill", async (world) => {
    await using toolbox = await planting(world)
    const skills = Mastra.fromToolbox(toolbox)
    let told: unknown
    const model = new MastraLanguageModelV2Mock({
      provider: "google",
      modelId: "gemini-2.5-flash",
      doGenerate: async ({ tools }) => {
        told = tools
        return { content: [{ type: "text", text: "done" }], finishReason: "stop", usage, warnings: [] }
      }
    })
    // Its optional properties may be undefined, which the type of models does not foresee.
    await new Agent({
      id: "a",
      name: "A",
      instructions: "",
      model: model as unknown as MastraModelConfig,
      tools: skills.tools
    }).generate("go on")
    const schema = items(told).find(({ name }) => name === "planting")?.["inputSchema"]
    assert.deepNestedInclude(schema, {
      "properties.input.items": { type: "object", properties: { leaves: { type: "integer" } } }
    })
  })
})
