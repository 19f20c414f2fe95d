// Calls every shipped skill on the sample that ships with it, through a proxy and one skill server per topic, each a
// process of its own, over TCP on free ports. Prints what came back and how long it took; fails when a skill's answer is
// not the one that its sample expects.
import * as PromiseClient from "@skillscale/client/PromiseClient"
import { spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { readdir, readFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const bin = join(root, "packages/cli/dist/bin.js")
const skillsDir = join(root, "skills")
const startMs = 20_000
const stopMs = 15_000

interface Case {
  readonly script?: string
  readonly args?: ReadonlyArray<string>
  readonly stdin?: string
  readonly files?: Readonly<Record<string, string>>
}

interface Sample {
  readonly category: string
  readonly skill: string
  readonly folder: string
  readonly call: Case
}

const color = process.stdout.isTTY && process.env["NO_COLOR"] === undefined
const bold = (text: string) => color ? `\u001b[1m${text}\u001b[0m` : text
const say = (text: string) => process.stdout.write(`${text}\n`)
const topicOf = (category: string) => `TOPIC_${category.toUpperCase().replaceAll("-", "_")}`

const folders = async (path: string) =>
  (await readdir(path, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map((entry) => entry.name)
    .sort()

const findSamples = async (): Promise<ReadonlyArray<Sample>> => {
  const samples: Array<Sample> = []
  for (const category of await folders(skillsDir)) {
    for (const skill of await folders(join(skillsDir, category))) {
      const folder = join(skillsDir, category, skill, "samples", "demo")
      samples.push({ category, skill, folder, call: JSON.parse(await readFile(join(folder, "case.json"), "utf8")) })
    }
  }
  return samples
}

const running: Array<ChildProcess> = []

/** Starts a command of the product and resolves with its first log line that has the message. */
const start = (args: ReadonlyArray<string>, message: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args], { cwd: root, stdio: ["ignore", "ignore", "pipe"] })
    running.push(child)
    const log: Array<string> = []
    const fail = (why: string) => reject(new Error(`skillscale ${args.join(" ")}: ${why}\n${log.join("\n")}`))
    const timer = setTimeout(() => fail(`not ready after ${startMs} ms`), startMs)
    child.on("error", (error) => fail(error.message))
    child.on("exit", (code, signal) => {
      clearTimeout(timer)
      fail(`ended with ${code ?? signal}`)
    })
    createInterface({ input: child.stderr }).on("line", (line) => {
      log.push(line)
      if (!line.includes(`message=${message}`)) return
      clearTimeout(timer)
      resolve(line)
    })
  })

const stop = (child: ChildProcess): Promise<void> =>
  new Promise((resolve, reject) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    const timer = setTimeout(() => {
      child.kill("SIGKILL")
      reject(new Error(`process ${child.pid} did not stop within ${stopMs} ms`))
    }, stopMs)
    child.on("exit", (code) => {
      clearTimeout(timer)
      if (code === 0) resolve()
      else reject(new Error(`process ${child.pid} ended with ${code}`))
    })
    child.kill("SIGTERM")
  })

const addressIn = (line: string, name: string): string => {
  const address = new RegExp(` ${name}=(\\S+)`).exec(line)?.[1]
  if (address === undefined) throw new Error(`no ${name} address in: ${line}`)
  return address
}

const readFiles = async (sample: Sample) => {
  const files: Record<string, Uint8Array> = {}
  for (const [name, local] of Object.entries(sample.call.files ?? {})) {
    files[name] = await readFile(join(sample.folder, local))
  }
  return files
}

const preview = (text: string) => {
  const lines = text.trimEnd().split("\n")
  const shown = lines.slice(0, 8).map((line) => `    ${line.length > 110 ? `${line.slice(0, 109)}…` : line}`)
  return lines.length > shown.length ? [...shown, `    … ${lines.length - shown.length} more lines`] : shown
}

const callSkill = async (client: PromiseClient.PromiseClient, sample: Sample): Promise<boolean> => {
  const stdin = sample.call.stdin === undefined ? undefined : await readFile(join(sample.folder, sample.call.stdin))
  const files = await readFiles(sample)
  const started = performance.now()
  const result = await client.run({
    skill: sample.skill,
    topic: topicOf(sample.category),
    ...(sample.call.script === undefined ? {} : { script: sample.call.script }),
    ...(stdin === undefined ? {} : { stdin }),
    args: sample.call.args ?? [],
    files
  })
  const ms = (performance.now() - started).toFixed(1)
  const stdout = Buffer.from(result.stdout)
  const expected = await readFile(join(sample.folder, "stdout"))
  const good = result.exitCode === 0 && stdout.equals(expected)
  say(`${bold(`${topicOf(sample.category)} ▸ ${sample.skill}`)}  ${ms} ms`)
  for (const line of preview(stdout.toString("utf8"))) say(line)
  for (const artifact of result.artifacts) say(`    wrote ${artifact.path} (${artifact.size} bytes, ${artifact.mime})`)
  if (!good) say(`    NOT as expected: exit code ${result.exitCode}; ${result.stderr}`)
  say("")
  return good
}

const main = async (): Promise<number> => {
  const samples = await findSamples()
  const ports = ["--xsub-port", "0", "--xpub-port", "0", "--metrics-port", "0"]
  const ready = await start(["proxy", ...ports], "\"proxy is ready\"")
  const xsub = addressIn(ready, "xsub")
  const xpub = addressIn(ready, "xpub")
  const topics = [...new Set(samples.map((sample) => topicOf(sample.category)))]
  const addresses = ["--proxy-xsub", xsub, "--proxy-xpub", xpub]
  await Promise.all(
    topics.map((topic) => start(["server", "--topic", topic, "--skills-dir", skillsDir, ...addresses], "serving"))
  )
  say(`proxy on ${xsub} and ${xpub}, ${topics.length} skill servers\n`)
  const client = await PromiseClient.connect({ xsub, xpub })
  let good = 0
  try {
    for (const sample of samples) if (await callSkill(client, sample)) good += 1
  } finally {
    await client.close()
  }
  say(`${good} of ${samples.length} skills answered as expected`)
  return good === samples.length ? 0 : 1
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    for (const child of running) child.kill("SIGTERM")
    process.exit(130)
  })
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
} finally {
  const stopped = await Promise.allSettled(running.map(stop))
  for (const result of stopped) {
    if (result.status === "rejected") {
      process.stderr.write(`demo: ${String(result.reason)}\n`)
      process.exitCode = 1
    }
  }
}
