/** The README's code is that of the examples, which are run by the tests of their adapters. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.join(import.meta.dirname, "..")
const read = (file: string): string => Fs.readFileSync(Path.join(root, file), "utf8")
const readme = read("README.md")

const examples = Fs.readdirSync(Path.join(root, "examples")).map((name) => `examples/${name}`)

/** Those that the others import are not programs. */
const programs = examples.filter((file) =>
  !examples.some((other) => read(other).includes(`"./${Path.basename(file)}"`))
)

/** All of a program but what it says of itself at its beginning. */
const code = (file: string): string => read(file).replace(/^(?:\/\*\*.*?\*\/|""".*?""")\n+/s, "")

const frameworks = /^## Frameworks\n(.*?)^## /ms.exec(readme)?.[1] ?? ""

/** What the code of the section is said to be, and the code. */
const quoted = Array.from(
  frameworks.matchAll(/^(?:<!-- (\S+) -->\n\n)?```(?:ts|py)\n(.*?)^```$/gms),
  ([, file, text]) => [file ?? "no example", text] as const
)

describe("the README", () => {
  it("has all programs of the examples, each once, and no other code of frameworks", () => {
    assert.isAbove(programs.length, 8)
    assert.deepStrictEqual(quoted.map(([file]) => file).sort(), [...programs].sort())
  })

  for (const [file, text] of quoted) {
    it(`has what ${file} is`, () => {
      assert.strictEqual(text, code(file))
    })
  }

  it("has a program for each adapter, which names it", () => {
    const adapters = Fs.readdirSync(Path.join(root, "packages/adapters/src")).filter((name) => name.endsWith(".ts"))
    for (const name of adapters) {
      const entry = `@skillscale/adapters/${Path.basename(name, ".ts")}`
      assert.strictEqual(programs.filter((file) => code(file).includes(`from "${entry}"`)).length, 1, entry)
      assert.include(readme, `\`${entry}\``)
    }
  })

  it("shows only programs that a test runs", () => {
    const directory = "packages/adapters/test"
    const tests = Fs.readdirSync(Path.join(root, directory)).filter((name) => name.endsWith(".test.ts"))
    const text = tests.map((name) => read(`${directory}/${name}`)).join("")
    for (const file of programs) {
      const { base, ext, name } = Path.parse(file)
      assert.include(text, ext === ".ts" ? `runExample("${name}"` : `"examples/${base}"`, file)
    }
  })
})
