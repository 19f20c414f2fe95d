/**
 * Runs `/bin/true` 10,000 times in a row and compares what the process holds at the end with what it held after 2,000
 * runs, each time after a garbage collection, in a process of its own. Run: `node --conditions=skillscale bench/endurance.ts`.
 */
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { Figure } from "./figure.ts"

const warmUp = 2_000
const total = 10_000
const toleranceMiB = 4
const file = fileURLToPath(import.meta.url)

const children = () =>
  Fs.readdirSync("/proc/self/task").flatMap((task) =>
    Fs.readFileSync(`/proc/self/task/${task}/children`, "utf8").split(" ").filter((pid) => pid !== "")
  ).length

const sample = () => {
  globalThis.gc?.()
  return {
    descriptors: Fs.readdirSync("/proc/self/fd").length,
    processes: children(),
    rssMiB: process.memoryUsage.rss() / 1024 / 1024
  }
}

const measure = Effect.gen(function*() {
  const executor = Context.get(yield* Layer.build(NativeExecutor.layer()), Executor.Executor)
  const run = executor.run({ file: "/bin/true", cwd: "/" })
  yield* Effect.repeat(run, { times: warmUp - 1 })
  const before = sample()
  yield* Effect.repeat(run, { times: total - warmUp - 1 })
  return { before, after: sample() }
})

type Measured = Effect.Success<typeof measure>

export const enduranceBench = async (): Promise<Array<Figure>> => {
  const args = ["--expose-gc", "--conditions=skillscale", file]
  const { stdout } = await promisify(ChildProcess.execFile)(process.execPath, args)
  const { after, before }: Measured = JSON.parse(stdout)
  return [{
    what: "10,000 runs in a row: descriptors, processes, RSS at the end",
    against: "after 2,000 runs",
    measured: `${after.descriptors} vs ${before.descriptors}, ${after.processes} vs ${before.processes}, ${
      after.rssMiB.toFixed(1)
    } vs ${before.rssMiB.toFixed(1)} MiB`,
    bar: `no growth (RSS within ${toleranceMiB} MiB)`,
    ok: after.descriptors <= before.descriptors && after.processes <= before.processes &&
      after.rssMiB <= before.rssMiB + toleranceMiB
  }]
}

if (process.argv[1] === file) {
  process.stdout.write(`${JSON.stringify(await Effect.runPromise(Effect.scoped(measure)))}\n`)
}
