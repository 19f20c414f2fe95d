/** Answers of many megabytes, on real processes: at once, and over a slow connection. Nothing fails. */
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { eventually, linesOf } from "./support/calls.ts"
import * as Program from "./support/program.ts"
import * as Relay from "./support/relay.ts"

const topic = "TOPIC_TESTING"
const mebibyte = 1024 * 1024

/** Must not run twice: notes that it runs, and writes as many bytes as it is told. */
const skill = {
  "SKILL.md":
    "---\nname: gush\ndescription: Writes a lot.\nmetadata:\n  skillscale.idempotent: \"false\"\n---\nWrites.\n",
  "scripts/run.sh": "echo $$ >> \"$2\"\nhead -c \"$1\" /dev/zero | tr '\\0' x\n"
}

const folder = Effect.acquireRelease(
  Effect.sync(() => {
    const path = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-large-")))
    for (const [file, text] of Object.entries(skill)) {
      const at = Path.join(path, "testing/gush", file)
      Fs.mkdirSync(Path.dirname(at), { recursive: true })
      Fs.writeFileSync(at, text)
    }
    return path
  }),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const start = Effect.fnUntraced(function*(workers: number) {
  const path = yield* folder
  const proxy = yield* Program.startProxy()
  const options = ["--topic", topic, "--skills-dir", path, "--sandbox", "off", "--workers", String(workers)]
  const server = yield* Program.start(["server", ...options], "serving", { env: proxy.addresses })
  const connect = (xpub: string) =>
    Effect.provideServiceEffect(
      SkillClient.make({ timeout: "100 seconds" }),
      Bus.Bus,
      ZmqBus.make({ xsub: proxy.addresses.SKILLSCALE_PROXY_XSUB, xpub })
    )
  const log = Path.join(path, "runs")
  const call = (client: SkillClient.SkillClient["Service"], bytes: number) =>
    Effect.result(client.run({ skill: "gush", topic, args: [String(bytes), log] })).pipe(
      Effect.map(Result.match({
        onFailure: ({ reason }) => reason._tag,
        onSuccess: ({ stdout }) => stdout.every((byte) => byte === 0x78) ? stdout.byteLength : "other bytes"
      }))
    )
  // Until the proxy knows the server.
  const isServed = Effect.flatMap(
    connect(proxy.addresses.SKILLSCALE_PROXY_XPUB),
    (client) =>
      Effect.repeat(client.topology, {
        until: ({ topics }) => topics.some(({ topic: served }) => served === topic),
        schedule: Schedule.spaced("10 millis")
      })
  )
  yield* Effect.scoped(isServed)
  return { proxy, server, connect, call, runs: () => linesOf(log).length }
})

/** The most memory that a process had, in MiB. */
const peakOf = (pid: number): number =>
  Number(/VmHWM:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024

describe("large answers", () => {
  it.live("that are made at once all come, each from one run, within bounded memory", () =>
    Effect.gen(function*() {
      const count = 12
      const at = yield* start(count)
      const client = yield* at.connect(at.proxy.addresses.SKILLSCALE_PROXY_XPUB)
      const bytes = 12 * mebibyte
      const results = yield* Effect.all(Array.from({ length: count }, () => at.call(client, bytes)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(results, Array.from({ length: count }, () => bytes))
      assert.strictEqual(at.runs(), count)
      // What is under way to one caller is a mebibyte, and a few copies of it.
      assert.isBelow(peakOf(at.proxy.pid), 400)
      assert.isBelow(peakOf(at.server.pid), 1400)
    }), 120_000)

  it.live("over a slow connection come, and so do small ones beside them", () =>
    Effect.gen(function*() {
      const at = yield* start(4)
      const relay = yield* Relay.make(at.proxy.addresses.SKILLSCALE_PROXY_XPUB)
      const client = yield* at.connect(relay.address)
      assert.strictEqual(yield* at.call(client, 1), 1)
      relay.throttle(2 * mebibyte)
      const bytes = 14 * mebibyte
      const large = at.call(client, bytes)
      const small = Effect.andThen(
        eventually("a large answer", () => at.runs() >= 2),
        Effect.forEach(Array.from({ length: 5 }), () => at.call(client, 10))
      )
      assert.deepStrictEqual(yield* Effect.all([large, small], { concurrency: 2 }), [bytes, [10, 10, 10, 10, 10]])
      assert.strictEqual(at.runs(), 7)
    }), 120_000)
})
