import * as Announcement from "@skillscale/core/Announcement"
import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const utf8 = (text: string) => new TextEncoder().encode(text)
const json = (value: unknown) => [utf8(JSON.stringify(value))]
const here = { server: "1f2e3d4c", topic: "TOPIC_A", revision: "9a" }

const reasonOf = (frames: ReadonlyArray<Uint8Array>): Protocol.ProtocolError["reason"] | undefined => {
  const decoded = Announcement.decode(frames)
  return Result.isFailure(decoded) ? decoded.failure.reason : undefined
}

describe("Announcement", () => {
  it.prop("every announcement survives a round trip", [Schema.toType(Announcement.Announcement)], ([announcement]) => {
    const payload = Result.getOrThrow(Announcement.encode(announcement))
    assert.isAtMost(payload.length, Announcement.maxBytes)
    assert.deepStrictEqual(Result.getOrThrow(Announcement.decode([payload])), announcement)
  })

  it.prop("no bytes crash the decoder", [Schema.Array(Schema.Uint8Array)], ([frames]) => {
    assert.isTrue(Result.isFailure(Announcement.decode(frames)))
  })

  it("is written as described, and read with fields that are not known", () => {
    const payload = Result.getOrThrow(Announcement.encode(here))
    assert.deepStrictEqual(JSON.parse(Buffer.from(payload).toString()), here)
    assert.deepStrictEqual(Result.getOrThrow(Announcement.decode(json({ ...here, zone: "a" }))), here)
    const leaving = { server: here.server, topic: here.topic }
    assert.deepStrictEqual(Result.getOrThrow(Announcement.decode(json(leaving))), leaving)
  })

  it("has bounds", () => {
    assert.isUndefined(reasonOf(json({ ...here, server: "s".repeat(64), revision: "r".repeat(64) })))
    for (const field of [{ server: "s".repeat(65) }, { server: "a/b" }, { server: "" }, { revision: "" }]) {
      assert.strictEqual(reasonOf(json({ ...here, ...field })), "Invalid")
    }
    assert.strictEqual(reasonOf(json({ ...here, revision: "r".repeat(65) })), "Invalid")
    assert.strictEqual(reasonOf(json({ ...here, topic: "t".repeat(256) })), "Invalid")
    const padded = (bytes: number) => [utf8(JSON.stringify(here).padEnd(bytes))]
    assert.isUndefined(reasonOf(padded(Announcement.maxBytes)))
    assert.strictEqual(reasonOf(padded(Announcement.maxBytes + 1)), "TooLarge")
    assert.strictEqual(reasonOf([...json(here), utf8("")]), "FrameCount")
  })
})
