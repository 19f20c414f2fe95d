/** Reads the tables of a document, and finds the tests that they name: `` `File.test.ts > describe > title` ``. */
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

export const root = Path.join(import.meta.dirname, "../..")

export interface Row {
  readonly line: number
  readonly cells: ReadonlyArray<string>
}

export interface Table {
  readonly head: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Row>
}

const cellsOf = (line: string): ReadonlyArray<string> => line.split("|").slice(1, -1).map((cell) => cell.trim())

/** The tables of a document, by its path from the root. */
export const tablesOf = (document: string): ReadonlyArray<Table> => {
  const found: Array<{ head: ReadonlyArray<string>; rows: Array<Row> }> = []
  let isTable = false
  for (const [index, line] of Fs.readFileSync(Path.join(root, document), "utf8").split("\n").entries()) {
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

/** What a cell has in code marks. */
export const codeIn = (text: string): ReadonlyArray<string> =>
  Array.from(text.matchAll(/`([^`]+)`/g), ([, code = ""]) => code)

const filesBelow = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts") && !path.includes("node_modules"))
    .map((path) => Path.join(folder, path))

/** The paths of all files with tests, by their names. */
export const testFiles = (): ReadonlyMap<string, string> =>
  new Map(["packages", "native", "test"].flatMap(filesBelow).map((path) => [Path.basename(path), path]))

/** The name of the file in the name of a test. */
export const fileOf = (test: string): string => test.split(" > ")[0] ?? ""

/** The names of all tests of these files, as vitest itself finds them. */
export const titlesOf = (files: ReadonlyArray<string>): Effect.Effect<ReadonlySet<string>> =>
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
