import * as SkillManifest from "@skillscale/core/SkillManifest"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const source = { file: "csv-analyzer/SKILL.md", folder: "csv-analyzer" }

const parse = (text: string) => Result.getOrThrow(SkillManifest.parse(text, source))

const skill = (...fields: ReadonlyArray<string>) => parse(document(...fields))

const document = (...fields: ReadonlyArray<string>) =>
  ["---", "name: csv-analyzer", ...fields, "---", "# Body", ""].join("\n")

const reject = (text: string) => {
  const parsed = SkillManifest.parse(text, source)
  assert.isTrue(Result.isFailure(parsed), "expected the skill to be rejected")
  return Result.isFailure(parsed) ? parsed.failure.diagnostics : []
}

const found = (diagnostics: ReadonlyArray<SkillManifest.Diagnostic>) =>
  diagnostics.map(({ code, line, severity }) => `${severity} ${code} ${line}`)

describe("SkillManifest.parse", () => {
  it("reads every field of the format", () => {
    const { body, bodyLine, diagnostics, manifest } = skill(
      "description: >-",
      "  Analyses CSV:",
      "  types and ranges.",
      "license: 'MIT: see LICENSE'",
      "compatibility: \"needs python3 # really\"",
      "metadata:",
      "  author: acme",
      "  version: \"1.0\"",
      "allowed-tools: Bash(git:*) Read"
    )
    assert.deepStrictEqual(manifest, {
      name: "csv-analyzer",
      description: "Analyses CSV: types and ranges.",
      license: "MIT: see LICENSE",
      compatibility: "needs python3 # really",
      metadata: { author: "acme", version: "1.0" },
      allowedTools: "Bash(git:*) Read",
      extra: {}
    })
    assert.strictEqual(body, "# Body\n")
    assert.strictEqual(bodyLine, 13)
    assert.deepStrictEqual(diagnostics, [])
    assert.deepStrictEqual(Schema.decodeUnknownSync(SkillManifest.SkillManifest)(manifest), manifest)
  })

  it("reads CRLF, a byte order mark, trailing spaces and tabs after colons", () => {
    const { body, diagnostics, manifest } = parse(
      "\uFEFF---  \r\nname:\tcsv-analyzer\r\ndescription: |\r\n  one\r\n  two\r\n---\t\r\nbody\r\n"
    )
    assert.strictEqual(manifest.description, "one\ntwo")
    assert.strictEqual(body, "body\r\n")
    assert.deepStrictEqual(diagnostics, [])
  })

  it("ends the front matter at the first line of three hyphens only", () => {
    const { body, manifest } = skill("description: |", "  a", "  ---", "  b --- c\u2028--- d", "# ---")
    assert.strictEqual(manifest.description, "a\n---\nb --- c\u2028--- d")
    assert.strictEqual(body, "# Body\n")
    assert.strictEqual(parse("---\ndescription: x\n---\na\n---\nb\n---\n").body, "a\n---\nb\n---\n")
    assert.strictEqual(parse("---\ndescription: x\n---").body, "")
  })

  it("names file, line and column of what it rejects", () => {
    assert.deepStrictEqual(reject("# No front matter"), [{
      severity: "error",
      file: source.file,
      line: 1,
      column: 1,
      code: "NoFrontMatter",
      message: "expected front matter: the first line must be ---"
    }])
    assert.deepStrictEqual(found(reject("")), ["error NoFrontMatter 1"])
    assert.deepStrictEqual(found(reject("---\nname: a\n")), ["error NoFrontMatter 1"])
    assert.deepStrictEqual(found(reject("---\n---\n")), ["error InvalidYaml 2"])
    assert.deepStrictEqual(found(reject("---\n- a\n---\n")), ["error InvalidYaml 2"])
    assert.deepStrictEqual(found(reject(document("license: [MIT", "description: x"))), ["error InvalidYaml 4"])
    assert.deepStrictEqual(found(reject(document("description: a", "description: b"))), ["error InvalidYaml 4"])
    assert.deepStrictEqual(found(reject(document("description: x", "metadata:", "\ta: b"))), ["error InvalidYaml 5"])
    assert.deepStrictEqual(found(reject(document("description: *nothing"))), ["error InvalidYaml 3"])
    assert.deepStrictEqual(found(reject(document("license: MIT"))), ["error MissingDescription 1"])
    assert.deepStrictEqual(found(reject(document("license: MIT", "description: ''"))), ["error MissingDescription 4"])
    assert.deepStrictEqual(found(reject(document("description:"))), ["error MissingDescription 3"])
    assert.deepStrictEqual(found(reject(document("description: [a]"))), ["error InvalidDescription 3"])
  })

  it("takes a value with a bare colon as if it were quoted", () => {
    const { diagnostics, manifest } = skill(
      "description: Use when: it's a CSV",
      "  and also: TSV # a comment",
      "compatibility: python3",
      "metadata:",
      "  usage: run: now",
      "  block: |",
      "    a: b: c",
      "  empty:"
    )
    assert.strictEqual(manifest.description, "Use when: it's a CSV and also: TSV")
    assert.deepStrictEqual(manifest.metadata, { usage: "run: now", block: "a: b: c\n", empty: "" })
    assert.deepStrictEqual(found(diagnostics), [
      "warning RepairedYaml 3",
      "warning RepairedYaml 7",
      "warning InvalidMetadata 10"
    ])
    assert.strictEqual(parse("---\r\ndescription: a: b\r\nname: csv-analyzer\r\n---\r\n").manifest.description, "a: b")
    assert.strictEqual(skill("description: Use for:").manifest.description, "Use for:")
  })

  it("reports the YAML as it was written when quoting does not mend it", () => {
    assert.deepStrictEqual(
      found(reject(document("description: a: b", "license: [MIT"))).slice(0, 1),
      ["error InvalidYaml 3"]
    )
  })

  it("takes the folder's name where the name is missing or unusable", () => {
    for (const [text, code] of [["", "MissingName"], ["name: ''", "InvalidName"], ["name: \"a\\nb\"", "InvalidName"]]) {
      const { diagnostics, manifest } = parse(`---\ndescription: x\n${text}\n---\n`)
      assert.strictEqual(manifest.name, "csv-analyzer")
      assert.deepStrictEqual(diagnostics.map((diagnostic) => diagnostic.code), [code])
    }
    const nameless = SkillManifest.parse("---\ndescription: x\n---\n", { file: "SKILL.md", folder: "a\u0007b" })
    assert.deepStrictEqual(Result.isFailure(nameless) && found(nameless.failure.diagnostics), ["error MissingName 1"])
  })

  it("warns of what the format forbids, and loads", () => {
    const warnings = (...fields: ReadonlyArray<string>) =>
      skill("description: x", ...fields).diagnostics.map(({ code, severity }) => `${severity} ${code}`)
    assert.deepStrictEqual(warnings("argument-hint: '[file]'", "disable-model-invocation: true"), [
      "warning UnknownField",
      "warning UnknownField"
    ])
    assert.deepStrictEqual(warnings(`compatibility: ${"é".repeat(500)}`), [])
    assert.deepStrictEqual(warnings(`compatibility: ${"é".repeat(501)}`), ["warning InvalidCompatibility"])
    assert.deepStrictEqual(warnings("license: {}"), ["warning InvalidLicense"])
    assert.deepStrictEqual(warnings("license: 2.0"), ["warning InvalidLicense"])
    assert.deepStrictEqual(warnings("metadata: text"), ["warning InvalidMetadata"])
    assert.deepStrictEqual(warnings("metadata:", "  a: 1.0"), ["warning InvalidMetadata"])
    assert.deepStrictEqual(warnings("allowed-tools: [Read, Write]"), ["warning InvalidAllowedTools"])
    const named = (name: string) =>
      parse(`---\nname: ${name}\ndescription: x\n---\n`).diagnostics.map(({ code }) => code)
    assert.deepStrictEqual(named("other"), ["NameMismatch"])
    assert.deepStrictEqual(named("csv--analyzer"), ["InvalidName", "NameMismatch"])
    assert.deepStrictEqual(named("Csv"), ["InvalidName", "NameMismatch"])
    assert.deepStrictEqual(named("a".repeat(65)), ["InvalidName", "NameMismatch"])
    const long = (length: number) =>
      parse(`---\nname: csv-analyzer\ndescription: ${"😀".repeat(length)}\n---\n`).diagnostics.map(({ code }) => code)
    assert.deepStrictEqual(long(1_024), [])
    assert.deepStrictEqual(long(1_025), ["InvalidDescription"])
  })

  it("keeps what it does not know, and scalars as they were written", () => {
    const { manifest } = skill(
      "description: 007",
      "allowed-tools: [Read, Write]",
      "user-invocable: false",
      "hooks: { pre: [1, two, null] }",
      "metadata:",
      "  version: 1.10",
      "  nested: { a: [1] }"
    )
    assert.strictEqual(manifest.description, "007")
    assert.strictEqual(manifest.allowedTools, "Read Write")
    assert.deepStrictEqual(manifest.extra, { "user-invocable": false, hooks: { pre: [1, "two", null] } })
    assert.deepStrictEqual(manifest.metadata, { version: "1.10", nested: "{\"a\":[1]}" })
  })
})

describe("SkillManifest.parse of hostile text", () => {
  it("bounds the file and the front matter", () => {
    assert.deepStrictEqual(found(reject(`${document("description: x")}${"é".repeat(524_288)}`)), ["error TooLarge 1"])
    assert.deepStrictEqual(found(reject(document(`description: ${"x".repeat(65_536)}`))), ["error TooLarge 1"])
    assert.strictEqual(parse(`${document("description: x")}${"x".repeat(900_000)}`).manifest.description, "x")
  })

  it("keeps all fields as YAML means them", () => {
    const { frontMatter } = skill(
      "description: d",
      "metadata: { version: 1.50, build: 007, on: true, tags: [a, 2, null] }",
      "allowed-tools: [Read, Bash]",
      "hooks: &h { pre: [1, two] }",
      "again: *h",
      "when: 2024-01-02",
      "limit: .inf",
      "huge: 1e999",
      "1: one",
      "~: nothing",
      "__proto__: { polluted: true }"
    )
    assert.deepStrictEqual(frontMatter, {
      name: "csv-analyzer",
      description: "d",
      metadata: { version: 1.5, build: 7, on: true, tags: ["a", 2, null] },
      "allowed-tools": ["Read", "Bash"],
      hooks: { pre: [1, "two"] },
      again: { pre: [1, "two"] },
      when: "2024-01-02",
      limit: ".inf",
      huge: "1e999",
      "1": "one",
      "": "nothing"
    })
    assert.deepStrictEqual(JSON.parse(JSON.stringify(frontMatter)), frontMatter)
  })

  it("bounds the characters that aliases expand to", () => {
    const text = "x".repeat(32_000)
    const times = (count: number) => document("description: d", `a: &a ${text}`, `b: [${"*a, ".repeat(count)}]`)
    assert.lengthOf(JSON.stringify(parse(times(7)).frontMatter), 256_075)
    const [problem] = reject(times(8))
    assert.deepInclude(problem, { code: "InvalidYaml", severity: "error" })
    assert.include(problem?.message, "262144 characters")
  })

  it("bounds what aliases expand to", () => {
    const bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for (let level = 1; level < 12; level++) {
      bomb.push(`a${level}: &a${level} [${Array.from({ length: 10 }, () => `*a${level - 1}`).join(", ")}]`)
    }
    assert.deepStrictEqual(found(reject(document("description: x", ...bomb))), ["error InvalidYaml 7"])
    assert.deepStrictEqual(found(reject(document("description: x", "a: &a [*a, *a]"))), ["error InvalidYaml 4"])
    assert.deepStrictEqual(skill("description: &d x", "metadata: { a: *d }").manifest.metadata, { a: "x" })
  })

  it("bounds nesting, and many values", () => {
    for (const value of ["[".repeat(60_000), "[".repeat(30_000) + "]".repeat(30_000), "{a: ".repeat(15_000)]) {
      assert.strictEqual(reject(document("description: x", `a: ${value}`))[0]?.code, "InvalidYaml")
    }
    const keys = Array.from({ length: 11_000 }, (_, index) => `${index.toString(36)}:`)
    const startedAt = performance.now()
    assert.strictEqual(reject(document("description: x", ...keys))[0]?.code, "InvalidYaml")
    assert.isBelow(performance.now() - startedAt, 2_000)
  })

  it("cannot reach a prototype", () => {
    const { diagnostics, manifest } = skill(
      "description: x",
      "__proto__: { polluted: true }",
      "constructor: { prototype: { polluted: true } }",
      "nested: { __proto__: { polluted: true } }",
      "metadata:",
      "  __proto__: x",
      "  toString: y"
    )
    assert.isUndefined(Reflect.get({}, "polluted"))
    assert.strictEqual(Object.getPrototypeOf(manifest.extra), Object.prototype)
    assert.deepStrictEqual(Object.keys(manifest.extra), ["constructor", "nested"])
    assert.deepStrictEqual(manifest.extra["nested"], {})
    assert.deepStrictEqual(manifest.metadata, { toString: "y" })
    assert.deepStrictEqual(diagnostics.map(({ code, line }) => `${code} ${line}`), [
      "ReservedKey 4",
      "ReservedKey 6",
      "ReservedKey 8",
      "UnknownField 5",
      "UnknownField 6"
    ])
  })

  it.prop("accepts or rejects any text without throwing", [Schema.String, Schema.String], ([fields, body]) => {
    const text = `---\n${fields}\n---\n${body}`
    const parsed = SkillManifest.parse(text, source)
    const { diagnostics } = Result.merge(parsed)
    return Result.isSuccess(parsed) !== diagnostics.some(({ severity }) => severity === "error") &&
      diagnostics.every(({ line }) => line >= 1 && line <= text.split("\n").length)
  })

  it.prop(
    "gives back the body byte for byte",
    [Schema.String],
    ([body]) => parse(document("description: x").replace("# Body\n", () => body)).body === body
  )
})

describe("SkillManifest.validate", () => {
  it("accepts what the format allows", () => {
    const text = document("description: x", "metadata: { a: b }", "allowed-tools: Read", "license: MIT")
    assert.deepStrictEqual(SkillManifest.validate(text, source), SkillManifest.parse(text, source))
  })

  it("makes errors of warnings", () => {
    const validated = SkillManifest.validate(document("description: a: b", "argument-hint: x"), source)
    assert.deepStrictEqual(
      Result.isFailure(validated) && found(validated.failure.diagnostics),
      ["error RepairedYaml 3", "error UnknownField 4"]
    )
  })
})

describe("SkillManifest.env and timeout", () => {
  const withEnv = (value: string) => skill("description: x", `metadata: { skillscale.env: "${value}" }`)

  it("lists the secrets, whatever separates them", () => {
    const { diagnostics, manifest } = withEnv(" API_KEY, _token2  API_KEY,,X ")
    assert.deepStrictEqual(SkillManifest.env(manifest), ["API_KEY", "_token2", "X"])
    assert.deepStrictEqual(diagnostics, [])
    assert.deepStrictEqual(SkillManifest.env(skill("description: x").manifest), [])
  })

  it("leaves out what is malformed or decides which code runs", () => {
    const { diagnostics, manifest } = withEnv(
      "OK 1X A-B PATH LD_PRELOAD SKILL_DIR SKILLSCALE_INTENT PYTHONPATH NODE_OPTIONS"
    )
    assert.deepStrictEqual(SkillManifest.env(manifest), ["OK"])
    assert.deepStrictEqual(diagnostics.map(({ code }) => code), [
      ...["InvalidEnv", "InvalidEnv"],
      ...Array.from({ length: 6 }, () => "ReservedEnv")
    ])
  })

  it("warns of what below skillscale. says nothing", () => {
    const warnings = (line: string) =>
      skill("description: x", `metadata: { ${line} }`).diagnostics.map((
        { code, line, message }
      ) => [code, line, message])
    for (
      const fine of [
        "skillscale.memory: 512MiB",
        "skillscale.processes: \"12\", skillscale.warm: \"false\", skillscale.cpu: \"5\", other.memroy: x"
      ]
    ) assert.deepStrictEqual(warnings(fine), [])
    const [[code, line, message] = []] = warnings("skillscale.memroy: 1GiB")
    assert.deepStrictEqual([code, line], ["InvalidMetadata", 4])
    assert.match(
      String(message),
      /^skillscale\.memroy: there is no such key, only skillscale\.env, .*skillscale\.memory/
    )
    assert.deepStrictEqual(
      warnings("skillscale.cpu: \"1.5\", skillscale.disk: 5 apples, skillscale.warm: \"no\"").map(([, , message]) =>
        message
      ),
      [
        "skillscale.disk: Expected a number of bytes such as 512MiB, 2GiB or 1048576, got \"5 apples\"",
        "skillscale.cpu: Expected a whole number of 1–999999999, got \"1.5\"",
        "skillscale.warm: Expected true or false, got \"no\""
      ]
    )
  })

  it("reads the timeout", () => {
    const timeout = (value: string) => {
      const { diagnostics, manifest } = skill("description: x", `metadata: { skillscale.timeout: "${value}" }`)
      return [
        Option.getOrUndefined(Option.map(SkillManifest.timeout(manifest), Duration.toMillis)),
        ...diagnostics.map(({ code }) => code)
      ]
    }
    assert.deepStrictEqual(timeout("30s"), [30_000])
    assert.deepStrictEqual(timeout("1500"), [1_500])
    assert.deepStrictEqual(timeout("soon"), [undefined, "InvalidTimeout"])
    assert.deepStrictEqual(timeout("0"), [undefined, "InvalidTimeout"])
    assert.isTrue(Option.isNone(SkillManifest.timeout(skill("description: x").manifest)))
  })
})
