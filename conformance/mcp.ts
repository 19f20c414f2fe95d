/**
 * Runs the public conformance suite of MCP and the Inspector against `skillscale mcp`, with real skills as the fixtures that they
 * ask for. Prints a table of scenarios. Exits 1 when something that applies fails, and when the list of what does not apply is wrong.
 * Run: `npm run test:mcp`.
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Stack from "../bench/stack.ts"
import * as Forwarder from "./forwarder.ts"
import * as Inspector from "./inspector.ts"
import * as Report from "./report.ts"
import * as Scenarios from "./scenarios.ts"
import * as Suite from "./suite.ts"

const say = (text: string): void => void process.stdout.write(`${text}\n`)

/** Skills that add others find the folder of all of them in a file of their own. */
const changing = ["test_trigger_tool_change", "test_trigger_prompt_change"]

const copySkills = (folder: string): string => {
  const skills = Path.join(folder, "skills")
  Fs.cpSync(Path.join(import.meta.dirname, "skills"), skills, { recursive: true })
  for (const name of changing) Fs.writeFileSync(Path.join(skills, "testing", name, "folder"), `${skills}\n`)
  return skills
}

const suites = async (url: string, folder: string): Promise<ReadonlyArray<Report.Verdict>> => {
  const forwarder = await Forwarder.start(url, Scenarios.renamed)
  const verdicts: Array<Report.Verdict> = []
  try {
    for (const era of Scenarios.eras) {
      for (const outcome of await Suite.requirements(url, era, folder)) {
        verdicts.push(Report.judge(
          Scenarios.forwarded.includes(outcome.scenario)
            ? await Suite.single(forwarder.url, era, outcome.scenario, folder)
            : outcome
        ))
      }
    }
    for (const scenario of Scenarios.extension) {
      verdicts.push(Report.judge(await Suite.single(url, "2026-07-28", scenario, folder)))
    }
  } finally {
    forwarder.close()
  }
  return verdicts.sort((one, other) => `${one.scenario} ${other.era}` < `${other.scenario} ${one.era}` ? -1 : 1)
}

const report = async (url: string, folder: string): Promise<boolean> => {
  const verdicts = await suites(url, folder)
  say(Report.table(verdicts))
  const inspected = await Inspector.inspect(url, folder)
  say(`\n${Inspector.table(inspected)}\n`)
  const count = (result: Report.Verdict["result"]) => verdicts.filter((verdict) => verdict.result === result).length
  say(`${count("passed")} passed, ${count("FAILED")} failed, ${count("does not apply")} do not apply`)
  const problems = [
    ...verdicts.flatMap(({ era, problem, scenario }) =>
      problem === undefined ? [] : [`${scenario} (${era}): ${problem}`]
    ),
    ...Report.vanished(verdicts).map((name) => `${name}: it is listed, and not in the suite any more`),
    ...inspected.flatMap(({ problem, what }) => problem === undefined ? [] : [`${what}: ${problem}`])
  ]
  problems.forEach((problem) => say(`wrong: ${problem}`))
  return problems.length === 0
}

/** Starts a piece, and stops it when the work is done, however it ends. */
const during = async <A>(args: ReadonlyArray<string>, ready: string, work: (piece: Stack.Started) => Promise<A>) => {
  const piece = await Stack.start(args, JSON.stringify(ready))
  try {
    return await work(piece)
  } finally {
    await piece.stop()
  }
}

const main = (folder: string): Promise<boolean> => {
  const ports = ["--xsub-port", "0", "--xpub-port", "0", "--metrics-port", "0"]
  // Two of the skills change the folder that they are served from.
  const up = ["up", "--skills", copySkills(folder), "--sandbox", "off", ...ports]
  return during(up, "skillscale is ready", (stack) => {
    const addresses = ["--proxy-xsub", stack.address("xsub"), "--proxy-xpub", stack.address("xpub")]
    return during(
      ["mcp", "--http", "0", ...addresses],
      "MCP is ready",
      (server) => report(server.address("url"), folder)
    )
  })
}

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-conformance-"))
try {
  process.exitCode = await main(folder) ? 0 : 1
} finally {
  Fs.rmSync(folder, { recursive: true, force: true })
}
