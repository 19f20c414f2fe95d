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
      Effect.mapError(
        decode(input ?? {}, { onExcessProperty: "error" }),
        ({ message }) =>
          new ToolError.BadArguments({
            detail: `the arguments are not valid: ${message.replaceAll(/\s*\n\s*/g, " ").slice(0, maxDetail)}`
          })
      )
  }
}
