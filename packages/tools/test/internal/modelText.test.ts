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

  it("of files lists fifty", () => {
    const artifacts = Artifacts.make()
    const made = Array.from(
      { length: 60 },
      (_, index) => artifacts.put({ path: `f${index}`, mime: "text/plain", data: Buffer.from(String(index)) })
    )
    const lines = ModelText.files(made, { artifacts, maxOutput: 1000, has }).split("\n")
    assert.strictEqual(lines.length, 52)
    assert.strictEqual(lines[1], `- "f0" (text/plain, 1 byte): artifact ${made[0]?.id}`)
    assert.strictEqual(lines.at(-1), "- and 10 more")
  })
})
