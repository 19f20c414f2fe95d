/** Makes every attempt to get out of a run, and prints what became of it as a table. Run: `npm run escape`. Exits 1 when one got out. */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { floods } from "../packages/server/test/escapeFloods.ts"
import { open } from "../packages/server/test/escapeOpen.ts"

interface Report {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly status: string
    }>
  }>
}

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-escape-"))
const file = Path.join(folder, "report.json")
spawnSync(process.execPath, [
  "node_modules/vitest/vitest.mjs",
  ...["run", "packages/server/test/escape.test.ts", "--reporter=json", `--outputFile=${file}`]
], { stdio: ["ignore", "ignore", "inherit"] })
const report: Report = JSON.parse(Fs.readFileSync(file, "utf8"))
Fs.rmSync(folder, { recursive: true })

/** By what they are about, the tests and how they ended. */
const groups = new Map<string, Map<string, string>>()
for (const { ancestorTitles, status, title } of report.testResults.flatMap((result) => result.assertionResults)) {
  const group = ancestorTitles.at(-1) ?? ""
  groups.set(group, (groups.get(group) ?? new Map()).set(title, status))
}
let wrong = 0

const cell = (group: string, title: string, passed: string): string => {
  const status = groups.get(group)?.get(title)
  if (status === "failed") wrong += 1
  return status === undefined ? "" : status === "passed" ? passed : status === "failed" ? "WRONG" : "not tried here"
}
const shut = (group: string, title: string, list: ReadonlyArray<string>): string =>
  cell(group, title, list.includes(title) ? "**works**" : "fails")
const print = (header: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): void => {
  const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |\n`
  process.stdout.write(`${line(header)}${line(header.map(() => "---"))}${rows.map(line).join("")}\n`)
}

print(
  ["a script tries to", "confined", "the same, started warm", "confined, without namespaces", "not confined"],
  Array.from(groups.get("a confined run cannot")?.keys() ?? [], (title) => [
    title,
    shut("a confined run cannot", title, open.cold),
    shut("a run that starts warm cannot", title, open.warm),
    shut("without namespaces a confined run cannot", title, open.plain),
    cell("without the sandbox a run, or else a process, can", title, "works")
  ])
)
print(
  ["a script makes", "confined, it is ended with", "the same, without namespaces"],
  Object.entries(floods).map(([title, [reason]]) => {
    const ended = (group: string) => cell(group, title, open.floods.includes(title) ? "**goes on**" : `\`${reason}\``)
    return [
      title,
      ended("a confined run is ended for"),
      ended("without namespaces a confined run is ended for")
    ]
  })
)
if (wrong > 0) process.stderr.write(`${wrong} of them are not as they should be\n`)
process.exitCode = wrong > 0 || groups.size === 0 ? 1 : 0
