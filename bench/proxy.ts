/**
 * Messages per second through the proxy, against libzmq's own `zmq_proxy` with the same publishers and subscribers.
 *
 * Every process is separate. Subscribers count what arrived. Rounds alternate between the two proxies; the median is
 * reported, with the CPU share of each kind of process in the last round (1.00 is one core), which tells what saturates.
 * Run it with `node --conditions=skillscale bench/proxy.ts`.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import * as Path from "node:path"
import { type Figure, median } from "./figure.ts"
import type { Report, Task } from "./proxyChild.ts"

/** Who publishes and subscribes. */
export interface Load {
  readonly peers: "raw" | "zmq"
  readonly publishers: number
  readonly subscribers: number
  readonly topics: number
  /** Payload in bytes. */
  readonly size: number
  /** How many replicas of the topics each subscriber is, which tell their load. Default: one, which tells none. */
  readonly replicas?: number | undefined
}

const loads: ReadonlyArray<
  Load & {
    readonly what: string
    /** The least acceptable quotient of our rate and theirs. */
    readonly bar: number
  }
> = [
  {
    what: "messages per second through the proxy, 200 B",
    peers: "raw",
    publishers: 1,
    subscribers: 1,
    topics: 1,
    size: 200,
    bar: 0.5
  },
  {
    what: "the same, 16 topics in turn, 4 subscribers",
    peers: "raw",
    publishers: 1,
    subscribers: 4,
    topics: 16,
    size: 200,
    bar: 0.5
  },
  {
    what: "the same, 2 topics, zeromq.js peers (which saturate first)",
    peers: "zmq",
    publishers: 2,
    subscribers: 2,
    topics: 2,
    size: 200,
    bar: 0.5
  }
]

const rounds = 3
const warmMs = 500
const windowMs = 800

type Result = Extract<Report, { kind: "result" }>

const spawn = (task: Task): ChildProcess =>
  fork(Path.join(import.meta.dirname, "proxyChild.ts"), [JSON.stringify(task)], {
    execArgv: ["--conditions=skillscale"],
    stdio: ["ignore", "ignore", "inherit", "ipc"]
  })

const reportOf = async <K extends Report["kind"]>(
  child: ChildProcess,
  kind: K
): Promise<Extract<Report, { kind: K }>> => {
  for (;;) {
    const [message]: Array<Report> = await once(child, "message", { signal: AbortSignal.timeout(15_000) })
    const isWanted = (report: Report | undefined): report is Extract<Report, { kind: K }> => report?.kind === kind
    if (isWanted(message)) {
      return message
    }
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** What one round measured. */
export interface Sample {
  readonly rate: number
  readonly cpu: { readonly proxy: number; readonly publishers: number; readonly subscribers: number }
}

/** Runs a proxy, subscribers and publishers, each a process of its own, for one round. */
export const measure = async (load: Load, role: "skillscale" | "libzmq"): Promise<Sample> => {
  const children: Array<ChildProcess> = []
  const start = (task: Task): ChildProcess => {
    const child = spawn(task)
    children.push(child)
    return child
  }
  try {
    const topics = Array.from({ length: load.topics }, (_, index) => `TOPIC_BENCH_${String(index).padStart(3, "0")}`)
    const proxy = start({ role, port: 0, topics, size: load.size })
    const { xpub, xsub } = await reportOf(proxy, "listening")
    const subscribers = Array.from({ length: load.subscribers }, (_, index) =>
      start({
        role: `${load.peers}-sub`,
        port: xpub,
        topics: topics.filter((_, topic) => topic % load.subscribers === index),
        size: load.size,
        ...load.replicas === undefined ? {} : { replicas: { count: load.replicas, xsub } }
      }))
    const flowing = subscribers.map((child) => reportOf(child, "flowing"))
    const publishers = Array.from(
      { length: load.publishers },
      () => start({ role: `${load.peers}-pub`, port: xsub, topics, size: load.size })
    )
    await Promise.all(flowing)
    await pause(warmMs)
    children.forEach((child) => child.send("start"))
    await pause(windowMs)
    const results = children.map((child) => reportOf(child, "result"))
    children.forEach((child) => child.send("stop"))
    const [proxyResult, ...others] = await Promise.all(results)
    const cpuOf = (some: ReadonlyArray<Result>) => some.reduce((sum, { cpu }) => sum + cpu, 0)
    const heard = others.slice(0, subscribers.length)
    return {
      rate: heard.reduce((sum, { messages, seconds }) => sum + messages / seconds, 0),
      cpu: {
        proxy: proxyResult?.cpu ?? 0,
        publishers: cpuOf(others.slice(-publishers.length)),
        subscribers: cpuOf(heard)
      }
    }
  } finally {
    await Promise.all(children.map((child) => {
      const exit = child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined
      child.kill("SIGKILL")
      return exit
    }))
  }
}

export const rateText = (rate: number): string => `${(rate / 1000).toFixed(rate < 100_000 ? 1 : 0)} k/s`

export const cpuText = ({ cpu }: Sample): string =>
  `proxy ${cpu.proxy.toFixed(2)}, publishers ${cpu.publishers.toFixed(2)}, subscribers ${cpu.subscribers.toFixed(2)}`

/** Runs every load; says on stderr what saturated. Takes less than a minute. */
export const proxyBench = async (): Promise<Array<Figure>> => {
  const figures: Array<Figure> = []
  for (const load of loads) {
    const ours: Array<Sample> = []
    const theirs: Array<Sample> = []
    for (let round = 0; round < rounds; round++) {
      ours.push(await measure(load, "skillscale"))
      theirs.push(await measure(load, "libzmq"))
    }
    const our = median(ours.map(({ rate }) => rate))
    const their = median(theirs.map(({ rate }) => rate))
    figures.push({
      what: load.what,
      against: `libzmq's zmq_proxy, ${rateText(their)}`,
      measured: `${rateText(our)} (${(our / their).toFixed(2)} ×)`,
      bar: `≥ ${load.bar} ×`,
      ok: our / their >= load.bar
    })
    for (const [name, samples] of [["ours", ours], ["zmq_proxy", theirs]] as const) {
      const last = samples.at(-1)
      if (last !== undefined) {
        process.stderr.write(`${load.what}: ${name}: ${rateText(last.rate)}, CPU ${cpuText(last)}\n`)
      }
    }
  }
  return figures
}

if (import.meta.main) {
  const figures = await proxyBench()
  for (const { against, bar, measured, ok, what } of figures) {
    process.stdout.write(`| ${what} | ${against} | ${bar} | ${measured} | ${ok ? "reached" : "MISSED"} |\n`)
  }
  process.exitCode = figures.every(({ ok }) => ok) ? 0 : 1
}
