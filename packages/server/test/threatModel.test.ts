/** `docs/threat-model.md` says of every attack what stops it, where that is done, and which test tries it. All of it is there. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Documented from "../../../test/support/documentedTests.ts"
import { eventually } from "./executorKit.ts"

const tables = Documented.tablesOf("docs/threat-model.md")
const entries = tables.flatMap(({ rows }) => rows)
const named = entries.flatMap(({ cells, line }) =>
  Documented.codeIn(cells.at(-1) ?? "").map((title) => ({ line, file: Documented.fileOf(title), title }))
)

describe("docs/threat-model.md", () => {
  it("has nothing but attacks in its tables, each with a test", () => {
    for (const { head } of tables) {
      assert.deepStrictEqual(head, ["who, and how", "what stops it", "what is left", "test"])
    }
    assert.isAtLeast(entries.length, 40)
    for (const { cells, line } of entries) {
      assert.lengthOf(cells, 4, `line ${line}`)
      for (const cell of cells.slice(0, 3)) assert.isNotEmpty(cell, `line ${line} leaves something out`)
      assert.isNotEmpty(Documented.codeIn(cells[3] ?? ""), `line ${line} names no test`)
    }
  })

  it.live("names tests that exist", () =>
    Effect.gen(function*() {
      const files = Documented.testFiles()
      for (const { file, line } of named) assert.isTrue(files.has(file), `line ${line}: there is no ${file}`)
      const titles = yield* Documented.titlesOf([...new Set(named.map(({ file }) => files.get(file) ?? file))])
      const missing = named.filter(({ title }) => !titles.has(title)).map(({ line, title }) => `line ${line}: ${title}`)
      assert.deepStrictEqual(missing, [])
    }), 120_000)

  it("names files that exist, in every answer at least one", () => {
    for (const { cells, line } of entries) {
      const paths = Documented.codeIn(cells[1] ?? "").filter((code) => /^[\w./-]+\.(?:ts|cc|h|py|cjs)$/.test(code))
      assert.isTrue(paths.length > 0 || cells[1] === "nothing", `line ${line} does not say where`)
      for (const path of paths) {
        assert.isTrue(Fs.existsSync(Path.join(Documented.root, path)), `line ${line}: there is no ${path}`)
      }
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
        const bin = Path.join(Documented.root, "packages/cli/src/bin.ts")
        const server = yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn(process.execPath, ["--conditions=skillscale", bin, "up", "--skills", skills, ...ports, ...more], {
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
