import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { plainNames } from "../../src/internal/plainNames.ts"

const written = (...names: ReadonlyArray<string>) => [...plainNames(names).values()]

describe("names of letters, digits and _", () => {
  it("are those of the tools where these are such, or alone", () => {
    assert.deepStrictEqual(written("a_b", "c-d"), ["a_b", "c_d"])
  })

  it("tell apart what would be the same", () => {
    const [digested = "", plain] = written("a-b", "a_b")
    assert.match(digested, /^a_b_[0-9a-f]{8}$/)
    assert.strictEqual(plain, "a_b")
    const [longer = "", ...others] = written("a-b", "a_b", digested)
    assert.deepStrictEqual(others, ["a_b", digested])
    assert.match(longer, new RegExp(`^${digested}[0-9a-f]{8}$`))
  })

  it.prop("are all different, and not longer than tools may be", [
    Schema.Array(Schema.String.check(Schema.isPattern(/^[ab_-]{1,3}$/)))
  ], ([given]) => {
    const names = Array.from(new Set(given))
    const all = written(...names)
    assert.strictEqual(new Set(all).size, names.length)
    for (const name of all) assert.match(name, /^[A-Za-z0-9_]{1,63}$/)
  })
})
