/** A short storm over real processes, and the network that it cuts; `npm run chaos` is the long one. */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import { EventEmitter, once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import type { Skill } from "../chaos/call.ts"
import { chaos } from "../chaos/chaos.ts"
import { type Host, type Network, openNetwork } from "../chaos/network.ts"
import { randomFrom } from "../chaos/random.ts"
import { type Call, calmMs, type Fault, judge } from "../chaos/report.ts"

const refused = await openNetwork().then((network) => network.close(), ({ message }: Error) => message)
if (refused !== undefined) process.stderr.write(`nothing is cut off in the storm: ${refused}\n`)

describe("while replicas and proxies are killed, stopped and cut off", () => {
  for (const [proxies, seed] of [[1, 7], [2, 8]] as const) {
    it(`no call is lost, and none runs twice that must not, with ${proxies} of the latter`, async () => {
      const network = refused === undefined ? await openNetwork() : undefined
      const report = await chaos({
        seconds: 12,
        proxies,
        replicas: 3,
        clients: 2,
        inFlight: 2,
        random: randomFrom(seed),
        network
      }).finally(() => network?.close())
      assert.deepStrictEqual([report.lost, report.duplicated], [0, 0], JSON.stringify(report))
      for (const { outcomes } of Object.values(report.tallies)) assert.isAbove(outcomes["done"] ?? 0, 0)
      assert.isAbove(Object.values(report.faults).reduce((sum, count) => sum + count, 0), 1)
    }, 120_000)
  }

  it("nothing of it is left when it is ended before its time", async () => {
    const folders = () => Fs.readdirSync(Os.tmpdir()).filter((name) => name.startsWith("skillscale-chaos-"))
    const before = { folders: folders(), children: childrenOf(process.pid) }
    let during: typeof before | undefined
    const ended = new AbortController()
    const network = refused === undefined ? await openNetwork() : undefined
    const storm = chaos({
      seconds: 60,
      proxies: 1,
      replicas: 2,
      clients: 1,
      inFlight: 1,
      random: randomFrom(1),
      network,
      signal: ended.signal,
      onFault: () => {
        during = { folders: folders(), children: childrenOf(process.pid) }
        ended.abort(new Error("enough"))
      }
    }).finally(() => network?.close())
    assert.strictEqual(await storm.then(() => "done", ({ message }: Error) => message), "enough")
    assert.isAtLeast((during?.children ?? []).length, before.children.length + 4)
    const folder = during?.folders.find((name) => !before.folders.includes(name)) ?? ""
    assert.notStrictEqual(folder, "")
    assert.deepStrictEqual(folders(), before.folders)
    assert.deepStrictEqual(childrenOf(process.pid), before.children)
    assert.deepStrictEqual(processes().filter((pid) => argumentsOf(pid).includes(folder)), [])
  }, 60_000)
})

describe("what a storm is judged by", () => {
  const call = (began: number, ended: number, outcome = "done", skill: Skill = "pure", agent = 0): Call => {
    const name = `${skill}-${began}-${ended}`
    return {
      agent,
      wanted: { skill, name, runMs: 100, timeout: "60 seconds" },
      outcome: outcome === "" ? undefined : { name, outcome, began, ended }
    }
  }
  const fault = (began: number, over: number, mendable = began, agent?: number, isOfReplica = true): Fault => ({
    what: "something",
    isOfReplica,
    began,
    mendable,
    over,
    agent
  })

  it("a call without an outcome is lost, and one that was not answered with what its script wrote", () => {
    const calls = [
      call(0, 1),
      call(0, 2, "Timeout"),
      call(0, 3, ""),
      call(0, 4, "ReplicaLost"),
      call(0, 5, "", "once"),
      call(0, 6, "Timeout", "once"),
      call(0, 7, "differs", "stream"),
      call(0, 8, "done", "stream"),
      call(0, 9, "ReplicaLost", "large")
    ]
    assert.strictEqual(judge(calls, [fault(0, 10)], new Map()).lost, 7)
  })

  it("but one that may end with its replica, when something was wrong with one", () => {
    const calls = [call(1000, 2000, "ReplicaLost", "once"), call(1000, 2000, "ReplicaLost", "stream")]
    const lost = (...faults: ReadonlyArray<Fault>) => judge(calls, faults, new Map()).lost
    assert.strictEqual(lost(fault(1500, 1600)), 0)
    assert.strictEqual(lost(fault(0, 500)), 0)
    assert.strictEqual(lost(fault(1500, 1600, 1500, undefined, false)), 2)
    assert.strictEqual(lost(fault(2100, 2200), fault(-9000, -5000)), 2)
    assert.strictEqual(lost(), 2)
  })

  it("a call that must not run twice and did is told, whatever its outcome", () => {
    const calls = [call(0, 1, "done", "once"), call(0, 2, "ReplicaLost", "once"), call(0, 3, "done", "once")]
    assert.strictEqual(judge(calls, [], new Map([["once-0-1", 1], ["once-0-2", 2]])).duplicated, 1)
  })

  it("recovery is told of calls that may run twice, of large ones and of streams apart", () => {
    const calls = [call(900, 2000), call(900, 2100, "done", "stream"), call(900, 9000, "done", "large")]
    const report = judge([...calls, call(900, 9000, "done", "once")], [fault(1000, 1500)], new Map())
    assert.deepStrictEqual([report.recovery.count, report.recovery.most], [1, 900])
    assert.deepStrictEqual([report.recoveryOfStreams.count, report.recoveryOfStreams.most], [1, 1000])
    assert.deepStrictEqual([report.recoveryOfLarge.count, report.recoveryOfLarge.most], [1, 7900])
  })

  it("recovery is the time from the last fault of a row, also of a call that outlives the next one", () => {
    const row = [fault(1000, 1500), fault(1400, 2000), fault(1400 + calmMs, 1500 + calmMs)]
    assert.strictEqual(judge([call(900, 2100)], row, new Map()).recovery.most, 600)
    assert.strictEqual(judge([call(900, 9000)], row, new Map()).recovery.most, 7500)
    assert.strictEqual(judge([call(900, 1300)], row, new Map()).recovery.count, 0)
  })

  it("recovery is counted from when a call could go on, and for those that a fault concerned", () => {
    assert.strictEqual(judge([call(900, 2100)], [fault(1000, 1800, 1800)], new Map()).recovery.most, 200)
    assert.strictEqual(judge([call(900, 2100)], [fault(1000, 1800, 1800, 1)], new Map()).recovery.count, 0)
  })

  it("what began while something was away waits from its beginning", () => {
    const { meanwhile } = judge([call(1200, 2100), call(1900, 2100), call(900, 2000)], [fault(1000, 1800)], new Map())
    assert.deepStrictEqual([meanwhile.count, meanwhile.most], [1, 800])
  })
})

/** Says what it hears, and sends what it is told; `peer` tells whom to connect to, or it listens. */
const talker = `
const net = require("node:net")
const [address, port] = process.argv.slice(1)
const talk = (socket) => {
  socket.setNoDelay(true)
  process.send("connected")
  process.on("message", (text) => socket.write(text))
  socket.on("data", (text) => process.send("heard " + text))
  for (const end of ["end", "error", "close"]) socket.on(end, () => process.send(end))
}
if (port !== undefined) { const socket = net.connect(port, address, () => talk(socket)) }
else {
  const server = net.createServer(talk).listen(0, address, () => process.send(String(server.address().port)))
}
process.on("disconnect", () => process.exit())
`

const startTalker = (host: Host, ...args: ReadonlyArray<string>) => {
  const [command = "", ...rest] = [...host.via, process.execPath, "-e", talker, ...args]
  const child = ChildProcess.spawn(command, rest, { stdio: ["ignore", "ignore", "inherit", "ipc"] })
  const said: Array<string> = []
  const changed = new EventEmitter()
  child.on("message", (text) => {
    said.push(String(text))
    changed.emit("said")
  })
  return {
    said,
    child,
    next: async () => {
      while (said.length === 0) await once(changed, "said")
      return said.shift()
    }
  }
}

const processes = (): ReadonlyArray<number> => Fs.readdirSync("/proc").map(Number).filter((pid) => pid > 0)
const read = (path: string): string => {
  try {
    return Fs.readFileSync(path, "utf8")
  } catch {
    return ""
  }
}
const argumentsOf = (pid: number): string => read(`/proc/${pid}/cmdline`)
/** State and parent of a process. */
const statOf = (pid: number): ReadonlyArray<string> => read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ") ?? []
const childrenOf = (parent: number): ReadonlyArray<number> =>
  processes().filter((pid) => statOf(pid)[1] === String(parent))
const isGone = (pid: number): boolean => [undefined, "", "Z", "X"].includes(statOf(pid)[0])

describe.skipIf(refused !== undefined)("a network of its own", () => {
  const withPair = async (use: (network: Network, one: Host, other: Host) => Promise<void>) => {
    const network = await openNetwork()
    try {
      const one = await network.host([])
      await use(network, one, await network.host([one]))
    } finally {
      await network.close()
    }
  }

  it("a cut is silent, concerns one direction, and what was sent arrives after it", () =>
    withPair(async (network, one, other) => {
      const server = startTalker(one, one.address)
      const client = startTalker(other, one.address, String(await server.next()))
      try {
        assert.deepStrictEqual([await client.next(), await server.next()], ["connected", "connected"])
        await network.cut([[other, one]])
        client.child.send("a")
        server.child.send("b")
        assert.strictEqual(await client.next(), "heard b")
        await sleep(500)
        assert.deepStrictEqual([client.said, server.said], [[], []])
        await network.mend([[other, one]])
        assert.strictEqual(await server.next(), "heard a")
        await network.cut([[one, other]])
        client.child.send("c")
        server.child.send("d")
        assert.strictEqual(await server.next(), "heard c")
        await sleep(500)
        assert.deepStrictEqual([client.said, server.said], [[], []])
        await network.mend([[one, other]])
        assert.strictEqual(await client.next(), "heard d")
      } finally {
        server.child.disconnect()
        client.child.disconnect()
      }
    }))

  it("a host without a link is not reached, and the machine's own network has none of it", () =>
    withPair(async (network, one) => {
      const alone = await network.host([])
      const server = startTalker(one, one.address)
      const port = String(await server.next())
      try {
        const script =
          `require("node:net").connect(${port}, "${one.address}").on("error", ({ code }) => console.log(code))`
        const [command = "", ...rest] = [...alone.via, process.execPath, "-e", script]
        assert.strictEqual(ChildProcess.execFileSync(command, rest, { encoding: "utf8" }).trim(), "ENETUNREACH")
        const own = Object.values(Os.networkInterfaces()).flatMap((some) => some?.map(({ address }) => address) ?? [])
        assert.notInclude(own, one.address)
        assert.notInclude(read("/proc/net/fib_trie"), one.address)
      } finally {
        server.child.disconnect()
      }
    }))

  it("it refuses what it cannot do, and goes on", () =>
    withPair(async (network, one, other) => {
      assert.match(await network.mend([[one, other]]).then(() => "", String), /mend/)
      await network.cut([[one, other]])
      await network.mend([[one, other]])
    }))

  it("it ends with the one who opened it, and so does what runs there", async () => {
    const module = fileURLToPath(new URL("../chaos/network.ts", import.meta.url))
    const script = `
      import { spawn } from "node:child_process"
      const { openNetwork } = await import(${JSON.stringify(module)})
      const [command, ...rest] = [...(await (await openNetwork()).host([])).via, "sleep", "60"]
      process.send(spawn(command, rest).pid)
    `
    const opener = ChildProcess.spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
    const [inside] = await once(opener, "message")
    const [holder] = childrenOf(opener.pid ?? 0).filter((pid) => pid !== inside)
    assert.isDefined(holder)
    while (!argumentsOf(inside).startsWith("sleep")) await sleep(10)
    opener.kill("SIGKILL")
    for (const pid of [inside, holder ?? 0]) while (!isGone(pid)) await sleep(10)
  })
})
