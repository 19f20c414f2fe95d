/**
 * Measures a call through client, proxy and server, each a process of its own, over TCP: against the bare run of the
 * same script by the executor, and from connecting to the first reply. Run: `node --conditions=skillscale bench/call.ts`.
 */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Sandbox from "@skillscale/server/Sandbox"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { type Figure, median } from "./figure.ts"
import { start, type Started, startProxy } from "./stack.ts"

const warmUp = 3000
const rounds = 21
const callsPerRound = 100
const connects = 15
const topic = "TOPIC_BENCH"

const makeSkill = (folder: string) => {
  const scripts = Path.join(folder, "bench", "cat", "scripts")
  Fs.mkdirSync(scripts, { recursive: true })
  const manifest = "---\nname: cat\ndescription: Prints its input. Use to measure.\n---\nPrints its input.\n"
  Fs.writeFileSync(Path.join(folder, "bench", "cat", "SKILL.md"), manifest)
  Fs.writeFileSync(Path.join(scripts, "run.sh"), "exec cat\n")
  return { skills: folder, script: Path.join(scripts, "run.sh") }
}

const withExecutor = <A>(
  folder: string,
  use: (run: (spec: Executor.Spec) => Promise<Executor.Execution>) => Promise<A>
): Promise<A> =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const context = yield* Layer.build(NativeExecutor.layer({ sandbox: { folders: [folder] } }))
    const executor = Context.get(context, Executor.Executor)
    return yield* Effect.promise(() => use((spec) => Effect.runPromise(executor.run(spec))))
  })))

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const started = performance.now()
  await work()
  return performance.now() - started
}

export const callBench = async (): Promise<Array<Figure>> => {
  const folder = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-bench-")))
  const running: Array<Started> = []
  try {
    const { script, skills } = makeSkill(folder)
    const proxy = await startProxy()
    running.push(proxy)
    const { xpub, xsub } = proxy
    const at = ["--proxy-xsub", xsub, "--proxy-xpub", xpub]
    running.push(await start(["server", "--topic", topic, "--skills-dir", skills, ...at], "serving"))

    const first: Array<number> = []
    for (let i = 0; i < connects; i++) {
      first.push(
        await timed(async () => {
          await using client = await PromiseClient.connect({ xsub, xpub })
          await client.invoke({ skill: "cat", topic, data: "x" })
        })
      )
    }

    const client = await PromiseClient.connect({ xsub, xpub })
    const data = "x".repeat(1024)
    // The same program, arguments, input, confinement and kind of environment as the server gives it.
    const root = Path.dirname(Path.dirname(script))
    const { policy } = Sandbox.resolve({ name: "cat", metadata: {} })
    const spec: Executor.Spec = {
      file: Fs.realpathSync("/bin/bash"),
      args: [script],
      cwd: root,
      env: { PATH: process.env["PATH"] ?? "", HOME: "/tmp", TMPDIR: "/tmp", LANG: "C.UTF-8", SKILLSCALE_INTENT: data },
      stdin: Buffer.from(data),
      limits: {
        ...SkillRunner.defaultLimits,
        treeBytes: policy.memoryBytes,
        treeTasks: policy.processes,
        diskBytes: policy.diskBytes
      },
      confinement: { network: policy.network, systemCalls: policy.systemCalls, writable: [] },
      overlay: { at: root, onWritten: () => Effect.void }
    }
    const p50: Array<{ readonly call: number; readonly alone: number }> = []
    await withExecutor(folder, async (run) => {
      const round = async (count: number) => {
        const through: Array<number> = []
        const bare: Array<number> = []
        for (let i = 0; i < count; i++) through.push(await timed(() => client.invoke({ skill: "cat", topic, data })))
        for (let i = 0; i < count; i++) bare.push(await timed(() => run(spec)))
        return { call: median(through), alone: median(bare) }
      }
      await round(warmUp)
      for (let i = 0; i < rounds; i++) p50.push(await round(callsPerRound))
    })
    await client.close()
    // Each round is short, so that both of its halves see the same machine.
    const added = median(p50.map(({ alone, call }) => call - alone))
    const [call, alone] = [median(p50.map(({ call }) => call)), median(p50.map(({ alone }) => alone))]
    const connect = median(first)
    return [
      {
        what: "a cat skill through client, proxy and server over TCP, p50",
        against: `the bare executor run, ${alone.toFixed(2)} ms`,
        measured: `${call.toFixed(2)} ms (+ ${added.toFixed(2)} ms)`,
        bar: "≤ + 1 ms",
        ok: added <= 1
      },
      {
        what: "connect to first reply, median",
        against: "the 500 ms sleep of v1 clients",
        measured: `${connect.toFixed(1)} ms`,
        bar: "≤ 50 ms",
        ok: connect <= 50
      }
    ]
  } finally {
    for (const piece of running.toReversed()) await piece.stop()
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}
