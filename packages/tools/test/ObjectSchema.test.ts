import * as JsonSchema from "@skillscale/core/JsonSchema"
import * as ObjectSchema from "@skillscale/tools/ObjectSchema"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"

const around = { type: "object", required: ["input"], additionalProperties: false } as const

const wrapped = (schema: Schema.JsonObject, key = "input"): Schema.JsonObject =>
  // As others read it.
  JSON.parse(JSON.stringify(ObjectSchema.withProperty(around, key, schema)))

const fits = (schema: Schema.JsonObject, data: unknown): boolean =>
  Result.getOrThrow(JsonSchema.compile(schema)).check(Buffer.from(JSON.stringify(data)), 5000)._tag === "Fits"

const list = { type: "object", properties: { v: { type: "integer" }, next: { $ref: "#" } }, required: ["v"] } as const

/** What fits, and what does not, with schemas whose references could come to mean something else. */
const cases: Readonly<Record<string, readonly [Schema.JsonObject, ReadonlyArray<unknown>, ReadonlyArray<unknown>]>> = {
  "definitions": [
    { anyOf: [{ $ref: "#/$defs/a" }, { $ref: "#/$defs/b~1c%20d" }], $defs: { a: list, "b/c d": { type: "string" } } },
    ["x"],
    [{ v: "x" }, 1]
  ],
  "the root": [list, [{ v: 1, next: { v: 2 } }], [{ v: 1, next: { v: "2" } }, { input: { v: 1 } }]],
  "a name": [
    { items: { $ref: "#word" }, type: "array", $defs: { a: { $anchor: "word", type: "string" } } },
    [["a"]],
    [[1]]
  ],
  "a name of draft 07": [
    {
      $schema: "http://json-schema.org/draft-07/schema#",
      items: { $ref: "#word" },
      type: "array",
      definitions: { a: { $id: "#word", type: "string" } }
    },
    [["a"]],
    [[1]]
  ],
  "the root as draft 2019-09 has it": [
    {
      $schema: "https://json-schema.org/draft/2019-09/schema",
      $recursiveAnchor: true,
      ...list,
      properties: { v: { type: "integer" }, next: { $recursiveRef: "#" } }
    },
    [{ v: 1, next: { v: 2 } }],
    [{ v: 1, next: { v: "2" } }]
  ],
  "the root by its own address": [
    {
      ...list,
      $id: "https://example.com/list",
      properties: { v: { $ref: "https://example.com/list#/$defs/v" }, next: { $ref: "#" } },
      $defs: { v: { type: "integer" } }
    },
    [{ v: 1, next: { v: 2 } }],
    [{ v: 1, next: { v: "2" } }]
  ],
  "parts that have addresses": [
    {
      $id: "https://example.com/list",
      type: "array",
      items: { anyOf: [{ $ref: "item" }, { $ref: "#/$defs/no" }] },
      $defs: {
        item: {
          $id: "item",
          type: "object",
          properties: { a: { $ref: "#/$defs/no" } },
          $defs: { no: { type: "string" } }
        },
        no: { type: "null" }
      }
    },
    [[{ a: "x" }, null]],
    [[{ a: null }], ["x"]]
  ],
  "data that look like references": [
    { enum: [{ $ref: "#/a" }], default: { $ref: "#" }, examples: [{ $ref: "#/a" }] },
    [{ $ref: "#/a" }],
    [{ $ref: "#/properties/input/a" }]
  ],
  "properties that are called as keywords": [
    {
      type: "object",
      properties: {
        const: { $ref: "#/$defs/s" },
        default: { $ref: "#/$defs/s" },
        $id: { $ref: "#/$defs/s" },
        $ref: { type: "integer" }
      },
      dependentSchemas: { const: { $ref: "#/$defs/needs" } },
      $defs: { s: { type: "string" }, needs: { required: ["$ref"] } }
    },
    [{ const: "a", $ref: 1 }, { default: "a" }, { $id: "a" }],
    [{ const: 1, $ref: 1 }, { const: "a" }, { default: 1 }, { $id: 1 }]
  ]
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Where a reference leads for who knows of no base but the document. */
const follow = (document: unknown, reference: string): unknown =>
  reference.slice(1).split("/").slice(1).reduce<unknown>(
    (at, part) => isRecord(at) ? at[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")] : undefined,
    document
  )

describe("ObjectSchema.withProperty", () => {
  for (const [what, [schema, good, bad]] of Object.entries(cases)) {
    it(`keeps the meaning of ${what}, also twice`, () => {
      const once = wrapped(schema)
      const twice = wrapped(once)
      for (const data of [...good, ...bad]) {
        assert.strictEqual(fits(schema, data), good.includes(data), JSON.stringify(data))
        assert.strictEqual(fits(once, { input: data }), good.includes(data), JSON.stringify(once))
        assert.strictEqual(fits(twice, { input: { input: data } }), good.includes(data), JSON.stringify(twice))
      }
    })
  }

  it("writes references so that they are right where an $id counts for nothing", () => {
    for (const what of ["definitions", "the root", "the root as draft 2019-09 has it", "the root by its own address"]) {
      const schema = wrapped(wrapped(cases[what]?.[0] ?? {}))
      const text = JSON.stringify(schema)
      const references = Array.from(text.matchAll(/"\$ref":"(.*?)"/g), ([, reference = ""]) => reference)
      assert.isAtLeast(references.length, 1)
      for (const reference of references) assert.isTrue(isRecord(follow(schema, reference)), `${reference} of ${text}`)
      assert.notInclude(text, "$id")
    }
  })

  it("leaves a schema as it is that needs its address, and has the draft of the whole", () => {
    const [schema = {}] = cases["parts that have addresses"] ?? []
    const $schema = "https://json-schema.org/draft/2020-12/schema"
    assert.deepStrictEqual(wrapped({ $schema, ...schema }), { $schema, ...around, properties: { input: schema } })
    const foreign = { $id: "https://example.com/a", $ref: "b#/c" }
    assert.deepStrictEqual(wrapped(foreign)["properties"], { input: foreign })
  })

  it("has the definitions at the root of the whole, unless it has its own", () => {
    const $defs = { a: { type: "string" } }
    const schema = { anyOf: [{ $ref: "#/$defs/a" }, { $ref: "#/%24defs/a" }], $defs }
    assert.deepStrictEqual(wrapped(schema), { ...around, properties: { input: { anyOf: schema.anyOf } }, $defs })
    const full = { ...around, $defs: { a: { type: "integer" } } }
    assert.deepStrictEqual(ObjectSchema.withProperty(full, "a/b", { $ref: "#/$defs/a", $defs }), {
      ...full,
      properties: { "a/b": { $ref: "#/properties/a~1b/$defs/a", $defs } }
    })
  })

  it("takes what is nested too deeply", () => {
    const deep: Schema.JsonObject = JSON.parse(`${"{\"not\":".repeat(20_000)}{}${"}".repeat(20_000)}`)
    assert.isObject(ObjectSchema.withProperty(around, "input", deep)["properties"])
  })
})
