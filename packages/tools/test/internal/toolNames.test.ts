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
      for (const name of names) assert.match(name, /^[A-Za-z_][A-Za-z0-9_-]{0,62}$/)
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
    assert.strictEqual(named(long)[0]?.length, 63)
    assert.notStrictEqual(named(long)[0], named(`${long}n`)[0])
    const [first = "", second = ""] = named(`${"n".repeat(63)}a`, `${"n".repeat(63)}b`)
    assert.notStrictEqual(first.slice(0, 63), second.slice(0, 63), "where names are cut after 63")
  })

  it("are none that a plain object has", () => {
    for (const name of ["constructor", "__proto__", "toString", "hasOwnProperty"]) {
      assert.match(named(name)[0] ?? "", new RegExp(`^${name}_[0-9a-f]{8}$`))
    }
  })

  it("begin with a letter or _", () => {
    assert.match(named("3d-render")[0] ?? "", /^skill_3d-render_[0-9a-f]{8}$/)
    assert.match(named("-")[0] ?? "", /^skill_-_[0-9a-f]{8}$/)
    assert.deepStrictEqual(named("_private", "x"), ["_private", "x"])
  })

  it("are different where their digests begin the same, or another skill has such a name", () => {
    const same = ["TOPIC_T71832", "TOPIC_T82507"].map((topic) => ({ name: "shout", topic }))
    const [one = "", other = ""] = ToolNames.make(same, taken)
    assert.match(one, /^shout_63ba5456[0-9a-f]{8}$/)
    assert.match(other, /^shout_63ba5456[0-9a-f]{8}$/)
    assert.notStrictEqual(one, other)
    const [fitted = ""] = named("3d")
    const [longer, plain] = named("3d", fitted)
    assert.strictEqual(plain, fitted)
    assert.match(longer ?? "", new RegExp(`^${fitted}[0-9a-f]{8}$`))
  })
})
