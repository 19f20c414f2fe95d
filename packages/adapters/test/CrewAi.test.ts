/** Skills in CrewAI, over MCP: the real package, where a Python registry can be reached, with a scripted model. */
import { assert, describe } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { promisify } from "node:util"
import { skipUnless } from "../../../test/support/mustRun.ts"
import { addSkill, type Ask, eventually, inWorld, type World } from "./frameworkSuite.ts"
import { chatCompletions } from "./support/chatCompletions.ts"
import { type Asks, type Body, items, serve } from "./support/providers.ts"

const root = Path.join(import.meta.dirname, "../../..")
const version = "1.15.30"
const venv = Path.join(root, `.setup/crewai-${version}`)
const python = Path.join(venv, "bin/python3")
const finished = Path.join(venv, "finished")
const execute = promisify(ChildProcess.execFile)

/** About 1 GB, and 2 minutes, once. */
const install = async (): Promise<boolean> => {
  if (Fs.existsSync(finished)) return true
  Fs.rmSync(venv, { recursive: true, force: true })
  const packages = [`crewai==${version}`, "mcp==1.30.0"]
  try {
    await execute("python3", ["-m", "venv", venv])
    const options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    await execute(python, ["-m", "pip", "install", ...options, ...packages], { timeout: 900_000 })
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return false
  }
  Fs.writeFileSync(finished, "")
  return true
}

const isMissing = skipUnless(await install(), `crewai ${version} (a Python registry that can be reached)`)

/** So that `skillscale` is a command, as where it is installed. */
const command = (directory: string): string => {
  const bin = Path.join(directory, "bin")
  Fs.mkdirSync(bin, { recursive: true })
  const program = [process.execPath, "--conditions=skillscale", Path.join(root, "packages/cli/src/bin.ts")]
  Fs.writeFileSync(Path.join(bin, "skillscale"), `#!/bin/sh\nexec ${program.join(" ")} "$@"\n`, { mode: 0o755 })
  return bin
}

/** CrewAI puts the command before the name of a tool. */
const prefix = "skillscale_mcp_"

const prefixed = ({ input, tool }: Ask): Ask => ({ tool: `${prefix}${tool}`, input })

const namesOf = (request: Body | undefined): Array<string | undefined> =>
  items(request?.["tools"]).map((tool) => /"name":"([^"]+)"/.exec(JSON.stringify(tool))?.[1])

const crew = async ({ addresses, directory }: World, asks: Asks, signal?: AbortSignal) => {
  await using provider = await serve(
    chatCompletions,
    asks.map((ask) => typeof ask === "function" ? async () => prefixed(await ask()) : prefixed(ask))
  )
  const { stdout } = await execute(python, [Path.join(root, "examples/crewai_agent.py"), "go on"], {
    timeout: 120_000,
    ...signal === undefined ? {} : { signal, killSignal: "SIGINT" },
    env: {
      PATH: `${command(directory)}:${process.env["PATH"]}`,
      HOME: directory,
      SKILLSCALE_PROXY_XSUB: addresses.xsub,
      SKILLSCALE_PROXY_XPUB: addresses.xpub,
      OPENAI_BASE_URL: `${provider.url}/v1`,
      OPENAI_API_KEY: "none",
      CREWAI_DISABLE_TELEMETRY: "true",
      CREWAI_TRACING_ENABLED: "false",
      OTEL_SDK_DISABLED: "true"
    }
  })
  return {
    said: stdout,
    offered: namesOf(provider.requests[0]),
    offeredLast: namesOf(provider.requests.at(-2)),
    given: chatCompletions.given(provider.requests.at(-1) ?? {})
  }
}

describe.skipIf(isMissing)("skills in CrewAI", () => {
  inWorld("are the tools of the agent that the example shows", async (world) => {
    const { given, offered, said } = await crew(world, [
      // As models write it that are held to a schema without optional properties, which CrewAI makes of ours.
      { tool: "shout", input: { input: "hello", args: null, files: null } },
      { tool: "adding", input: { a: 1, b: 2 } },
      { tool: "drawing", input: { input: null, args: null, files: null } },
      { tool: "failing", input: { input: null, args: null, files: null } }
    ])
    assert.includeMembers(
      offered,
      ["shout", "adding", "run_skill_script", "search_skills"].map((name) => `${prefix}${name}`)
    )
    assert.strictEqual(given[0], "HELLO")
    assert.strictEqual(given[1], "{\"sum\": 3}")
    assert.include(given[2], "out/table.csv")
    assert.match(given[3] ?? "", /exited with 3[^]*the disk is on fire/)
    assert.include(said, "It said: The script exited with 3.")
  })

  inWorld("end on the server with the program of the agent", async (world) => {
    const aborting = new AbortController()
    const ended = crew(world, [{ tool: "endless", input: {} }], aborting.signal)
    const outcome = ended.then(() => "ended", (error: Error) => error.name)
    const isRunning = () => world.endless() > 0
    await Promise.race([eventually("the skill runs", isRunning, 50_000), ended])
    assert.isTrue(isRunning())
    aborting.abort()
    assert.strictEqual(await outcome, "AbortError")
    await eventually("its process is gone", () => world.endless() === 0)
  })

  inWorld("can be run when they are added while an agent runs, and are tools of the next", async (world) => {
    await using toolbox = await world.connect()
    const { given, offeredLast } = await crew(world, [
      { tool: "shout", input: { input: "a" } },
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "newcomer"))
        return { tool: "run_skill_script", input: { skill: "newcomer" } }
      }
    ])
    assert.deepStrictEqual(given, ["A", "I am new"])
    assert.notInclude(offeredLast, `${prefix}newcomer`)
    const next = await crew(world, [{ tool: "newcomer", input: {} }])
    assert.include(next.offered, `${prefix}newcomer`)
    assert.deepStrictEqual(next.given, ["I am new"])
  })
})
