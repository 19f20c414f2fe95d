import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { execFileSync } from "node:child_process"
import * as Crypto from "node:crypto"
import DefaultFs, * as Fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"

const temporary = Effect.acquireRelease(
  Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-discovery-")))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
)

const manifest = (name: string, description = `What ${name} does.`) =>
  `---\nname: ${name}\ndescription: ${description}\n---\n# ${name}\n`

const write = (root: string, files: Readonly<Record<string, string>>) => {
  for (const [path, content] of Object.entries(files)) {
    Fs.mkdirSync(Path.dirname(Path.join(root, path)), { recursive: true })
    Fs.writeFileSync(Path.join(root, path), content)
  }
}

/** Waits until the files are old enough for their times to prove that they did not change. */
const settled = Effect.sleep("150 millis")

const names = (catalog: SkillDiscovery.Catalog) => catalog.skills.map(({ name }) => name)

const codes = (catalog: SkillDiscovery.Catalog) =>
  catalog.diagnostics.map(({ code, file, severity }) => `${severity} ${code} ${Path.basename(Path.dirname(file))}`)

const only = (catalog: SkillDiscovery.Catalog): SkillDiscovery.Skill => {
  const [skill] = catalog.skills
  return skill ?? assert.fail("expected a skill")
}

const sha256 = (text: string) => Crypto.createHash("sha256").update(text).digest("hex")

const declaring = (name: string, metadata: Readonly<Record<string, string>>) => {
  const fields = Object.entries(metadata).map(([key, value]) => `  skillscale.${key}: ${JSON.stringify(value)}\n`)
  return `---\nname: ${name}\ndescription: d\nmetadata:\n${fields.join("")}---\n`
}

describe("the schemas of a skill", () => {
  it.live("are read with it", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const input = { type: "object", properties: { "a b": { $ref: "#/$defs/x" } }, $defs: { x: { type: "string" } } }
      write(Path.join(directory, "data/both"), {
        "SKILL.md": declaring("both", { input: "schemas/in.json", output: "out.json" }),
        "schemas/in.json": JSON.stringify(input, null, 4),
        "out.json": "{}"
      })
      write(Path.join(directory, "data/none"), { "SKILL.md": manifest("none"), "schemas/in.json": "{" })
      const { diagnostics, skills } = yield* SkillDiscovery.scan({ directory })
      assert.deepStrictEqual(diagnostics, [])
      assert.deepStrictEqual(skills.map(({ input, output, refusal }) => [input, output, refusal]), [
        [Option.some(input), Option.some({}), Option.none()],
        [Option.none(), Option.none(), Option.none()]
      ])
    }))

  it.live("leave the skill uncallable, and loaded, while they cannot be used", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const outside = Path.join(directory, "outside.json")
      Fs.writeFileSync(outside, "{}")
      const unusable: Readonly<Record<string, readonly [path: string, content: string | undefined, why: string]>> = {
        absent: ["in.json", undefined, "there is no such file in the skill"],
        absolute: [outside, undefined, "not a path inside the skill"],
        array: ["in.json", "[]", "not an object"],
        backslash: ["a\\in.json", undefined, "not a path inside the skill"],
        broken: ["in.json", "{\"type\": ", "not JSON"],
        bytes: ["in.json", "\uFEFF{}", "not JSON"],
        circle: ["in.json", "{\"$ref\": \"#\"}", "circle"],
        fetch: ["in.json", "{\"$ref\": \"https://example.org/a.json\"}", "none is fetched"],
        folder: ["scripts", undefined, "there is no such file in the skill"],
        file: ["in.json", " ".repeat(SkillDiscovery.maxSchemaFileBytes - 1) + "{}", "more than 65536 bytes"],
        itself: ["SKILL.md", undefined, "not JSON"],
        large: ["in.json", JSON.stringify({ title: "x".repeat(16_384) }), "without spaces, more than 16384"],
        link: ["link.json", undefined, "there is no such file in the skill"],
        nothing: ["", undefined, "not a path inside the skill"],
        schema: ["in.json", "{\"type\": \"strin\"}", "at /type: expected one of array"],
        truth: ["in.json", "true", "not an object"],
        up: ["../outside.json", "{}", "not a path inside the skill"]
      }
      for (const [name, [path, content]] of Object.entries(unusable)) {
        const files = { "SKILL.md": declaring(name, { input: path }), "scripts/run.sh": "" }
        write(Path.join(directory, "data", name), files)
        if (content !== undefined && !path.startsWith("..")) {
          write(Path.join(directory, "data", name), { [path]: content })
        }
      }
      Fs.symlinkSync(outside, Path.join(directory, "data/link/link.json"))
      write(Path.join(directory, "data/output"), { "SKILL.md": declaring("output", { output: "out.json" }) })
      const { diagnostics, skills } = yield* SkillDiscovery.scan({ directory })
      assert.lengthOf(skills, Object.keys(unusable).length + 1)
      for (const skill of skills) {
        const [path, content, why] = unusable[skill.name] ?? ["out.json", undefined, "there is no such file"]
        assert.isTrue(Option.isNone(skill.input) && Option.isNone(skill.output))
        assert.include(Option.getOrThrow(skill.refusal), why, skill.name)
        const found = skill.diagnostics.filter(({ code }) => code === "InvalidSchema")
        assert.lengthOf(found, 1)
        const file = content === undefined || path.startsWith("..") || skill.name === "file" ? "SKILL.md" : path
        assert.deepInclude(found[0], { severity: "warning", file: Path.join(skill.root, file), line: 1 })
        assert.include(found[0]?.message, "calls of the entry point are refused")
        const flaws = yield* SkillDiscovery.schemaFlaws(skill.root, skill.manifest)
        assert.deepStrictEqual(flaws.map(({ code, file }) => [code, file]), [["InvalidSchema", found[0]?.file]])
      }
      assert.lengthOf(diagnostics.filter(({ code }) => code === "InvalidSchema"), skills.length)
      assert.deepStrictEqual(yield* SkillDiscovery.schemaFlaws(directory, { metadata: {} }), [])
    }))

  it.live("are large at most, and no larger", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const text = JSON.stringify({ title: "x".repeat(16_384 - 12) })
      assert.lengthOf(text, 16_384)
      const spaces = " ".repeat(SkillDiscovery.maxSchemaFileBytes - text.length)
      write(Path.join(directory, "data/a"), {
        "SKILL.md": declaring("a", { input: "in.json" }),
        "in.json": spaces + text
      })
      const skill = only(yield* SkillDiscovery.scan({ directory }))
      assert.deepStrictEqual([skill.refusal, skill.input], [Option.none(), Option.some(JSON.parse(text))])
    }))

  it.live("change it as other files do", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const root = Path.join(directory, "data/a")
      write(root, { "SKILL.md": declaring("a", { input: "in.json" }), "in.json": "{\"type\":\"null\"}" })
      yield* Effect.provide(
        Effect.gen(function*() {
          const discovery = yield* SkillDiscovery.SkillDiscovery
          const before = only(yield* discovery.catalog)
          const next = (holds: (skill: SkillDiscovery.Skill) => boolean) =>
            discovery.changes.pipe(
              Stream.filter((catalog) => holds(only(catalog))),
              Stream.take(1),
              Stream.runHead,
              Effect.map((catalog) => only(Option.getOrThrow(catalog)))
            )
          write(root, { "in.json": "{\"type\":\"string\"}" })
          const edited = yield* next(({ digest }) => digest !== before.digest)
          assert.deepStrictEqual(edited.input, Option.some({ type: "string" }))
          Fs.rmSync(Path.join(root, "in.json"))
          const removed = yield* next(({ input }) => Option.isNone(input))
          assert.isTrue(Option.isSome(removed.refusal))
          yield* settled
          // What is not read again is still known.
          write(root, { "in.json": "{}" })
          yield* next(({ refusal }) => Option.isNone(refusal))
          yield* settled
          write(root, { "other.txt": "x" })
          const other = yield* next(({ files }) => files.some(({ path }) => path === "other.txt"))
          assert.deepStrictEqual(other.input, Option.some({}))
        }),
        SkillDiscovery.layer({ directory, debounce: 5 })
      )
    }))

  it.effect("are those in memory, too", () =>
    Effect.gen(function*() {
      const { catalog } = yield* SkillDiscovery.SkillDiscovery
      const [a, b] = (yield* catalog).skills
      assert.deepStrictEqual([a?.output, a?.refusal], [Option.some({ type: "array" }), Option.none()])
      assert.isTrue(b !== undefined && Option.isSome(b.refusal))
    }).pipe(Effect.provide(SkillDiscovery.layerMemory({
      "data/a": { "SKILL.md": declaring("a", { output: "out.json" }), "out.json": "{\"type\":\"array\"}" },
      "data/b": { "SKILL.md": declaring("b", { output: "out.json" }), "out.json": " ".repeat(65_536) + "{}" }
    }))))
})

describe("SkillDiscovery.scan", () => {
  it.live("describes a skill", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const root = Path.join(directory, "Data & Processing", "csv")
      write(root, {
        "SKILL.md": manifest("csv"),
        "scripts/run.py": "print(1)",
        "scripts/run.sh": "echo 1",
        "scripts/lib/tool": "#!/bin/sh\n",
        "scripts/lib/data": "#!/bin/sh\n",
        "scripts/__init__.py": "",
        "setup.ts": "",
        "references/note.py": "",
        "inner/SKILL.md": manifest("inner")
      })
      Fs.chmodSync(Path.join(root, "scripts/lib/tool"), 0o755)
      const catalog = yield* SkillDiscovery.scan({ directory })
      const skill = only(catalog)
      assert.deepStrictEqual(names(catalog), ["csv"])
      assert.deepStrictEqual(catalog.diagnostics, [])
      assert.strictEqual(skill.category, "data-processing")
      assert.strictEqual(skill.topic, "TOPIC_DATA_PROCESSING")
      assert.strictEqual(skill.root, root)
      assert.strictEqual(skill.file, Path.join(root, "SKILL.md"))
      assert.deepStrictEqual(skill.entry, Option.some("scripts/run.sh"))
      assert.deepStrictEqual(skill.scripts, ["scripts/lib/tool", "scripts/run.py", "scripts/run.sh", "setup.ts"])
      assert.deepStrictEqual(skill.files.map(({ executable, path, size }) => [path, size, executable]), [
        ["SKILL.md", Fs.statSync(skill.file).size, false],
        ["inner/SKILL.md", Buffer.byteLength(manifest("inner")), false],
        ["references/note.py", 0, false],
        ["scripts/__init__.py", 0, false],
        ["scripts/lib/data", 10, false],
        ["scripts/lib/tool", 10, true],
        ["scripts/run.py", 8, false],
        ["scripts/run.sh", 6, false],
        ["setup.ts", 0, false]
      ])
      assert.strictEqual(skill.files.at(-3)?.sha256, sha256("print(1)"))
    }))

  it.live("finds entry points in their order", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const root = Path.join(directory, "a")
      write(root, { "SKILL.md": manifest("a") })
      assert.isTrue(Option.isNone(only(yield* SkillDiscovery.scan({ directory })).entry))
      for (const name of ["run.ts", "run.js", "run.mjs", "run.py", "run.sh"]) {
        write(root, { [`scripts/${name}`]: "" })
        const { entry } = only(yield* SkillDiscovery.scan({ directory }))
        assert.deepStrictEqual(entry, Option.some(`scripts/${name}`))
      }
    }))

  it.live("searches six folders deep, and not everywhere", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const places = [
        "1/2/3/4/5/six",
        "1/2/3/4/5/6/seven",
        ".git/git",
        "node_modules/node",
        ".hidden/hidden",
        "__pycache__/cache",
        ".agents/skills/agents",
        ".claude/skills/claude"
      ]
      for (const place of places) {
        write(directory, { [`${place}/SKILL.md`]: manifest(Path.basename(place)) })
      }
      write(directory, { "lower/skill.md": manifest("lower"), "folder/SKILL.md/x": "" })
      assert.deepStrictEqual(names(yield* SkillDiscovery.scan({ directory })), ["agents", "claude", "six"])
    }))

  it.live("takes the directory itself for a skill", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "SKILL.md": manifest("x") })
      assert.deepStrictEqual(names(yield* SkillDiscovery.scan({ directory })), ["x"])
    }))

  it.live("leaves out what is broken, and keeps the others", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, {
        "a/yaml/SKILL.md": "---\nname: [\n---\n",
        "a/empty/SKILL.md": "",
        "a/good/SKILL.md": manifest("good"),
        "a/large/SKILL.md": `${manifest("large")}${" ".repeat(1_048_576)}`,
        "a/named/SKILL.md": manifest("other")
      })
      write(directory, { "a/latin/SKILL.md": "" })
      Fs.writeFileSync(Path.join(directory, "a/latin/SKILL.md"), Buffer.from(manifest("latin", "caf\u00e9"), "latin1"))
      const catalog = yield* SkillDiscovery.scan({ directory })
      assert.deepStrictEqual(names(catalog), ["good", "other"])
      assert.deepStrictEqual(codes(catalog), [
        "error NoFrontMatter empty",
        "error TooLarge large",
        "error Unreadable latin",
        "warning NameMismatch named",
        "error InvalidYaml yaml"
      ])
    }))

  it.live("takes the first of two skills with one name", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "b/x/SKILL.md": manifest("x"), "a/x/SKILL.md": manifest("x"), "a/w/SKILL.md": manifest("w") })
      const catalog = yield* SkillDiscovery.scan({ directory })
      assert.deepStrictEqual(catalog.skills.map(({ category, name }) => [category, name]), [["a", "w"], ["a", "x"]])
      assert.deepStrictEqual(codes(catalog), ["warning DuplicateName x"])
    }))

  it.live("bounds the files and the bytes of a skill", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, {
        "a/many/SKILL.md": manifest("many"),
        "a/big/SKILL.md": manifest("big"),
        "a/ok/SKILL.md": manifest("ok")
      })
      for (let index = 0; index < 2_000; index++) {
        Fs.writeFileSync(Path.join(directory, "a/many", String(index)), "")
      }
      Fs.writeFileSync(Path.join(directory, "a/big/data"), "")
      Fs.truncateSync(Path.join(directory, "a/big/data"), 268_435_456)
      const catalog = yield* SkillDiscovery.scan({ directory })
      assert.deepStrictEqual(names(catalog), ["ok"])
      assert.deepStrictEqual(codes(catalog), ["error LimitExceeded big", "error LimitExceeded many"])
    }))

  it.live("follows links inside a skill, and none that leave it", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, {
        "outside/secret": "secret",
        "skills/a/x/SKILL.md": manifest("x"),
        "skills/a/x/lib/one.py": "1",
        "skills/a/y/real.md": manifest("y")
      })
      const root = Path.join(directory, "skills/a/x")
      Fs.symlinkSync("lib/one.py", Path.join(root, "two.py"))
      Fs.symlinkSync("lib", Path.join(root, "again"))
      Fs.symlinkSync("..", Path.join(root, "lib/loop"))
      Fs.symlinkSync(Path.join(directory, "outside/secret"), Path.join(root, "leak"))
      Fs.symlinkSync("../../../outside", Path.join(root, "leaks"))
      Fs.symlinkSync("nowhere", Path.join(root, "dangling"))
      Fs.symlinkSync(Path.join(directory, "outside/secret"), Path.join(directory, "skills/a/y/SKILL.md"))
      execFileSync("mkfifo", [Path.join(root, "pipe")])
      const catalog = yield* SkillDiscovery.scan({ directory: Path.join(directory, "skills") })
      assert.deepStrictEqual(names(catalog), ["x"])
      assert.deepStrictEqual(only(catalog).files.map(({ path, sha256 }) => [path, sha256.slice(0, 8)]), [
        ["SKILL.md", sha256(manifest("x")).slice(0, 8)],
        ["again/one.py", sha256("1").slice(0, 8)],
        ["lib/one.py", sha256("1").slice(0, 8)],
        ["two.py", sha256("1").slice(0, 8)]
      ])
      assert.deepStrictEqual(
        catalog.diagnostics.map(({ code, file }) => `${code} ${Path.relative(directory, file)}`).sort(),
        [
          "SkippedLink skills/a/x/dangling",
          "SkippedLink skills/a/x/leak",
          "SkippedLink skills/a/x/leaks",
          "SkippedLink skills/a/x/lib/loop",
          "SkippedLink skills/a/x/lib/loop",
          "SkippedLink skills/a/x/pipe",
          "SkippedLink skills/a/y/SKILL.md",
          "Unreadable skills/a/y/SKILL.md"
        ]
      )
    }))

  it.live("finds a linked skill, under its own name where it has one", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "store/x/SKILL.md": manifest("x"), "skills/b/y/SKILL.md": manifest("y") })
      Fs.mkdirSync(Path.join(directory, "skills/a"))
      Fs.symlinkSync("../../store/x", Path.join(directory, "skills/a/x"))
      Fs.symlinkSync("../b/y", Path.join(directory, "skills/a/link"))
      Fs.symlinkSync("..", Path.join(directory, "skills/a/loop"))
      const catalog = yield* SkillDiscovery.scan({ directory: Path.join(directory, "skills") })
      assert.deepStrictEqual(catalog.skills.map(({ category, name }) => [category, name]), [["a", "x"], ["b", "y"]])
    }))

  it.live("fails without a directory, and says what to do", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const missing = yield* Effect.flip(SkillDiscovery.scan({ directory: Path.join(directory, "none") }))
      assert.strictEqual(missing.reason._tag, "NotFound")
      assert.include(missing.message, Path.join(directory, "none"))
      assert.include(missing.message, "create it")
      write(directory, { file: "" })
      const file = yield* Effect.flip(SkillDiscovery.scan({ directory: Path.join(directory, "file") }))
      assert.strictEqual(file.reason._tag, "WrongKind")
    }))
})

describe("SkillDiscovery.digest", () => {
  const File = Schema.Struct({ path: Schema.String, sha256: Schema.String })

  it("is SHA-256 over paths and hashes", () => {
    assert.strictEqual(
      SkillDiscovery.digest([{ path: "é", sha256: "22" }, { path: "a", sha256: "11" }]),
      `sha256:${sha256("a\u000011\u0000é\u000022\u0000")}`
    )
    assert.strictEqual(SkillDiscovery.digest([]), `sha256:${sha256("")}`)
  })

  it.prop("does not depend on the order", [Schema.Array(File)], ([files]) => {
    const distinct = Array.from(new Map(files.map((file) => [file.path, file])).values())
    return SkillDiscovery.digest(distinct) === SkillDiscovery.digest(distinct.toReversed())
  })

  it.live("follows content and names, not modes and times, nor what tools leave behind", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const root = Path.join(directory, "a/x")
      write(root, { "SKILL.md": manifest("x"), "run.py": "1" })
      const { digest } = only(yield* SkillDiscovery.scan({ directory }))
      const now = SkillDiscovery.digestDirectory(root)
      assert.match(digest, /^sha256:[0-9a-f]{64}$/)
      assert.strictEqual(yield* now, digest)

      Fs.chmodSync(Path.join(root, "run.py"), 0o755)
      Fs.utimesSync(Path.join(root, "run.py"), 1, 1)
      write(root, {
        "__pycache__/run.cpython-312.pyc": "",
        ".git/HEAD": "",
        "lib/.DS_Store": "",
        ".venv/bin/python": ""
      })
      assert.strictEqual(yield* now, digest)

      const copy = Path.join(directory, "copy")
      Fs.cpSync(root, copy, { recursive: true })
      assert.strictEqual(yield* SkillDiscovery.digestDirectory(copy), digest)

      const seen = new Set([digest])
      for (
        const change of [
          () => write(root, { "run.py": "2" }),
          () => write(root, { "run.pyc": "" }),
          () => write(root, { "__pycache__/run.py": "" }),
          () => write(root, { ".gitignore": "" }),
          () => write(root, { "__pycache__/run.pyc/x": "" }),
          () => write(root, { ".DS_Store/x": "" }),
          () => write(root, { "scripts/.venv/x": "" }),
          () => write(root, { ".venvs": "" }),
          () => Fs.renameSync(Path.join(root, "run.py"), Path.join(root, "ruN.py"))
        ]
      ) {
        change()
        seen.add(yield* now)
      }
      assert.strictEqual(seen.size, 10)
      const missing = yield* Effect.flip(SkillDiscovery.digestDirectory(Path.join(directory, "none")))
      assert.strictEqual(missing.reason._tag, "NotFound")
    }))
})

describe("SkillDiscovery.availableSkills", () => {
  it("writes the block of the format", () => {
    assert.strictEqual(
      SkillDiscovery.availableSkills([{ name: "a", description: "<b> & \"c\" 'd'", file: "/s/a/SKILL.md" }]),
      [
        "<available_skills>",
        "<skill>",
        "<name>",
        "a",
        "</name>",
        "<description>",
        "&lt;b&gt; &amp; &quot;c&quot; &#x27;d&#x27;",
        "</description>",
        "<location>",
        "/s/a/SKILL.md",
        "</location>",
        "</skill>",
        "</available_skills>"
      ].join("\n")
    )
    assert.strictEqual(SkillDiscovery.availableSkills([]), "<available_skills>\n</available_skills>")
  })
})

describe("SkillDiscovery", () => {
  it.live("reads instructions and resources on demand, and nothing outside", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const root = Path.join(directory, "skills/a/x")
      write(root, { "SKILL.md": manifest("x"), "ref/note.md": "note", "big": "x".repeat(11), ".git/config": "secret" })
      write(directory, { "secret": "secret", "skills/a/xy": "secret" })
      Fs.symlinkSync(Path.join(directory, "secret"), Path.join(root, "leak"))
      Fs.symlinkSync("../..", Path.join(root, "up"))
      Fs.symlinkSync("ref/note.md", Path.join(root, "inside"))
      execFileSync("mkfifo", [Path.join(root, "pipe")])
      const discovery = yield* SkillDiscovery.make({
        directory: Path.join(directory, "skills"),
        watch: false,
        maxResourceBytes: 10
      })
      const skill = only(yield* discovery.catalog)
      const read = (path: string) =>
        Effect.map(discovery.resource(skill, path), (bytes) => Buffer.from(bytes).toString())
      assert.strictEqual(yield* discovery.instructions(skill), "# x\n")
      assert.deepStrictEqual(discovery.resources(skill).map(({ path }) => path), ["big", "inside", "ref/note.md"])
      assert.strictEqual(yield* read("ref/note.md"), "note")
      assert.strictEqual(yield* read("inside"), "note")
      const failures = {
        ...{ "../xy": "Outside", "/etc/passwd": "Outside", "ref/../../xy": "Outside", "": "Outside", "a\0": "Outside" },
        ...{ leak: "Outside", "up/a/xy": "Outside", ".git/config": "Outside", "./big": "Outside" },
        ...{ big: "TooLarge", ref: "WrongKind", pipe: "WrongKind", none: "NotFound", "big/x": "NotFound" }
      }
      for (const [path, reason] of Object.entries(failures)) {
        const error = yield* Effect.flip(read(path))
        assert.strictEqual(error.reason._tag, reason, path)
        assert.notInclude(error.message, "secret")
      }
    }))

  it.live("finds by name", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const discovery = yield* SkillDiscovery.make({ directory, watch: false })
      assert.deepStrictEqual(yield* discovery.find("x"), Option.some(only(yield* discovery.catalog)))
      assert.isTrue(Option.isNone(yield* discovery.find("y")))
    }))

  it.live("reads again only what changed", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x"), "a/x/data": "1", "a/y/SKILL.md": manifest("y") })
      Fs.utimesSync(Path.join(directory, "a/x/data"), 1_000, 1_000)
      yield* settled
      const discovery = yield* SkillDiscovery.make({ directory, watch: false })
      const first = yield* discovery.catalog
      assert.strictEqual(yield* discovery.refresh, first)
      Fs.utimesSync(Path.join(directory, "a/y/SKILL.md"), 1, 1)
      assert.strictEqual(yield* discovery.refresh, first)

      // The same size and times: only ctime tells.
      write(directory, { "a/x/data": "2" })
      Fs.utimesSync(Path.join(directory, "a/x/data"), 1_000, 1_000)
      const second = yield* discovery.refresh
      assert.notStrictEqual(second.skills[0]?.digest, first.skills[0]?.digest)
      assert.strictEqual(second.skills[1], first.skills[1])
    }))

  it.live("notices a change in the same tick as the scan before", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x"), "a/x/data": "0" })
      const discovery = yield* SkillDiscovery.make({ directory, watch: false })
      for (let round = 1; round <= 50; round++) {
        Fs.writeFileSync(Path.join(directory, "a/x/data"), String(round % 10))
        const skill = only(yield* discovery.refresh)
        assert.strictEqual(skill.files[1]?.sha256, sha256(String(round % 10)))
      }
    }))

  it.live("fails a refresh without its directory, and is empty", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "s/a/x/SKILL.md": manifest("x") })
      const discovery = yield* SkillDiscovery.make({ directory: Path.join(directory, "s"), watch: false })
      Fs.renameSync(Path.join(directory, "s"), Path.join(directory, "t"))
      assert.strictEqual((yield* Effect.flip(discovery.refresh)).reason._tag, "NotFound")
      assert.deepStrictEqual(names(yield* discovery.catalog), [])
      assert.deepStrictEqual((yield* discovery.catalog).diagnostics.map(({ code }) => code), ["Unreadable"])
      Fs.renameSync(Path.join(directory, "t"), Path.join(directory, "s"))
      assert.deepStrictEqual(names(yield* discovery.refresh), ["x"])
    }))

  it.effect("serves skills from memory", () =>
    Effect.gen(function*() {
      const discovery = yield* SkillDiscovery.SkillDiscovery
      const skill = only(yield* discovery.catalog)
      assert.strictEqual(skill.topic, "TOPIC_DATA")
      assert.deepStrictEqual(skill.entry, Option.some("scripts/run.py"))
      assert.strictEqual(yield* discovery.instructions(skill), "# x\n")
      assert.strictEqual(Buffer.from(yield* discovery.resource(skill, "scripts/run.py")).toString(), "1")
      assert.strictEqual((yield* Effect.flip(discovery.resource(skill, "none"))).reason._tag, "NotFound")
    }).pipe(
      Effect.provide(SkillDiscovery.layerMemory({ "data/x": { "SKILL.md": manifest("x"), "scripts/run.py": "1" } }))
    ))
})

describe("SkillDiscovery while it watches", () => {
  // Without the periodic scan, so that only the watch can notice.
  const live = (directory: string, options?: Partial<SkillDiscovery.Options>) =>
    SkillDiscovery.make({ directory, debounce: "10 millis", rescan: "1 hour", ...options })

  const until = (
    discovery: SkillDiscovery.SkillDiscovery["Service"],
    accept: (catalog: SkillDiscovery.Catalog) => boolean
  ) =>
    discovery.changes.pipe(
      Stream.filter(accept),
      Stream.runHead,
      Effect.flatMap(Effect.fromOption),
      Effect.timeout("10 seconds")
    )

  const untilNames = (discovery: SkillDiscovery.SkillDiscovery["Service"], expected: ReadonlyArray<string>) =>
    until(discovery, (catalog) => names(catalog).join() === expected.join())

  it.live("sees skills come, change and go", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const discovery = yield* live(directory)
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const { digest } = only(yield* untilNames(discovery, ["x"]))
      write(directory, { "a/x/scripts/deep/er/run.sh": "1" })
      yield* until(discovery, (catalog) => only(catalog).scripts.length === 1)
      write(directory, { "a/x/scripts/deep/er/run.sh": "2" })
      yield* until(discovery, (catalog) => only(catalog).files[1]?.sha256 === sha256("2"))
      Fs.rmSync(Path.join(directory, "a/x/scripts"), { recursive: true })
      yield* until(discovery, (catalog) => only(catalog).digest === digest)
      write(directory, { "b/c/y/SKILL.md": manifest("y") })
      yield* untilNames(discovery, ["x", "y"])
      Fs.renameSync(Path.join(directory, "b/c/y"), Path.join(directory, "b/c/z"))
      yield* until(discovery, (catalog) => catalog.skills[1]?.root.endsWith("z") === true)
      Fs.rmSync(Path.join(directory, "a"), { recursive: true })
      yield* untilNames(discovery, ["y"])
    }))

  it.live("sees editors that replace a file by renaming another", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const discovery = yield* live(directory)
      for (let round = 1; round <= 5; round++) {
        write(directory, { "a/x/.SKILL.md.tmp": manifest("x", `round ${round}`) })
        Fs.renameSync(Path.join(directory, "a/x/.SKILL.md.tmp"), Path.join(directory, "a/x/SKILL.md"))
        yield* until(discovery, (catalog) => catalog.skills[0]?.description === `round ${round}`)
      }
    }))

  const logs = () => {
    const messages: Array<string> = []
    const layer = Logger.layer([Logger.make(({ message }) => messages.push(String(message)))])
    return { messages, layer }
  }

  it.live("leaves out a skill while it is broken, and only that", () => {
    const { layer, messages } = logs()
    return Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x"), "a/y/SKILL.md": manifest("y") })
      const discovery = yield* live(directory)
      write(directory, { "a/x/SKILL.md": "---\nname: x\n---\n" })
      const broken = yield* untilNames(discovery, ["y"])
      assert.deepStrictEqual(codes(broken), ["error MissingDescription x"])
      write(directory, { "a/x/SKILL.md": manifest("x") })
      assert.deepStrictEqual((yield* untilNames(discovery, ["x", "y"])).diagnostics, [])
      const changed = "skills changed"
      assert.deepStrictEqual(messages, [changed, changed, "skill left out", changed])
    }).pipe(Effect.provide(layer))
  })

  /** Calls `before` with the folder whenever one is about to be watched. */
  const patchWatch = (before: (path: unknown) => void) => {
    const { watch } = DefaultFs
    const install = (replacement: unknown) =>
      Effect.sync(() => {
        Object.assign(DefaultFs, { watch: replacement })
        syncBuiltinESMExports()
      })
    const replacement = (...args: Parameters<typeof watch>) => {
      before(args[0])
      return watch(...args)
    }
    return Effect.acquireRelease(install(replacement), () => install(watch))
  }

  it.live("sees what appears in a folder before the folder is watched", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const discovery = yield* live(directory)
      yield* patchWatch((path) => {
        if (path === Path.join(directory, "a/x/scripts")) {
          write(directory, { "a/x/scripts/late/run.sh": "1" })
        }
      })
      write(directory, { "a/x/scripts/run.sh": "1" })
      yield* until(discovery, (catalog) => only(catalog).scripts.length === 2)
    }))

  it.live("scans regularly where it may not watch, and says so once", () => {
    const { layer, messages } = logs()
    return Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x") })
      yield* patchWatch(() => {
        throw Object.assign(new Error("ENOSPC: no more watches"), { code: "ENOSPC" })
      })
      const discovery = yield* live(directory)
      for (const name of ["y", "z"]) {
        write(directory, { [`a/${name}/SKILL.md`]: manifest(name) })
        yield* until(discovery, (catalog) => names(catalog).includes(name))
      }
      assert.deepStrictEqual(messages.filter((message) => message !== "skills changed"), [
        "cannot watch every folder of skills, scanning them regularly instead"
      ])
    }).pipe(Effect.provide(layer))
  })

  it.live("outlives its directory", () =>
    Effect.gen(function*() {
      const parent = yield* temporary
      const directory = Path.join(parent, "skills")
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const discovery = yield* live(directory, { rescan: "50 millis" })
      for (const name of ["y", "z"]) {
        Fs.rmSync(directory, { recursive: true })
        yield* untilNames(discovery, [])
        write(directory, { [`a/${name}/SKILL.md`]: manifest(name) })
        yield* untilNames(discovery, [name])
      }
    }))

  it.live("finds by itself what cannot be watched", () =>
    Effect.gen(function*() {
      const parent = yield* temporary
      write(parent, { "store/x/SKILL.md": manifest("x"), "store/x/lib/a": "1", "skills/b/y/SKILL.md": manifest("y") })
      Fs.symlinkSync("../store", Path.join(parent, "skills/a"))
      const discovery = yield* live(Path.join(parent, "skills"), { rescan: "50 millis" })
      yield* untilNames(discovery, ["x", "y"])
      Fs.rmSync(Path.join(parent, "store/x"), { recursive: true })
      yield* untilNames(discovery, ["y"])
    }))

  it.live("never shows a skill half written", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const version = (value: string) => ({ "a/x/SKILL.md": manifest("x", value), "a/x/data": value.repeat(100_000) })
      write(directory, version("0"))
      const discovery = yield* live(directory, { debounce: "1 millis" })
      const seen = yield* discovery.changes.pipe(
        Stream.map((catalog) => names(catalog).join()),
        Stream.takeUntil((found) => found === "x,y"),
        Stream.runCollect,
        Effect.timeout("20 seconds"),
        Effect.forkChild({ startImmediately: true })
      )
      for (let round = 1; round <= 40; round++) {
        const content = version(String(round % 10))
        write(directory, Object.fromEntries(Object.entries(content).map(([path, text]) => [`${path}.new`, text])))
        for (const path of Object.keys(content)) {
          Fs.renameSync(Path.join(directory, `${path}.new`), Path.join(directory, path))
        }
        // The pace of the writes; scans fall before, between and after the two renames.
        yield* Effect.sleep("5 millis")
      }
      write(directory, { "a/y/SKILL.md": manifest("y") })
      assert.deepStrictEqual(Array.from(new Set(yield* Fiber.join(seen))), ["x", "x,y"])
      const skill = only(yield* discovery.catalog)
      assert.strictEqual(skill.digest, yield* SkillDiscovery.digestDirectory(skill.root))
    }))

  it.live("emits the current catalog first, and no catalog twice", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const discovery = yield* live(directory)
      const seen = yield* discovery.changes.pipe(
        Stream.take(2),
        Stream.runCollect,
        Effect.timeout("10 seconds"),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Effect.repeat(discovery.refresh, { times: 5 })
      Fs.utimesSync(Path.join(directory, "a/x/SKILL.md"), 1, 1)
      yield* discovery.refresh
      write(directory, { "a/y/SKILL.md": manifest("y") })
      assert.deepStrictEqual((yield* Fiber.join(seen)).map(names), [["x"], ["x", "y"]])
    }))

  it.live("stops with its scope", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      write(directory, { "a/x/SKILL.md": manifest("x") })
      const open = () =>
        Fs.readdirSync("/proc/self/fdinfo").reduce((count, fd) => {
          try {
            return count + Fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").split("\ninotify ").length - 1
          } catch {
            return count
          }
        }, 0)
      const before = open()
      const discovery = yield* Effect.scoped(Effect.gen(function*() {
        const discovery = yield* live(directory)
        yield* discovery.refresh
        assert.strictEqual(open(), before + 3)
        return discovery
      }))
      assert.strictEqual(open(), before)
      assert.deepStrictEqual(names(yield* discovery.refresh), ["x"])
      assert.strictEqual(open(), before)
    }))
})
