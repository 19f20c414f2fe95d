import { assert, describe, it } from "@effect/vitest"
import * as Progress from "../../src/internal/progress.ts"

const said = (pieces: ReadonlyArray<string | Uint8Array>) => {
  const take = Progress.make()
  return pieces.flatMap((piece) => take(typeof piece === "string" ? Buffer.from(piece) : piece))
}

describe("progress lines", () => {
  it("are found however the text is cut", () => {
    const text =
      "start\n::progress:: 10 % ünï\nother ::progress:: no\n::progress::\n\n::progress::done\n::progress:: unfinished"
    const whole = said([text])
    assert.deepStrictEqual(whole, ["10 % ünï", "", "done"])
    const bytes = Buffer.from(text)
    assert.deepStrictEqual(said(Array.from(bytes, (byte) => Uint8Array.of(byte))), whole)
    for (let size = 2; size < bytes.length; size++) {
      const pieces = Array.from(
        { length: Math.ceil(bytes.length / size) },
        (_, index) => bytes.subarray(index * size, (index + 1) * size)
      )
      assert.deepStrictEqual(said(pieces), whole)
    }
  })

  it("are cut after 1,024 bytes", () => {
    const [content = ""] = said([`::progress::${"x".repeat(900)}`, `${"x".repeat(900)}\n`])
    assert.strictEqual(content, "x".repeat(1024))
    assert.isEmpty(said(["y".repeat(5000), "::progress::no\n"]))
  })
})
