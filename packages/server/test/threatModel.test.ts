/** `docs/threat-model.md` says of every attack what stops it, where that is done, and which test tries it. All of it is there. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { eventually } from "./executorKit.ts"

const root = Path.join(import.meta.dirname, "../../..")
const page = Fs.readFileSync(Path.join(root, "docs/threat-model.md"), "utf8")

interface Row {
  readonly line: number
  readonly cells: ReadonlyArray<string>
}

interface Table {
  readonly head: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Row>
}

const cellsOf = (line: string): ReadonlyArray<string> => line.split("|").slice(1, -1).map((cell) => cell.trim())

const tables = (): ReadonlyArray<Table> => {
  const found: Array<{ head: ReadonlyArray<string>; rows: Array<Row> }> = []
  let isTable = false
  for (const [index, line] of page.split("\n").entries()) {
    if (!line.startsWith("|")) {
      isTable = false
    } else if (!isTable) {
      isTable = true
      found.push({ head: cellsOf(line), rows: [] })
    } else if (!/^[|\s:-]+$/.test(line)) {
      found.at(-1)?.rows.push({ line: index + 1, cells: cellsOf(line) })
    }
  }
  return found
}

const codeIn = (text: string): ReadonlyArray<string> => Array.from(text.matchAll(/`([^`]+)`/g), ([, code = ""]) => code)

const filesBelow = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts") && !path.includes("node_modules"))
    .map((path) => Path.join(folder, path))

const testFiles = (): ReadonlyMap<string, string> =>
  new Map(["packages", "native", "test"].flatMap(filesBelow).map((path) => [Path.basename(path), path]))

const entries = tables().flatMap(({ rows }) => rows)
const named = entries.flatMap(({ cells, line }) =>
  codeIn(cells.at(-1) ?? "").map((name) => ({ line, file: name.split(" > ")[0] ?? "", title: name }))
)

/** The titles of all tests of these files, as vitest itself finds them. */
const titlesOf = (files: ReadonlyArray<string>): Effect.Effect<ReadonlySet<string>> =>
  Effect.promise(() =>
    new Promise((resolve, reject) => {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "titles-"))
      const into = Path.join(folder, "tests.json")
      const args = [Path.join(root, "node_modules/vitest/vitest.mjs"), "list", "--no-static-parse", `--json=${into}`]
      execFile(process.execPath, [...args, ...files], { cwd: root }, (error, stdout, stderr) => {
        try {
          if (error !== null) return reject(new Error(`${stdout}\n${stderr}`))
          const tests: ReadonlyArray<{ readonly name: string; readonly file: string }> = JSON.parse(
            Fs.readFileSync(into, "utf8")
          )
          resolve(new Set(tests.map(({ file, name }) => `${Path.basename(file)} > ${name}`)))
        } finally {
          Fs.rmSync(folder, { recursive: true })
        }
      })
    })
  )

describe("docs/threat-model.md", () => {
  it("has nothing but attacks in its tables, each with a test", () => {
    for (const { head } of tables()) {
      assert.deepStrictEqual(head, ["who, and how", "what stops it", "what is left", "test"])
    }
    assert.isAtLeast(entries.length, 40)
    for (const { cells, line } of entries) {
      assert.lengthOf(cells, 4, `line ${line}`)
      for (const cell of cells.slice(0, 3)) assert.isNotEmpty(cell, `line ${line} leaves something out`)
      assert.isNotEmpty(codeIn(cells[3] ?? ""), `line ${line} names no test`)
    }
  })

  it.live("names tests that exist", () =>
    Effect.gen(function*() {
      const files = testFiles()
      for (const { file, line } of named) assert.isTrue(files.has(file), `line ${line}: there is no ${file}`)
      const titles = yield* titlesOf([...new Set(named.map(({ file }) => files.get(file) ?? file))])
      const missing = named.filter(({ title }) => !titles.has(title)).map(({ line, title }) => `line ${line}: ${title}`)
      assert.deepStrictEqual(missing, [])
    }), 120_000)

  it("names files that exist, in every answer at least one", () => {
    for (const { cells, line } of entries) {
      const paths = codeIn(cells[1] ?? "").filter((code) => /^[\w./-]+\.(?:ts|cc|h|py|cjs)$/.test(code))
      assert.isTrue(paths.length > 0 || cells[1] === "nothing", `line ${line} does not say where`)
      for (const path of paths) assert.isTrue(Fs.existsSync(Path.join(root, path)), `line ${line}: there is no ${path}`)
    }
  })
})

/** Local addresses at which a process accepts TCP connections, as /proc has them. */
const listening = (pid: number): ReadonlyArray<string> => {
  const sockets = new Set(
    Fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [/^socket:\[(\d+)\]$/.exec(Fs.readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? ""]
      } catch {
        return []
      }
    })
  )
  return ["tcp", "tcp6"].flatMap((table) =>
    Fs.readFileSync(`/proc/${pid}/net/${table}`, "latin1").split("\n").slice(1).map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === "0A" && sockets.has(fields[9] ?? "-"))
      .map((fields) => fields[1]?.split(":")[0] ?? "")
  )
}

describe("skillscale up", () => {
  it.live("listens on the loopback alone unless it is told otherwise", () =>
    Effect.scoped(Effect.gen(function*() {
      const skills = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "threats-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
      )
      const start = Effect.fnUntraced(function*(more: ReadonlyArray<string>) {
        const ports = ["--xsub-port", "0", "--xpub-port", "0", "--metrics-port", "0"]
        const bin = Path.join(root, "packages/cli/src/bin.ts")
        const server = yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn(process.execPath, ["--conditions=source", bin, "up", "--skills", skills, ...ports, ...more], {
              stdio: ["ignore", "ignore", "pipe"]
            })
          ),
          (server) =>
            Effect.callback<void>((resume) => {
              server.once("exit", () => resume(Effect.void))
              server.kill("SIGKILL")
            })
        )
        let log = ""
        server.stderr.on("data", (data: Buffer) => {
          log += data.toString()
        })
        yield* eventually("it is not ready", () => log, (text) => text.includes("skillscale is ready"), 30_000)
        return listening(server.pid ?? 0)
      }, Effect.scoped)
      assert.deepStrictEqual(yield* start([]), ["0100007F", "0100007F", "0100007F"])
      assert.include(yield* start(["--host", "0.0.0.0"]), "00000000")
    })), 90_000)
})
