/**
 * Measures what a catalog of 1,000 skills costs an agent: to list it, to search it, to write its prompt, and the memory that it
 * takes with its index. The agent is a process of its own. Run: `node --conditions=skillscale bench/catalog.ts`.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type { Measured } from "./catalogChild.ts"
import { type Figure, median } from "./figure.ts"
import { start, startProxy } from "./stack.ts"

const skills = 1000
const words = 2000
const bodyWords = 700

/** Letters in an order that is the same each time. */
const wordOf = (seed: number): string => {
  let rest = (seed * 2_654_435_761) % 4_294_967_296
  let word = ""
  while (word.length < 3 + seed % 7) {
    word += String.fromCharCode(97 + rest % 26)
    rest = Math.floor(rest / 26) + seed * 31 + 7
  }
  return word
}

const vocabulary = Array.from({ length: words }, (_, index) => wordOf(index + 1))
/** Some words are frequent and most are rare, as in texts. */
const textOf = (seed: number, count: number): string =>
  Array.from(
    { length: count },
    (_, index) => vocabulary[Math.floor((((seed * 7919 + index * 104_729) % 9973) / 9973) ** 3 * words)] ?? ""
  ).join(" ")

const writeSkills = (folder: string): void => {
  for (let index = 0; index < skills; index++) {
    const name = `skill-${index}`
    const root = Path.join(folder, "bench", name)
    Fs.mkdirSync(Path.join(root, "scripts"), { recursive: true })
    const manifest = `---\nname: ${name}\ndescription: ${textOf(index, 30)}\n---\n${textOf(index + 1, bodyWords)}\n`
    Fs.writeFileSync(Path.join(root, "SKILL.md"), manifest)
    Fs.writeFileSync(Path.join(root, "scripts", "run.sh"), "cat\n")
  }
}

const child = fileURLToPath(new URL("catalogChild.ts", import.meta.url))

const measure = (addresses: { readonly xsub: string; readonly xpub: string }): Promise<Measured> =>
  new Promise((resolve, reject) => {
    const queries = Array.from({ length: 50 }, (_, index) => textOf(index * 13 + 5, 3))
    const agent = ChildProcess.fork(child, [addresses.xsub, addresses.xpub, JSON.stringify(queries)], {
      execArgv: ["--conditions=skillscale", "--expose-gc"]
    })
    agent.once("message", (message) => resolve(message as Measured))
    agent.once("exit", (code) => reject(new Error(`the agent ended with ${code}`)))
  })

const row = (what: string, times: ReadonlyArray<number>): Figure => {
  const ms = median(times)
  return {
    what: `${what}, p50`,
    against: `${skills.toLocaleString("en-US")} skills of ${words} words in all`,
    bar: "≤ 20 ms",
    measured: `${ms.toFixed(1)} ms`,
    ok: ms <= 20
  }
}

export const catalogBench = async (): Promise<ReadonlyArray<Figure>> => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-bench-"))
  writeSkills(folder)
  const proxy = await startProxy()
  const server = await start([
    "server",
    ...["--topic", "TOPIC_BENCH", "--skills-dir", folder],
    ...["--proxy-xsub", proxy.xsub, "--proxy-xpub", proxy.xpub]
  ], "serving")
  try {
    const { bytes, list, prompt, search, tools } = await measure(proxy)
    const mebibytes = bytes / 1024 ** 2
    return [
      row("listing the catalog for a model", list),
      row("searching it, three words of names, descriptions and instructions", search),
      row("its prompt", prompt),
      row("the definitions of its tools, one for each skill", tools),
      {
        what: "memory of an agent with all of it, the index included",
        against: "one that is connected and has none",
        bar: "≤ + 50 MB",
        measured: `+ ${mebibytes.toFixed(1)} MB`,
        ok: mebibytes <= 50
      }
    ]
  } finally {
    await server.stop()
    await proxy.stop()
    Fs.rmSync(folder, { recursive: true })
  }
}
