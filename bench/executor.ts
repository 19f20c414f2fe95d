/**
 * Measures the native executor against what it replaces: a spawn loop in C for the time of one run, and
 * `node:child_process` for the time that the event loop is blocked and for throughput. All figures are medians of
 * samples that alternate within one process. Run: `node --conditions=skillscale bench/executor.ts`.
 */
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { performance } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import { type Figure, median } from "./figure.ts"

type Run = (spec: Executor.Spec) => Promise<Executor.Execution>

const truth: Executor.Spec = { file: "/bin/true", cwd: "/" }

const figure = (what: string, against: string, measured: string, bar: string, ok: boolean): Figure => ({
  what,
  against,
  measured,
  bar,
  ok
})

const buildBaseline = (folder: string): string => {
  const binary = Path.join(folder, "executor-baseline")
  const source = fileURLToPath(new URL("./executor-baseline.c", import.meta.url))
  ChildProcess.execFileSync("cc", ["-O2", "-D_GNU_SOURCE", "-o", binary, source])
  return binary
}

const sequential = async (run: Run, baseline: string): Promise<Figure> => {
  const native: Array<number> = []
  const floor: Array<number> = []
  for (let round = 0; round < 12; round++) {
    const times: Array<number> = []
    for (let i = 0; i < 150; i++) {
      const start = performance.now()
      await run(truth)
      times.push((performance.now() - start) * 1000)
    }
    native.push(median(times))
    floor.push(Number(ChildProcess.execFileSync(baseline, ["150", "/bin/true"]).toString()))
  }
  const ratio = median(native) / median(floor)
  return figure(
    "/bin/true, one after the other",
    "posix_spawn + waitpid in C",
    `${median(native).toFixed(0)} µs vs ${median(floor).toFixed(0)} µs = ${ratio.toFixed(2)}×`,
    "≤ 2×",
    ratio <= 2
  )
}

const viaChildProcess = (file: string, stdin: Uint8Array | null): Promise<number> =>
  new Promise((resolve, reject) => {
    let size = 0
    const pieces: Array<Uint8Array> = []
    const child = ChildProcess.spawn(file, [], { cwd: "/", env: {}, detached: true })
    child.stdout.on("data", (data: Buffer) => {
      size += data.byteLength
      pieces.push(data)
    })
    child.stderr.on("data", (data: Buffer) => pieces.push(data))
    child.on("error", reject)
    child.on("close", () => {
      Buffer.concat(pieces)
      resolve(size)
    })
    child.stdin.end(stdin ?? undefined)
  })

// The time in which the event loop did not wait for events, per run.
const activeMicros = async (count: number, once: () => Promise<unknown>): Promise<number> => {
  const before = performance.eventLoopUtilization()
  for (let i = 0; i < count; i++) await once()
  return performance.eventLoopUtilization(before).active * 1000 / count
}

const blocking = async (run: Run): Promise<Figure> => {
  const native: Array<number> = []
  const node: Array<number> = []
  for (let round = 0; round < 9; round++) {
    native.push(await activeMicros(100, () => run(truth)))
    node.push(await activeMicros(100, () => viaChildProcess("/bin/true", null)))
  }
  const share = median(native) / median(node)
  return figure(
    "event loop busy per run",
    "child_process.spawn",
    `${median(native).toFixed(0)} µs vs ${median(node).toFixed(0)} µs = 1/${(1 / share).toFixed(1)}`,
    "≤ 1/8",
    share <= 1 / 8
  )
}

const throughput = async (run: Run): Promise<Figure> => {
  const size = 8 * 1024 * 1024
  const stdin = new Uint8Array(size).fill(120)
  const native: Array<number> = []
  const node: Array<number> = []
  for (let round = 0; round < 15; round++) {
    const start = performance.now()
    const execution = await run({ file: "/bin/cat", cwd: "/", stdin, stdoutBytes: size })
    const middle = performance.now()
    if (execution.stdout.byteLength !== size || await viaChildProcess("/bin/cat", stdin) !== size) {
      throw new Error("cat lost bytes")
    }
    native.push(middle - start)
    node.push(performance.now() - middle)
  }
  return figure(
    "8 MiB through cat",
    "child_process with buffers",
    `${median(native).toFixed(1)} ms vs ${median(node).toFixed(1)} ms`,
    "not slower",
    median(native) <= median(node)
  )
}

/** Runs all measurements; takes about 20 seconds. */
export const executorBench = async (): Promise<Array<Figure>> => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "executor-bench-"))
  const scope = Scope.makeUnsafe()
  try {
    const context = await Effect.runPromise(Layer.buildWithScope(NativeExecutor.layer(), scope))
    const executor = Context.get(context, Executor.Executor)
    const run: Run = (spec) => Effect.runPromise(executor.run(spec))
    const baseline = buildBaseline(folder)
    for (let i = 0; i < 200; i++) await run(truth)
    return [await sequential(run, baseline), await blocking(run), await throughput(run)]
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const figures = await executorBench()
  const width = (key: keyof Figure) => Math.max(...figures.map((row) => String(row[key]).length))
  for (const row of figures) {
    process.stdout.write(
      `${row.what.padEnd(width("what"))}  ${row.against.padEnd(width("against"))}  ${
        row.measured.padEnd(width("measured"))
      }  ${row.bar.padEnd(width("bar"))}  ${row.ok ? "ok" : "MISSED"}\n`
    )
  }
  process.exitCode = figures.every((row) => row.ok) ? 0 : 1
}
