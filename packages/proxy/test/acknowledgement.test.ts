import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { countsOnAcknowledgement } from "../src/internal/acknowledgement.ts"

const Text = Schema.Array(Schema.Literals(["\"", "\\", "accepted", "acc", "epted", "\"accepted\"", ",", "x"]))
const Cuts = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 })))

const cut = (message: Buffer, sizes: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const pieces: Array<Buffer> = []
  let start = 0
  for (const size of sizes) {
    pieces.push(message.subarray(start, start + size))
    start += size
  }
  return [...pieces, message.subarray(start)]
}

describe("a request whose sender counts on an acknowledgement", () => {
  it("lists the event, wherever that is, and does not only speak of it", () => {
    const counts = (request: object) => countsOnAcknowledgement([Buffer.from(JSON.stringify(request))])
    assert.isTrue(counts({ accept: ["accepted"] }))
    assert.isTrue(counts({ accept: ["offer", "accepted"], intent: "x" }))
    assert.isFalse(counts({ accept: ["offer"], intent: "accepted or not" }))
    assert.isFalse(counts({ intent: JSON.stringify({ skill: "s", data: "{\"accept\":[\"accepted\"]}" }) }))
    assert.isFalse(countsOnAcknowledgement([]))
  })

  it.prop("is known from its pieces, wherever these begin and end", { text: Text, cuts: Cuts }, ({ cuts, text }) => {
    const message = Buffer.from(text.join(""))
    assert.strictEqual(countsOnAcknowledgement(cut(message, cuts)), message.includes("\"accepted\""))
  })
})
