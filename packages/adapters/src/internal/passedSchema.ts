/** A JSON Schema for frameworks that take Standard Schema, which tells what it is and leaves it to the tool to look at values. */

/** As far as frameworks read it. */
export interface PassedSchema {
  readonly "~standard": {
    readonly version: 1
    readonly vendor: "skillscale"
    readonly validate: (value: unknown) => { readonly value: unknown }
    readonly jsonSchema: {
      readonly input: () => Record<string, unknown>
      readonly output: () => Record<string, unknown>
    }
  }
}

export const make = (schema: Readonly<Record<string, unknown>>): PassedSchema => ({
  "~standard": {
    version: 1,
    vendor: "skillscale",
    validate: (value) => ({ value }),
    jsonSchema: { input: () => ({ ...schema }), output: () => ({ ...schema }) }
  }
})
