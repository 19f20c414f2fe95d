import * as ClientError from "@skillscale/client/ClientError"
import * as Artifacts from "@skillscale/tools/Artifacts"
import type * as ToolError from "@skillscale/tools/ToolError"
import { assert, describe, it } from "@effect/vitest"
import { createHash } from "node:crypto"
import * as Failing from "../../src/internal/failing.ts"

const has = () => true

const failed = (fields: { readonly stderr?: string; readonly content?: string; readonly exitCode?: number }) =>
  new ClientError.SkillFailed({ stderr: "", content: "", detail: "", exitCode: 1, ...fields })

const errorOf = (failure: Failing.Failure, maxOutput = 30_000) =>
  Failing.errorOf("tool", failure, { artifacts: Artifacts.make(), maxOutput, has })

const textOf = (reason: ToolError.Reason, maxOutput?: number) => errorOf(reason, maxOutput).text

const file = (path: string, content: string) => {
  const data = Buffer.from(content)
  return { path, mime: "text/csv", data, size: data.length, sha256: createHash("sha256").update(data).digest("hex") }
}

const contents = ({ artifacts }: ToolError.ToolError) =>
  artifacts.map(({ data, path }) => [path, Buffer.from(data).toString()])

describe("what a model reads of a run that failed", () => {
  it("is its exit code, the end of standard error, and what it printed", () => {
    const stderr = Array.from({ length: 2000 }, (_, line) => `line ${line}`).join("\n")
    const text = textOf(failed({ stderr, content: "partial", exitCode: 3 }))
    assert.match(
      text,
      /^The script exited with 3\.\n\nStandard error \(its end; read_artifact "[0-9a-f]{16}" has more\):\n…line \d+\n/
    )
    assert.include(text, "line 1999")
    assert.notInclude(text, "line 100\n")
    assert.include(text, "Standard output:\npartial")
    assert.isAtMost(text.length, 4200)
  })

  it("fits, whatever it printed, and the rest is kept", () => {
    const stderr = "e".repeat(100_000)
    const content = "c".repeat(100_000)
    const error = errorOf(failed({ stderr, content }), 6000)
    assert.isAtMost(error.text.length, 6000)
    assert.include(error.text, "Standard output (its beginning):\nccc")
    assert.deepStrictEqual(contents(error), [["stdout.txt", content], ["stderr.txt", stderr]])
    for (const { id } of error.artifacts) assert.include(error.text, `read_artifact "${id}"`)
    const short = errorOf(failed({ stderr: `${stderr}the end`, content }), 1000).text
    assert.isAtMost(short.length, 1000)
    assert.include(short, "the end")
    assert.include(short, "of 100,000 characters")
  })

  it.each([1000, 1100, 1200, 1400, 2000])("tells in %i characters where all of it is", (maxOutput) => {
    const artifacts = Array.from({ length: 80 }, (_, index) => file(`out/file-number-${index}.txt`, String(index)))
    const left = {
      stdout: Buffer.from("o".repeat(50_000)),
      stderr: `${"line of an error\n".repeat(600)}the end`,
      artifacts,
      truncated: []
    }
    const reason = failed({ exitCode: 3 })
    const error = errorOf(new Failing.RunFailed({ reason, left }), maxOutput)
    assert.isAtMost(error.text.length, maxOutput)
    assert.include(error.text, "the end")
    const all = error.artifacts.filter(({ path }) => ["files.json", "stderr.txt", "stdout.txt"].includes(path))
    assert.strictEqual(all.length, 3)
    for (const { id } of all) assert.include(error.text, `read_artifact "${id}"`)
    assert.match(error.text, /- and \d+ more; read_artifact "\w{16}" has a list of all$/)
  })

  it("names the files that it made, whose names are nothing else's", () => {
    const left = {
      stdout: Buffer.from("o".repeat(2000)),
      stderr: "e".repeat(2000),
      artifacts: [file("stdout.txt", "mine"), file("table.csv", "a,b")],
      truncated: ["artifacts" as const]
    }
    const error = errorOf(new Failing.RunFailed({ reason: failed({}), left }), 2000)
    assert.deepStrictEqual(contents(error).map(([path]) => path), [
      "stdout.txt",
      "table.csv",
      "stdout_2.txt",
      "stderr.txt"
    ])
    assert.include(error.text, `- "table.csv" (text/csv, 3 bytes): artifact ${error.artifacts[1]?.id}`)
    assert.isTrue(error.text.endsWith("[the server cut artifacts at its limit]"), error.text)
    const written = JSON.stringify(error)
    assert.include(written, "table.csv")
    assert.notInclude(written, "\"data\"")
  })

  it("has the files of one whose output does not fit its schema", () => {
    const error = errorOf(
      new ClientError.InvalidOutput({
        issues: [],
        stderr: "",
        content: "no JSON",
        detail: "does not fit",
        artifacts: [file("table.csv", "a,b")]
      })
    )
    assert.match(error.text, /^does not fit\n\nStandard output:\nno JSON\n\nFiles:\n- "table.csv"/)
    assert.deepStrictEqual(contents(error), [["table.csv", "a,b"]])
    assert.notInclude(JSON.stringify(error), "\"data\"")
  })

  it("is no text where standard output is none", () => {
    const stdout = Buffer.from([255, 254])
    const left = { stdout, stderr: "", artifacts: [], truncated: [] }
    const error = errorOf(new Failing.RunFailed({ reason: failed({}), left }))
    assert.include(error.text, "Standard output:\n[standard output is not text (2 bytes): artifact")
    assert.deepStrictEqual(error.artifacts.map(({ data, path }) => [path, data]), [["stdout.bin", stdout]])
  })

  it("names the signal or the limit that ended it", () => {
    const killed = new ClientError.SkillFailed({ stderr: "", content: "", detail: "", signal: "SIGSEGV" })
    assert.strictEqual(textOf(killed), "The script was ended by SIGSEGV.")
    const limit = new ClientError.LimitExceeded({
      code: "MemoryLimit",
      stderr: "oh",
      content: "",
      detail: "more than 1 GiB"
    })
    assert.strictEqual(textOf(limit), "more than 1 GiB\n\nStandard error:\noh")
  })
})
