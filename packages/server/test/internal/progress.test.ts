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

  it("are cut after 1,024 bytes, and told once, though they never end", () => {
    const piece = "x".repeat(900)
    assert.deepStrictEqual(said([`::progress::${piece}`, piece, piece, `${piece}\n::progress::y\n`]), [
      "x".repeat(1024),
      "y"
    ])
    assert.deepStrictEqual(said([`::progress::${"x".repeat(1024)}`, "\n::progress::y\n"]), ["x".repeat(1024), "y"])
    assert.isEmpty(said(["y".repeat(5000), "::progress::no\n"]))
  })

  it("are looked for in time that is little and linear", () => {
    const take = Progress.make()
    const began = performance.now()
    for (const text of ["\n", "\n::progres", "x", "::progress::", "\n:"]) {
      const piece = Buffer.alloc(1024 * 1024, text)
      for (let count = 0; count < 32; count++) assert.isEmpty(take(piece))
    }
    // Line by line it takes tens of seconds.
    assert.isBelow(performance.now() - began, 5000)
    assert.deepStrictEqual(take(Buffer.from("\n::progress:: y\n")), ["y"])
  })
})
