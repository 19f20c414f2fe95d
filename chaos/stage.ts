/** The processes of a storm: a counter, proxies, replicas and agents, on hosts of a network or all on the loopback interface. */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { start, type Started, startProxy } from "../bench/stack.ts"
import {
  type Counted,
  largeBytes,
  type Outcome,
  type Peer,
  pieceBytes,
  pieces,
  startPeer,
  topic,
  type Wanted
} from "./call.ts"
import type { Host, Network } from "./network.ts"

export interface Options {
  readonly proxies: number
  readonly replicas: number
  readonly clients: number
  readonly network: Network | undefined
  /** Nothing is started once it is aborted, and what was is killed in the end instead of asked to stop. */
  readonly signal: AbortSignal | undefined
}

/** A replica, or where one was and will be. */
export interface Replica {
  readonly host: Host | undefined
  piece: Started
}

/** A proxy, or where one was and will be. */
export interface Proxy {
  readonly host: Host | undefined
  readonly xsub: string
  readonly xpub: string
  piece: Started
}

/** A client. */
export interface Agent {
  readonly host: Host | undefined
  /** Undefined when it ended without an answer. */
  readonly call: (wanted: Wanted) => Promise<Outcome | undefined>
}

export interface Stage {
  readonly proxies: ReadonlyArray<Proxy>
  readonly replicas: Array<Replica>
  readonly agents: ReadonlyArray<Agent>
  /** How often the skill that must not run twice ran for each call. */
  readonly runs: ReadonlyMap<string, number>
  /** On a host that is linked to all proxies and to the counter: also what runs on one that is cut off is counted. */
  readonly newReplica: () => Promise<Replica>
  readonly restartReplica: (replica: Replica) => Promise<void>
  readonly restartProxy: (proxy: Proxy) => Promise<void>
  readonly kill: (piece: Started) => Promise<void>
}

const loopback = "127.0.0.1"

const writeSkill = (folder: string, name: Wanted["skill"], metadata: string, script: string): void => {
  const scripts = Path.join(folder, "chaos", name, "scripts")
  Fs.mkdirSync(scripts, { recursive: true })
  Fs.writeFileSync(
    Path.join(folder, "chaos", name, "SKILL.md"),
    `---\nname: ${name}\ndescription: Runs ${name}. Use in a storm.\n${metadata}---\nRuns.\n`
  )
  Fs.writeFileSync(Path.join(scripts, "run.sh"), script)
}

const writeSkills = (folder: string, counter: string): void => {
  writeSkill(folder, "pure", "", `sleep "$1"\necho "done $2"\n`)
  const piece = `printf '%0${pieceBytes - 1}d\\n' "$i"; echo "::progress:: $i" >&2; sleep "$3"`
  writeSkill(
    folder,
    "stream",
    "",
    `for i in $(seq 1 ${pieces}); do ${piece}; done\necho "done $2"\n`
  )
  writeSkill(folder, "large", "", `sleep "$1"\nyes "$2" | head -c ${largeBytes}\n`)
  writeSkill(
    folder,
    "once",
    "metadata:\n  skillscale.network: \"true\"\n",
    `exec 3<>/dev/tcp/${counter}\necho "$2" >&3\nread -r _ <&3\nsleep "$1"\necho "done $2"\n`
  )
}

const portOf = (address: string): string => address.split(":").at(-1) ?? ""

/** Uses a stage, and leaves nothing of it behind, however that ends. What is still started by then is waited for. */
export const onStage = async (
  { clients, network, proxies: proxyCount, replicas: replicaCount, signal }: Options,
  use: (stage: Stage) => Promise<void>
): Promise<ReadonlyMap<string, number>> => {
  const folder = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-chaos-")))
  const pieces = new Set<Started>()
  const peers: Array<Peer> = []
  const runs = new Map<string, number>()
  const newHost = (linkedTo: ReadonlyArray<Host | undefined>) => network?.host(linkedTo.flatMap((host) => host ?? []))
  const keep = async <A extends Started>(starting: () => Promise<A>): Promise<A> => {
    signal?.throwIfAborted()
    const piece = await starting()
    pieces.add(piece)
    return piece
  }
  const keepPeer = async (...peer: Parameters<typeof startPeer>) => {
    signal?.throwIfAborted()
    const started = await startPeer(...peer)
    peers.push(started)
    return started
  }
  try {
    const home = await newHost([])
    const countingAt = home?.address ?? loopback
    const counter = await keepPeer("counter", [countingAt], home?.via ?? [], (message) => {
      const { counted } = message as Counted
      runs.set(counted, (runs.get(counted) ?? 0) + 1)
    })
    writeSkills(folder, `${countingAt}/${counter.first}`)

    const proxies: Array<Proxy> = []
    for (let index = 0; index < proxyCount; index++) {
      const host = await newHost([])
      const piece = await keep(() => startProxy(undefined, host))
      proxies.push({ host, xsub: piece.xsub, xpub: piece.xpub, piece })
    }
    const at = { xsub: proxies.map(({ xsub }) => xsub).join(","), xpub: proxies.map(({ xpub }) => xpub).join(",") }
    const junctions = proxies.map(({ host }) => host)

    const startReplica = (host: Host | undefined): Promise<Started> =>
      keep(() =>
        start(
          [
            ...["server", "--topic", topic, "--skills-dir", folder, "--workers", "4", "--allow-network", "all"],
            ...["--proxy-xsub", at.xsub, "--proxy-xpub", at.xpub]
          ],
          "serving",
          host
        )
      )
    const newReplica = async (): Promise<Replica> => {
      const host = await newHost([...junctions, home])
      return { host, piece: await startReplica(host) }
    }
    const replicas: Array<Replica> = []
    for (let index = 0; index < replicaCount; index++) replicas.push(await newReplica())

    const newAgent = async (): Promise<Agent> => {
      const host = await newHost(junctions)
      const waiting = new Map<string, (outcome: Outcome) => void>()
      const peer = await keepPeer("agent", [at.xsub, at.xpub], host?.via ?? [], (message) => {
        const outcome = message as Outcome
        waiting.get(outcome.name)?.(outcome)
        waiting.delete(outcome.name)
      })
      const ended = peer.gone.then(() => undefined)
      return {
        host,
        call: (wanted) => {
          const answered = new Promise<Outcome>((resolve) => waiting.set(wanted.name, resolve))
          peer.send(wanted)
          return Promise.race([answered, ended])
        }
      }
    }
    const agents: Array<Agent> = []
    for (let index = 0; index < clients; index++) agents.push(await newAgent())

    await use({
      proxies,
      replicas,
      agents,
      runs,
      newReplica,
      restartReplica: async (replica) => {
        replica.piece = await startReplica(replica.host)
      },
      restartProxy: async (proxy) => {
        const ports = { xsub: portOf(proxy.xsub), xpub: portOf(proxy.xpub) }
        proxy.piece = await keep(() => startProxy(ports, proxy.host))
      },
      kill: async (piece) => {
        await piece.kill()
        pieces.delete(piece)
      }
    })
  } finally {
    // The counter comes last: it counts what is still run.
    const [counter, ...agents] = peers
    await Promise.all(agents.map((agent) => agent.close()))
    await Promise.all([...pieces].map((piece) => signal?.aborted === true ? piece.kill() : piece.stop()))
    await counter?.close()
    Fs.rmSync(folder, { recursive: true, force: true })
  }
  return runs
}
