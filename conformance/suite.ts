/** Runs the public conformance suite, and reads what came of it. */
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as Scenarios from "./scenarios.ts"

export interface Check {
  readonly id: string
  readonly status: "SUCCESS" | "FAILURE" | "WARNING" | "SKIPPED" | "INFO"
  readonly errorMessage?: string
}

export interface Outcome {
  readonly scenario: string
  readonly era: Scenarios.Era
  readonly checks: ReadonlyArray<Check>
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program of Node to its end, which has to come within two minutes. */
export const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 120_000
    })
    let stdout = ""
    let stderr = ""
    child.stdout.on("data", (data: Buffer) => {
      stdout += data.toString()
    })
    child.stderr.on("data", (data: Buffer) => {
      stderr += data.toString()
    })
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, stdout, stderr }))
  })

const program = "node_modules/@modelcontextprotocol/conformance/dist/index.js"

/** Folders of results are called `server-SCENARIO-TIME`. */
const folderName = /^server-(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z$/

const outcomes = (folder: string, era: Scenarios.Era): ReadonlyArray<Outcome> =>
  Fs.readdirSync(folder).flatMap((name) => {
    const scenario = folderName.exec(name)?.[1]
    if (scenario === undefined) return []
    const checks: ReadonlyArray<Check> = JSON.parse(Fs.readFileSync(Path.join(folder, name, "checks.json"), "utf8"))
    return [{ scenario, era, checks }]
  })

const runSuite = async (folder: string, era: Scenarios.Era, args: ReadonlyArray<string>) => {
  Fs.mkdirSync(folder, { recursive: true })
  const { code, stderr, stdout } = await run([program, "server", ...args, "-o", folder])
  const found = outcomes(folder, era)
  if (found.length === 0) {
    throw new Error(`the conformance suite ended with ${code} and no result:\n${stdout}\n${stderr}`)
  }
  return found
}

/** Everything that a revision requires, and that the suite runs besides. */
export const requirements = (url: string, era: Scenarios.Era, folder: string): Promise<ReadonlyArray<Outcome>> =>
  runSuite(Path.join(folder, era), era, ["--url", url, "--requirements", era])

export const single = async (
  url: string,
  era: Scenarios.Era,
  scenario: string,
  folder: string
): Promise<Outcome> => {
  const args = ["--url", url, "--scenario", scenario, "--spec-version", era, "--force"]
  const [outcome] = await runSuite(Path.join(folder, `${era}-${scenario}`), era, args)
  if (outcome === undefined) throw new Error(`scenario ${scenario} has no result`)
  return outcome
}
