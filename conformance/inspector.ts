/** Drives the command line of the MCP Inspector. */
import * as Path from "node:path"
import * as Suite from "./suite.ts"

export interface Inspected {
  readonly what: string
  readonly era: string
  readonly said: string
  readonly problem: string | undefined
}

interface Step {
  readonly what: string
  readonly args: ReadonlyArray<string>
  /** The exit code, 0 without. */
  readonly code?: number
  readonly says: RegExp
}

const program = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"

const steps: ReadonlyArray<Step> = [
  { what: "tools/list --strict", args: ["--method", "tools/list", "--strict"], says: /"name": "test_simple_text"/ },
  {
    what: "tools/call",
    args: ["--method", "tools/call", "--tool-name", "run_skill_script", "--tool-arg", "skill=test_simple_text"],
    says: /This is a simple text response for testing\./
  },
  {
    what: "tools/call of a skill that fails",
    args: ["--method", "tools/call", "--tool-name", "test_error_handling"],
    code: 5,
    says: /intentionally returns an error/
  },
  { what: "resources/list", args: ["--method", "resources/list"], says: /skill:\/\/testing\/static-text\/SKILL\.md/ },
  {
    what: "resources/read",
    args: ["--method", "resources/read", "--uri", "skill://testing/static-text/references/text.txt"],
    says: /the static text resource/
  },
  {
    what: "prompts/get",
    args: ["--method", "prompts/get", "--prompt-name", "use-skill", "--prompt-args", "skill=test_simple_prompt"],
    says: /Greet the person/
  },
  {
    what: "skills/list --verify",
    args: ["--method", "skills/list", "--verify", "--require-digests"],
    says: /Verified \d+ skills? and \d+ files?: no conformance errors/
  }
]

const inspectStep = async (url: string, era: string, folder: string, step: Step): Promise<Inspected> => {
  const { code, stderr, stdout } = await Suite.run(
    [program, "--cli", url, "--transport", "http", "--protocol-era", era, ...step.args],
    { MCP_CATALOG_PATH: Path.join(folder, "inspector.json"), HOME: folder }
  )
  const said = `${stdout}\n${stderr}`
  const expected = step.code ?? 0
  const problem = code !== expected
    ? `it ended with ${code}, not ${expected}: ${said.slice(-500)}`
    : step.says.test(said)
    ? undefined
    : `it did not say ${step.says}: ${said.slice(-500)}`
  return { what: step.what, era, said: step.says.exec(said)?.[0].replaceAll(/["\\]/g, "") ?? "", problem }
}

export const inspect = async (url: string, folder: string): Promise<ReadonlyArray<Inspected>> => {
  const inspected: Array<Inspected> = []
  for (const era of ["modern", "legacy"]) {
    for (const step of steps) inspected.push(await inspectStep(url, era, folder, step))
  }
  return inspected
}

export const table = (inspected: ReadonlyArray<Inspected>): string => {
  const rows = inspected.map(({ era, problem, said, what }) =>
    `| ${what} | ${era} | ${problem === undefined ? "passed" : "FAILED"} | ${said} |`
  )
  return ["| Inspector | era | result | it said |", "| --- | --- | --- | --- |", ...rows].join("\n")
}
