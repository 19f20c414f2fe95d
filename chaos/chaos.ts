/**
 * Calls from several clients while replicas and proxies are killed, stopped and started again, all of them real processes.
 * A skill that must not run twice tells a counter of every run.
 */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import { ClientError } from "@skillscale/client/ClientError"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { start, type Started, startProxy } from "../bench/stack.ts"

export interface Options {
  /** How long things go wrong. */
  readonly seconds: number
  readonly proxies: number
  readonly replicas: number
  readonly clients: number
  /** Calls that each client has under way at a time. */
  readonly inFlight: number
  readonly random: () => number
  /** Hears what goes wrong. */
  readonly onFault?: ((what: string) => void) | undefined
}

/** What became of the calls of one skill. */
export interface Tally {
  readonly calls: number
  /** How many ended how: `done`, or the reason of the failure. */
  readonly outcomes: Readonly<Record<string, number>>
}

export interface Report {
  readonly faults: Readonly<Record<string, number>>
  /** May run twice for one call. */
  readonly pure: Tally
  /** Must not. */
  readonly once: Tally
  /** Calls without an outcome, and such as may run twice and failed. */
  readonly lost: number
  /** Calls that must not run twice and did. */
  readonly duplicated: number
  /**
   * Of calls that may run twice and were under way when something went wrong: from when it could be mended (the kill of a
   * replica, the return of the only proxy) to the answer, less the run itself, in milliseconds.
   */
  readonly recovery: { readonly count: number; readonly p50: number; readonly p99: number; readonly most: number }
}

const topic = "TOPIC_CHAOS"
const callTimeout = "60 seconds"

const writeSkill = (folder: string, name: string, metadata: string, script: string): void => {
  const scripts = Path.join(folder, "chaos", name, "scripts")
  Fs.mkdirSync(scripts, { recursive: true })
  Fs.writeFileSync(
    Path.join(folder, "chaos", name, "SKILL.md"),
    `---\nname: ${name}\ndescription: Runs ${name}. Use in a storm.\n${metadata}---\nRuns.\n`
  )
  Fs.writeFileSync(Path.join(scripts, "run.sh"), script)
}

/** Counts the lines that it is sent, and answers each. */
const startCounter = async () => {
  const counts = new Map<string, number>()
  const server = Net.createServer((socket) => {
    let text = ""
    socket.on("error", () => socket.destroy())
    socket.on("data", (chunk) => {
      text += chunk.toString()
      const [name, rest] = text.split("\n")
      if (name === undefined || rest === undefined) return
      counts.set(name, (counts.get(name) ?? 0) + 1)
      socket.end("counted\n")
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  return {
    counts,
    port: typeof address === "object" && address !== null ? address.port : 0,
    close: () => new Promise<void>((resolve) => server.close(() => resolve()))
  }
}

interface Call {
  readonly skill: "pure" | "once"
  readonly name: string
  readonly runMs: number
  readonly began: number
  ended: number | undefined
  outcome: string | undefined
}

/** A proxy, or where one was and will be. */
interface Place {
  readonly xsub: string
  readonly xpub: string
  readonly ports: { readonly xsub: string; readonly xpub: string }
  piece: Started | undefined
}

interface Fault {
  readonly began: number
  mendable: number
}

const quantile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

const tally = (calls: ReadonlyArray<Call>): Tally => {
  const outcomes: Record<string, number> = {}
  for (const { outcome = "none" } of calls) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  return { calls: calls.length, outcomes }
}

export const chaos = async (
  { clients, inFlight, onFault = () => {}, proxies, random, replicas, seconds }: Options
): Promise<Report> => {
  const between = (least: number, most: number) => least + random() * (most - least)
  const folder = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-chaos-")))
  const counter = await startCounter()
  const pieces = new Set<Started>()
  const keep = (piece: Started): Started => {
    pieces.add(piece)
    return piece
  }
  const connected: Array<PromiseClient.PromiseClient> = []
  try {
    writeSkill(folder, "pure", "", `sleep "$1"\necho "done $2"\n`)
    writeSkill(
      folder,
      "once",
      "metadata:\n  skillscale.network: \"true\"\n",
      `exec 3<>/dev/tcp/127.0.0.1/${counter.port}\necho "$2" >&3\nread -r _ <&3\nsleep "$1"\necho "done $2"\n`
    )
    const portOf = (address: string): string => address.split(":").at(-1) ?? ""
    const passing: Array<Place> = []
    for (let index = 0; index < proxies; index++) {
      const proxy = await startProxy()
      keep(proxy)
      const ports = { xsub: portOf(proxy.xsub), xpub: portOf(proxy.xpub) }
      passing.push({ xsub: proxy.xsub, xpub: proxy.xpub, ports, piece: proxy })
    }
    const at = {
      xsub: passing.map(({ xsub }) => xsub).join(","),
      xpub: passing.map(({ xpub }) => xpub).join(",")
    }
    const startReplica = async () =>
      keep(
        await start([
          ...["server", "--topic", topic, "--skills-dir", folder, "--workers", "4", "--allow-network", "all"],
          ...["--proxy-xsub", at.xsub, "--proxy-xpub", at.xpub]
        ], "serving")
      )
    const serving: Array<Started | undefined> = []
    for (let index = 0; index < replicas; index++) serving.push(await startReplica())
    for (let index = 0; index < clients; index++) connected.push(await PromiseClient.connect(at))

    const calls: Array<Call> = []
    const faults: Array<Fault> = []
    const counted: Record<string, number> = {}
    const storm = new AbortController()

    const callOnce = async (client: PromiseClient.PromiseClient, skill: Call["skill"]) => {
      const runMs = Math.round(between(5, 300))
      const call: Call = {
        skill,
        name: `${skill}-${calls.length}`,
        runMs,
        began: performance.now(),
        ended: undefined,
        outcome: undefined
      }
      calls.push(call)
      try {
        const args = [String(runMs / 1000), call.name]
        const result = await client.run({ skill, topic, args, timeout: callTimeout })
        const printed = Buffer.from(result.stdout).toString()
        call.outcome = printed === `done ${call.name}\n` ? "done" : `exit ${result.exitCode ?? result.signal}`
      } catch (error) {
        call.outcome = error instanceof ClientError ? error.reason._tag : String(error)
      }
      call.ended = performance.now()
    }
    const agents = connected.flatMap((client) =>
      Array.from({ length: inFlight }, async () => {
        while (!storm.signal.aborted) await callOnce(client, random() < 0.5 ? "pure" : "once")
      })
    )

    const note = (what: string): Fault => {
      const now = performance.now()
      const fault = { began: now, mendable: now }
      counted[what] = (counted[what] ?? 0) + 1
      faults.push(fault)
      onFault(what)
      return fault
    }
    const returning: Array<Promise<void>> = []
    /** Does it to a replica. One stays, so that somebody can answer. */
    const disturbReplica = (what: string, harm: (piece: Started) => Promise<Started>) => {
      const running = serving.flatMap((piece, index) => piece === undefined ? [] : [{ piece, index }])
      const picked = running[Math.floor(random() * running.length)]
      if (picked === undefined || running.length < 2) return
      const { index, piece } = picked
      serving[index] = undefined
      note(what)
      returning.push(
        harm(piece).then((piece) => {
          serving[index] = piece
        })
      )
    }
    const killReplica = () =>
      disturbReplica("replica killed", async (piece) => {
        await piece.kill()
        pieces.delete(piece)
        await sleep(between(0, 1500))
        return startReplica()
      })
    const stopReplica = () =>
      disturbReplica("replica stopped", async (piece) => {
        piece.signal("SIGSTOP")
        await sleep(between(200, 4000))
        piece.signal("SIGCONT")
        return piece
      })
    /** Does it to a proxy. With others that go on, these are how calls go on, too. */
    const disturbProxy = async (what: string, harm: (place: Place, piece: Started) => Promise<Started>) => {
      const up = passing.filter(({ piece }) => piece !== undefined)
      const place = up[Math.floor(random() * up.length)]
      if (place?.piece === undefined || up.length < Math.min(2, proxies)) return
      const { piece } = place
      place.piece = undefined
      const fault = note(what)
      const mended = harm(place, piece).then((piece) => {
        place.piece = piece
        if (proxies === 1) fault.mendable = performance.now()
      })
      returning.push(mended)
      if (proxies === 1) await mended
    }
    const killProxy = () =>
      disturbProxy("proxy killed", async ({ ports }, piece) => {
        await piece.kill()
        pieces.delete(piece)
        if (proxies > 1) await sleep(between(0, 3000))
        return keep(await startProxy(ports))
      })
    const stopProxy = () =>
      disturbProxy("proxy stopped", async (_, piece) => {
        piece.signal("SIGSTOP")
        await sleep(between(100, proxies > 1 ? 4000 : 1500))
        piece.signal("SIGCONT")
        return piece
      })

    const end = performance.now() + seconds * 1000
    while (performance.now() < end) {
      await sleep(between(300, 1500))
      const kinds = [killReplica, stopReplica, killProxy, stopProxy]
      await kinds[Math.floor(random() * kinds.length)]?.()
    }
    await Promise.all(returning)
    await sleep(1000)
    storm.abort()
    await Promise.all(agents)

    const pure = calls.filter(({ skill }) => skill === "pure")
    const once = calls.filter(({ skill }) => skill === "once")
    const recoveries = pure.flatMap(({ began, ended = Number.NaN, outcome, runMs }) => {
      const met = faults.filter((fault) => began < fault.began && fault.began < ended)
      const last = met.at(-1)
      return last === undefined || outcome !== "done"
        ? []
        : [Math.max(0, ended - Math.max(last.mendable, began) - runMs)]
    }).sort((a, b) => a - b)
    return {
      faults: counted,
      pure: tally(pure),
      once: tally(once),
      lost: calls.filter(({ outcome, skill }) =>
        outcome === undefined || skill === "pure" && outcome !== "done"
      ).length,
      duplicated: once.filter(({ name }) => (counter.counts.get(name) ?? 0) > 1).length,
      recovery: {
        count: recoveries.length,
        p50: quantile(recoveries, 0.5),
        p99: quantile(recoveries, 0.99),
        most: recoveries.at(-1) ?? 0
      }
    }
  } finally {
    await Promise.all(connected.map((client) => client.close()))
    await Promise.all([...pieces].map((piece) => piece.stop()))
    await counter.close()
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}
