/** What an external server tells of one of its tools, as far as it can be used. */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const Annotations = Schema.Struct({
  title: Schema.optionalKey(Schema.String),
  readOnlyHint: Schema.optionalKey(Schema.Boolean),
  destructiveHint: Schema.optionalKey(Schema.Boolean),
  idempotentHint: Schema.optionalKey(Schema.Boolean),
  openWorldHint: Schema.optionalKey(Schema.Boolean)
})

/** The fields of a tool that decide what a call of it is. What else a server tells, such as icons, is left out. */
const Tool = Schema.Struct({
  name: Schema.NonEmptyString,
  title: Schema.optionalKey(Schema.String),
  description: Schema.optionalKey(Schema.String),
  inputSchema: Schema.optionalKey(Schema.JsonObject),
  outputSchema: Schema.optionalKey(Schema.JsonObject),
  annotations: Schema.optionalKey(Annotations)
})

export type Tool = typeof Tool.Type

/** One page of `tools/list`. A tool that cannot be read is no reason to do without the others. */
export const Page = Schema.Struct({
  tools: Schema.Array(Schema.Unknown),
  nextCursor: Schema.optionalKey(Schema.String)
})

/** The largest definition of a tool, in bytes of JSON. */
export const maxBytes = 256 * 1024

/**
 * Whether the tool is a skill, as `skillscale mcp` lists them. A stack that took its own skills for tools would name them anew each
 * time, without end.
 */
export const isSkill = (value: unknown): boolean => {
  const { _meta: meta } = Object(value) as { readonly _meta?: unknown }
  return typeof (Object(meta) as Readonly<Record<string, unknown>>)["skillscale/skill"] === "string"
}

const decode = Schema.decodeUnknownOption(Tool)

/** With the keys of all objects in order, so that the same definition is always the same text. */
export const ordered = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).sort(([one], [other]) => one < other ? -1 : 1).map(([key, inner]) => [key, ordered(inner)])
  )
}

/** Reads a tool, or tells why it cannot be called. */
export const read = (value: unknown): Tool | string => {
  const tool = Option.getOrUndefined(decode(value))
  if (tool === undefined) return "its definition cannot be read"
  try {
    return Buffer.byteLength(JSON.stringify(tool)) <= maxBytes
      ? tool
      : `its definition is larger than ${maxBytes} bytes`
  } catch {
    return "its definition is nested too deeply"
  }
}

/** The definition as text, which is the same for the same definition. */
export const toText = (tool: Tool): string => `${JSON.stringify(ordered(tool), null, 2)}\n`
