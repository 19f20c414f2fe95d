import * as ClientError from "@skillscale/client/ClientError"
import * as Artifacts from "@skillscale/tools/Artifacts"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as ModelText from "../../src/internal/modelText.ts"

const failed = (fields: { readonly stderr?: string; readonly content?: string; readonly exitCode?: number }) =>
  new ClientError.SkillFailed({ stderr: "", content: "", detail: "", exitCode: 1, ...fields })

describe("what a model reads", () => {
  it.prop("of a text is never longer than it may be, and the artifact has the rest", [Schema.String], ([part]) => {
    const text = part.repeat(50)
    const artifacts = Artifacts.make()
    for (const maxOutput of [1000, 1500]) {
      const shown = ModelText.capped(text, { artifacts, maxOutput }, "stdout.txt")
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
    const { text, whole } = ModelText.capped("x".repeat(5000), { artifacts, maxOutput: 1000 }, "stdout.txt")
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

  it("of a run that failed is its exit code, the end of standard error, and what it printed", () => {
    const stderr = Array.from({ length: 2000 }, (_, line) => `line ${line}`).join("\n")
    const text = ModelText.failure(failed({ stderr, content: "partial", exitCode: 3 }), 30_000)
    assert.match(text, /^The script exited with 3\.\n\nStandard error \(its end\):\n…line \d+\n/)
    assert.include(text, "line 1999")
    assert.notInclude(text, "line 100\n")
    assert.include(text, "Standard output:\npartial")
    assert.isAtMost(text.length, 4200)
  })

  it("of a run that failed fits, whatever it printed", () => {
    const text = ModelText.failure(failed({ stderr: "e".repeat(100_000), content: "c".repeat(100_000) }), 6000)
    assert.isAtMost(text.length, 6000)
    assert.include(text, "Standard output (its beginning):\nccc")
    assert.isAtMost(ModelText.failure(failed({ stderr: "e".repeat(100_000) }), 1000).length, 1000)
  })

  it("of a run that a signal ended, or a limit, names it", () => {
    const killed = new ClientError.SkillFailed({ stderr: "", content: "", detail: "", signal: "SIGSEGV" })
    assert.strictEqual(ModelText.failure(killed, 1000), "The script was ended by SIGSEGV.")
    const limit = new ClientError.LimitExceeded({
      code: "MemoryLimit",
      stderr: "oh",
      content: "",
      detail: "more than 1 GiB"
    })
    assert.strictEqual(ModelText.failure(limit, 1000), "more than 1 GiB\n\nStandard error:\noh")
  })

  it("of files is every one with what it is read by, and of more than there is room for where all are listed", () => {
    const artifacts = Artifacts.make()
    const made = Array.from(
      { length: 130 },
      (_, index) => artifacts.put({ path: `out/${index}.txt`, mime: "text/plain", data: Buffer.from(String(index)) })
    )
    const lines = ModelText.files(made, { artifacts, maxOutput: 30_000 }).split("\n")
    assert.strictEqual(lines.length, 131)
    assert.strictEqual(lines[50], `- "out/49.txt" (text/plain, 2 bytes): artifact ${made[49]?.id}`)
    assert.strictEqual(lines[51], `- "out/50.txt": artifact ${made[50]?.id}`)
    for (const maxOutput of [1000, 9000]) {
      const text = ModelText.files(made, { artifacts, maxOutput })
      assert.isBelow(text.length, maxOutput / 3 + 100)
      const [, more, id = ""] = /- and (\d+) more; read_artifact "(\w+)" lists all$/.exec(text) ?? []
      assert.strictEqual(Number(more) + text.split("\n").length - 2, 130)
      const listed = JSON.parse(Buffer.from(artifacts.get(id)?.data ?? []).toString())
      assert.deepStrictEqual(listed[129], { path: "out/129.txt", artifact: made[129]?.id, mime: "text/plain", size: 3 })
    }
    assert.strictEqual(ModelText.files([], { artifacts, maxOutput: 1000 }), "")
  })
})
