import { catalogPrompt } from "@skillscale/tools/CatalogPrompt"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

const skill = (name: string, description: string): SkillCatalog.Skill => ({
  name,
  description,
  category: "a",
  topic: "TOPIC_A",
  digest: `sha256:${"0".repeat(64)}`,
  entry: "scripts/run.sh",
  scripts: ["scripts/run.sh"],
  env: [],
  servers: ["s"]
})

const namesIn = (prompt: string) => Array.from(prompt.matchAll(/<name>\n(.*)\n<\/name>/g), ([, name]) => name)
const many = (count: number, description = "d".repeat(300)) =>
  Array.from({ length: count }, (_, index) => skill(`skill-${index}`, description))

describe("catalogPrompt", () => {
  it("lists the skills in the block of the open format, after saying how to use them", () => {
    const prompt = catalogPrompt([skill("one", "Does <one> & more.")])
    assert.isTrue(prompt.endsWith([
      "<available_skills>",
      "<skill>",
      "<name>",
      "one",
      "</name>",
      "<description>",
      "Does &lt;one&gt; &amp; more.",
      "</description>",
      "<location>",
      "skill://TOPIC_A/one/SKILL.md",
      "</location>",
      "</skill>",
      "</available_skills>"
    ].join("\n")))
    assert.include(prompt, "load_skill")
  })

  it("says how to tell apart skills of one name, where there are such", () => {
    const one = skill("one", "Does one.")
    assert.notInclude(catalogPrompt([one]), "topic")
    assert.include(catalogPrompt([one, { ...one, topic: "TOPIC_B" }]), "name the topic, too")
  })

  it("is empty without skills, and where not one fits", () => {
    assert.strictEqual(catalogPrompt([]), "")
    assert.strictEqual(catalogPrompt(many(3), { budget: 100 }), "")
  })

  it("cuts descriptions before it leaves skills out", () => {
    const skills = many(20)
    const prompt = catalogPrompt(skills, { budget: 6000 })
    assert.isAtMost(prompt.length, 6000)
    assert.strictEqual(namesIn(prompt).length, 20)
    assert.include(prompt, "d…\n</description>")
    assert.isAbove(prompt.length, 5900)
  })

  it("tells how many are left out", () => {
    const prompt = catalogPrompt(many(1000))
    const listed = namesIn(prompt)
    assert.isAtMost(prompt.length, 15_000)
    assert.isAbove(listed.length, 20)
    assert.deepStrictEqual(listed, many(listed.length).map(({ name }) => name))
    assert.include(prompt, `${1000 - listed.length} more skills are not listed here: find them with search_skills.`)
  })

  it("passes over one that does not fit, and lists those after it that do", () => {
    const skills = [skill("a".repeat(400), "Long."), skill("two", "Does two."), skill("three", "Does three.")]
    const prompt = catalogPrompt(skills, { budget: 700 })
    assert.isAtMost(prompt.length, 700)
    assert.deepStrictEqual(namesIn(prompt), ["two", "three"])
    assert.include(prompt, "1 more skill is not listed here: find them with search_skills.")
  })

  it("names no tool that the model has not", () => {
    const skills = many(20)
    const none = catalogPrompt(skills, { budget: 2000, vocabulary: false, skillTools: false })
    assert.notMatch(none, /load_skill|run_skill|search_skills|list_skills|tool/)
    assert.match(none, /\n\d+ more skills are not listed here\.$/)
    const some = catalogPrompt(skills, {
      budget: 2000,
      vocabulary: ["list_skills", "run_skill_script"],
      skillTools: false
    })
    assert.include(some, "Run its scripts with run_skill_script.\n")
    assert.include(some, "find them with list_skills.")
  })

  it.prop(
    "is never longer than its budget",
    [Schema.Array(Schema.Struct({ name: Schema.String, description: Schema.String })), Schema.Natural],
    ([skills, budget]) => {
      const prompt = catalogPrompt(skills.map(({ description, name }) => skill(name, description)), { budget })
      assert.isAtMost(prompt.length, budget)
    }
  )
})
