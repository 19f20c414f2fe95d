import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import { assert, describe, it } from "@effect/vitest"
import * as Listing from "../../src/internal/listing.ts"

const skill = (name: string, description: string, topic = "TOPIC_A"): SkillCatalog.Skill => ({
  name,
  description,
  category: "a",
  topic,
  digest: `sha256:${"0".repeat(64)}`,
  entry: "scripts/run.sh",
  scripts: ["scripts/run.sh"],
  env: [],
  servers: ["s"]
})

const everything = { limit: 1000, offset: 0 }

describe("a list of skills", () => {
  it("gets past every skill, however long its description is", () => {
    const all = [1000, 5, 20_000, 900, 3].map((length, index) => skill(`s${index}`, "x".repeat(length)))
    const names: Array<string> = []
    for (let offset = 0; offset < all.length;) {
      const { structured, text } = Listing.page(all, { limit: 1000, offset }, 1000)
      assert.isAtMost(text.length, 1000)
      const listed = text.split("\n").flatMap((line) => /^- (\w+): x/.exec(line)?.[1] ?? [])
      assert.isAbove(listed.length, 0)
      assert.strictEqual(Object(structured).skills.length, listed.length)
      names.push(...listed)
      offset = Number(/next begin at offset (\d+)\]$/.exec(text)?.[1] ?? all.length)
    }
    assert.deepStrictEqual(names, ["s0", "s1", "s2", "s3", "s4"])
  })

  it("cuts descriptions that are longer than the open format allows, and shows that", () => {
    const { structured, text } = Listing.page(
      [skill("a", "x".repeat(1025)), skill("b", "y".repeat(1024))],
      everything,
      30_000
    )
    assert.strictEqual(text, `- a: ${"x".repeat(1023)}…\n- b: ${"y".repeat(1024)}`)
    assert.strictEqual(Object(structured).skills[0].description.length, 1024)
  })

  it("names no offset of what was found, which has none", () => {
    const all = [skill("a", "x".repeat(1000)), skill("b", "x".repeat(1000))]
    const { structured, text } = Listing.found(all, all, 1000)
    assert.match(text, /^- a: x+…\n\[the best 1 of 2 that were found\]$/)
    assert.strictEqual(Object(structured).skills.length, 1)
    assert.strictEqual(Object(structured).total, 2)
  })

  it("says that there is nothing, or nothing more", () => {
    assert.strictEqual(Listing.page([], everything, 1000).text, "There are no skills.")
    assert.strictEqual(
      Listing.page([skill("a", "")], { limit: 1, offset: 1 }, 1000).text,
      "There is no skill at offset 1: there are 1 in all."
    )
  })

  it("names the topics of skills of one name, and only of those", () => {
    const all = [skill("a", "One.", "TOPIC_A"), skill("a", "One.", "TOPIC_B"), skill("b", "Other.")]
    const { text } = Listing.page(all, { limit: 1000, offset: 1 }, 1000)
    assert.strictEqual(text, "- a (topic TOPIC_B): One.\n- b: Other.")
    assert.strictEqual(Listing.found(all.slice(0, 1), all, 1000).text, "- a (topic TOPIC_A): One.")
  })
})
