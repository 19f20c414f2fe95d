import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as MountLines from "../../src/internal/mountLines.ts"

const collect = (maxBytes: number) => {
  const lines: Array<string> = []
  const overlong: Array<readonly [string, string]> = []
  const push = MountLines.make(maxBytes, {
    onLine: (line) => lines.push(line.toString()),
    onOverlong: (begin, end) => overlong.push([begin.toString(), end.toString()])
  })
  return { lines, overlong, push: (text: string) => push(Buffer.from(text)) }
}

describe("lines of a program", () => {
  it.prop(
    "are the same however they come",
    [
      Schema.Array(Schema.Literals(["a", "bc", "\n", "é", "\n\n"])),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 }))
    ],
    ([words, size]) => {
      const text = `${words.join("")}\n`
      const { lines, push } = collect(1000)
      const bytes = Buffer.from(text)
      for (let at = 0; at < bytes.length; at += size) push(bytes.subarray(at, at + size).toString("latin1"))
      const expected = Buffer.from(text).toString("latin1").split("\n").filter((line) => line !== "")
      return JSON.stringify(lines) === JSON.stringify(expected)
    }
  )

  it("are told by their ends when they are too long, and the next ones whole", () => {
    const { lines, overlong, push } = collect(10_000)
    push("short\nbegin")
    for (let piece = 0; piece < 100; piece++) push("x".repeat(1000))
    push("end\nshort again\n")
    assert.deepEqual(lines, ["short", "short again"])
    assert.strictEqual(overlong.length, 1)
    const [begin, end] = overlong[0] ?? ["", ""]
    assert.isTrue(begin.startsWith("beginxxx"))
    assert.isTrue(end.endsWith("xxxend"))
    assert.strictEqual(begin.length, 4096)
    assert.strictEqual(end.length, 4096)
  })

  it("may be as long as is allowed", () => {
    const { lines, overlong, push } = collect(10)
    push("0123456789\n01234567890\n")
    assert.deepEqual(lines, ["0123456789"])
    assert.deepEqual(overlong, [["01234567890", "01234567890"]])
  })
})
