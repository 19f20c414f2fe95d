/**
 * Passes random and mutated arguments to the addon, for `fuzz.test.ts`: `argumentsFuzz.ts SEED FIRST COUNT`.
 *
 * Every round is made from its number and the seed alone. What it passes is judged by rules of its own: what is wrong has
 * to be refused by a TypeError or RangeError that names a wrong field, what is right has to become a run that ends as it
 * says, and after either the next run has to work. Prints the number of each round before it, so that a crash tells its own,
 * and how often what happened at its end.
 */
import * as assert from "node:assert/strict"
import * as Fs from "node:fs"
import * as Native from "@skillscale/native/native"
import {
  isWhole,
  judgeInput,
  judgePool,
  judgeRun,
  miscount,
  mutate,
  plainRun,
  type Random,
  random,
  strange,
  Trap,
  tune,
  type Verdict
} from "./argumentsMade.ts"
import { options as validOptions, pool } from "./host.ts"

type Done = Extract<Native.Event, readonly ["done", ...ReadonlyArray<unknown>]>

const [seed = 1, first = 0, count = 100] = process.argv.slice(2).map(Number)
const endsWithin = 15_000
const outcomes = new Set<Native.Outcome>(["ended", "spawnFailed", "timedOut", "stdoutLimit", "stderrLimit"])

interface Run {
  readonly what: string
  readonly check: (done: Done, output: Uint8Array) => void
  readonly late: NodeJS.Timeout
  readonly output: Array<Uint8Array>
}

const fail = (what: string, error: unknown): never => {
  process.stderr.write(`${what}: ${error instanceof Error ? error.stack : String(error)}\n`)
  process.exit(1)
}

const { native, reaperPath } = Native.load()
const cells = (await Native.probe(reaperPath, { uid: 65_534, gid: 65_534 }))
  .some(({ errno, name }) => name === "cell" && errno === 0)

/** The runs of one supervisor, each answered once. */
const supervise = async (more: Partial<Native.SupervisorOptions>) => {
  const runs = new Map<number, Run>()
  let onReady = (_: Native.Event) => {}
  let onClosed = () => {}
  let onIdle = () => {}
  let nextId = 1
  const ready = new Promise<Native.Event>((resolve) => (onReady = resolve))
  const closed = new Promise<void>((resolve) => (onClosed = resolve))
  const supervisor = native.createSupervisor(pool(reaperPath, more), (...event) => {
    switch (event[0]) {
      case "ready":
      case "failed":
        return onReady(event)
      case "closed":
        return onClosed()
      case "output":
        runs.get(event[1])?.output.push(event[3].slice())
        return native.acknowledge(supervisor, event[1], event[3].byteLength)
      case "done": {
        if (event[16] >= 0) Fs.closeSync(event[16])
        const run = runs.get(event[1])
        if (run === undefined) return fail(`run ${event[1]}`, "an end of a run that there is not")
        runs.delete(event[1])
        clearTimeout(run.late)
        tell(event[2] === "spawnFailed" ? `${event[2]} ${event[6]} ${event[5]}` : `${event[2]}`)
        try {
          run.check(event, run.output.length > 0 ? Buffer.concat(run.output) : event[13])
        } catch (error) {
          fail(run.what, error)
        }
        if (runs.size === 0) onIdle()
      }
    }
  })
  assert.equal((await ready)[0], "ready")
  return {
    supervisor,
    nextId: () => nextId++,
    expect: (id: number, what: string, check: Run["check"]) => {
      const late = setTimeout(() => fail(what, `no end within ${endsWithin} ms`), endsWithin)
      runs.set(id, { what, check, late, output: [] })
    },
    idle: async () => {
      if (runs.size > 0) await new Promise<void>((resolve) => (onIdle = resolve))
    },
    close: async () => {
      native.close(supervisor)
      await closed
    }
  }
}

type Supervised = Awaited<ReturnType<typeof supervise>>

const tally: Record<string, number> = {}
const tell = (what: string) => {
  tally[what] = (tally[what] ?? 0) + 1
}

/** Calls, and tells whether it was accepted. A refusal has to name a wrong field. */
const attempt = (wrong: ReadonlySet<string>, call: () => void): boolean => {
  try {
    call()
  } catch (error) {
    if (error instanceof Trap) return false
    assert.ok(error instanceof TypeError || error instanceof RangeError, String(error))
    const named = /^\S+/.exec(error.message)?.[0] ?? ""
    assert.ok(wrong.has(named), `refused with "${error.message}", wrong are: ${[...wrong].join() || "none"}`)
    tell(`refused ${named}`)
    return false
  }
  assert.equal([...wrong].join(), "", "accepted, though wrong are")
  tell("accepted")
  return true
}

const show = (value: unknown): string => {
  try {
    return JSON.stringify(
      value,
      (_, inner: unknown) =>
        typeof inner === "bigint" || typeof inner === "symbol" || typeof inner === "function"
          ? String(inner)
          : typeof inner === "string" && inner.length > 200
          ? `${inner.slice(0, 200)}… (${inner.length})`
          : inner
    )
  } catch (error) {
    return `(${String(error)})`
  }
}

const startRun = (from: Random, where: Supervised, what: string) => {
  const { expected, input: right, run } = plainRun(from, cells)
  let plain = false
  from.of<() => void>([
    () => void (plain = true),
    () => tune(from, run),
    () => miscount(from, run),
    () => {
      tune(from, run)
      miscount(from, run)
    },
    () => mutate(from, run, () => false),
    () => {
      miscount(from, run)
      mutate(from, run, () => false)
    }
  ])()
  const passed: unknown = from.chance(0.02) ? strange(from) : run
  const input: unknown = plain || from.chance(0.85) ? right : strange(from)
  plain = plain && passed === run
  const id = plain || from.chance(0.95) ? where.nextId() : strange(from)
  const about = `${what}, ${show(passed)}`
  let verdict: Verdict = { wrong: new Set(), oversized: false }
  let trapped = false
  try {
    verdict = judgeRun(passed)
  } catch (error) {
    if (!(error instanceof Trap)) throw error
    trapped = true
  }
  const wrong = new Set(verdict.wrong)
  if (!isWhole(id, 1)) wrong.add("id")
  if (!judgeInput(input)) wrong.add("input")
  // A number that happens to be right as an id may be one that a run has.
  const own = typeof id === "number" ? id : 0
  const check = (done: Done, output: Uint8Array) => {
    if (plain) assert.deepEqual([done[2], done[3], Buffer.compare(output, expected)], ["ended", 0, 0])
    else if (verdict.oversized) assert.deepEqual([done[2], done[5]], ["spawnFailed", 7])
    else assert.ok(outcomes.has(done[2]), show(done.slice(0, 7)))
  }
  try {
    const accepted = attempt(
      trapped ? new Set([...wrong, ...Object.keys(validOptions(["x"], []))]) : wrong,
      () => native.spawn(where.supervisor, id as never, passed as never, input as never)
    )
    if (accepted) where.expect(own, about, check)
  } catch (error) {
    fail(about, error)
  }
}

/** The other functions, with anything but a supervisor of ours, and with ids that no run has. */
const callOthers = (from: Random, where: Supervised, what: string) => {
  const value = strange(from)
  const stranger = new Set(["supervisor"])
  const wrongId = isWhole(value, 1) ? new Set<string>() : new Set(["id"])
  const wrongBytes = isWhole(value, 0) ? new Set<string>() : new Set(["bytes"])
  try {
    attempt(stranger, () => native.close(value as never))
    attempt(stranger, () => native.terminate(value as never, 1))
    attempt(new Set(["supervisor"]), () => native.spawn(value as never, 1, validOptions(["/bin/true"], []), null))
    attempt(wrongId, () => native.terminate(where.supervisor, (isWhole(value, 1) ? 2 ** 52 : value) as never))
    attempt(wrongBytes, () => native.acknowledge(where.supervisor, 2 ** 52, value as never))
  } catch (error) {
    fail(`${what}, ${show(value)}`, error)
  }
}

/** Supervisors of helpers that are there, are not, or are something else; with few reapers, since all right ones start. */
const create = async (from: Random, what: string) => {
  const path = from.of([reaperPath, "/bin/false", "/does/not/exist", "", "/", from.text()])
  const object: Record<PropertyKey, unknown> = { ...pool(path) }
  if (from.chance(0.5)) {
    const paths = Array.from(
      { length: from.below(4) },
      () => from.of(["/usr", "/tmp", "/", "", "relative", from.text()])
    )
    object["paths"] = paths.map((one) => `${one}\0`).join("")
    object["readable"] = from.below(paths.length + 1)
    object["skills"] = paths.length - Number(object["readable"]) + (from.chance(0.2) ? 1 : 0)
    if (from.chance(0.5)) object["open"] = from.below(paths.length + 1)
  }
  if (from.chance(0.2)) object["kind"] = from.of([1, 2, 2 ** 50])
  if (from.chance(0.3)) object["uid"] = from.whole()
  if (from.chance(0.6)) mutate(from, object, (name) => name === "minReapers")
  if (from.chance(0.1)) object["minReapers"] = from.of([0, -1, 1.5, Number.NaN, "1", null])
  const passed: unknown = from.chance(0.05) ? strange(from) : object
  const about = `${what}, supervisor of ${show(passed)}`
  let wrong: ReadonlySet<string>
  try {
    wrong = judgePool(passed)
  } catch (error) {
    if (!(error instanceof Trap)) throw error
    wrong = new Set(Object.keys(pool("")))
  }
  let late: NodeJS.Timeout | undefined
  const said: Array<Native.Event> = []
  try {
    await new Promise<void>((resolve, reject) => {
      late = setTimeout(() => reject(new Error(`not closed within ${endsWithin} ms: ${show(said)}`)), endsWithin)
      let supervisor: Native.Supervisor | undefined
      const accepted = attempt(wrong, () => {
        supervisor = native.createSupervisor(passed as never, (...event) => {
          said.push(event)
          if (event[0] === "closed") return resolve()
          if (event[0] === "ready" && supervisor !== undefined) native.close(supervisor)
        })
      })
      if (!accepted) resolve()
    })
  } catch (error) {
    fail(about, error)
  } finally {
    clearTimeout(late)
  }
}

const children = () =>
  Fs.readdirSync("/proc/self/task").map((task) => Fs.readFileSync(`/proc/self/task/${task}/children`, "latin1"))
    .join("").trim()
const descriptors = () => Fs.readdirSync("/proc/self/fd").length

const before = descriptors()
/** What a cell has to show so that programs start there. */
const shown = ["/usr", "/bin", "/lib", "/lib64", "/etc"]
const where = await supervise({
  minReapers: 2,
  idleReapers: 4,
  maxReapers: 4,
  prestart: 2,
  paths: shown.map((path) => `${path}\0`).join(""),
  readable: shown.length
})
for (let round = first; round < first + count; round++) {
  process.stdout.write(`round ${round}\n`)
  const from = random(Math.imul(seed, 0x9e3779b1) ^ Math.imul(round, 0x85ebca6b))
  const what = `seed ${seed}, round ${round}`
  const kind = from.below(100)
  if (kind < 6) await create(from, what)
  else if (kind < 15) callOthers(from, where, what)
  else startRun(from, where, what)
  if (round % 16 === 15 || round === first + count - 1) {
    await where.idle()
    const id = where.nextId()
    native.spawn(where.supervisor, id, validOptions(["/bin/echo", "fine"], []), null)
    where.expect(id, `the run after ${what}`, (done) => {
      assert.deepEqual([done[2], done[3], Buffer.from(done[13]).toString()], ["ended", 0, "fine\n"])
    })
    await where.idle()
  }
}
await where.close()
assert.equal(children(), "", "children are left")
// The handle of a supervisor is closed when it is collected, which takes a descriptor or two.
assert.ok(descriptors() <= before + 4, `${descriptors()} descriptors, before ${before}`)
process.stdout.write(`${JSON.stringify(tally)}\n`)
process.exit(0)
