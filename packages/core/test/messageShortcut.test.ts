import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Shortcut from "../src/internal/messageShortcut.ts"

const Shouted = Schema.String.pipe(Schema.decodeTo(
  Schema.String,
  SchemaTransformation.transform({ decode: (text) => text.toLowerCase(), encode: (text) => text.toUpperCase() })
))

describe("Shortcut", () => {
  it("runs what changes a value on its way, also into one of the same type", () => {
    const { decode, encode } = Shortcut.make({ word: Shouted }, { word: "said" })
    assert.deepStrictEqual(decode({ said: "LOUD" }), { word: "loud" })
    assert.deepStrictEqual(encode({ word: "loud" }), { said: "LOUD" })
  })

  it("leaves to the schema what it cannot tell", () => {
    const { decode, encode } = Shortcut.make({
      count: Schema.Natural,
      tags: Schema.optionalKey(Schema.Array(Schema.String))
    }, {})
    for (const value of [{ count: -1 }, {}, [], null, "text", { count: 1, tags: [1] }, { count: 1, tags: undefined }]) {
      assert.strictEqual(decode(value), Shortcut.undecided)
      assert.strictEqual(encode(value), Shortcut.undecided)
    }
    assert.deepStrictEqual(decode({ count: 1, tags: ["a"], other: 2 }), { count: 1, tags: ["a"] })
  })
})
