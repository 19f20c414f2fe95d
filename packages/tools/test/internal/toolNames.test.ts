import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as ToolNames from "../../src/internal/toolNames.ts"

const taken = new Set(["list_skills"])
const topic = "TOPIC_A"
const named = (...names: ReadonlyArray<string>) => ToolNames.make(names.map((name) => ({ name, topic })), taken)

describe("names of tools", () => {
  it("are those of the skills where models accept them", () => {
    assert.deepStrictEqual(named("csv-analyzer", "A_b-9"), ["csv-analyzer", "A_b-9"])
  })

  it.prop(
    "are accepted by all models, and all different",
    [Schema.Array(Schema.Struct({ name: Schema.String, topic: Schema.String }))],
    ([skills]) => {
      const seen = new Set(skills.map(({ name, topic }) => JSON.stringify([name, topic])))
      const distinct = Array.from(seen, (key) => {
        const [name, topic] = JSON.parse(key)
        return { name, topic }
      })
      const names = ToolNames.make(distinct, taken)
      for (const name of names) assert.match(name, /^[A-Za-z0-9_-]{1,64}$/)
      assert.strictEqual(new Set(names).size, distinct.length)
      assert.isFalse(names.includes("list_skills"))
    }
  )

  it("tell apart what would be the same, each the same way whatever else there is", () => {
    const [one = "", other = ""] = ToolNames.make(
      [{ name: "x", topic: "TOPIC_A" }, { name: "x", topic: "TOPIC_B" }],
      taken
    )
    assert.notStrictEqual(one, other)
    assert.match(one, /^x_[0-9a-f]{8}$/)
    assert.deepStrictEqual(named("list_skills").map((name) => /^list_skills_[0-9a-f]{8}$/.test(name)), [true])
    assert.deepStrictEqual(named("größe", "a"), [...named("größe"), "a"])
    const long = "n".repeat(80)
    assert.strictEqual(named(long)[0]?.length, 64)
    assert.notStrictEqual(named(long)[0], named(`${long}n`)[0])
  })
})
