import * as Load from "@skillscale/core/Load"
import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const utf8 = (text: string) => new TextEncoder().encode(text)
const json = (value: unknown) => [utf8(JSON.stringify(value))]
const busy = { running: 2, queued: 1, workers: 4 }

const reasonOf = (frames: ReadonlyArray<Uint8Array>): Protocol.ProtocolError["reason"] | undefined => {
  const decoded = Load.decode(frames)
  return Result.isFailure(decoded) ? decoded.failure.reason : undefined
}

describe("Load", () => {
  it.prop("every load survives a round trip", [Schema.toType(Load.Load)], ([load]) => {
    const payload = Result.getOrThrow(Load.encode(load))
    assert.isAtMost(payload.length, Load.maxBytes)
    assert.deepStrictEqual(Result.getOrThrow(Load.decode([payload])), load)
  })

  it.prop("no bytes crash the decoder", [Schema.Array(Schema.Uint8Array)], ([frames]) => {
    assert.isTrue(Result.isFailure(Load.decode(frames)))
  })

  it.prop("no JSON crashes the decoder", [Schema.Json], ([value]) => {
    assert.isBoolean(Result.isFailure(Load.decode(json(value))))
    for (const field of ["running", "queued", "workers", "received"]) {
      const load = { ...busy, [field]: value }
      const decoded = Load.decode(json(load))
      assert.strictEqual(Result.isSuccess(decoded), typeof value === "number" && Schema.is(Load.Load)(load))
    }
  })

  it("is written as described, and read with fields that are not known", () => {
    const payload = Result.getOrThrow(Load.encode({ ...busy, received: 7 }))
    assert.deepStrictEqual(JSON.parse(Buffer.from(payload).toString()), { ...busy, received: 7 })
    assert.deepStrictEqual(Result.getOrThrow(Load.decode(json({ ...busy, zone: "a" }))), busy)
  })

  it("has bounds", () => {
    assert.isUndefined(reasonOf(json({ running: Load.maxCount, queued: 0, workers: 0 })))
    assert.strictEqual(reasonOf(json({ ...busy, running: Load.maxCount + 1 })), "Invalid")
    assert.strictEqual(reasonOf(json({ ...busy, queued: -1 })), "Invalid")
    assert.strictEqual(reasonOf(json({ ...busy, workers: 0.5 })), "Invalid")
    assert.strictEqual(reasonOf([utf8("{\"running\":1e999,\"queued\":0,\"workers\":1}")]), "Invalid")
    const padded = (bytes: number) => [utf8(JSON.stringify(busy).padEnd(bytes))]
    assert.isUndefined(reasonOf(padded(Load.maxBytes)))
    assert.strictEqual(reasonOf(padded(Load.maxBytes + 1)), "TooLarge")
    assert.strictEqual(reasonOf([...json(busy), utf8("")]), "FrameCount")
  })
})
