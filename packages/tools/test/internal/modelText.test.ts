import * as Artifacts from "@skillscale/tools/Artifacts"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as ModelText from "../../src/internal/modelText.ts"

const has = () => true

describe("what a model reads", () => {
  it.prop("of a text is never longer than it may be, and the artifact has the rest", [Schema.String], ([part]) => {
    const text = part.repeat(50)
    const artifacts = Artifacts.make()
    for (const maxOutput of [1000, 1500]) {
      const shown = ModelText.capped(text, { artifacts, maxOutput, has }, "stdout.txt")
      assert.isAtMost(shown.text.length, maxOutput)
      if (text.length <= maxOutput) assert.deepStrictEqual(shown, { text, whole: undefined })
      else {assert.strictEqual(
          Buffer.from(artifacts.get(shown.whole?.id ?? "")?.data ?? []).toString(),
          Buffer.from(text).toString()
        )}
    }
  })

  it("of a text that is cut tells where the rest is", () => {
    const artifacts = Artifacts.make()
    const { text, whole } = ModelText.capped("x".repeat(5000), { artifacts, maxOutput: 1000, has }, "stdout.txt")
    assert.include(text, `read_artifact "${whole?.id}" from offset 800`)
    assert.strictEqual(text.indexOf("\n"), 800)
  })

  it("never ends between the halves of a character", () => {
    for (const length of [1, 2, 3, 4, 5]) {
      const shown = ModelText.head("😀😀😀", length)
      assert.strictEqual(Buffer.from(shown).toString(), shown)
    }
    assert.strictEqual(ModelText.head("😀😀😀", 3), "😀")
  })

  it("of files is every one with what it is read by, and of more than there is room for where all are listed", () => {
    const artifacts = Artifacts.make()
    const made = Array.from(
      { length: 130 },
      (_, index) => artifacts.put({ path: `out/${index}.txt`, mime: "text/plain", data: Buffer.from(String(index)) })
    )
    const lines = ModelText.files(made, { artifacts, has, maxOutput: 30_000 }).text.split("\n")
    assert.strictEqual(lines.length, 131)
    assert.strictEqual(lines[50], `- "out/49.txt" (text/plain, 2 bytes): artifact ${made[49]?.id}`)
    assert.strictEqual(lines[51], `- "out/50.txt": artifact ${made[50]?.id}`)
    for (const maxOutput of [1000, 9000]) {
      const { list, text } = ModelText.files(made, { artifacts, has, maxOutput })
      assert.isBelow(text.length, maxOutput / 3 + 100)
      const [, more, id = ""] = /- and (\d+) more; read_artifact "(\w+)" has a list of all$/.exec(text) ?? []
      assert.deepStrictEqual(list.map((all) => [all.id, all.path]), [[id, "files.json"]])
      assert.strictEqual(Number(more) + text.split("\n").length - 2, 130)
      const listed = JSON.parse(Buffer.from(artifacts.get(id)?.data ?? []).toString())
      assert.deepStrictEqual(listed[129], { path: "out/129.txt", artifact: made[129]?.id, mime: "text/plain", size: 3 })
    }
    assert.deepStrictEqual(ModelText.files([], { artifacts, has, maxOutput: 1000 }), { text: "", list: [] })
  })
})
