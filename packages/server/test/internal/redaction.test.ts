import { assert, describe, it } from "@effect/vitest"
import * as Redaction from "../../src/internal/redaction.ts"

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("utf8")
const all = (secrets: ReadonlyArray<string>, input: string, cut = false) =>
  text(Redaction.make(secrets).all(Buffer.from(input), cut))

describe("redaction", () => {
  it("takes out every occurrence, and how else a value is written", () => {
    assert.strictEqual(all(["s3cret"], "a s3cret, s3crets3cret"), "a [redacted], [redacted][redacted]")
    assert.strictEqual(all(["p&ss w/rd"], "?key=p%26ss%20w%2Frd"), "?key=[redacted]")
    assert.strictEqual(all(["a\"b\nc"], JSON.stringify("a\"b\nc")), "\"[redacted]\"")
    assert.strictEqual(all(["-----BEGIN\nline-one-1\nline-two-2\n"], "got line-two-2"), "got [redacted]")
    assert.strictEqual(all(["ünïcödé"], "xünïcödéx"), "x[redacted]x")
    assert.strictEqual(all(["abcd", "abcdefgh"], "abcdefgh abcd"), "[redacted] [redacted]")
  })

  it("leaves values of fewer than four characters, and text without secrets, alone", () => {
    assert.strictEqual(all(["abc", ""], "abc"), "abc")
    assert.strictEqual(all([], "anything"), "anything")
    assert.strictEqual(all(["s3cret"], "s3cre"), "s3cre")
  })

  it("takes out the beginning of a value where the text was cut", () => {
    assert.strictEqual(all(["s3cret"], "x s3cre", true), "x [redacted]")
    assert.strictEqual(all(["s3cret"], "x s3", true), "x s3")
    assert.strictEqual(all(["s3cret"], "s3cret y", true), "[redacted] y")
  })

  it("finds values that are spread over pieces, and holds nothing else back", () => {
    const input = "one s3cret two s3cs3cret abcdefgh abcdXabc"
    const redactor = Redaction.make(["s3cret", "abcd", "abcdefgh"])
    for (let first = 0; first <= input.length; first++) {
      for (let second = first; second <= input.length; second++) {
        const next = redactor.pieces()
        const parts = [input.slice(0, first), input.slice(first, second), input.slice(second)]
        const output = [...parts.map((part) => text(next(Buffer.from(part)))), text(next(undefined))].join("")
        assert.strictEqual(output, "one [redacted] two s3c[redacted] [redacted] [redacted]Xabc", parts.join("|"))
      }
    }
    assert.strictEqual(text(redactor.pieces()(Buffer.from("nothing here\n"))), "nothing here\n")
  })

  it("stays fast on hostile text", () => {
    const began = performance.now()
    all(["abcd", "never-there-1", "never-there-2"], "abcd".repeat(250_000))
    assert.isBelow(performance.now() - began, 3_000)
  })
})
