/** Arguments as a model gives them: their JSON Schema, and the function that reads them. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as SkillTools from "../SkillTools.ts"
import * as ToolError from "../ToolError.ts"

export interface JsonInput<A> {
  readonly schema: SkillTools.ObjectSchema
  readonly read: (input: unknown) => Effect.Effect<A, ToolError.BadArguments>
}

const maxDetail = 1000

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * What was said: without keys that are `undefined`, and without those that need not be there and are `null`. Frameworks tell some
 * models that every key is required and nullable, and hand on what these write where they have nothing to say. Goes no deeper
 * than the schema.
 */
const said = (input: unknown, schema: unknown): unknown => {
  if (!isRecord(schema)) return input
  if (Array.isArray(input)) return "items" in schema ? input.map((item) => said(item, schema["items"])) : input
  const { properties, required } = schema
  if (!isRecord(properties) || !isRecord(input)) return input
  const isRequired = (key: string) => Array.isArray(required) && required.includes(key)
  return Object.fromEntries(
    Object.entries(input)
      .filter(([key, value]) =>
        value !== undefined && (value !== null || !Object.hasOwn(properties, key) || isRequired(key))
      )
      .map(([key, value]) => [key, Object.hasOwn(properties, key) ? said(value, properties[key]) : value])
  )
}

/** That a getter, a proxy or a `toJSON` of the caller throws is no defect of a tool. */
export const notJson = (thrown: unknown): ToolError.BadArguments =>
  new ToolError.BadArguments({
    detail: `the arguments are not JSON: ${
      (thrown instanceof Error ? thrown.message : "they cannot be read").slice(0, maxDetail)
    }`
  })

export const make = <A>(schema: Schema.Codec<A, unknown>): JsonInput<A> => {
  const { definitions, schema: document } = Schema.toJsonSchemaDocument(schema, { onExcessProperty: "error" })
  // That of no fields at all is written as what is not null, which the APIs of models refuse.
  const written = "properties" in document ? document : { properties: {}, additionalProperties: false }
  const decode = Schema.decodeUnknownEffect(schema)
  return {
    schema: {
      ...written,
      type: "object",
      ...Object.keys(definitions).length === 0 ? {} : { $defs: definitions }
    },
    // Some models send nothing where there is nothing to say.
    read: (input) =>
      Effect.suspend(() => decode(said(input ?? {}, written), { onExcessProperty: "error" })).pipe(
        Effect.mapError(({ message }) =>
          new ToolError.BadArguments({
            detail: `the arguments are not valid: ${message.replaceAll(/\s*\n\s*/g, " ").slice(0, maxDetail)}`
          })
        ),
        Effect.catchDefect((thrown) => Effect.fail(notJson(thrown)))
      )
  }
}
