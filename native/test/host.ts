/**
 * A program that uses the addon, for tests of what happens when it ends. Its first argument is a scenario; it prints one
 * JSON line per thing that the test waits for.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { isMainThread, parentPort, Worker } from "node:worker_threads"
import * as Native from "@skillscale/native/native"

const say = (value: unknown) => Fs.writeSync(1, `${JSON.stringify(value)}\n`)

export const options = (
  strings: ReadonlyArray<string>,
  env: ReadonlyArray<string>,
  more?: Partial<Native.SpawnOptions>
): Native.SpawnOptions => ({
  strings: ["/", strings[0], "", "", "", ...strings, ...env].map((value) => `${value}\0`).join(""),
  argc: strings.length,
  envc: env.length,
  timeoutMs: null,
  graceMs: 500,
  interruptGraceMs: 500,
  stdoutBytes: 1 << 20,
  stderrBytes: 1 << 20,
  failOnOverflow: false,
  windowBytes: 0,
  cpuSeconds: null,
  memoryBytes: null,
  fileBytes: null,
  openFiles: null,
  processes: null,
  treeBytes: null,
  treeTasks: null,
  diskBytes: null,
  writec: 0,
  readc: 0,
  warmc: 0,
  affinity: 0,
  epoch: 0,
  kind: 0,
  flags: 0,
  ...more
})

/** A pool of reapers that live among the processes of the host. */
export const pool = (reaperPath: string, more?: Partial<Native.SupervisorOptions>): Native.SupervisorOptions => ({
  reaperPath,
  controlGroups: "",
  kind: 0,
  paths: "",
  readable: 0,
  skills: 0,
  open: 0,
  uid: 65_534,
  gid: 65_534,
  epoch: 0,
  minReapers: 1,
  idleReapers: 1,
  prestart: 0,
  maxReapers: 1,
  ...more
})

export interface Opened {
  readonly native: Native.Native
  readonly supervisor: Native.Supervisor
  readonly events: Array<Native.Event>
  readonly next: (type: Native.Event[0], id?: number) => Promise<Native.Event>
}

/** Creates a supervisor and keeps its events. */
export const open = async (more?: Partial<Native.SupervisorOptions>): Promise<Opened> => {
  const { native, reaperPath } = Native.load()
  const events: Array<Native.Event> = []
  let waiting: Array<() => void> = []
  const supervisor = native.createSupervisor(
    pool(reaperPath, { minReapers: 2, idleReapers: 4, maxReapers: 16, ...more }),
    (...event) => {
      events.push(event)
      const woken = waiting
      waiting = []
      for (const wake of woken) wake()
    }
  )
  const next = async (type: Native.Event[0], id?: number): Promise<Native.Event> => {
    for (;;) {
      const found = events.find((event) => event[0] === type && (id === undefined || event[1] === id))
      if (found !== undefined) return found
      await new Promise<void>((resolve) => {
        waiting.push(resolve)
      })
    }
  }
  const opened = { native, supervisor, events, next }
  const first = await Promise.race([next("ready"), next("closed")])
  if (first[0] !== "ready") throw new Error(`the supervisor failed: ${JSON.stringify(events)}`)
  return opened
}

/** Waits until something holds, for ten seconds at most. */
export const until = async (what: string, holds: () => boolean): Promise<void> => {
  const deadline = performance.now() + 10_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`${what}, after ten seconds`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Waits until the supervisor has acted on every call so far, by means of one more run. */
export const handled = async (opened: Opened, id: number): Promise<void> => {
  opened.native.spawn(opened.supervisor, id, options(["/bin/true"], []), null)
  opened.native.terminate(opened.supervisor, id)
  await opened.next("done", id)
}

/** Lends a folder that is removed afterwards. */
export const withFolder = async (work: (folder: string) => Promise<void>): Promise<void> => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "native-"))
  try {
    await work(folder)
  } finally {
    Fs.rmSync(folder, { recursive: true })
  }
}

export interface Gate {
  /** The shell command that waits for the gate. */
  readonly pass: string
  /** Lets up to a thousand commands pass, also later ones; it needs no descriptor. */
  readonly open: () => void
}

/** Lends a gate that holds up runs. */
export const withGate = (work: (gate: Gate) => Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const path = Path.join(folder, "gate")
    ChildProcess.execFileSync("mkfifo", [path])
    const fifo = Fs.openSync(path, "r+")
    try {
      await work({ pass: `read -r go < '${path}'`, open: () => Fs.writeSync(fifo, "\n".repeat(1_000)) })
    } finally {
      Fs.closeSync(fifo)
    }
  })

// Announces itself on standard output when all of its processes are there: a child, and a daemon without a parent.
const tree = `import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os.wait()
if os.fork() == 0: time.sleep(1000)
os.write(1, b'up')
time.sleep(1000)`

const startTree = async (opened: Opened, marker: string, id = 1): Promise<void> => {
  const python = process.env["PYTHON"] ?? "/usr/bin/python3"
  opened.native.spawn(
    opened.supervisor,
    id,
    options([python, "-c", tree], [`MARKER=${marker}`], { windowBytes: 1024 }),
    null
  )
  await opened.next("output", id)
}

const runTrue = async (opened: Opened, id: number): Promise<void> => {
  opened.native.spawn(opened.supervisor, id, options(["/bin/true"], []), null)
  const done = await opened.next("done", id)
  if (done[2] !== "ended" || done[3] !== 0) throw new Error(JSON.stringify(done))
}

const inWorker = (scenario: string, marker: string): Promise<Worker> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { argv: [scenario, marker] })
    worker.once("message", () => resolve(worker))
    worker.once("error", reject)
  })

const counts = () => ({
  descriptors: Fs.readdirSync("/proc/self/fd").length,
  threads: Fs.readdirSync("/proc/self/task").length,
  children: Fs.readdirSync("/proc/self/task").map((task) => Fs.readFileSync(`/proc/self/task/${task}/children`, "utf8"))
    .join("").trim()
})

const churnOnce = async (): Promise<Native.Supervisor> => {
  const opened = await open()
  for (let id = 1; id <= 50; id++) {
    opened.native.spawn(opened.supervisor, id, options(["/bin/cat"], ["A=b"]), new Uint8Array(id * 5_000))
  }
  opened.native.spawn(opened.supervisor, 51, options(["/bin/absent"], []), null)
  for (let id = 1; id <= 51; id++) await opened.next("done", id)
  opened.native.close(opened.supervisor)
  await opened.next("closed")
  return opened.supervisor
}

const scenarios: Record<string, (marker: string) => Promise<void>> = {
  hang: async (marker) => {
    await startTree(await open(), marker)
    say("up")
  },
  exit: async (marker) => {
    await startTree(await open(), marker)
    process.exit(7)
  },
  exitAtOnce: async (marker) => {
    const opened = await open()
    for (let id = 1; id < 30; id++) {
      opened.native.spawn(opened.supervisor, id, options(["/bin/sleep", "1000"], [`MARKER=${marker}`]), null)
    }
    process.exit(7)
  },
  crash: async (marker) => {
    await startTree(await open(), marker)
    setImmediate(() => {
      throw new Error("on purpose")
    })
  },
  idle: async () => {
    await runTrue(await open(), 1)
  },
  churn: async () => {
    let handles = 3
    const registry = new FinalizationRegistry<null>(() => handles--)
    for (let round = 0; round < 3; round++) registry.register(await churnOnce(), null)
    // Node frees what belongs to a handle when it is collected, never at exit.
    await until("a handle is not collected", () => {
      globalThis.gc?.()
      return handles === 0
    })
  },
  worker: async (marker) => {
    for (let round = 0; round < 6; round++) {
      const worker = await inWorker("inner", marker)
      await worker.terminate()
      if (round === 0) say(counts())
    }
    say(counts())
    const opened = await open()
    await runTrue(opened, 1)
    opened.native.close(opened.supervisor)
    await opened.next("closed")
    say("usable")
  },
  inner: async (marker) => {
    await startTree(await open(), marker)
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of worker_threads has no origin
    parentPort?.postMessage("up")
  }
}

const [, , scenario, marker] = process.argv
const chosen = process.argv[1] === new URL(import.meta.url).pathname || !isMainThread
  ? scenarios[scenario ?? ""]
  : undefined
if (chosen !== undefined) await chosen(marker ?? "")
