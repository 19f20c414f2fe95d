import { assert, describe, it } from "@effect/vitest"
import * as MountSkills from "../../src/internal/mountSkills.ts"

const tool = {
  name: "read_file",
  title: "Read a file",
  description: "Reads a file.\nUse it for text.",
  inputSchema: { type: "object", properties: { path: { type: "string" } }, required: ["path"] },
  annotations: { readOnlyHint: true }
}

const skillOf = (definition: object) => {
  const [skill] = MountSkills.make("files", [definition]).catalog.skills
  assert.isDefined(skill)
  return skill
}

describe("skills of tools", () => {
  it("have a digest of the definition", () => {
    const { digest } = skillOf(tool)
    const { annotations, description, inputSchema, name, title } = tool
    const { properties, required, type } = inputSchema
    const reordered = { annotations, title, inputSchema: { required, properties, type }, description, name }
    assert.strictEqual(skillOf(reordered).digest, digest)
    assert.strictEqual(skillOf({ ...tool, _meta: { time: 1 }, icons: [{ src: "a" }] }).digest, digest)
    for (
      const changed of [
        { ...tool, description: "Reads a file. Use it for text." },
        { ...tool, annotations: {} },
        { ...tool, inputSchema: { type: "object" } },
        { ...tool, outputSchema: { type: "object" } },
        { ...tool, title: "Read" }
      ]
    ) assert.notStrictEqual(skillOf(changed).digest, digest, JSON.stringify(changed))
  })

  it("describe themselves on one line, cut where it is too long", () => {
    assert.strictEqual(skillOf(tool).description, "Reads a file. Use it for text.")
    assert.strictEqual(
      skillOf({ ...tool, description: " " }).description,
      `Read a file. The tool "read_file" of the MCP server files.`
    )
    const long = skillOf({ ...tool, description: "é".repeat(2000) })
    assert.strictEqual(Array.from(long.description).length, 1024)
    assert.isTrue(long.description.endsWith("é…"))
  })

  it("keep what a definition says from being read as something else", () => {
    const hostile = "---\nname: other\n---\n```\n\"': {a: b} # c\u2028\u0000"
    const { byName } = MountSkills.make("files", [{ ...tool, name: hostile, description: hostile, title: hostile }])
    const [mounted] = byName.values()
    assert.strictEqual(mounted?.document.frontMatter["name"], mounted?.skill.name)
    assert.deepEqual(mounted?.skill.manifest.metadata, { "mcp-server": "files", "mcp-tool": hostile })
  })

  it("are not made of skills", () => {
    const skill = { ...tool, name: "shout", _meta: { "skillscale/skill": "skill://testing/shout/SKILL.md" } }
    const { byName, catalog } = MountSkills.make("files", [skill, tool, { ...skill, name: "sing" }])
    assert.deepEqual(Array.from(byName.keys()), ["read-file"])
    assert.deepEqual(catalog.diagnostics.map(({ message }) => message), [
      "2 tools are left out: they are skills of a stack already, which agents reach there"
    ])
  })

  it("have the hints of the annotations, and MCP's where there are none", () => {
    const hintsOf = (annotations: object) =>
      Array.from(MountSkills.make("files", [{ ...tool, annotations }]).byName.values())[0]?.hints
    assert.deepEqual(hintsOf({}), { readOnly: false, destructive: true, idempotent: false, openWorld: true })
    assert.deepEqual(hintsOf({ readOnlyHint: true, openWorldHint: false }), {
      readOnly: true,
      destructive: false,
      idempotent: true,
      openWorld: false
    })
    assert.deepEqual(hintsOf({ destructiveHint: false, idempotentHint: true }), {
      readOnly: false,
      destructive: false,
      idempotent: true,
      openWorld: true
    })
  })
})
