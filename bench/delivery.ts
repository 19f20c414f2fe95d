/**
 * Measures what delivery costs: a call that is acknowledged and leased against a plain one of version 1, by the
 * same caller, which fails unless each of the first, and none of the others, is acknowledged; and from the end of a caller's
 * interest to the end of the process. Run: `node --conditions=skillscale bench/delivery.ts`.
 */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as Bus from "@skillscale/core/Bus"
import * as Topic from "@skillscale/core/Topic"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { type Figure, median } from "./figure.ts"
import { start, type Started, startProxy } from "./stack.ts"

const topic = "TOPIC_BENCH"
const warmUpRounds = 5
const cancels = 200

const writeSkill = (folder: string, name: string, script: string): void => {
  const scripts = Path.join(folder, "bench", name, "scripts")
  Fs.mkdirSync(scripts, { recursive: true })
  const manifest = `---\nname: ${name}\ndescription: Measures. Use to measure.\n---\nMeasures.\n`
  Fs.writeFileSync(Path.join(folder, "bench", name, "SKILL.md"), manifest)
  Fs.writeFileSync(Path.join(scripts, "run.sh"), script)
}

const leased = { v: 2, accept: ["accepted"], lease_ms: 30_000 }

interface Kind {
  readonly what: string
  readonly skill: string
  /** What a leased request says more than a plain one. */
  readonly terms: object
  /** Whether it always hears `accepted` before its answer. */
  readonly isAcknowledged: boolean
  readonly rounds: number
  readonly callsPerRound: number
}

const kinds: ReadonlyArray<Kind> = [
  {
    what: "a call with acknowledgement and lease, p50: its answer, which comes at once, is its acknowledgement",
    skill: "cat",
    terms: leased,
    isAcknowledged: false,
    rounds: 15,
    callsPerRound: 100
  },
  {
    what: "one that takes 300 ms, and is acknowledged and told of meanwhile, p50",
    skill: "long",
    terms: leased,
    isAcknowledged: true,
    rounds: 10,
    callsPerRound: 5
  }
]

/** A caller without a client: it publishes a request, waits for the final response and tells whether it was acknowledged before. */
const caller = Effect.gen(function*() {
  const bus = yield* Bus.Bus
  const replyTo = Topic.reply("bench_plain")
  const waiting = new Map<string, () => void>()
  const acknowledged = new Set<string>()
  const messages = yield* bus.subscription([replyTo])
  yield* Stream.runForEach(messages, ({ frames }) =>
    Effect.sync(() => {
      const response: { readonly request_id: string; readonly event?: string } = JSON.parse(
        Buffer.from(frames[0] ?? []).toString("utf8")
      )
      if (response.event === "accepted") acknowledged.add(response.request_id)
      if (response.event !== undefined) return
      waiting.get(response.request_id)?.()
      waiting.delete(response.request_id)
    })).pipe(Effect.forkScoped)
  let count = 0
  return (skill: string, data: string, more: object) =>
    Effect.callback<boolean>((resume) => {
      const requestId = `plain${count++}`
      waiting.set(requestId, () => resume(Effect.sync(() => acknowledged.delete(requestId))))
      const request = { request_id: requestId, reply_to: replyTo, intent: JSON.stringify({ skill, data }), ...more }
      Effect.runFork(bus.publish(topic, Buffer.from(JSON.stringify(request))))
    })
})

/** What the terms of leased calls add to plain ones, which take turns with them. */
const compared = (at: { readonly xsub: string; readonly xpub: string }) =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const call = yield* Effect.provideServiceEffect(caller, Bus.Bus, ZmqBus.make(at))
    const data = "x".repeat(1024)
    const timed = async (skill: string, terms: object, isAcknowledged: boolean): Promise<number> => {
      const began = performance.now()
      const wasAcknowledged = await Effect.runPromise(call(skill, data, terms))
      const took = performance.now() - began
      if (isAcknowledged && !wasAcknowledged) throw new Error(`a call of ${skill} was not acknowledged`)
      return took
    }
    const round = async ({ callsPerRound, isAcknowledged, skill, terms }: Kind) => {
      const plain: Array<number> = []
      const leased: Array<number> = []
      for (let index = 0; index < callsPerRound; index++) {
        plain.push(await timed(skill, {}, false))
        leased.push(await timed(skill, terms, isAcknowledged))
      }
      return { plain: median(plain), leased: median(leased) }
    }
    // Until the proxy knows the caller.
    yield* Effect.sleep("1 second")
    const figures: Array<Figure> = []
    for (const kind of kinds) {
      const measured: Array<{ readonly plain: number; readonly leased: number }> = []
      for (let index = -warmUpRounds; index < kind.rounds; index++) {
        const medians = yield* Effect.promise(() => round(kind))
        if (index >= 0) measured.push(medians)
      }
      const plain = median(measured.map(({ plain }) => plain))
      const added = median(measured.map(({ leased, plain }) => leased - plain))
      figures.push({
        what: kind.what,
        against: `a plain one of version 1, ${plain.toFixed(2)} ms`,
        measured: `${added < 0 ? "-" : "+"} ${Math.abs(added).toFixed(2)} ms`,
        bar: "≤ + 0.3 ms",
        ok: added <= 0.3
      })
    }
    return figures
  })))

/** The process that sleeps for so long, when there is one. */
const sleeperOf = (seconds: string): string | undefined =>
  Fs.readdirSync("/proc").find((pid) => {
    try {
      return /^\d+$/.test(pid) && Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8") === `sleep\0${seconds}\0`
    } catch {
      return false
    }
  })

const until = async <A>(find: () => A | undefined): Promise<A> => {
  for (;;) {
    const found = find()
    if (found !== undefined) return found
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** Milliseconds from the abort of a call to the end of its process, for many calls, in order. */
const cancelled = async (client: PromiseClient.PromiseClient, skill: string): Promise<ReadonlyArray<number>> => {
  const times: Array<number> = []
  for (let index = 0; index < cancels; index++) {
    const controller = new AbortController()
    const seconds = String(1000 + index)
    const call = client.run({ skill, topic, args: [seconds], timeout: "1 minute" }, controller)
    const ended = call.then(() => undefined, () => undefined)
    const pid = await until(() => sleeperOf(seconds))
    const began = performance.now()
    controller.abort()
    await until(() => Fs.existsSync(`/proc/${pid}`) ? undefined : true)
    times.push(performance.now() - began)
    await ended
  }
  return times.sort((a, b) => a - b)
}

const cancelFigure = (what: string, times: ReadonlyArray<number>): Figure => {
  const [half = 0, most = 0] = [times[times.length >> 1], times[Math.ceil(times.length * 0.99) - 1]]
  return {
    what,
    against: `p50 ${half.toFixed(1)} ms`,
    measured: `${most.toFixed(1)} ms`,
    bar: "≤ 100 ms",
    ok: most <= 100
  }
}

export const deliveryBench = async (): Promise<Array<Figure>> => {
  const folder = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-bench-")))
  const running: Array<Started> = []
  try {
    writeSkill(folder, "cat", "exec cat\n")
    writeSkill(folder, "long", "exec sleep 0.3\n")
    writeSkill(folder, "sleep", "exec sleep \"$1\"\n")
    writeSkill(folder, "stubborn", "trap '' TERM\nexec sleep \"$1\"\n")
    const proxy = await startProxy()
    running.push(proxy)
    const { xpub, xsub } = proxy
    const at = ["--proxy-xsub", xsub, "--proxy-xpub", xpub]
    running.push(await start(["server", "--topic", topic, "--skills-dir", folder, ...at], "serving"))
    const client = await PromiseClient.connect({ xsub, xpub })
    const leases = await compared({ xsub, xpub })
    const polite = await cancelled(client, "sleep")
    const stubborn = await cancelled(client, "stubborn")
    await client.close()
    return [
      ...leases,
      cancelFigure("from the abort of a caller to the end of the process, p99", polite),
      cancelFigure("the same where the script ignores SIGTERM", stubborn)
    ]
  } finally {
    for (const piece of running.toReversed()) await piece.stop()
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}
