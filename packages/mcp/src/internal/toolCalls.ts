/** `tools/list` and `tools/call`. */
import type { CallToolResult, LoggingLevel, McpServer, ServerContext, Tool } from "@modelcontextprotocol/server"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import type * as ToolError from "@skillscale/tools/ToolError"
import * as Effect from "effect/Effect"
import * as Content from "./content.ts"
import * as Notes from "./notes.ts"
import * as Served from "./served.ts"
import * as SkillUris from "./skillUris.ts"

export const toolOf = (
  { description, hints, inputSchema, name, outputSchema, skill, title }: SkillTools.Tool
): Tool => ({
  name,
  title,
  description,
  inputSchema,
  ...outputSchema === undefined ? {} : { outputSchema },
  annotations: {
    title,
    readOnlyHint: hints.readOnly,
    destructiveHint: hints.destructive,
    idempotentHint: hints.idempotent,
    openWorldHint: hints.openWorld
  },
  ...skill === undefined ? {} : {
    _meta: {
      "skillscale/skill": SkillUris.ofFile(skill, SkillUris.document),
      "skillscale/digest": skill.digest
    }
  }
})

/** Tools that are not of one skill come first, in their own order. */
const keysOf = (tools: ReadonlyArray<SkillTools.Tool>): ReadonlyMap<SkillTools.Tool, string> =>
  new Map(tools.map((tool, index) =>
    [
      tool,
      tool.skill === undefined ? `0${String(index).padStart(6, "0")}` : `1${Served.keyOf(tool.skill)}`
    ] as const
  ))

const failed = (bounds: Content.Bounds) =>
(
  { artifacts, reason, text, tool }: ToolError.ToolError
): Effect.Effect<CallToolResult, ReturnType<typeof Served.invalid>> =>
  reason._tag === "ToolNotFound"
    ? Effect.fail(Served.invalid(`tool ${JSON.stringify(tool.slice(0, 200))}: ${reason.message}`))
    : Effect.succeed({ isError: true, content: Content.contentOf({ artifacts, text }, bounds) })

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const resultOf = (output: SkillTools.Output, bounds: Content.Bounds): CallToolResult => ({
  content: Content.contentOf(output, bounds),
  ...isObject(output.structured) ? { structuredContent: output.structured } : {}
})

export const register = (
  { server }: McpServer,
  served: Served.Served,
  level: () => LoggingLevel | undefined
): void => {
  const { content, pageSize, run, tools } = served
  server.setRequestHandler("tools/list", ({ params }, context) =>
    run(
      Effect.gen(function*() {
        const all = yield* tools.tools
        const keys = keysOf(all)
        const { items, next } = yield* Served.page(all, params?.cursor, pageSize, (tool) => keys.get(tool) ?? "")
        return { tools: items.map(toolOf), ...next }
      }),
      context
    ))
  server.setRequestHandler(
    "tools/call",
    ({ params: { arguments: input, name } }, context: ServerContext) =>
      run(
        tools.call(name, input, Notes.of(context, name, level())).pipe(
          Effect.map((output) => resultOf(output, content)),
          Effect.catch(failed(content))
        ),
        context
      )
  )
}
