/**
 * Measures calls of a Python and of a Node skill, started warm in the sandbox, against the same started cold without it,
 * through client, proxy and server; and what the sandbox adds to a program that does nothing. Run: `node --conditions=skillscale bench/warm.ts`.
 */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Sandbox from "@skillscale/server/Sandbox"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { type Figure, median } from "./figure.ts"
import { start, type Started, startProxy } from "./stack.ts"

const rounds = 5
const callsPerRound = 100
const warmUpMs = 4000
// After so many calls a server is as fast as it gets; before, it is being compiled.
const warmUpCalls = 3000
const mostWarmUpMs = 60_000
const inFlight = 16
const burst = 400
const topic = "TOPIC_DATA_PROCESSING"
const nodeTopic = "TOPIC_DOCUMENT_PROCESSING"
// Less than the pre-start budget: the next process is up before the next call.
const nodePauseMs = 200
const nodeCallsPerRound = 15
const document = "# Title\n\nSome *text* with a [link](https://example.org).\n\n- one\n- two\n"
const data = "city,people\nOslo,709000\nBergen,291000\nTrondheim,212000\n"
const skills = fileURLToPath(new URL("../skills", import.meta.url))

/** What a process with the modules of the skill pays for a child that ends at once, in milliseconds. */
const bareFork = (): number =>
  Number(execFileSync("python3", [
    "-c",
    `import argparse, array, csv, datetime, hashlib, heapq, io, itertools, json, math, os, re, sys, time
times = []
for _ in range(400):
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    times.append(time.perf_counter() - began)
print(sorted(times)[200] * 1000)`
  ], { encoding: "utf8" }))

const nothing = async (): Promise<{ readonly on: number; readonly off: number }> =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const { run } = Context.get(yield* Layer.build(NativeExecutor.layer()), Executor.Executor)
    const { policy } = Sandbox.resolve({ name: "true", metadata: {} })
    const off: Executor.Spec = { file: "/bin/true", cwd: "/", limits: SkillRunner.defaultLimits }
    const on: Executor.Spec = {
      ...off,
      limits: {
        ...off.limits,
        treeBytes: policy.memoryBytes,
        treeTasks: policy.processes,
        diskBytes: policy.diskBytes
      },
      confinement: { network: false, systemCalls: "deny", writable: [] }
    }
    const times: { readonly on: Array<number>; readonly off: Array<number> } = { on: [], off: [] }
    for (let count = 0; count < 1500; count++) {
      for (const [kept, spec] of [[times.on, on], [times.off, off]] as const) {
        const began = performance.now()
        yield* run(spec)
        if (count >= 300) kept.push(performance.now() - began)
      }
    }
    return { on: median(times.on), off: median(times.off) }
  })))

export const warmBench = async (): Promise<Array<Figure>> => {
  const running: Array<Started> = []
  try {
    const proxy = await startProxy()
    running.push(proxy)
    const { xpub, xsub } = proxy
    const at = ["--skills-dir", Fs.realpathSync(skills), "--proxy-xsub", xsub, "--proxy-xpub", xpub]
    const client = await PromiseClient.connect({ xsub, xpub })
    const call = () => client.invoke({ skill: "csv-analyzer", topic, data })
    const measure = async () => {
      const times: Array<number> = []
      for (let count = 0; count < callsPerRound; count++) {
        const began = performance.now()
        await call()
        times.push(performance.now() - began)
      }
      return median(times)
    }
    const perSecond = async () => {
      const began = performance.now()
      const requests = Array.from({ length: burst }, () => ({ skill: "csv-analyzer", topic, data }))
      const results = await client.invokeAll(requests, { concurrency: inFlight })
      const failed = results.find(({ status }) => status === "rejected")
      if (failed !== undefined) throw new Error(JSON.stringify(failed))
      return burst / ((performance.now() - began) / 1000)
    }
    const serve = (more: ReadonlyArray<string>) => start(["server", "--topic", topic, ...at, ...more], "serving")
    // Until the proxy knows the server, what makes starts warm is up, and after so many calls.
    const warmUp = async (skill: string, topic: string, data: string, parallel: number, calls = 0) => {
      const began = performance.now()
      const passed = () => performance.now() - began
      for (let done = 0; passed() < warmUpMs || (done < calls && passed() < mostWarmUpMs);) {
        try {
          const results = await client.invokeAll(Array.from({ length: parallel }, () => ({ skill, topic, data })))
          done += results.filter(({ status }) => status === "fulfilled").length
        } catch {
          continue
        }
      }
    }
    const node = { warm: [] as Array<number>, cold: [] as Array<number> }
    const measureNode = async (more: ReadonlyArray<string>) => {
      const server = await start(["server", "--topic", nodeTopic, ...at, ...more], "serving")
      await warmUp("markdown-to-html", nodeTopic, document, 4)
      const times: Array<number> = []
      for (let count = -5; count < nodeCallsPerRound; count++) {
        await new Promise((resolve) => setTimeout(resolve, nodePauseMs))
        const began = performance.now()
        await client.invoke({ skill: "markdown-to-html", topic: nodeTopic, data: document })
        if (count >= 0) times.push(performance.now() - began)
      }
      await server.stop()
      return median(times)
    }
    const p50 = { warm: [] as Array<number>, cold: [] as Array<number>, fork: [] as Array<number> }
    const rate = { warm: [] as Array<number>, cold: [] as Array<number> }
    for (let round = 0; round < rounds; round++) {
      for (const kind of ["cold", "warm"] as const) {
        const server = await serve(kind === "cold" ? ["--sandbox", "off"] : [])
        // What takes 15 times as long to start does not notice.
        await warmUp("csv-analyzer", topic, data, 8, kind === "cold" ? 0 : warmUpCalls)
        p50[kind].push(await measure())
        rate[kind].push(await perSecond())
        await server.stop()
      }
      p50.fork.push(bareFork())
      node.cold.push(await measureNode(["--sandbox", "off"]))
      node.warm.push(await measureNode([]))
    }
    await client.close()
    const [warm, cold, fork] = [median(p50.warm), median(p50.cold), median(p50.fork)]
    const byCold = median(p50.warm.map((value, round) => value / (p50.cold[round] ?? Number.NaN)))
    const byFork = median(p50.warm.map((value, round) => value / (p50.fork[round] ?? Number.NaN)))
    const faster = median(rate.warm.map((value, round) => value / (rate.cold[round] ?? Number.NaN)))
    const byColdNode = median(node.warm.map((value, round) => value / (node.cold[round] ?? Number.NaN)))
    const { off, on } = await nothing()
    return [
      {
        what: "csv-analyzer through client, proxy and server, warm, sandbox on, p50",
        against: `cold, sandbox off, ${cold.toFixed(2)} ms`,
        bar: "≤ 1/6",
        measured: `${warm.toFixed(2)} ms (1/${(1 / byCold).toFixed(1)})`,
        ok: byCold <= 1 / 6
      },
      {
        what: "the same",
        against: `a bare fork and waitpid in Python, ${fork.toFixed(2)} ms`,
        bar: "≤ 5 ×",
        measured: `${byFork.toFixed(1)} ×`,
        ok: byFork <= 5
      },
      {
        what: "its calls per second, 16 in flight",
        against: `cold, sandbox off, ${median(rate.cold).toFixed(0)}/s`,
        bar: "≥ 6 ×",
        measured: `${median(rate.warm).toFixed(0)}/s (${faster.toFixed(1)} ×)`,
        ok: faster >= 6
      },
      {
        what: "/bin/true with the sandbox on",
        against: `off, ${off.toFixed(2)} ms`,
        bar: "≤ + 0.4 ms",
        measured: `+ ${(on - off).toFixed(2)} ms`,
        ok: on - off <= 0.4
      },
      {
        what: "a Node skill (markdown-to-html), warm, sandbox on, a call every 0.2 s, p50",
        against: `cold, sandbox off, ${median(node.cold).toFixed(1)} ms`,
        bar: "≤ 1/5",
        measured: `${median(node.warm).toFixed(1)} ms (1/${(1 / byColdNode).toFixed(1)})`,
        ok: byColdNode <= 1 / 5
      }
    ]
  } finally {
    for (const piece of running.toReversed()) await piece.stop()
  }
}
