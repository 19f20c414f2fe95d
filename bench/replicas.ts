/**
 * What the choice of a replica costs and brings: messages per second through the proxy with 8 replicas that tell their load
 * against one plain subscriber, and how long requests wait for a worker against a random choice.
 *
 * The waits are of real servers on real sockets behind a real proxy, each with a bus of its own, whose runs only sleep. For
 * the random choice each server has a topic of its own. Both get the same requests at the same times in the same run.
 * Run it with `node --conditions=skillscale bench/replicas.ts`.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Executor from "@skillscale/server/Executor"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as SkillServer from "@skillscale/server/SkillServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Result from "effect/Result"
import { type Figure, median } from "./figure.ts"
import { cpuText, measure, rateText, type Sample } from "./proxy.ts"
import { startProxy } from "./stack.ts"

const rounds = 5
const flow = { peers: "raw", publishers: 1, subscribers: 1, topics: 1, size: 200 } as const

/** Rounds alternate; each is compared with its neighbour, since what else the machine does changes. */
const throughput = async (): Promise<Figure> => {
  const plain: Array<Sample> = []
  const many: Array<Sample> = []
  for (let round = 0; round < rounds; round++) {
    plain.push(await measure(flow, "skillscale"))
    many.push(await measure({ ...flow, replicas: 8 }, "skillscale"))
  }
  const quotients = many.map(({ rate }, round) => rate / (plain[round]?.rate ?? Number.NaN))
  const quotient = median(quotients)
  for (const [name, samples] of [["one subscriber", plain], ["8 replicas", many]] as const) {
    const lines = samples.map((sample) => `${rateText(sample.rate)}, CPU ${cpuText(sample)}`)
    process.stderr.write(`${name}: ${lines.join("; ")}\n`)
  }
  return {
    what: "messages per second through the proxy, 200 B, 8 replicas that tell their load",
    against: `one plain subscriber, ${rateText(median(plain.map(({ rate }) => rate)))}`,
    measured: `${rateText(median(many.map(({ rate }) => rate)))} (${quotient.toFixed(2)} ×)`,
    bar: "≥ 0.7 ×",
    ok: quotient >= 0.7
  }
}

const replicas = 4
const workers = 4
const load = 0.8
const short = { ms: 5, part: 0.9 }
const long = { ms: 500, part: 0.1 }
/** How much a run has to wait depends on where its long ones are, so that there are several. */
const traces = [1, 2, 3, 4]
const traceMs = 15_000
/** What is left out at the beginning of each, while queues fill. */
const warmMs = 2_000
const perMs = replicas * workers * load / (short.ms * short.part + long.ms * long.part)

const shared = "TOPIC_SHARED"
const own = (index: number): string => `TOPIC_OWN_${index}`

/** Pseudo-random numbers from 0 to 1 (mulberry32), so that every run has the same requests. */
const random = (seed: number) => (): number => {
  seed = seed + 0x6d2b79f5 | 0
  let mixed = Math.imul(seed ^ seed >>> 15, 1 | seed)
  mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
  return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32
}

const usage = { wallMs: 0, userMs: 0, systemMs: 0, maxRssBytes: 0 }
const nothing = new Uint8Array()

/** A server on a bus of its own. `onBegin` hears when each run begins; its input is how long it takes. */
const server = (topic: string, xsub: string, xpub: string, onBegin: (topic: string, sentAt: number) => void) =>
  SkillServer.layer({ topic, workers, queue: 1_000_000, serves: () => true, drain: 0 }).pipe(
    Layer.provide(ZmqBus.layer({ xsub, xpub })),
    Layer.provide(Layer.mock(SkillRunner.SkillRunner, {
      hints: () => ({ readOnly: true, destructive: false, idempotent: true, openWorld: false }),
      isIdempotent: () => true,
      run: (_, { stdin }) =>
        Effect.suspend(() => {
          const [sentAt = 0, ms = 0] = Buffer.from(stdin ?? nothing).toString().split(" ").map(Number)
          onBegin(topic, sentAt)
          return Effect.as(Effect.sleep(ms), {
            exitCode: 0,
            signal: "",
            stdout: nothing,
            stderr: nothing,
            stdoutTruncated: false,
            stderrTruncated: false,
            artifacts: [],
            artifactsTruncated: false,
            warm: false,
            usage
          })
        })
    })),
    Layer.provide(Layer.mock(Executor.Executor, {
      canOverlay: () => false,
      canShow: () => false,
      capabilities: {
        name: "sleep",
        limits: false,
        wholeTree: false,
        outlivesNothing: false,
        usage: false,
        confines: false
      }
    })),
    Layer.provide(SkillDiscovery.layerMemory({
      "bench/sleep": {
        "SKILL.md": "---\nname: sleep\ndescription: Sleeps. Use to measure.\n---\nSleeps.\n",
        "scripts/run.sh": "sleep"
      }
    })),
    Layer.fresh
  )

const request = (id: string, data: string): Uint8Array =>
  Result.getOrThrow(
    Protocol.encodeRequest({ requestId: id, replyTo: "AGENT_REPLY_BENCH", intent: Protocol.makeIntent("sleep", data) })
  )

/** Sends every request twice, to the shared topic and to that of one server, and tells how long they waited. */
const waits = Effect.fnUntraced(
  function*(xsub: string, xpub: string) {
    const waited = { chosen: new Array<number>(), random: new Array<number>() }
    let counted = 0
    let from = Number.POSITIVE_INFINITY
    const onBegin = (topic: string, sentAt: number) => {
      if (sentAt > from) {
        waited[topic === shared ? "chosen" : "random"].push(performance.now() - sentAt)
      }
    }
    const topics = Array.from({ length: replicas }, (_, index) => [shared, own(index)]).flat()
    yield* Effect.forEach(topics, (topic) => Layer.build(server(topic, xsub, xpub, onBegin)))
    const bus = yield* ZmqBus.make({ xsub, xpub })
    yield* Effect.sleep("500 millis")
    for (const seed of traces) {
      const next = random(seed)
      const begun = performance.now()
      from = begun + warmMs
      for (let due = begun, sent = 0; due < begun + traceMs; sent += 1) {
        while (due > performance.now()) {
          yield* Effect.sleep(1)
        }
        const now = performance.now()
        const data = `${now} ${next() < short.part ? short.ms : long.ms}`
        yield* bus.publish(shared, request(`s${seed}.${sent}`, data))
        yield* bus.publish(own(Math.floor(next() * replicas)), request(`o${seed}.${sent}`, data))
        counted += now > from ? 1 : 0
        due -= Math.log(1 - next()) / perMs
      }
      // Those that still wait are among the longest.
      while (waited.chosen.length < counted || waited.random.length < counted) {
        yield* Effect.sleep(10)
      }
    }
    return waited
  },
  Effect.scoped,
  Effect.provideService(References.MinimumLogLevel, "Error")
)

const quantile = (values: ReadonlyArray<number>, part: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * part)] ?? Number.NaN

const waiting = async (): Promise<Figure> => {
  const proxy = await startProxy()
  try {
    const { chosen, random } = await Effect.runPromise(waits(proxy.xsub, proxy.xpub))
    const tell = (values: ReadonlyArray<number>) =>
      [0.5, 0.9, 0.99, 0.999].map((part) => `p${part * 100} ${quantile(values, part).toFixed(1)} ms`).join(", ")
    process.stderr.write(`waits of ${chosen.length} requests: ${tell(chosen)}; at random: ${tell(random)}\n`)
    const [ours, theirs] = [quantile(chosen, 0.99), quantile(random, 0.99)]
    return {
      what: "wait for a worker, p99: 4 replicas of 4 workers at 80 % load, 90 % of runs 5 ms and 10 % 500 ms",
      against: `a replica at random, ${theirs.toFixed(0)} ms`,
      measured: `${ours.toFixed(0)} ms (${(ours / theirs).toFixed(2)} ×)`,
      bar: "≤ 0.5 ×",
      ok: ours / theirs <= 0.5
    }
  } finally {
    await proxy.stop()
  }
}

/** Runs both. Takes less than two minutes. */
export const replicasBench = async (): Promise<Array<Figure>> => [await throughput(), await waiting()]

if (import.meta.main) {
  const figures = await replicasBench()
  for (const { against, bar, measured, ok, what } of figures) {
    process.stdout.write(`| ${what} | ${against} | ${bar} | ${measured} | ${ok ? "reached" : "MISSED"} |\n`)
  }
  process.exitCode = figures.every(({ ok }) => ok) ? 0 : 1
}
