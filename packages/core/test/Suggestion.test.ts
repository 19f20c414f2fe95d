import * as Suggestion from "@skillscale/core/Suggestion"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

const known = ["csv-analyzer", "pdf", "text-summarizer", "git-log", "a"]

describe("Suggestion.near", () => {
  it("finds what resembles, the most similar first", () => {
    const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
      ["csv-analyser", ["csv-analyzer"]],
      ["CSV", ["csv-analyzer"]],
      ["pfd", ["pdf"]],
      ["git-log-viewer", ["git-log"]],
      ["weather-forecast", []],
      ["banana-peeler", []]
    ]
    for (const [name, expected] of cases) assert.deepStrictEqual(Suggestion.near(name, known), expected, name)
    assert.deepStrictEqual(Suggestion.near("word", ["words", "wards", "ward", "swords"]), ["swords", "words", "ward"])
    assert.deepStrictEqual(Suggestion.near("Readme", ["README"]), ["README"])
  })

  it.prop(
    "finds at most three of what is known, itself first",
    [Schema.Array(Schema.String), Schema.String],
    ([names, name]) => {
      const near = Suggestion.near(name, names)
      assert.isAtMost(near.length, 3)
      for (const found of near) assert.include(names, found)
      if (name.length <= 64) assert.strictEqual(Suggestion.near(name, [name])[0], name)
    }
  )
})
