import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Cli from "./support/cli.ts"
import * as Up from "./support/up.ts"

const shipped = fileURLToPath(new URL("../../../skills", import.meta.url))

const write = (folder: string, path: string, text: string) => {
  const file = Path.join(folder, path)
  mkdirSync(Path.dirname(file), { recursive: true })
  writeFileSync(file, text)
}

const manifest = (name: string, more = "") => `---\nname: ${name}\ndescription: Tests ${name}.\n${more}---\nText.\n`

layer(NodeServices.layer, { excludeTestServices: true, timeout: 60_000 })("skills", (it) => {
  it.effect("list and validate what ships", () =>
    Effect.gen(function*() {
      const valid = yield* Cli.run(["skills", "validate", shipped])
      assert.deepStrictEqual([valid.code, valid.stderr], [0, ""])
      assert.match(valid.stdout, /^(\d+) of \1 skills are valid\n$/)
      const listed = yield* Cli.run(["skills", "list"], { env: { SKILLSCALE_SKILLS_DIR: shipped } })
      assert.deepStrictEqual([listed.code, listed.stderr], [0, ""])
      assert.match(listed.stdout, /^csv-analyzer +TOPIC_DATA_PROCESSING {2}\S/m)
      const json: ReadonlyArray<Readonly<Record<string, unknown>>> = JSON.parse(
        (yield* Cli.run(["skills", "list", "--skills-dir", shipped, "--json"])).stdout
      )
      const csv = json.find((skill) => skill["name"] === "csv-analyzer")
      assert.deepStrictEqual([csv?.["category"], csv?.["entry"]], ["data-processing", "scripts/run.py"])
    }))

  it.effect("show prints the manifest, and suggests a name", () =>
    Effect.gen(function*() {
      const shown = yield* Cli.run(["skills", "show", "csv-analyzer", "--skills", shipped])
      assert.match(shown.stdout, /^---\nname: csv-analyzer\n/)
      const files = yield* Cli.run(["skills", "show", "csv-analyzer", "--skills", shipped, "--json"])
      assert.include(files.stdout, "\"scripts/report.py\"")
      const wrong = yield* Cli.run(["skills", "show", "csv-analyser", "--skills", shipped])
      assert.deepStrictEqual([wrong.code, wrong.stdout], [2, ""])
      assert.match(
        wrong.stderr,
        /^skillscale: there is no skill "csv-analyser" in [^\n]*; did you mean csv-analyzer\?[^\n]*\n$/
      )
    }))

  it.effect("show and validate tell of schemas, and what is wrong with them", () =>
    Effect.gen(function*() {
      const home = yield* Up.folder
      const metadata = "metadata:\n  skillscale.input: in.json\n"
      write(home, "a/good/SKILL.md", manifest("good", metadata))
      write(home, "a/good/in.json", "{ \"type\": \"array\" }")
      write(home, "a/wrong/SKILL.md", manifest("wrong", metadata))
      write(home, "a/wrong/in.json", "{ \"type\": \"lost\" }")
      const { code, stderr, stdout } = yield* Cli.run(["skills", "validate", home])
      assert.deepStrictEqual([code, stdout], [2, "1 of 2 skills are valid\n"])
      assert.match(stderr, /^[^\n]*a\/wrong\/in\.json:1: error: [^\n]*at \/type: expected [^\n]*\(InvalidSchema\)\n$/)
      const show = (name: string, ...more: ReadonlyArray<string>) =>
        Cli.run(["skills", "show", name, "--skills", home, ...more])
      const good = JSON.parse((yield* show("good", "--json")).stdout)
      assert.deepStrictEqual([good.input, good.output, good.refusal], [{ type: "array" }, null, null])
      const wrong = JSON.parse((yield* show("wrong", "--json")).stdout)
      assert.deepStrictEqual([wrong.input, wrong.output], [null, null])
      assert.include(wrong.refusal, "at /type")
      const text = yield* show("wrong")
      assert.strictEqual(text.stdout, manifest("wrong", metadata))
      assert.match(text.stderr, /^warning: calls are refused: [^\n]*at \/type[^\n]*\n$/)
      const [listed] = (yield* Cli.run(["skills", "list", "--skills", home])).stderr.split("\n")
      assert.match(listed ?? "", /in\.json:1: warning: .*calls of the entry point are refused \(InvalidSchema\)$/)
    }))

  it.effect("validate names file and line of what is wrong, and exits with 2", () =>
    Effect.gen(function*() {
      const home = yield* Up.folder
      write(home, "a/good/SKILL.md", manifest("good"))
      write(home, "a/other/SKILL.md", manifest("name-of-another"))
      write(home, "a/extra/SKILL.md", manifest("extra", "argument-hint: x\n"))
      write(home, "a/broken/SKILL.md", "---\nname: broken\ndescription: [\n---\n")
      write(home, "a/bare/SKILL.md", "no front matter\n")
      const { code, stderr, stdout } = yield* Cli.run(["skills", "validate", home])
      assert.deepStrictEqual([code, stdout], [2, "1 of 5 skills are valid\n"])
      for (const name of ["other", "extra", "broken", "bare"]) {
        assert.match(stderr, new RegExp(`/a/${name}/SKILL\\.md:\\d+: error: `))
      }
      assert.notInclude(stderr, "a/good")
      const listed = yield* Cli.run(["skills", "list", "--skills", home])
      assert.deepStrictEqual([listed.code, listed.stdout.match(/^good /m)?.length], [0, 1])
      assert.match(listed.stderr, /a\/broken\/SKILL\.md:\d+: error: /)
    }))

  it.effect("tell what to do where there are none", () =>
    Effect.gen(function*() {
      const home = yield* Up.folder
      symlinkSync("loop", Path.join(home, "loop"))
      mkdirSync(Path.join(home, "empty"))
      const cases = [
        { args: ["list", "--skills", Path.join(home, "empty")], code: 0, says: "no skills in" },
        { args: ["list", "--skills", Path.join(home, "missing")], code: 2, says: "it does not exist" },
        { args: ["list", "--skills", Path.join(home, "loop")], code: 2, says: "cannot scan" },
        { args: ["validate", Path.join(home, "empty")], code: 2, says: "skillscale skills new NAME" },
        { args: ["validate", Path.join(home, "missing")], code: 2, says: "is not a folder that can be read" },
        { args: ["show", "x", "--skills", Path.join(home, "empty")], code: 2, says: "there are: none" }
      ]
      for (const { args, code, says } of cases) {
        const ended = yield* Cli.run(["skills", ...args])
        assert.deepStrictEqual([ended.code, ended.stdout], [code, ""])
        assert.match(ended.stderr, /^[^\n]+\n$/)
        assert.include(ended.stderr, says)
      }
    }))

  it.effect("new refuses what would not be valid, and writes nothing", () =>
    Effect.gen(function*() {
      const home = yield* Up.folder
      for (
        const [args, says] of [
          [["Bad_Name"], "NAME \"Bad_Name\": expected 1 to 64 of a-z"],
          [["a--b"], "NAME \"a--b\""],
          [["../up"], "NAME \"../up\""],
          [["ok", "--category", "No Such"], "--category \"No Such\""],
          [["ok", "--description", ""], "--description \"\": "],
          [["ok", "--description", "x".repeat(1025)], "1024"]
        ] as const
      ) {
        const { code, stderr, stdout } = yield* Cli.run(["skills", "new", ...args, "--skills", home])
        assert.deepStrictEqual([code, stdout], [2, ""])
        assert.match(stderr, /^skillscale: [^\n]+\n$/)
        assert.include(stderr, says)
      }
      assert.deepStrictEqual(Cli.listing(home), [])
      const quoted = ["ok", "--description", "Says: \"yes\" # or\nno", "--skills", Path.join(home, "new")]
      const made = yield* Cli.run(["skills", "new", ...quoted])
      assert.strictEqual(made.code, 0, made.stderr)
      assert.strictEqual((yield* Cli.run(["skills", "validate", made.stdout.trim()])).code, 0)
    }))
})
