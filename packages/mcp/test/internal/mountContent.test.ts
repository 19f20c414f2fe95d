import { assert, describe, it } from "@effect/vitest"
import * as MountContent from "../../src/internal/mountContent.ts"

const read = (answer: MountContent.Answer, hasSchema = false) => {
  const left = MountContent.read(answer, hasSchema)
  if (left === MountContent.tooLarge) throw new Error(left)
  return left
}

const resource = (uri: string, text = "x") => ({ type: "resource" as const, resource: { uri, text } })

describe("answers of tools", () => {
  it("give files the names that URIs end with, and none that lead elsewhere", () => {
    const uris = [
      "file:///a/..",
      "file:///%2e%2e%2fetc%2fpasswd",
      "a:b",
      "https://e.org/?q=/etc/passwd",
      "x/%zz",
      "/.hidden"
    ]
    const { artifacts } = read({ content: uris.map((uri) => resource(uri)) })
    assert.deepEqual(artifacts.map(({ path }) => path), [
      "resource-1.bin",
      "-etc-passwd",
      "a:b",
      "e.org",
      "%zz",
      "hidden"
    ])
  })

  it("have bounds for files", () => {
    const many = read({ content: Array.from({ length: 300 }, (_, index) => resource(`file:///${index}`)) })
    assert.strictEqual(many.artifacts.length, MountContent.maxFiles)
    assert.isTrue(many.artifactsTruncated)
    const large = read({
      content: [resource("file:///large", "x".repeat(MountContent.maxFileBytes)), resource("file:///b")]
    })
    assert.deepEqual(large.artifacts.map(({ path }) => path), ["large"])
    assert.isTrue(large.artifactsTruncated)
  })

  it("are structured where there is a schema, or no text", () => {
    const content = [{ type: "text" as const, text: "text" }]
    const textOf = (answer: MountContent.Answer, hasSchema: boolean) =>
      Buffer.from(read(answer, hasSchema).stdout).toString()
    assert.strictEqual(textOf({ content, structuredContent: { a: 1 } }, true), `{"a":1}`)
    assert.strictEqual(textOf({ content, structuredContent: { a: 1 } }, false), "text")
    assert.strictEqual(textOf({ content: [], structuredContent: [1] }, false), "[1]")
    const structuredContent = "x".repeat(MountContent.maxOutputBytes)
    assert.strictEqual(MountContent.read({ content, structuredContent }, true), MountContent.tooLarge)
  })

  it("are cut between characters", () => {
    const text = `x${"é".repeat(MountContent.maxOutputBytes / 2)}`
    const { stdout, stdoutTruncated } = read({ content: [{ type: "text", text }] })
    assert.isTrue(stdoutTruncated)
    assert.strictEqual(stdout.byteLength, MountContent.maxOutputBytes - 1)
    assert.isTrue(Buffer.from(stdout.subarray(-2)).toString() === "é")
  })
})
