/** The README's code is that of the examples, which are run by the tests of their adapters. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.join(import.meta.dirname, "..")
const readme = Fs.readFileSync(Path.join(root, "README.md"), "utf8")

/** What is between the marks of an example, as far to the left as it goes. */
const marked = (file: string): string | undefined => {
  const text = Fs.readFileSync(Path.join(root, file), "utf8")
  const found = /^([ \t]*)(?:\/\/|#) README begin\n(.*?)^[ \t]*(?:\/\/|#) README end$/ms.exec(text)
  const [, indent = "", code] = found ?? []
  return code?.split("\n").map((line) => line.startsWith(indent) ? line.slice(indent.length) : line).join("\n")
}

const quoted = new Map(
  Array.from(
    readme.matchAll(/^<!-- (\S+) -->\n\n```(?:ts|py)\n(.*?)^```$/gms),
    ([, file = "", code = ""]) => [file, code]
  )
)

const examples = Fs.readdirSync(Path.join(root, "examples")).map((name) => `examples/${name}`)

describe("the README", () => {
  for (const file of examples.filter((file) => marked(file) !== undefined)) {
    it(`has what ${file} shows`, () => {
      assert.strictEqual(quoted.get(file), marked(file))
    })
  }

  it("has no code of an example that is not there", () => {
    assert.isAbove(quoted.size, 7)
    for (const file of quoted.keys()) assert.include(examples, file)
  })

  it("has an example for each adapter, which names it", () => {
    const adapters = Fs.readdirSync(Path.join(root, "packages/adapters/src")).filter((name) => name.endsWith(".ts"))
    const texts = examples.map((file) => Fs.readFileSync(Path.join(root, file), "utf8"))
    for (const name of adapters) {
      const entry = `@skillscale/adapters/${Path.basename(name, ".ts")}`
      assert.isTrue(texts.some((text) => text.includes(`"${entry}"`)), entry)
      assert.include(readme, `\`${entry}\``)
    }
  })
})
