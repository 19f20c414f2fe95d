import * as JsonSchema from "@skillscale/core/JsonSchema"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"

const draft07 = { $schema: "http://json-schema.org/draft-07/schema#" }
const draft2019 = { $schema: "https://json-schema.org/draft/2019-09/schema" }

/** Written as text, since a literal has no property named `__proto__`. */
const json = (text: string): Schema.JsonObject => JSON.parse(text)

const checker = (schema: Schema.JsonObject) =>
  Result.getOrThrowWith(JsonSchema.compile(schema), (why) => new Error(`${why}: ${JSON.stringify(schema)}`))

/** By default with time enough for a busy machine. */
const check = (schema: Schema.JsonObject, text: string, limitMs = 5000) =>
  checker(schema).check(Buffer.from(text), limitMs)

const issues = (schema: Schema.JsonObject, text: string) => {
  const verdict = check(schema, text)
  return verdict._tag === "Misfits" ? verdict.issues.map(({ message, path }) => `${path}: ${message}`) : verdict._tag
}

const whyNot = (schema: Schema.JsonObject): string => {
  const compiled = JsonSchema.compile(schema)
  return Result.isFailure(compiled) ? compiled.failure : assert.fail(`usable: ${JSON.stringify(schema).slice(0, 200)}`)
}

interface Case {
  readonly schema: Schema.JsonObject
  readonly fits: ReadonlyArray<string>
  readonly misfits: ReadonlyArray<string>
}

const cases: Readonly<Record<string, ReadonlyArray<Case>>> = {
  types: [
    { schema: {}, fits: ["null", "0", "[]", " {} \n"], misfits: ["", " ", "nul", "{} {}", "'a'", "NaN", "\uFEFF1"] },
    { schema: { type: "string" }, fits: ["\"\""], misfits: ["1", "null", "[]", "{}", "true"] },
    { schema: { type: "integer" }, fits: ["1", "1.0", "-0", "1e3"], misfits: ["1.5", "\"1\"", "null"] },
    { schema: { type: "number" }, fits: ["1.5", "1"], misfits: ["\"1\"", "true"] },
    { schema: { type: "object" }, fits: ["{}"], misfits: ["[]", "null"] },
    { schema: { type: ["array", "null"] }, fits: ["[]", "null"], misfits: ["{}", "0", "false"] }
  ],
  numbers: [
    { schema: { minimum: 2, maximum: 3 }, fits: ["2", "3", "\"x\""], misfits: ["1.9", "3.1"] },
    { schema: { exclusiveMinimum: 2, exclusiveMaximum: 3 }, fits: ["2.5"], misfits: ["2", "3"] },
    { schema: { multipleOf: 0.01 }, fits: ["0.07", "19.99", "0"], misfits: ["0.075"] }
  ],
  text: [
    { schema: { minLength: 2, maxLength: 3 }, fits: ["\"ab\"", "\"a😀b\"", "1"], misfits: ["\"😀\"", "\"abcd\""] },
    { schema: { pattern: "b.$" }, fits: ["\"abc\"", "7"], misfits: ["\"ab\"", "\"bcd\""] },
    { schema: { pattern: "^\\p{Lu}$" }, fits: ["\"Ä\""], misfits: ["\"ä\""] },
    { schema: { format: "email" }, fits: ["\"no address\""], misfits: [] },
    { schema: { properties: { format: { type: "string" } } }, fits: ["{\"format\":\"\"}"], misfits: ["{\"format\":1}"] }
  ],
  values: [
    { schema: { enum: [1, "a", null, { b: [1] }] }, fits: ["1", "null", "{\"b\":[1]}"], misfits: ["2", "{\"b\":[2]}"] },
    { schema: { const: { a: 1, b: 2 } }, fits: ["{\"b\":2,\"a\":1}"], misfits: ["{\"a\":1}", "[]"] },
    { schema: { const: [] }, fits: ["[]"], misfits: ["{}", "[0]"] },
    { schema: { const: false }, fits: ["false"], misfits: ["0", "null"] }
  ],
  objects: [
    {
      schema: { required: ["a", "toString"] },
      fits: ["{\"a\":1,\"toString\":null}", "[]"],
      misfits: ["{}", "{\"a\":1}"]
    },
    {
      schema: {
        properties: { a: { type: "string" } },
        patternProperties: { "^n": { type: "number" } },
        additionalProperties: false
      },
      fits: ["{}", "{\"a\":\"\",\"n1\":1}"],
      misfits: ["{\"a\":1}", "{\"n\":\"\"}", "{\"b\":1}", "{\"constructor\":1}"]
    },
    { schema: { additionalProperties: { type: "null" } }, fits: ["{\"x\":null}"], misfits: ["{\"x\":1}"] },
    { schema: { propertyNames: { maxLength: 2 } }, fits: ["{\"ab\":1}"], misfits: ["{\"abc\":1}"] },
    {
      schema: { minProperties: 1, maxProperties: 2 },
      fits: ["{\"a\":1}"],
      misfits: ["{}", "{\"a\":1,\"b\":1,\"c\":1}"]
    },
    { schema: { dependentRequired: { a: ["b"] } }, fits: ["{}", "{\"a\":1,\"b\":1}"], misfits: ["{\"a\":1}"] },
    { schema: { dependentSchemas: { a: { required: ["b"] } } }, fits: ["{}"], misfits: ["{\"a\":1}"] },
    {
      schema: {
        ...draft07,
        dependencies: { constructor: ["b"], c: { $ref: "#/definitions/d" } },
        definitions: { d: false }
      },
      fits: ["{}", "{\"constructor\":1,\"b\":1}"],
      misfits: ["{\"constructor\":1}", "{\"c\":1}"]
    },
    {
      schema: { allOf: [{ properties: { a: true } }], properties: { b: true }, unevaluatedProperties: false },
      fits: ["{\"a\":1,\"b\":1}"],
      misfits: ["{\"c\":1}"]
    }
  ],
  "names that every object has": [
    { schema: json(`{"properties":{"__proto__":{"type":"string"}}}`), fits: ["{}"], misfits: ["{\"__proto__\":1}"] },
    { schema: json(`{"required":["__proto__"]}`), fits: ["{\"__proto__\":1}"], misfits: ["{}"] },
    { schema: { additionalProperties: false }, fits: ["{}"], misfits: ["{\"__proto__\":1}", "{\"toString\":1}"] },
    { schema: { properties: { toString: { type: "string" } } }, fits: ["{}"], misfits: ["{\"toString\":1}"] },
    { schema: { const: json(`{"__proto__":1}`) }, fits: ["{\"__proto__\":1}"], misfits: ["{}", "{\"__proto__\":2}"] }
  ],
  arrays: [
    { schema: { items: { type: "number" } }, fits: ["[]", "[1]", "{}"], misfits: ["[1,\"\"]"] },
    {
      schema: { prefixItems: [{ type: "string" }], items: { type: "number" } },
      fits: ["[\"\"]", "[\"\",1]", "[]"],
      misfits: ["[1]", "[\"\",\"\"]"]
    },
    {
      schema: { ...draft07, items: [{ type: "string" }], additionalItems: false },
      fits: ["[\"\"]"],
      misfits: ["[\"\",1]", "[1]"]
    },
    { schema: { minItems: 1, maxItems: 2 }, fits: ["[1]"], misfits: ["[]", "[1,2,3]"] },
    {
      schema: { uniqueItems: true },
      fits: ["[1,\"1\",[1],{\"a\":1}]"],
      misfits: ["[1,1]", "[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]"]
    },
    { schema: { contains: { const: 1 } }, fits: ["[0,1]"], misfits: ["[]", "[0]"] },
    {
      schema: { contains: { const: 1 }, minContains: 2, maxContains: 2 },
      fits: ["[1,0,1]"],
      misfits: ["[1]", "[1,1,1]"]
    },
    { schema: { contains: { const: 1 }, minContains: 0 }, fits: ["[]", "[0]"], misfits: [] },
    { schema: { prefixItems: [true], unevaluatedItems: false }, fits: ["[1]"], misfits: ["[1,2]"] }
  ],
  combinations: [
    { schema: { allOf: [{ minimum: 1 }, { maximum: 2 }] }, fits: ["1"], misfits: ["0", "3"] },
    { schema: { anyOf: [{ type: "string" }, { minimum: 2 }] }, fits: ["\"\"", "2"], misfits: ["1"] },
    { schema: { oneOf: [{ multipleOf: 2 }, { multipleOf: 3 }] }, fits: ["2", "3"], misfits: ["6", "1"] },
    { schema: { not: { type: "string" } }, fits: ["1"], misfits: ["\"\""] },
    {
      schema: json(`{"if":{"properties":{"a":{"const":1}}},"then":{"required":["b"]},"else":{"required":["c"]}}`),
      fits: ["{\"a\":1,\"b\":1}", "{\"a\":2,\"c\":1}"],
      misfits: ["{\"a\":1,\"c\":1}", "{\"a\":2,\"b\":1}"]
    }
  ],
  references: [
    { schema: { $ref: "#/$defs/a", $defs: { a: { type: "string" } } }, fits: ["\"\""], misfits: ["1"] },
    { schema: { $ref: "#/$defs/a~1b%20c", $defs: { "a/b c": { type: "string" } } }, fits: ["\"\""], misfits: ["1"] },
    { schema: { $ref: "#name", $defs: { a: { $anchor: "name", type: "string" } } }, fits: ["\"\""], misfits: ["1"] },
    {
      schema: { $id: "https://example.org/root", $ref: "other", $defs: { a: { $id: "other", type: "string" } } },
      fits: ["\"\""],
      misfits: ["1"]
    },
    {
      schema: { type: "object", properties: { next: { $ref: "#" } }, additionalProperties: false },
      fits: ["{\"next\":{\"next\":{}}}"],
      misfits: ["{\"next\":{\"next\":{\"a\":1}}}"]
    },
    { schema: { $ref: "#/$defs/a", minimum: 3, $defs: { a: { maximum: 5 } } }, fits: ["4"], misfits: ["2", "6"] },
    {
      schema: { ...draft07, $ref: "#/definitions/a", minimum: 3, definitions: { a: { maximum: 5 } } },
      fits: ["2"],
      misfits: ["6"]
    },
    {
      schema: { ...draft2019, properties: { a: { $recursiveRef: "#" } }, additionalProperties: false },
      fits: ["{\"a\":{\"a\":{}}}"],
      misfits: ["{\"a\":{\"b\":1}}"]
    },
    {
      schema: { $ref: "#/x-own/a", "x-own": { a: { type: "string", format: "date" } } },
      fits: ["\"no date\""],
      misfits: ["1"]
    },
    {
      schema: { properties: { a: { id: "other", $ref: "#/$defs/d" } }, $defs: { d: { type: "string" } } },
      fits: ["{\"a\":\"\"}"],
      misfits: ["{\"a\":1}"]
    }
  ]
}

describe("JsonSchema.compile(…).check", () => {
  for (const [what, all] of Object.entries(cases)) {
    it(`decides about ${what}`, () => {
      for (const { fits, misfits, schema } of all) {
        for (const text of fits) {
          assert.deepStrictEqual(check(schema, text), { _tag: "Fits" }, `${JSON.stringify(schema)} ${text}`)
        }
        for (const text of misfits) {
          const verdict = check(schema, text)
          assert.strictEqual(verdict._tag, "Misfits", `${JSON.stringify(schema)} ${text}`)
          assert.isNotEmpty(verdict._tag === "Misfits" ? verdict.issues : [])
        }
      }
    })
  }

  it("leaves the schema as it is, and compiles it once", () => {
    const schema = { format: "email", $ref: "#/$defs/a", $defs: { a: { dependencies: { b: ["c"] }, id: "x" } } }
    const before = structuredClone(schema)
    assert.strictEqual(JsonSchema.compile(schema), JsonSchema.compile(schema))
    assert.strictEqual(check(schema, "{\"b\":1}")._tag, "Misfits")
    assert.deepStrictEqual(schema, before)
    assert.deepStrictEqual(Object.getOwnPropertyNames(schema), Object.getOwnPropertyNames(before))
  })
})

describe("what JsonSchema tells", () => {
  const person = {
    type: "object",
    required: ["name", "age"],
    properties: {
      name: { type: "string", minLength: 1, pattern: "^[A-Z]" },
      age: { type: "integer", minimum: 0 },
      kind: { enum: ["person", "robot"] },
      tags: { type: "array", items: { type: "string" }, uniqueItems: true, maxItems: 2 }
    },
    additionalProperties: false
  }

  it("is each place, and what is wrong there", () => {
    assert.deepStrictEqual(issues(person, "[]"), [": expected object, got array"])
    assert.deepStrictEqual(
      issues(person, "{\"name\":\"ada\",\"age\":-1,\"kind\":\"cat\",\"a/b\":1,\"tags\":[5,5,\"x\"]}"),
      [
        "/name: expected text that matches ^[A-Z], got string \"ada\"",
        "/age: expected at least 0, got integer -1",
        "/kind: expected one of \"person\", \"robot\", got string \"cat\"",
        "/tags: expected at most 2 items, got 3",
        "/tags/0: expected string, got integer 5",
        "/tags/1: expected string, got integer 5",
        "/tags: Duplicate items at indexes 0 and 1",
        "/a~1b: is not allowed"
      ]
    )
    assert.deepStrictEqual(issues(person, "{}"), [": lacks the property \"name\"", ": lacks the property \"age\""])
    assert.deepStrictEqual(issues({ propertyNames: { pattern: "^a" } }, "{\"b\":1}"), [
      "/b: has a name that is not allowed"
    ])
    assert.deepStrictEqual(issues({ not: { type: "null" } }, "null"), [": must not fit {\"type\":\"null\"}"])
    assert.deepStrictEqual(issues({ contains: { type: "null" } }, "[1,2]"), [
      ": expected an item that fits the schema of contains"
    ])
    assert.deepStrictEqual(issues({ contains: { type: "null" }, minContains: 2 }, "[1,2,3,null]"), [
      ": must contain at least 2 items matching schema. Only 1 items were found"
    ])
    assert.deepStrictEqual(issues({ $ref: "#/$defs/a", $defs: { a: { const: 1.5 } } }, "1"), [
      ": expected 1.5, got integer 1"
    ])
    assert.deepStrictEqual(issues({ additionalProperties: false, properties: { "": { type: "null" } } }, "{\"\":1}"), [
      "/: expected null, got integer 1"
    ])
  })

  it("is the alternative that came closest", () => {
    const shape = (kind: string, size: string) => ({
      type: "object",
      properties: { kind: { const: kind }, [size]: { type: "number" } },
      required: ["kind", size]
    })
    const schema = { oneOf: [shape("circle", "radius"), shape("square", "side"), { type: "null" }] }
    assert.deepStrictEqual(issues(schema, "{\"kind\":\"square\",\"side\":\"2\"}"), [
      ": fits none of the 3 alternatives of oneOf; of the closest one:",
      "/side: expected number, got string \"2\""
    ])
    assert.deepStrictEqual(issues({ oneOf: [true, {}] }, "1"), [
      ": fits 2 of the alternatives of oneOf, and has to fit one"
    ])
    assert.deepStrictEqual(
      issues({ anyOf: [{ type: "string" }, { required: ["a"], properties: { a: false } }] }, "{}"),
      [
        ": fits none of the 2 alternatives of anyOf; of the closest one:",
        ": lacks the property \"a\""
      ]
    )
  })

  it("is bounded", () => {
    const many = Array.from({ length: 1000 }, (_, index) => index)
    const verdict = check({ items: { type: "string" } }, JSON.stringify(many))
    const told = verdict._tag === "Misfits" ? verdict.issues : []
    assert.lengthOf(told, JsonSchema.maxIssues)
    assert.strictEqual(
      JsonSchema.explain(told),
      "/0: expected string, got integer 0; /1: expected string, got integer 1; /2: expected string, got integer 2; " +
        "/3: expected string, got integer 3; /4: expected string, got integer 4; and 15 more"
    )
    const long = "x".repeat(5000)
    const [issue = ""] = issues({ additionalProperties: { enum: [long, 1] } }, JSON.stringify({ [long]: long }))
    assert.isBelow(issue.length, 700)
  })

  it("is what is not JSON", () => {
    assert.deepStrictEqual(issues({}, ""), [": expected JSON, got nothing"])
    assert.match(String(issues({}, "{\"a\":}")), /^: expected JSON: Unexpected token/)
    const verdict = checker({}).check(Uint8Array.of(0x22, 0xff, 0x22))
    assert.deepStrictEqual(verdict, {
      _tag: "Misfits",
      issues: [{ path: "", message: "expected JSON in UTF-8, got other bytes" }],
      isWhole: true
    })
  })
})

describe("JsonSchema.compile", () => {
  it("refuses what is no schema, and says where", () => {
    const wrong: ReadonlyArray<readonly [Schema.JsonObject, string]> = [
      [{ type: "strin" }, "at /type: expected one of array"],
      [{ type: [] }, "at /type: expected one of array"],
      [{ properties: [] }, "at /properties: expected names with schemas"],
      [{ properties: { "a/b": 1 } }, "at /properties/a~1b: expected a schema"],
      [{ required: "a" }, "at /required: expected a list of names"],
      [{ items: { enum: 1 } }, "at /items/enum: expected a list"],
      [{ minLength: -1 }, "at /minLength: expected a whole number"],
      [{ multipleOf: 0 }, "at /multipleOf: expected a number above 0"],
      [{ exclusiveMinimum: true, minimum: 1 }, "at /exclusiveMinimum: expected a number"],
      [{ pattern: "(" }, "at /pattern: expected a regular expression"],
      [{ patternProperties: { "[": true } }, "at /patternProperties: expected a regular expression"],
      [{ allOf: [] }, "at /allOf: expected a list of schemas"],
      [{ anyOf: {} }, "at /anyOf: expected a list of schemas"],
      [{ not: null }, "at /not: expected a schema"],
      [{ items: [{}] }, "prefixItems"],
      [{ uniqueItems: "yes" }, "at /uniqueItems: expected true or false"],
      [{ dependentRequired: { a: "b" } }, "at /dependentRequired: expected lists of names"],
      [{ ...draft07, dependencies: [] }, "at /dependencies: expected"],
      [{ ...draft07, dependencies: { a: 1 } }, "expected a schema"],
      [{ $schema: "http://json-schema.org/draft-04/schema#" }, "expected that of draft 2020-12, 2019-09 or 07"],
      [{ $schema: 7 }, "$schema is 7"],
      [{ $dynamicRef: "#a" }, "$dynamicRef is not supported"],
      [{ items: { __absolute_ref__: "x" } }, "reserved"]
    ]
    for (const [schema, why] of wrong) assert.include(whyNot(schema), why)
  })

  it("refuses references that lead nowhere, or in a circle", () => {
    for (
      const $ref of [
        "#/$defs/none",
        "#none",
        "other.json",
        "https://example.org/a.json",
        "file:///etc/passwd",
        "http://json-schema.org/draft-07/schema#",
        "#/properties"
      ]
    ) assert.include(whyNot({ properties: { a: { $ref } }, $defs: { a: true } }), JSON.stringify($ref))
    assert.include(whyNot({ "x-own": { a: { $ref: "#/nowhere" } }, $ref: "#/x-own/a" }), "#/nowhere")
    assert.notStrictEqual(whyNot({ $ref: "http://[" }), "")
    for (
      const schema of [
        { $ref: "#" },
        { allOf: [{ $ref: "#" }] },
        { not: { anyOf: [{ if: { $ref: "#" } }] } },
        { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { oneOf: [{ $ref: "#/$defs/a" }] } } },
        { properties: { a: { $ref: "#/properties/a" } } },
        { dependentSchemas: { a: { $ref: "#" } } },
        { ...draft07, dependencies: { a: { $ref: "#" } } },
        { ...draft2019, anyOf: [{ $recursiveRef: "#" }] }
      ]
    ) assert.include(whyNot(schema), "circle")
  })

  it("refuses schemas that are too large, or nested too deeply", () => {
    const sized = (bytes: number) => ({ description: "x".repeat(bytes - `{"description":""}`.length) })
    assert.isTrue(Result.isSuccess(JsonSchema.compile(sized(JsonSchema.maxBytes))))
    assert.include(whyNot(sized(JsonSchema.maxBytes + 1)), `${JsonSchema.maxBytes + 1} bytes`)
    const deep = (levels: number) => json(`${"{\"not\":".repeat(levels)}{}${"}".repeat(levels)}`)
    assert.isTrue(Result.isSuccess(JsonSchema.compile(deep(64))))
    assert.include(whyNot(deep(65)), "64 levels")
    assert.include(whyNot(deep(100_000)), "64 levels")
  })
})

describe("JsonSchema against hostile schemas and data", () => {
  const timed = <A>(run: () => A): readonly [A, number] => {
    const start = performance.now()
    return [run(), performance.now() - start]
  }

  it("ends a regular expression that would take for ever", () => {
    const bomb = `"${"a".repeat(60)}!"`
    for (
      const schema of [{ pattern: "^(a+)+$" }, { pattern: "^(a|aa)+$" }, {
        items: false,
        anyOf: [{ pattern: "(a*)*$b" }]
      }]
    ) {
      for (const limitMs of [10, 100]) {
        const [verdict, took] = timed(() => check(schema, bomb, limitMs))
        assert.deepStrictEqual(verdict, { _tag: "Unfinished" })
        assert.isAtLeast(took, limitMs - 1)
        assert.isBelow(took, 5000)
      }
    }
    const names = { patternProperties: { "^(a+)+$": false } }
    assert.deepStrictEqual(check(names, `{${bomb}:1}`, 20), { _tag: "Unfinished" })
    // It is as good as before.
    assert.deepStrictEqual(check({ pattern: "^(a+)+$" }, "\"aaa\"", 20), { _tag: "Fits" })
    assert.deepStrictEqual(check({ type: "null" }, "null"), { _tag: "Fits" })
  })

  it("ends what grows without end", () => {
    const $defs: Record<string, Schema.JsonObject> = { x40: { type: "null" } }
    for (let index = 0; index < 40; index++) {
      $defs[`x${index}`] = { allOf: [{ $ref: `#/$defs/x${index + 1}` }, { $ref: `#/$defs/x${index + 1}` }] }
    }
    assert.deepStrictEqual(check({ $ref: "#/$defs/x0", $defs }, "null", 20), { _tag: "Unfinished" })
    const equal = `[${Array.from({ length: 60_000 }, (_, index) => index).join(",")}]`
    assert.deepStrictEqual(check({ uniqueItems: true }, equal, 20), { _tag: "Unfinished" })
  })

  it("refuses data that is nested too deeply for it, and what it cannot name", () => {
    const recursive = { items: { $ref: "#" } }
    const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`
    assert.deepStrictEqual(check(recursive, nested(200)), { _tag: "Fits" })
    assert.match(String(issues(recursive, nested(200_000))), /^: is nested too deeply/)
    assert.match(String(issues({ uniqueItems: true }, `[${nested(200_000)},${nested(200_000)}]`)), /nested too deeply/)
    assert.deepStrictEqual(check({ type: "array" }, nested(200_000)), { _tag: "Fits" })
    assert.deepStrictEqual(issues({ additionalProperties: { type: "string" } }, "{\"\\ud800\":1}"), [
      ": has a name that is not Unicode: half of a surrogate pair"
    ])
  })

  it("takes halves of surrogate pairs for characters", () => {
    assert.deepStrictEqual(check({ type: "string", maxLength: 1, pattern: "^.$" }, "\"\\ud800\""), { _tag: "Fits" })
    assert.deepStrictEqual(issues({ const: "\ud800" }, "\"\\udc00\""), [
      ": expected \"\\ud800\", got string \"\\udc00\""
    ])
  })

  it("reads no more than so many bytes, and tells the first of mistakes that are too many, or take too long", () => {
    const large = `"${"x".repeat(JsonSchema.maxDataBytes - 2)}"`
    assert.deepStrictEqual(check({ type: "string" }, large), { _tag: "Fits" })
    assert.match(String(issues({}, ` ${large}`)), /^: has 4194305 bytes, more than the 4194304 that are checked$/)
    const both = { properties: { a: { type: "string" }, b: { pattern: "^(a+)+$" } } }
    assert.deepStrictEqual(check(both, `{"a":1,"b":"${"a".repeat(60)}!"}`, 30), {
      _tag: "Misfits",
      issues: [{ path: "/a", message: "expected string, got integer 1" }],
      isWhole: false
    })
    const wrong = `[${"1,".repeat(300_000)}1]`
    const verdict = check({ items: { type: "string" } }, wrong)
    assert.deepStrictEqual(verdict._tag === "Misfits" ? verdict.issues[0] : verdict, {
      path: "/0",
      message: "expected string, got integer 1"
    })
  })
})
