/**
 * A program that puts the addon under shortages and misuse, for `hostile.test.ts`. Its first argument is a scenario; it ends
 * with 0 when all held, and says on standard error what did not.
 */
import * as assert from "node:assert/strict"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { isMainThread, Worker, workerData } from "node:worker_threads"
import * as Native from "@skillscale/native/native"
import { handled, open, type Opened, options, pool, until, withFolder, withGate } from "./host.ts"

type Done = Extract<Native.Event, readonly ["done", ...ReadonlyArray<unknown>]>

const path = ["PATH=/usr/bin:/bin"]
const shell = (script: string, more?: Partial<Native.SpawnOptions>) => options(["/bin/sh", "-c", script], path, more)

const started = async (
  opened: Opened,
  id: number,
  run: Native.SpawnOptions,
  input: Uint8Array | null = null
): Promise<Done> => {
  opened.native.spawn(opened.supervisor, id, run, input)
  return await opened.next("done", id) as Done
}

const assertWorks = async (opened: Opened, id: number): Promise<void> => {
  const done = await started(opened, id, shell("echo fine"))
  assert.deepEqual([done[2], done[3], Buffer.from(done[13]).toString()], ["ended", 0, "fine\n"])
}

const close = async (opened: Opened): Promise<void> => {
  opened.native.close(opened.supervisor)
  await opened.next("closed")
}

const descriptors = () => Fs.readdirSync("/proc/self/fd").length
const children = () =>
  Fs.readdirSync("/proc/self/task").map((task) => Fs.readFileSync(`/proc/self/task/${task}/children`, "latin1"))
    .join("").trim()

interface Tally {
  /** The shell command that adds one to the tally. */
  readonly add: string
  readonly count: () => number
}

/** Lends a tally of runs that are about to end: those whose reapers they had to wait for have ended. */
const withTally = (work: (tally: Tally) => Promise<void>): Promise<void> =>
  withFolder((folder) => {
    const file = Path.join(folder, "tally")
    Fs.writeFileSync(file, "")
    return work({ add: `echo >> '${file}'`, count: () => Fs.statSync(file).size })
  })

const within = async <A>(milliseconds: number, what: string, work: Promise<A>): Promise<A> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

const faults = [
  "socketpair",
  "pipe2",
  "memfd_create",
  "clone",
  "sendmsg",
  "epoll_ctl",
  "fcntl",
  "realloc",
  "write",
  "mmap"
]
const errors: Readonly<Record<string, number>> = { epoll_ctl: 28, clone: 11, sendmsg: 109, realloc: 12, write: 14 }

// Acknowledges each piece of a streamed run as it comes.
const consume = (opened: Opened, id: number): () => Buffer => {
  let seen = 0
  const pieces: Array<Uint8Array> = []
  const look = () => {
    for (; seen < opened.events.length; seen++) {
      const event = opened.events[seen]
      if (event?.[0] !== "output" || event[1] !== id) continue
      pieces.push(event[3])
      opened.native.acknowledge(opened.supervisor, id, event[3].byteLength)
    }
  }
  const timer = setInterval(look, 1)
  return () => {
    clearInterval(timer)
    look()
    return Buffer.concat(pieces)
  }
}

const workload = async (opened: Opened): Promise<void> => {
  const input = new Uint8Array(300_000).fill(120)
  const long = "y".repeat(40_000)
  const collected = consume(opened, 3)
  const [echoed, argued, streamed] = await Promise.all([
    started(opened, 1, options(["/bin/cat"], []), input),
    started(opened, 2, options(["/bin/echo", long], [])),
    started(opened, 3, shell("head -c 300000 /dev/zero", { windowBytes: 50_000 }))
  ])
  const pieces = collected()
  // A run with a result has its whole result; the others say what failed.
  if (echoed[2] === "ended") assert.deepEqual([echoed[3], Buffer.compare(echoed[13], input)], [0, 0])
  if (argued[2] === "ended") assert.deepEqual([argued[3], argued[13].byteLength], [0, 40_001])
  if (streamed[2] === "ended") assert.deepEqual([streamed[3], pieces.byteLength], [0, 300_000])
  for (const done of [echoed, argued, streamed]) {
    if (done[2] === "spawnFailed") assert.ok(done[5] > 0 && done[6] !== "", JSON.stringify(done.slice(0, 7)))
    else assert.ok(["ended", "stdoutLimit", "stderrLimit"].includes(done[2]), JSON.stringify(done.slice(0, 7)))
  }
}

const faultAt = async (which: number, call: number): Promise<boolean> => {
  const plan = process.env["FAULTS_PLAN"] ?? ""
  const set = (values: ReadonlyArray<number>) => {
    const file = Fs.openSync(plan, "r+")
    Fs.writeSync(file, new Uint8Array(Int32Array.from(values).buffer), 0, 16, 0)
    Fs.closeSync(file)
  }
  const opened = await open({ minReapers: 1, idleReapers: 1 })
  set([which, call, errors[faults[which - 1] ?? ""] ?? 24, 0])
  await within(8_000, `${faults[which - 1]} ${call}`, workload(opened))
  const fired = new Int32Array(new Uint8Array(Fs.readFileSync(plan)).buffer)[3] === 1
  set([0, 0, 0, 0])
  await assertWorks(opened, 9)
  await close(opened)
  return fired
}

const scenarios: Record<string, (argument: string) => Promise<void>> = {
  faults: async (only) => {
    let injected = 0
    await close(await open())
    const before = descriptors()
    for (let which = 1; which <= faults.length; which++) {
      if (only !== "" && faults[which - 1] !== only) continue
      let call = 1
      while (call < 24 && await faultAt(which, call)) call++
      assert.ok(call > 1, `${faults[which - 1]} was never called`)
      injected += call - 1
    }
    await until("descriptors or children are left", () => descriptors() <= before + 1 && children() === "")
    process.stdout.write(`${injected}\n`)
  },
  // Expects a low RLIMIT_NOFILE.
  descriptors: () =>
    withGate(async (gate) => {
      const opened = await open()
      await assertWorks(opened, 1)
      const before = descriptors()
      const ids = Array.from({ length: 40 }, (_, index) => index + 10)
      const run = shell(`${gate.pass}; echo fine`, { timeoutMs: 20_000 })
      for (const id of ids) opened.native.spawn(opened.supervisor, id, run, new Uint8Array(10))
      await handled(opened, 2)
      gate.open()
      const results = await within(
        15_000,
        "40 runs",
        Promise.all(ids.map(async (id) => (await opened.next("done", id)) as Done))
      )
      const outcomes = new Set(results.map((done) => `${done[2]} ${done[5]} ${done[6]}`))
      assert.ok(outcomes.has("ended 0 "), [...outcomes].join())
      assert.ok(
        [...outcomes].some((outcome) => outcome.startsWith("spawnFailed")),
        `no shortage: ${[...outcomes].join()}`
      )
      for (const outcome of outcomes) assert.match(outcome, /^ended 0 $|^spawnFailed (24|109) /)
      for (let id = 100; id < 120; id++) await assertWorks(opened, id)
      await until(`descriptors: ${descriptors()}, before ${before}`, () => descriptors() <= before + 4 * 2)
      await close(opened)
      assert.equal(children(), "")
    }),
  // Expects a user that RLIMIT_NPROC binds, and a limit with room for two or three processes.
  processes: () =>
    withGate(async (gate) => {
      const opened = await open({ minReapers: 1, idleReapers: 1 })
      const ids = Array.from({ length: 30 }, (_, index) => index + 10)
      for (const id of ids) opened.native.spawn(opened.supervisor, id, shell(gate.pass), null)
      await handled(opened, 1)
      gate.open()
      const results = await within(
        15_000,
        "30 runs",
        Promise.all(ids.map(async (id) => (await opened.next("done", id)) as Done))
      )
      const outcomes = new Set(results.map((done) => `${done[2]} ${done[5]} ${done[6]}`))
      for (const outcome of outcomes) assert.match(outcome, /^ended 0 $|^spawnFailed 11 clone$/)
      for (let id = 100; id < 110; id++) {
        assert.deepEqual((await started(opened, id, options(["/bin/true"], []))).slice(2, 4), ["ended", 0])
      }
      await close(opened)
      assert.equal(children(), "")
    }),
  // Expects that no descriptor can be sent by this user (ETOOMANYREFS).
  rights: async () => {
    const opened = await open({ minReapers: 1, idleReapers: 1, maxReapers: 4 })
    const done = await within(5_000, "a run without rights", started(opened, 1, options(["/bin/true"], [])))
    assert.deepEqual([done[2], done[5], done[6]], ["spawnFailed", 109, "sendmsg"])
    await close(opened)
    assert.equal(children(), "")
  },
  // Whatever is passed, an exception or a run: never a crash.
  arguments: async () => {
    const opened = await open()
    const { native, supervisor } = opened
    const good = options(["/bin/true"], [])
    const detached = new Uint8Array(8)
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    const strange: ReadonlyArray<unknown> = [
      undefined,
      null,
      true,
      -1,
      0.5,
      Number.NaN,
      Infinity,
      -Infinity,
      2 ** 53,
      1e308,
      2 ** 64,
      10n,
      "",
      "x",
      "\0",
      "\ud800\0",
      Symbol("s"),
      [],
      {},
      () => {},
      new Date(),
      new Uint8Array(3),
      detached,
      new Float64Array(2),
      new ArrayBuffer(4),
      new DataView(new ArrayBuffer(2)),
      supervisor,
      new Proxy({}, {
        get: () => {
          throw new Error("trap")
        }
      })
    ]
    let thrown = 0
    let id = 0
    const accepted: Array<number> = []
    const attempt = (call: () => void): boolean => {
      try {
        call()
        return true
      } catch (error) {
        assert.ok(error instanceof Error, String(error))
        thrown++
        return false
      }
    }
    const start = (run: unknown, input: unknown) => {
      const next = ++id
      if (attempt(() => native.spawn(supervisor, next, run as never, input as never))) accepted.push(next)
    }
    for (const value of strange) {
      for (const key of Object.keys(good)) start({ ...good, [key]: value }, null)
      start(value, null)
      start(good, value)
      if (value !== supervisor) attempt(() => native.spawn(value as never, ++id, good, null))
      if (value !== supervisor) attempt(() => native.close(value as never))
      attempt(() => native.terminate(supervisor, value as never))
      attempt(() => native.acknowledge(supervisor, value as never, value as never))
      if (typeof value !== "number") attempt(() => native.spawn(supervisor, value as never, good, null))
      if (typeof value !== "function") {
        attempt(() =>
          native.createSupervisor(
            pool("/bin/true"),
            value as never
          )
        )
      }
      for (const key of Object.keys(pool(""))) {
        const changed = { ...pool("/bin/false"), [key]: value }
        attempt(() => native.createSupervisor(changed as never, () => {}))
      }
      start({ ...good, strings: `/\0/bin/true\0\0\0\0true\0${String(typeof value)}\0` }, null)
    }
    for (
      const strings of [
        "/\0/bin/true\0\0\0\0a\ud800b\0",
        "\udfff\0\ud800\0\0\0\0\ud800\0",
        `/\0/bin/true\0\0\0\0${"x".repeat(20 << 20)}\0`
      ]
    ) {
      start({ ...good, strings }, null)
    }
    assert.throws(() => {
      native.spawn(supervisor, 1_000_000, options(["/bin/sleep", "1"], []), null)
      native.spawn(supervisor, 1_000_000, good, null)
    }, RangeError)
    for (const next of accepted) await within(10_000, `run ${next}`, opened.next("done", next))
    assert.ok(thrown > 400, `${thrown} refused`)
    assert.ok(accepted.length > 10, `${accepted.length} accepted`)
    await assertWorks(opened, 2_000_000)
    await close(opened)
    assert.throws(() => native.spawn(supervisor, 3_000_000, good, null), /closed/)
    native.terminate(supervisor, 1)
    native.close(supervisor)
    process.exit(0)
  },
  throwing: () =>
    withTally(async (tally) => {
      let uncaught = 0
      process.on("uncaughtException", (error) => {
        if (error.message !== "on purpose") throw error
        uncaught++
      })
      const { native, reaperPath } = Native.load()
      const done: Array<number> = []
      let closed = () => {}
      const closing = new Promise<void>((resolve) => {
        closed = resolve
      })
      const supervisor = native.createSupervisor(
        pool(reaperPath, { minReapers: 4, idleReapers: 4, maxReapers: 4 }),
        (...event) => {
          if (event[0] === "closed") return closed()
          if (event[0] !== "done") return
          done.push(event[1])
          throw new Error("on purpose")
        }
      )
      for (let id = 1; id <= 40; id++) native.spawn(supervisor, id, shell(tally.add), null)
      // The event loop stands still meanwhile, so that several endings wait for one wake-up.
      const deadline = performance.now() + 10_000
      while (tally.count() < 40 && performance.now() < deadline) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
      }
      await until("not all runs are answered", () => done.length === 40)
      assert.equal(uncaught, 40)
      native.close(supervisor)
      await within(5_000, "closing", closing)
    }),
  callback: async () => {
    for (const how of ["loop", "wait"]) {
      await withTally(async (tally) => {
        const cell = new Int32Array(new SharedArrayBuffer(8))
        const worker = new Worker(new URL(import.meta.url), {
          argv: ["callbackWorker", how],
          workerData: { cell, add: tally.add }
        })
        await until("the worker is not in its callback", () => Atomics.load(cell, 1) === 1)
        await until("the other runs do not end meanwhile", () => tally.count() === 20)
        await within(8_000, "terminating", worker.terminate())
      })
    }
    await until("children are left", () => children() === "")
    const opened = await open()
    await assertWorks(opened, 1)
    await close(opened)
  },
  callbackWorker: async (how) => {
    const { native, reaperPath } = Native.load()
    const { add, cell }: { readonly add: string; readonly cell: Int32Array<SharedArrayBuffer> } = workerData
    const supervisor = native.createSupervisor(
      pool(reaperPath, { minReapers: 2, idleReapers: 2, maxReapers: 8 }),
      (...event) => {
        if (event[0] !== "done") return
        Atomics.store(cell, 1, 1)
        for (;;) if (how === "wait") Atomics.wait(cell, 0, 0, 1000)
      }
    )
    process.once("exit", () => native.terminate(supervisor, 1))
    for (let id = 1; id <= 20; id++) native.spawn(supervisor, id, shell(`head -c 100000 /dev/zero; ${add}`), null)
  },
  queue: async () => {
    const opened = await open({ minReapers: 1, maxReapers: 4 })
    for (let id = 1; id <= 5_000; id++) {
      opened.native.spawn(opened.supervisor, id, options(["/bin/sleep", "1000"], []), new Uint8Array(1000))
    }
    for (let id = 1000; id < 3000; id++) opened.native.terminate(opened.supervisor, id)
    await opened.next("done", 2999)
    const start = performance.now()
    await within(5_000, "closing", close(opened))
    assert.ok(performance.now() - start < 3_000)
    const done = opened.events.filter((event) => event[0] === "done")
    assert.equal(done.length, 5_000)
    assert.equal(new Set(done.map((event) => event[1])).size, 5_000)
    assert.equal(children(), "")
  }
}

const [, , scenario, argument] = process.argv
if (process.argv[1] === new URL(import.meta.url).pathname || !isMainThread) {
  await scenarios[scenario ?? ""]?.(argument ?? "")
}
