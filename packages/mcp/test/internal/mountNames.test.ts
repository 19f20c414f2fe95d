import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as MountNames from "../../src/internal/mountNames.ts"

const namesOf = (...tools: ReadonlyArray<string>) => Array.from(MountNames.make(tools).values())

describe("names of skills", () => {
  it("are those of tools, as skills spell them", () => {
    assert.deepEqual(namesOf("getWeather", "read_file", "Send e-mail!", "a.b", "x2Y"), [
      "get-weather",
      "read-file",
      "send-e-mail",
      "a-b",
      "x2-y"
    ])
  })

  it("tell tools apart that would have the same, except one that has it already", () => {
    const [plain, other, third] = namesOf("get-weather", "get_weather", "getWeather")
    assert.strictEqual(plain, "get-weather")
    assert.match(other ?? "", /^get-weather-[0-9a-f]{6}$/)
    assert.match(third ?? "", /^get-weather-[0-9a-f]{6}$/)
    assert.notStrictEqual(other, third)
    assert.deepEqual(namesOf("getWeather", "get_weather"), [third, other])
  })

  it("are made up where nothing is left, or too much", () => {
    const [none, long] = namesOf("天气", "x".repeat(100))
    assert.match(none ?? "", /^tool-[0-9a-f]{6}$/)
    assert.match(long ?? "", /^x{57}-[0-9a-f]{6}$/)
  })

  it.prop("are valid, differ, and do not depend on the order", [Schema.Array(Schema.NonEmptyString)], ([tools]) => {
    const distinct = Array.from(new Set(tools))
    const names = MountNames.make(distinct)
    const reversed = MountNames.make(distinct.toReversed())
    const all = Array.from(names.values())
    return new Set(all).size === distinct.length &&
      all.every((name) => /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && name.length <= 64) &&
      distinct.every((tool) => names.get(tool) === reversed.get(tool))
  })
})
