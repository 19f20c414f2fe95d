import { assert, describe, it } from "@effect/vitest"
import * as SkillUris from "../src/internal/skillUris.ts"

describe("URIs of skills", () => {
  it("name a topic by its category, and no two topics the same", () => {
    const topics = [
      "TOPIC_DATA_PROCESSING",
      "TOPIC_DATA__PROCESSING",
      "TOPIC_Data",
      "TOPIC_",
      "data-processing",
      "é /?#",
      "A@B:1"
    ]
    const labels = topics.map(SkillUris.labelOf)
    assert.strictEqual(labels[0], "data-processing")
    assert.strictEqual(new Set(labels).size, topics.length)
  })

  it("come back as what they were made of, whatever files are called", () => {
    const paths = ["SKILL.md", "a b/c#d?.md", "é/100%/x.txt", "..a/b..", "%2e%2e/x", "back\\slash", "'(quotes)'/!*~"]
    for (const topic of ["TOPIC_A_B", "é /?#", "A@B:1"]) {
      for (const path of paths) {
        const uri = SkillUris.ofFile({ name: "some-skill", topic }, path)
        assert.strictEqual(new URL(uri).href, uri)
        const place = { label: SkillUris.labelOf(topic), name: "some-skill", path }
        assert.deepStrictEqual(SkillUris.parseSkill(uri), place, uri)
      }
    }
  })

  it("lead nowhere but into a skill", () => {
    for (
      const uri of [
        "skill://a",
        "skill://a/b/..%2f..%2fc",
        "skill://a/b/%2e%2e%2fc",
        "skill://a/b//c",
        "skill://a/b/c%00d",
        "skill://a/b/%ff",
        "skill://a/b/c?query",
        "skill://user@a/b/c",
        "skill:a/b/c",
        "file:///a/b/c",
        ""
      ]
    ) assert.isUndefined(SkillUris.parseSkill(uri), uri)
    assert.strictEqual(SkillUris.parseSkill("skill://a/b/c/../../../../d")?.path ?? "", "")
  })
})
