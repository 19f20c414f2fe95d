import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { afterAll, assert, describe, it } from "vitest"
import { parse as parseYaml } from "yaml"
import * as Samples from "../support/samples.ts"

const root = resolve(import.meta.dirname, "../../skills")
const scratch = mkdtempSync(join(tmpdir(), "skills-test-"))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

interface Run {
  readonly args?: ReadonlyArray<string> | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly files?: Readonly<Record<string, string | Buffer>> | undefined
  readonly script?: string | undefined
  readonly stdin?: string | Buffer | undefined
}

interface Result {
  readonly artifacts: Readonly<Record<string, string>>
  readonly exitCode: number | null
  readonly stderr: string
  readonly stdout: string
}

const folders = (path: string): ReadonlyArray<string> =>
  readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => entry.name).sort()

const skills = folders(root).flatMap((category) =>
  folders(join(root, category)).map((name) => ({ name, path: join(root, category, name) }))
)

const interpreters: Readonly<Record<string, string>> = { py: "python3", sh: "bash", mjs: process.execPath }

const entryPoint = (path: string): string => {
  const found = ["run.sh", "run.py", "run.mjs"].find((name) => existsSync(join(path, "scripts", name)))
  assert.isDefined(found, `${path} has no entry point`)
  return `scripts/${found}`
}

const execute = (
  path: string,
  { args = [], env = {}, files = {}, script = entryPoint(path), stdin = "" }: Run
): Result => {
  const cwd = mkdtempSync(join(scratch, "run-"))
  cpSync(path, cwd, { recursive: true })
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, name)), { recursive: true })
    writeFileSync(join(cwd, name), content)
  }
  const before = Samples.filesBelow(cwd)
  const interpreter = interpreters[script.slice(script.lastIndexOf(".") + 1)]
  assert.isDefined(interpreter, `no interpreter for ${script}`)
  const child = spawnSync(interpreter, [script, ...args], {
    cwd,
    input: stdin,
    env: { ...process.env, SKILL_DIR: cwd, ...env },
    maxBuffer: 1 << 26,
    timeout: 60_000
  })
  assert.isUndefined(child.error)
  const artifacts = Object.fromEntries(
    Object.entries(Samples.filesBelow(cwd)).filter(([name, content]) => before[name] !== content)
  )
  return {
    artifacts,
    exitCode: child.status,
    stderr: child.stderr.toString("latin1"),
    stdout: child.stdout.toString("latin1")
  }
}

const skillNamed = (name: string): string => {
  const found = skills.find((skill) => skill.name === name)
  assert.isDefined(found, `no skill ${name}`)
  return found.path
}

/** Asserts that a run failed with one sentence that names the skill, and nothing else. */
const assertRefused = (name: string, result: Result): void => {
  assert.strictEqual(result.exitCode, 1, result.stderr)
  assert.strictEqual(result.stdout, "")
  assert.match(result.stderr, new RegExp(`^${name}: [^\\n]+\\n$`))
}

const lines = (...content: ReadonlyArray<string>): string => `${content.join("\n")}\n`

describe.each(skills)("$name", ({ name, path }) => {
  it("describes itself in the open format", () => {
    const match = /^---\n([^]*?)\n---\n([^]+)$/.exec(readFileSync(join(path, "SKILL.md"), "utf8"))
    assert.isNotNull(match)
    const front: unknown = parseYaml(match[1] ?? "")
    assert.isTrue(typeof front === "object" && front !== null)
    const fields = new Map(Object.entries(front ?? {}))
    assert.includeMembers(["name", "description", "license", "compatibility", "metadata", "allowed-tools"], [
      ...fields.keys()
    ])
    assert.strictEqual(fields.get("name"), name)
    assert.match(name, /^[a-z0-9]+(-[a-z0-9]+)*$/)
    assert.strictEqual(fields.get("license"), "MIT")
    const description: unknown = fields.get("description")
    assert.isTrue(typeof description === "string" && description.length >= 1 && description.length <= 1024)
    assert.notMatch(String(description), /[<>]/)
    assert.isAtMost(String(fields.get("compatibility")).length, 500)
    for (const value of Object.values(Object(fields.get("metadata")))) assert.isString(value)
    assert.match(match[2] ?? "", /^## Exit codes$/m)
  })

  const cases = folders(join(path, "samples"))

  it("has a demo and a refused input", () => {
    assert.include(cases, "demo")
    assert.isTrue(cases.some((sample) => existsSync(join(path, "samples", sample, "stderr"))))
  })

  it.each(cases)("sample %s", (sample) => {
    const { call, expected } = Samples.read(join(path, "samples", sample))
    for (const env of [{}, { LC_ALL: "C", LANG: "C", PYTHONWARNINGS: "error", PYTHONHASHSEED: "7" }]) {
      assert.deepStrictEqual(execute(path, { ...call, env }), expected)
    }
  })

  it("explains its options", () => {
    const result = execute(path, { args: ["--help"] })
    assert.strictEqual(result.exitCode, 0)
    assert.match(result.stdout, /^usage: run\./)
    assert.match(result.stdout, /--format/)
    assert.strictEqual(result.stderr, "")
    assert.deepStrictEqual(result.artifacts, {})
  })

  it.each([["--nonsense"], ["--format", "nonsense"]])("refuses the arguments %s %s", (...args) => {
    const result = execute(path, { args })
    assert.strictEqual(result.exitCode, 2)
    assert.strictEqual(result.stdout, "")
    assert.notStrictEqual(result.stderr, "")
  })

  it.each([
    ["nothing", Buffer.alloc(0)],
    ["blanks", Buffer.from(" \n\n\t\n")],
    ["a PNG", Buffer.from("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489", "hex")],
    ["invalid UTF-8", Buffer.from("name,city\n1,Z\xfcrich\n", "latin1")],
    ["UTF-8 that was cut off", Buffer.from("INFO caf\xc3", "latin1")],
    ["UTF-16", Buffer.from("\ufeffid,name\n1,Ann\n", "utf16le")]
  ])("refuses %s", (_, stdin) => assertRefused(name, execute(path, { stdin })))

  it("refuses a file that does not exist", () => {
    const result = execute(path, { args: ["absent.file"] })
    assertRefused(name, result)
    assert.include(result.stderr, "absent.file")
  })
})

describe("text-summarizer", () => {
  const path = skillNamed("text-summarizer")
  const split = (text: string) => execute(path, { args: ["--sentences", "99", "--format", "text"], stdin: text }).stdout

  it.each([
    ["He met Dr. Lee at 3.15 p.m. in St. Ives. Rain fell.", ["He met Dr. Lee at 3.15 p.m. in St. Ives.", "Rain fell."]],
    ["Use pens, ink, etc. The shop has all.", ["Use pens, ink, etc.", "The shop has all."]],
    ["\"Go!\" she said. (It was late.) Fine...", ["\"Go!\" she said.", "(It was late.)", "Fine..."]],
    ["# Title\n\nBody one.\nBody two.\n\n```\ncode. here.\n```\n- item one\n- item two", [
      "Body one.",
      "Body two.",
      "item one",
      "item two"
    ]]
  ])("splits %s", (text, expected) => assert.strictEqual(split(text), lines(...expected)))

  it.each([["abbreviations", "e.g. ".repeat(200_000)], ["full stops", `${".".repeat(200_000)}x`]])(
    "stays fast on many %s",
    (_, source) => {
      const started = performance.now()
      assert.strictEqual(execute(path, { stdin: source }).exitCode, 0)
      assert.isBelow(performance.now() - started, 10_000)
    },
    60_000
  )

  it("takes a repeated sentence once and rounds the ratio up", () => {
    const stdin = "Cats chase mice. Cats chase mice. Dogs sleep. Birds sing."
    assert.strictEqual(
      execute(path, { args: ["--sentences", "2", "--format", "text"], stdin }).stdout,
      lines("Cats chase mice.", "Dogs sleep.")
    )
    assert.strictEqual(split(stdin), lines("Cats chase mice.", "Dogs sleep.", "Birds sing."))
    const half = JSON.parse(execute(path, { args: ["--ratio", "0.3", "--format", "json"], stdin }).stdout)
    assert.strictEqual(half.statistics.summary_sentences, 2)
  })
})

describe("csv-analyzer", () => {
  const path = skillNamed("csv-analyzer")
  const quantile = (sorted: ReadonlyArray<number>, p: number): number => {
    const position = (sorted.length - 1) * p
    const low = sorted[Math.floor(position)] ?? Number.NaN
    const high = sorted[Math.ceil(position)] ?? Number.NaN
    return low + (high - low) * (position - Math.floor(position))
  }

  it("agrees with independent statistics over 50,000 rows", () => {
    let state = 42
    const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648
    const amounts: Array<number> = []
    const counts: Array<number> = []
    const cities = new Map<string, number>()
    const rows = ["id,amount,count,city,day,flag,code,comment,empty,ratio"]
    for (let index = 0; index < 50_000; index++) {
      const amount = Math.round((random() - 0.3) * 1e6) / 100
      const count = index % 13 === 0 ? undefined : Math.floor(random() * 1000)
      const city = ["Rome", "Oslo", "Lima"][Math.floor(random() * 3)] ?? ""
      amounts.push(amount)
      if (count !== undefined) counts.push(count)
      cities.set(city, (cities.get(city) ?? 0) + 1)
      const day = `2026-${String(1 + (index % 12)).padStart(2, "0")}-15`
      rows.push(
        `${index},${amount},${count ?? "NULL"},${city},${day},${
          index % 2 === 0
        },0${index},"a, ""b""\n${index}",,${random()}`
      )
    }
    const started = performance.now()
    const result = execute(path, { args: ["--format", "json"], stdin: lines(...rows) })
    assert.isBelow(performance.now() - started, 20_000)
    assert.strictEqual(result.stderr, "")
    const report = JSON.parse(result.stdout)
    assert.strictEqual(report.rows, 50_000)
    assert.strictEqual(report.ragged.count, 0)
    const types = report.columns.map((column: { readonly type: string }) => column.type)
    assert.deepStrictEqual(types, [
      "integer",
      "number",
      "integer",
      "text",
      "date",
      "boolean",
      "text",
      "text",
      "empty",
      "number"
    ])
    for (const [index, values] of [[1, amounts], [2, counts]] as const) {
      const sorted = [...values].sort((a, b) => a - b)
      const column = report.columns[index]
      assert.strictEqual(column.count, values.length)
      assert.strictEqual(column.missing, 50_000 - values.length)
      assert.strictEqual(column.distinct, new Set(values).size)
      assert.strictEqual(column.numbers.min, sorted[0])
      assert.strictEqual(column.numbers.max, sorted.at(-1))
      assert.approximately(column.numbers.mean, values.reduce((sum, value) => sum + value, 0) / values.length, 1e-6)
      assert.approximately(column.numbers.q1, quantile(sorted, 0.25), 1e-9)
      assert.approximately(column.numbers.median, quantile(sorted, 0.5), 1e-9)
      assert.approximately(column.numbers.q3, quantile(sorted, 0.75), 1e-9)
    }
    const frequent = [...cities].sort((a, b) => b[1] - a[1]).map(([value, count]) => ({ value, count }))
    assert.deepStrictEqual(report.columns[3].most_frequent, frequent)
    assert.deepStrictEqual(report.columns[4].dates, { earliest: "2026-01-15", latest: "2026-12-15" })
    assert.strictEqual(report.columns[6].distinct, 50_000)
  }, 60_000)

  it("estimates the distinct values of a column beyond the limit", () => {
    const ids = Array.from({ length: 200_000 }, (_, index) => `u${index}`)
    const column =
      JSON.parse(execute(path, { args: ["--format", "json"], stdin: ["user", ...ids, ...ids].join("\n") }).stdout)
        .columns[0]
    assert.isFalse(column.distinct_exact)
    assert.approximately(column.distinct, 200_000, 200_000 * 0.08)
    assert.strictEqual(column.count, 400_000)
  }, 60_000)

  it("tells the day from the month by the whole column", () => {
    const dates = (...days: ReadonlyArray<string>) =>
      JSON.parse(execute(path, { args: ["--format", "json"], stdin: lines("day", ...days) }).stdout).columns[0].dates
    assert.deepStrictEqual(dates("3/1/2026", "12/31/2025"), { earliest: "2025-12-31", latest: "2026-03-01" })
    assert.deepStrictEqual(dates("3/1/2026", "31/12/2025"), { earliest: "2025-12-31", latest: "2026-01-03" })
    assert.deepStrictEqual(dates("3/1/2026", "4/1/2026"), { earliest: null, latest: null })
  })

  it.each([[",", ","], [";", ";"], ["\t", "\t"], ["|", "|"]])("detects the delimiter %j", (delimiter) => {
    const stdin = lines(
      ["a", "b", "c"].join(delimiter),
      ...["1,5", "2;5", "3|5"].map((odd) => [`"${odd}"`, "x", "y"].join(delimiter))
    )
    const report = JSON.parse(execute(path, { args: ["--format", "json"], stdin }).stdout)
    assert.strictEqual(report.delimiter, delimiter)
    assert.strictEqual(report.columns.length, 3)
  })
})

describe("code-complexity", () => {
  const path = skillNamed("code-complexity")
  const measure = (...source: ReadonlyArray<string>) =>
    JSON.parse(execute(path, { args: ["--format", "json"], stdin: lines(...source) }).stdout).functions

  const parsesMatch = spawnSync("python3", ["-c", "import ast; ast.Match"]).status === 0
  const mustRun = process.env.SKILLSCALE_MUST_RUN === "1"

  it.skipIf(!parsesMatch && !mustRun)("counts the cases and guards of match (needs Python 3.10)", () => {
    const [row] = measure(
      "def f(x):",
      "  match x:",
      "    case 1: pass",
      "    case 2 | 3 if x: pass",
      "    case y if y: pass",
      "    case _: pass"
    )
    assert.strictEqual(row.complexity, 5)
    assert.strictEqual(row.nesting, 1)
  })

  it("keeps nested functions apart and else-if apart from elif", () => {
    const rows = measure(
      "def outer(a):",
      "  def inner(b):",
      "    return 1 if b else 2",
      "  if a: pass",
      "  elif a > 1: pass",
      "  else:",
      "    if a > 2: pass",
      "  return lambda: a or 1"
    )
    assert.deepStrictEqual(
      rows.map((
        row: { readonly complexity: number; readonly function: string; readonly nesting: number }
      ) => [row.function, row.complexity, row.nesting]),
      [["outer", 5, 2], ["outer.inner", 2, 0]]
    )
  })

  it("survives warnings, deep nesting and a declared encoding", () => {
    assert.strictEqual(measure("def f():", "  return '\\d'")[0].complexity, 1)
    assertRefused("code-complexity", execute(path, { stdin: `x = ${"-".repeat(90_000)}1` }))
    const latin = Buffer.from("# -*- coding: latin-1 -*-\ndef f():\n  return 'caf\xe9'\n", "latin1")
    assert.strictEqual(execute(path, { stdin: latin }).exitCode, 0)
  })
})

describe("dead-code-detector", () => {
  const path = skillNamed("dead-code-detector")
  const found = (name: string, ...source: ReadonlyArray<string>): ReadonlyArray<string> =>
    JSON.parse(execute(path, { args: ["--format", "json", name], files: { [name]: lines(...source) } }).stdout).findings
      .map(
        (item: { readonly kind: string; readonly line: number; readonly name: string }) =>
          `${item.line} ${item.kind} ${item.name}`.trim()
      )

  it.each<[string, ReadonlyArray<string>, ReadonlyArray<string>]>([
    ["aliases", ["import os as system, re", "from a import b as c, d", "print(re, d)"], [
      "1 unused-import system",
      "2 unused-import c"
    ]],
    ["dotted imports", ["import a.b", "import c.d", "a.b.run()"], ["2 unused-import c"]],
    ["exports", ["from m import x, y", "__all__ = ['x']", "__all__ += ['y']"], []],
    ["explicit re-exports", ["from m import x as x", "import y as y"], []],
    ["future imports", ["from __future__ import annotations"], []],
    ["optional imports", ["try:", "  import fast", "except ImportError:", "  fast = None"], []],
    ["quoted annotations", [
      "from m import A, B, C",
      "def f(a: 'A', b: \"list[B]\") -> 'C | None':",
      "  return a, b",
      "f"
    ], []],
    ["typing-only imports", [
      "from typing import TYPE_CHECKING, cast",
      "if TYPE_CHECKING:",
      "  from m import A, B",
      "x = cast('A', 1)"
    ], ["3 unused-import B"]],
    ["shadowing", ["import os", "def f(os):", "  return os", "f"], ["1 unused-import os"]],
    ["silenced lines", ["import os  # noqa: F401", "from m import (  # noqa", "  x,", ")"], []],
    ["closures", ["def f():", "  a = 1", "  b = 2", "  return lambda: a"], ["3 unused-variable b"]],
    ["locals", ["def f():", "  a = 1", "  return '%(a)s' % locals()"], []],
    ["unpacking", ["def f(p):", "  a, b = p", "  for i in p: pass", "  with p as q: pass"], []],
    ["augmented", ["def f():", "  n = 0", "  n += 1"], []],
    ["walrus", ["def f(p):", "  if (n := p): return [n for _ in p if (m := 1)]"], ["2 unused-variable m"]],
    ["class scope", ["import os", "class A:", "  os = os", "  def f(self): return 1"], []],
    ["private functions", ["def _a(): return _a()", "def _b(): pass", "_b()"], ["1 unused-function _a"]],
    ["decorated functions", ["@register", "def _a(): pass"], []],
    ["dispatch by prefix", [
      "class V:",
      "  def go(self, n): return getattr(self, f'_on_{n}')()",
      "  def _on_x(self): return 1"
    ], []],
    ["callbacks", ["def f(event): return 1 + 1", "register(f)", "f(1)"], []],
    ["endless loop", ["def f():", "  while True:", "    for x in y:", "      break", "  return 1"], [
      "5 unreachable-code"
    ]],
    ["left loop", ["def f():", "  while True:", "    if x: break", "  return 1"], []],
    ["suppressed", ["def f():", "  with s():", "    raise E", "  return 1"], []],
    ["try", ["def f():", "  try:", "    return 1", "  except E:", "    raise", "  return 2"], ["6 unreachable-code"]],
    ["generator", ["def f():", "  raise E", "  yield"], []]
  ])("judges %s", (_, source, expected) => assert.deepStrictEqual(found("mod.py", ...source), expected))

  it("leaves the imports of a package alone", () =>
    assert.deepStrictEqual(found("pkg/__init__.py", "from .a import b"), []))
})

describe("markdown-to-html", () => {
  const path = skillNamed("markdown-to-html")
  const render = (...source: ReadonlyArray<string>) =>
    execute(path, { args: ["--fragment"], stdin: lines(...source) }).stdout

  it.each<[string, string, string]>([
    ["nested emphasis", "***a** b* _c_ d_e_f", "<p><em><strong>a</strong> b</em> <em>c</em> d_e_f</p>"],
    ["unmatched emphasis", "**a* b [c](d", "<p>*<em>a</em> b [c](d</p>"],
    ["rule of three", "*foo**bar*", "<p><em>foo**bar</em></p>"],
    ["code spans", "`` a`b `` `c", "<p><code>a`b</code> `c</p>"],
    ["hard breaks", "a  \nb\\\nc", "<p>a<br>\nb<br>\nc</p>"],
    ["links in links", "[a [b](c) d](e)", "<p>[a <a href=\"c\">b</a> d](e)</p>"],
    ["balanced targets", "[a](b(c)d \"t\")", "<p><a href=\"b(c)d\" title=\"t\">a</a></p>"],
    ["escapes", "\\*a\\* &amp; &lt; &unknown; AT&T", "<p>*a* &amp; &lt; &amp;unknown; AT&amp;T</p>"],
    ["a list after text", "a\n- b\n- c", "<p>a</p>\n<ul>\n<li>b</li>\n<li>c</li>\n</ul>"],
    ["a year is no list", "It was\n1986. Fine", "<p>It was\n1986. Fine</p>"],
    ["tabs in code", "```\n\tx\n```", "<pre><code>\tx\n</code></pre>"],
    ["an open fence", "```js\nx", "<pre><code class=\"language-js\">x\n</code></pre>"],
    [
      "a quote with a list",
      "> 3. a\n>    - b",
      "<blockquote>\n<ol start=\"3\">\n<li>a\n<ul>\n<li>b</li>\n</ul></li>\n</ol>\n</blockquote>"
    ]
  ])("renders %s", (_, source, expected) => assert.strictEqual(render(source), `${expected}\n`))

  it.each([
    "javascript:alert(1)",
    "JAVASCRIPT:alert(1)",
    "&#x6A;avascript:alert(1)",
    "javascript&colon;alert(1)",
    "java&NewLine;script:alert(1)",
    "\\javascript:alert(1)",
    "vbscript:x",
    "data:text/html,x",
    "&#1;javascript:alert(1)",
    "file:///etc/passwd"
  ])("neutralises the target %s", (target) => {
    for (const source of [`[x](${target})`, `[x](<${target}>)`, `[x][r]\n\n[r]: ${target}`, `![x](${target})`]) {
      const attributes = [...render(source).matchAll(/(?:href|src)="([^"]*)"/g)].map((match) =>
        decodeURIComponent(match[1] ?? "")
      )
      for (const value of attributes) assert.notMatch(value, /^[\u0000-\u0020]*(?:javascript|vbscript|data|file):/i)
    }
  })

  it.each([
    ["brackets", "[".repeat(50_000)],
    ["emphasis", "*a _b ".repeat(20_000)],
    ["quotes", ">".repeat(20_000)],
    ["links", "[a](".repeat(20_000)],
    ["ticks", Array.from({ length: 400 }, (_, index) => "`".repeat(index + 1)).join(" ")],
    ["blanks", `# a${" ".repeat(50_000)}b`],
    ["lists", Array.from({ length: 300 }, (_, index) => `${"  ".repeat(index)}- a`).join("\n")]
  ])(
    "stays fast on many %s",
    (_, source) => {
      const started = performance.now()
      assert.strictEqual(execute(path, { stdin: source }).exitCode, 0)
      assert.isBelow(performance.now() - started, 10_000)
    },
    60_000
  )

  it("refuses files that cannot both be written", () => {
    const result = execute(path, {
      args: ["--out-dir", "out", "a/x.md", "b/x.md"],
      files: { "a/x.md": "a", "b/x.md": "b" }
    })
    assert.strictEqual(result.exitCode, 2)
    assert.include(result.stderr, "x.html")
    assert.deepStrictEqual(result.artifacts, {})
  })
})

describe("log-summary", () => {
  const path = skillNamed("log-summary")
  const json = (stdin: string, ...args: ReadonlyArray<string>) =>
    JSON.parse(execute(path, { args: ["--format", "json", ...args], stdin }).stdout)

  it("agrees with counts made here", () => {
    const expected = new Map<string, number>()
    const stdin: Array<string> = []
    for (let index = 0; index < 5_000; index++) {
      const target = `/p/${(index * 7) % 150}`
      expected.set(target, (expected.get(target) ?? 0) + 1)
      const hour = String(index % 24).padStart(2, "0")
      stdin.push(
        `10.0.0.${index % 9} - - [01/Feb/2026:${hour}:00:00 +0100] "GET ${target}?n=${index} HTTP/1.1" ${
          index % 10 === 0 ? 500 : 200
        } 1`
      )
    }
    const report = json(lines(...stdin), "--top", "3")
    const ranked = [...expected].map(([name, count]) => ({ name, lines: count }))
      .sort((a, b) => b.lines - a.lines || (a.name < b.name ? -1 : 1)).slice(0, 3)
    assert.deepStrictEqual(report.paths, ranked)
    assert.strictEqual(report.errors, 500)
    assert.deepStrictEqual(report.status_classes, [{ name: "2xx", lines: 4_500 }, { name: "5xx", lines: 500 }])
    assert.strictEqual(report.hours.length, 24)
    assert.strictEqual(report.hours[0].hour, "2026-02-01 00:00")
  })

  it("keeps backslashes, quotes and bars in messages", () => {
    assert.strictEqual(json("ERROR C:\\temp \"x\" | `y`\n").messages[0].message, "C:\\temp \"x\" | `y`")
  })

  it("accepts bytes outside ASCII with --lossy and keeps the query when asked", () => {
    const line = Buffer.from("::1 - - [01/Feb/2026:10:00:00 +0000] \"GET /caf\xe9?a=1 HTTP/1.1\" 200 5\n", "latin1")
    const result = execute(path, { args: ["--lossy", "--keep-query", "--format", "json"], stdin: line })
    assert.deepStrictEqual(JSON.parse(result.stdout).paths, [{ name: "/caf??a=1", lines: 1 }])
  })
})
