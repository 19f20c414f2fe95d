import { assert, describe, it } from "@effect/vitest"
import * as Artifacts from "@skillscale/tools/Artifacts"
import * as Content from "../src/internal/content.ts"

const bounds: Content.Bounds = { file: 10, media: 20, total: 45, count: 4 }

const kindsOf = (files: ReadonlyArray<readonly [mime: string, data: string | Uint8Array]>): ReadonlyArray<string> => {
  const store = Artifacts.make()
  const artifacts = files.map(([mime, data], index) =>
    store.put({ path: `out/file ${index}`, mime, data: typeof data === "string" ? Buffer.from(data) : data })
  )
  return Content.contentOf({ text: "done", artifacts }, bounds).map((block) => block.type)
}

describe("content of an answer", () => {
  it("has files as what they are", () => {
    assert.deepStrictEqual(
      kindsOf([["image/png", "x"], ["audio/wav", "x"], ["text/plain", "x"], ["image/svg+xml", "<svg/>"]]),
      ["text", "image", "audio", "resource", "resource"]
    )
  })

  it("has links to those that are too large, one for one and all together", () => {
    const text = "x".repeat(10)
    assert.deepStrictEqual(kindsOf([["text/plain", text], ["text/plain", `${text}x`]]), [
      "text",
      "resource",
      "resource_link"
    ])
    assert.deepStrictEqual(
      kindsOf([["image/png", "x".repeat(20)], ["image/png", "y".repeat(21)]]),
      ["text", "image", "resource_link"]
    )
    const images = ["a", "b", "c"].map((letter) => ["image/png", letter.repeat(20)] as const)
    assert.deepStrictEqual(kindsOf([...images, ["text/plain", "12345"]]), [
      "text",
      "image",
      "image",
      "resource_link",
      "resource"
    ])
    assert.strictEqual(kindsOf(Array.from({ length: 9 }, (_, index) => ["text/plain", `${index}`] as const)).length, 5)
  })

  it("has bytes that are no text as they are, and text to the byte", () => {
    const odd = Uint8Array.of(0xff, 0, 0x80)
    assert.deepInclude(Content.contentsOf("x:y", "a/b", odd), { blob: Buffer.from(odd).toString("base64") })
    const text = "\ufeffa\r\nb\u0000é\n"
    assert.deepInclude(Content.contentsOf("x:y", "a/b", Buffer.from(text)), { text })
    assert.deepInclude(Content.contentsOf("x:y", "a/b", new Uint8Array()), { text: "" })
  })
})
