/**
 * Runs a Python skill warm and confined 50,000 times, four at a time, and compares what the server and the processes below it
 * hold over the last 5,000 calls with what they held after the first 10,000. In between the fork servers are replaced
 * dozens of times. Of ten calls one leaves an artifact, one takes a file, one fails and one leaves a process behind.
 *
 * A look is taken after every 250 calls, after a garbage collection and when nothing is under way; of each window it is the
 * median that counts, because now and then a fork server has no spare yet. Descriptors, processes, zombies, mounts and
 * folders may not grow at all. Memory may by what it was seen to move in 100,000 calls that kept nothing: the heap of V8 in
 * use by 0.1 MiB, the processes below the server by 0.5 MiB, its RSS by 4 to 6 MiB, all of it before the 50,000th call: pages
 * that V8 and malloc hold on to, and code that V8 compiled. The tolerances are about twice that; over the 37,500 calls
 * between the windows they let through 27 bytes a call of JavaScript, 55 in all processes below, 220 of the server's RSS.
 *
 * `SKILLSCALE_WARM_CALLS` is another number of calls. Run: `node --conditions=skillscale --expose-gc bench/warmEndurance.ts`
 * prints every look as JSON.
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Interpreter from "@skillscale/server/Interpreter"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Secrets from "@skillscale/server/Secrets"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as WorkingView from "@skillscale/server/WorkingView"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { type Figure, median } from "./figure.ts"

const total = Number(process.env["SKILLSCALE_WARM_CALLS"] ?? 50_000)
const window = total / 10
const perLook = Math.min(250, window / 2)
const inFlight = 4
const heapToleranceMiB = 1
const serverToleranceMiB = 8
const treesToleranceMiB = 2
const file = fileURLToPath(import.meta.url)

const script = `import argparse, csv, io, json, os, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("file", nargs="?")
parser.add_argument("--mode", choices=["plain", "artifact", "fail", "daemon"], default="plain")
options = parser.parse_args()
text = open(options.file).read() if options.file else sys.stdin.read()
rows = list(csv.reader(io.StringIO(text)))
if options.mode == "artifact":
    with open("out.json", "w") as out: json.dump(rows, out)
if options.mode == "daemon" and os.fork() == 0:
    os.setsid()
    time.sleep(1000)
print(json.dumps({"rows": len(rows)}))
sys.exit(3 if options.mode == "fail" else 0)
`

const input = Buffer.from("city,people\nOslo,709000\nBergen,291000\nTrondheim,212000\n")

const callOf = (count: number): SkillRunner.Call => {
  switch (count % 10) {
    case 0:
      return { args: ["--mode", "artifact"], stdin: input }
    case 1:
      return { args: ["in.csv"], files: { "in.csv": input } }
    case 2:
      return { args: ["--mode", "fail"], stdin: input }
    case 3:
      return { args: ["--mode", "daemon"], stdin: input }
    default:
      return { stdin: input }
  }
}

const check = (count: number, { artifacts, exitCode, stderr, stdout }: SkillRunner.RunResult) => {
  const kind = count % 10
  const actual = [exitCode, Buffer.from(stdout).toString(), artifacts.map(({ path }) => path).join()]
  const expected = [kind === 2 ? 3 : 0, `{"rows": 4}\n`, kind === 0 ? "out.json" : ""]
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(
      `call ${count}: ${JSON.stringify(actual)}, not ${JSON.stringify(expected)}; ${Buffer.from(stderr).toString()}`
    )
  }
}

const linesOf = (path: string): ReadonlyArray<string> => {
  try {
    return Fs.readFileSync(path, "latin1").trim().split("\n")
  } catch {
    return []
  }
}

const childrenOf = (pid: number | "self"): ReadonlyArray<number> => {
  const tasks = Fs.existsSync(`/proc/${pid}/task`) ? Fs.readdirSync(`/proc/${pid}/task`) : []
  return tasks.flatMap((task) => linesOf(`/proc/${pid}/task/${task}/children`))
    .flatMap((line) => line.split(" ")).filter((child) => child !== "").map(Number)
}

const treeOf = (pid: number | "self"): ReadonlyArray<number> =>
  childrenOf(pid).flatMap((child) => [child, ...treeOf(child)])

const entriesOf = (path: string): number => {
  try {
    return Fs.readdirSync(path).length
  } catch {
    return 0
  }
}

const field = (pid: number, name: string): string =>
  linesOf(`/proc/${pid}/status`).find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim() ?? ""

const sum = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0)

const look = (warm: number, base: string) => {
  globalThis.gc?.()
  const tree = treeOf("self")
  return {
    warm,
    descriptors: entriesOf("/proc/self/fd"),
    threads: entriesOf("/proc/self/task"),
    processes: tree.length,
    zombies: tree.filter((pid) => field(pid, "State").startsWith("Z")).length,
    /** Of the tree, 0 where the server may not see them. */
    treeDescriptors: sum(tree.map((pid) => entriesOf(`/proc/${pid}/fd`))),
    mounts: sum(tree.map((pid) => linesOf(`/proc/${pid}/mountinfo`).length)),
    folders: entriesOf(base),
    serverMiB: process.memoryUsage.rss() / 1024 ** 2,
    heapMiB: process.memoryUsage().heapUsed / 1024 ** 2,
    treesMiB: sum(tree.map((pid) => Number.parseInt(field(pid, "VmRSS"), 10) || 0)) / 1024
  }
}

export type Look = ReturnType<typeof look>

/** Waits until nobody starts or ends any more, for ten seconds at most. */
const settle = Effect.gen(function*() {
  let last = ""
  for (let same = 0, tries = 0; same < 3 && tries < 500; tries++) {
    yield* Effect.sleep(20)
    const now = treeOf("self").join()
    same = now === last ? same + 1 : 0
    last = now
  }
})

const layer = SkillRunner.layer().pipe(
  Layer.provide(Interpreter.layer),
  Layer.provideMerge(Layer.mergeAll(WorkingView.layer(), Secrets.layer({}))),
  Layer.provide(NativeExecutor.layer({
    concurrency: inFlight,
    warm: inFlight,
    idle: inFlight,
    sandbox: { folders: [Fs.realpathSync(Os.tmpdir())] }
  }))
)

const measure = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "endurance-")))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
  )
  const root = Path.join(directory, "bench", "counts")
  Fs.mkdirSync(Path.join(root, "scripts"), { recursive: true })
  Fs.writeFileSync(Path.join(root, "SKILL.md"), "---\nname: counts\ndescription: Counts rows.\n---\n")
  Fs.writeFileSync(Path.join(root, "scripts/run.py"), script)
  const context = yield* Layer.build(layer)
  const runner = Context.get(context, SkillRunner.SkillRunner)
  const { base } = Context.get(context, WorkingView.WorkingView)
  const [skill] = (yield* SkillDiscovery.scan({ directory })).skills
  if (skill === undefined) return yield* Effect.die(new Error("the skill was not found"))
  const looks: Array<Look> = []
  const done = { calls: 0, warm: 0 }
  const call = Effect.suspend(() => {
    const count = done.calls++
    return Effect.map(runner.run(skill, callOf(count)), (result) => {
      check(count, result)
      if (result.warm) done.warm++
    })
  })
  while (done.warm < total) {
    yield* Effect.all(Array.from({ length: perLook }, () => call), { concurrency: inFlight, discard: true })
    yield* settle
    looks.push(look(done.warm, base))
    if (done.calls > 2 * total) {
      return yield* Effect.die(new Error(`only ${done.warm} of ${done.calls} calls started warm`))
    }
  }
  return { ...done, looks }
})

type Measured = Effect.Success<typeof measure>

type Count = Exclude<keyof Look, "warm">

const row = (
  what: string,
  bar: string,
  names: ReadonlyArray<Count>,
  tolerance: number,
  { looks }: Measured
): Figure => {
  const before = looks.filter(({ warm }) => warm > 2 * window && warm <= 3 * window)
  const last = looks.filter(({ warm }) => warm > total - window)
  const digits = tolerance === 0 ? 0 : 1
  const pairs = names.map((name) => [last, before].map((some) => median(some.map((one) => one[name]))))
  return {
    what,
    against: `after ${(2 * window).toLocaleString("en")} calls`,
    bar,
    measured: pairs.map((pair) => pair.map((value) => value.toFixed(digits)).join(" vs ")).join(", "),
    ok: pairs.every(([now = Number.NaN, then = Number.NaN]) => now <= then + tolerance)
  }
}

export const warmEnduranceBench = async (): Promise<Array<Figure>> => {
  const args = ["--expose-gc", "--conditions=skillscale", file]
  const { stdout } = await promisify(ChildProcess.execFile)(process.execPath, args, { maxBuffer: 1 << 26 })
  const measured: Measured = JSON.parse(stdout)
  const { calls, warm } = measured
  const within = (tolerance: number) => `no growth (within ${tolerance} MiB)`
  return [
    row(
      `${warm.toLocaleString("en")} warm calls, sandbox on, and ${calls - warm} cold ones: the server's descriptors, ` +
        "threads, processes below it, zombies",
      "no growth",
      ["descriptors", "threads", "processes", "zombies"],
      0,
      measured
    ),
    row(
      "the same: descriptors and mounts of the processes below it, folders of calls",
      "no growth",
      ["treeDescriptors", "mounts", "folders"],
      0,
      measured
    ),
    row(
      "the same: MiB of the server's heap in use",
      within(heapToleranceMiB),
      ["heapMiB"],
      heapToleranceMiB,
      measured
    ),
    row("the same: MiB of the server's RSS", within(serverToleranceMiB), ["serverMiB"], serverToleranceMiB, measured),
    row(
      "the same: MiB of RSS of its reapers, fork servers and spares, together",
      within(treesToleranceMiB),
      ["treesMiB"],
      treesToleranceMiB,
      measured
    )
  ]
}

if (process.argv[1] === file) {
  process.stdout.write(`${JSON.stringify(await Effect.runPromise(Effect.scoped(measure)))}\n`)
}
