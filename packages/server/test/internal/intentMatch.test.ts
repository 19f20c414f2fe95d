import { assert, describe, it } from "@effect/vitest"
import * as IntentMatch from "../../src/internal/intentMatch.ts"

const skills = [
  { name: "csv-analyzer", description: "Analyzes CSV files and reports statistics of their columns." },
  { name: "text-summarizer", description: "Summarizes long documents into a few sentences." },
  { name: "code-complexity", description: "Measures the complexity of source code files." }
]
const match = (text: string) => IntentMatch.match(text, skills)?.name

describe("intentMatch", () => {
  it("finds the skill that a text clearly asks for, by name or description, in any form of the words", () => {
    assert.strictEqual(match("please analyze this CSV: a,b\n1,2"), "csv-analyzer")
    assert.strictEqual(match("Summarizing a long document"), "text-summarizer")
    assert.strictEqual(match("how complex is my source code?"), "code-complexity")
  })

  it("finds nothing where nothing, or more than one, fits", () => {
    for (const text of ["", "hello there", "files", "analyze the csv and summarize the text", "123", "日本語"]) {
      assert.isUndefined(match(text), text)
    }
    assert.isUndefined(IntentMatch.match("csv", []))
  })

  it("is not held up by a large text", () => {
    const began = performance.now()
    match("csv ".repeat(4_000_000))
    assert.isBelow(performance.now() - began, 1_000)
  })
})
