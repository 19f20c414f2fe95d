/**
 * Calls from several clients while replicas and proxies are killed, stopped, started again and cut off, all of them real
 * processes, on hosts of their own where there is a network. A skill that must not run twice tells a counter of every run.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { now, type Skill, type Wanted } from "./call.ts"
import type { Cut, Host, Network } from "./network.ts"
import { type Call, calmMs, type Fault, judge, type Report } from "./report.ts"
import { onStage, type Proxy, type Replica, type Stage } from "./stage.ts"

export interface Options {
  /** How long things go wrong. */
  readonly seconds: number
  readonly proxies: number
  readonly replicas: number
  readonly clients: number
  /** Calls that each client has under way at a time. */
  readonly inFlight: number
  readonly random: () => number
  /** Without one all run on the loopback interface, and nothing is cut off. */
  readonly network?: Network | undefined
  /** Hears what goes wrong. */
  readonly onFault?: ((what: string) => void) | undefined
  /** Ends it before its time: it rejects once all that it started is gone. */
  readonly signal?: AbortSignal | undefined
}

type Kinds = readonly [skill: Skill, share: number, longestMs: number]

/** Which share of the calls is of what, and how long that may run, in milliseconds. */
const mix: readonly [Kinds, ...Array<Kinds>] = [
  ["pure", 0.4, 300],
  ["once", 0.4, 300],
  ["stream", 0.17, 2000],
  ["large", 0.03, 300]
]

/** What goes wrong once, until the promise. */
type Kind = () => Promise<void>

/** Replicas that are cut off for good and live on, at most. */
const mostLeftBehind = 2

/** What everything that goes wrong needs. */
interface Weather {
  readonly stage: Stage
  readonly between: (least: number, most: number) => number
  readonly pick: <A>(of: ReadonlyArray<A>) => A | undefined
  readonly pause: (ms: number) => Promise<void>
  /** Does it to a replica while others are there. */
  readonly disturbReplica: (what: string, harm: (replica: Replica) => Promise<void>) => Promise<void>
  /** Does it to a proxy while another one is there, or to the only one; then that is waited for. */
  readonly disturbProxy: (what: string, harm: (proxy: Proxy) => Promise<void>, agent?: number) => Promise<void>
  /** Cut off for good, while their processes live. */
  readonly leftBehind: Array<Replica>
  /** How long a proxy may be away. */
  readonly absenceMs: () => number
}

const killsAndStops = (
  { absenceMs, between, disturbProxy, disturbReplica, pause, stage }: Weather
): ReadonlyArray<Kind> => {
  const stopFor = async ({ piece }: Replica | Proxy, ms: number) => {
    piece.signal("SIGSTOP")
    await pause(ms)
    piece.signal("SIGCONT")
  }
  return [
    () =>
      disturbReplica("replica killed", async (replica) => {
        await stage.kill(replica.piece)
        await pause(between(0, 1500))
        await stage.restartReplica(replica)
      }),
    () => disturbReplica("replica stopped", (replica) => stopFor(replica, between(200, 4000))),
    () =>
      disturbProxy("proxy killed", async (proxy) => {
        await stage.kill(proxy.piece)
        if (stage.proxies.length > 1) await pause(between(0, 3000))
        await stage.restartProxy(proxy)
      }),
    () => disturbProxy("proxy stopped", (proxy) => stopFor(proxy, absenceMs()))
  ]
}

const cutOffs = (weather: Weather, network: Network): ReadonlyArray<Kind> => {
  const { absenceMs, between, disturbProxy, disturbReplica, pause, pick, leftBehind, stage } = weather
  const hostOf = ({ host }: { readonly host: Host | undefined }): ReadonlyArray<Host> =>
    host === undefined ? [] : [host]
  const proxies = stage.proxies.flatMap(hostOf)
  const agents = stage.agents.flatMap(hostOf)
  const deaf = (hosts: ReadonlyArray<Host>, to: ReadonlyArray<Host>): ReadonlyArray<Cut> =>
    hosts.flatMap((host) => to.map((other) => [other, host] as const))
  const mute = (hosts: ReadonlyArray<Host>, to: ReadonlyArray<Host>): ReadonlyArray<Cut> => deaf(to, hosts)
  const away = (hosts: ReadonlyArray<Host>, from: ReadonlyArray<Host>): ReadonlyArray<Cut> => [
    ...deaf(hosts, from),
    ...mute(hosts, from)
  ]
  /** Both ways as often as either. */
  const ways = [["cut off from", away], ["cut off from", away], ["deaf to", deaf], ["mute to", mute]] as const
  const cutFor = async (cuts: ReadonlyArray<Cut>, ms: number) => {
    await network.cut(cuts)
    await pause(ms)
    await network.mend(cuts)
  }
  return [
    async () => {
      const [what, cut] = pick(ways) ?? ways[0]
      await disturbReplica(
        `replica ${what} all proxies`,
        (replica) => cutFor(cut(hostOf(replica), proxies), between(200, 5000))
      )
    },
    async () => {
      const [what, cut] = pick(ways) ?? ways[0]
      await disturbProxy(
        `proxy ${what} all clients`,
        (proxy) => cutFor(cut(hostOf(proxy), agents), absenceMs())
      )
    },
    async () => {
      const [what, cut] = pick(ways) ?? ways[0]
      const agent = Math.floor(between(0, agents.length))
      await disturbProxy(
        `proxy ${what} a client`,
        (proxy) => cutFor(cut(hostOf(proxy), agents.slice(agent, agent + 1)), absenceMs()),
        agent
      )
    },
    async () => {
      if (leftBehind.length === mostLeftBehind) return
      await disturbReplica("replica cut off for good", async (replica) => {
        leftBehind.push(replica)
        await network.cut(away(hostOf(replica), proxies))
        await pause(between(0, 1500))
        stage.replicas[stage.replicas.indexOf(replica)] = await stage.newReplica()
      })
    }
  ]
}

export const chaos = async (
  { clients, inFlight, network, onFault = () => {}, proxies, random, replicas, seconds, signal }: Options
): Promise<Report> => {
  const between = (least: number, most: number) => least + random() * (most - least)
  const pick = <A>(of: ReadonlyArray<A>): A | undefined => of[Math.floor(random() * of.length)]
  const ended = new AbortController()
  const stopped = signal === undefined ? ended.signal : AbortSignal.any([ended.signal, signal])
  const pause = (ms: number) => sleep(ms, undefined, { signal: stopped })
  const calls: Array<Call> = []
  const faults: Array<Fault> = []
  const returning: Array<Promise<void>> = []
  const calm = new AbortController()

  const disturber = <A>(all: ReadonlyArray<A>, staying: number, isOfReplica: boolean) => {
    const away = new Set<A>()
    return async (what: string, harm: (one: A) => Promise<void>, agent?: number): Promise<void> => {
      const there = all.filter((one) => !away.has(one))
      const one = pick(there)
      if (one === undefined || there.length <= staying) return
      away.add(one)
      const began = now()
      const fault: Fault = { what, isOfReplica, began, mendable: began, over: Number.POSITIVE_INFINITY, agent }
      faults.push(fault)
      onFault(what)
      const done = harm(one).then(() => {
        fault.over = now()
        away.delete(one)
      })
      done.catch(() => {})
      returning.push(done)
      if (staying > 0) return
      await done
      fault.mendable = fault.over
    }
  }

  const blow = async (stage: Stage): Promise<void> => {
    const weather: Weather = {
      stage,
      between,
      pick,
      pause,
      disturbReplica: disturber(stage.replicas, 1, true),
      disturbProxy: disturber(stage.proxies, Math.min(1, proxies - 1), false),
      leftBehind: [],
      absenceMs: () => between(100, proxies > 1 ? 4000 : 1500)
    }
    const kinds = [...killsAndStops(weather), ...(network === undefined ? [] : cutOffs(weather, network))]
    // So that nothing that happens only once, as the first calls, is part of what is measured.
    await pause(calmMs / 2)
    const until = now() + seconds * 1000
    while (now() < until) {
      const before = faults.length
      await pick(kinds)?.()
      if (faults.length === before) {
        await pause(100)
        continue
      }
      // Several in a row, then none for long enough to see how calls recover.
      await pause(random() < 0.5 ? between(100, 1000) : between(calmMs, calmMs + 1000))
    }
    await Promise.all(returning)
    await pause(1000)
    // They would wait for their proxies before they end.
    await Promise.all(weather.leftBehind.map(({ piece }) => stage.kill(piece)))
  }

  const runs = await onStage({ proxies, replicas, clients, network, signal: stopped }, async (stage) => {
    const calling = stage.agents.flatMap(({ call }, agent) =>
      Array.from({ length: inFlight }, async () => {
        while (!calm.signal.aborted) {
          let left = random()
          // One of each first, so that none is missing from a short storm.
          const [skill, , longestMs] = mix[calls.length] ?? mix.find(([, share]) => (left -= share) < 0) ?? mix[0]
          const wanted: Wanted = {
            skill,
            name: `${skill}-${calls.length}`,
            runMs: Math.round(between(5, longestMs)),
            timeout: "60 seconds"
          }
          const made: Call = { wanted, agent, outcome: undefined }
          calls.push(made)
          made.outcome = await call(wanted)
          if (made.outcome === undefined) return
        }
      })
    )
    try {
      await blow(stage)
    } catch (error) {
      ended.abort(error)
      throw stopped.reason
    } finally {
      calm.abort()
      await Promise.allSettled(returning)
    }
    await Promise.all(calling)
  })
  return judge(calls, faults, runs)
}
