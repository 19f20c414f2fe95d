import * as Artifacts from "@skillscale/tools/Artifacts"
import { assert, describe, it } from "@effect/vitest"
import { createHash } from "node:crypto"

const file = (text: string, path = "a.txt") => ({ path, mime: "text/plain", data: Buffer.from(text) })

describe("Artifacts", () => {
  it("names a file by its content, and gives it back", () => {
    const artifacts = Artifacts.make()
    const made = artifacts.put(file("hello"))
    assert.strictEqual(made.sha256, createHash("sha256").update("hello").digest("hex"))
    assert.strictEqual(made.id, made.sha256.slice(0, 16))
    assert.strictEqual(made.size, 5)
    assert.deepStrictEqual(artifacts.get(made.id), made)
    assert.strictEqual(artifacts.put(file("hello", "b.txt")).id, made.id)
    assert.strictEqual(artifacts.get(made.id)?.path, "b.txt")
    assert.isUndefined(artifacts.get("0".repeat(16)))
  })

  it("keeps as many as there may be, the latest", () => {
    const artifacts = Artifacts.make({ maxCount: 3 })
    const ids = ["a", "b", "c", "d"].map((text) => artifacts.put(file(text)).id)
    assert.deepStrictEqual(ids.map((id) => artifacts.get(id) !== undefined), [false, true, true, true])
  })

  it("keeps as many bytes as there may be, each content counted once", () => {
    const artifacts = Artifacts.make({ maxBytes: 10 })
    const first = artifacts.put(file("12345"))
    for (let time = 0; time < 10; time++) artifacts.put(file("12345"))
    const second = artifacts.put(file("67890"))
    assert.isDefined(artifacts.get(first.id))
    assert.isDefined(artifacts.get(second.id))
    const third = artifacts.put(file("x"))
    assert.isUndefined(artifacts.get(first.id))
    assert.isDefined(artifacts.get(third.id))
  })

  it("gives out what is too large to be kept, and lets go of nothing for it", () => {
    const artifacts = Artifacts.make({ maxBytes: 10 })
    const small = artifacts.put(file("small"))
    const large = artifacts.put(file("x".repeat(11)))
    assert.strictEqual(large.size, 11)
    assert.isUndefined(artifacts.get(large.id))
    assert.isDefined(artifacts.get(small.id))
  })
})
