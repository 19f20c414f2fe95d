/** Calls beside peers and connections that misbehave without ending, and clocks that jump. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import { Session } from "@skillscale/core/ZmtpSession"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { eventually, isFinal, isRequest, linesOf, losing, patient, requests, start, topic } from "./support/calls.ts"
import * as Program from "./support/program.ts"
import * as Relay from "./support/relay.ts"
import * as Stack from "./support/stack.ts"
import * as Wire from "./support/wire.ts"

const mebibyte = 1024 * 1024
const quiet = Effect.provideService(References.MinimumLogLevel, "None")

const startProxy = Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false }).pipe(quiet)

type At = Effect.Success<ReturnType<typeof start>>
type Outcome = Result.Result<string, string>

const outcomeOf = (at: At, name: string, gate = ""): Effect.Effect<Outcome> =>
  at.call(name, { skill: name.startsWith("once") ? "once" : "pure", gate }).pipe(
    Effect.mapError(({ reason }) => reason._tag),
    Effect.result
  )

/** What a call that may run twice always has, and one that must not run twice has unless its replica is lost. */
const assertKept = (at: At, name: string, outcome: Outcome | undefined) => {
  if (name.startsWith("once")) {
    assert.isAtMost(at.runs(name).length, 1, name)
    if (outcome !== undefined && Result.isFailure(outcome) && outcome.failure === "ReplicaLost") return
  }
  assert.deepStrictEqual(outcome, Result.succeed(`done ${name}\n`), name)
}

const cases = (["publishing", "subscribing"] as const).flatMap((which) =>
  (["to", "from"] as const).map((direction) => ({ which, direction }))
)

/** The addresses of a proxy as they are behind two relays. */
const behindRelays = Effect.fnUntraced(function*({ xpub, xsub }: Pick<ZmqBus.Options, "xsub" | "xpub">) {
  const relays = { publishing: yield* Relay.make(xsub), subscribing: yield* Relay.make(xpub) }
  return { relays, at: { xsub: relays.publishing.address, xpub: relays.subscribing.address } }
})

/** How calls end, some of which are under way when something happens while the others are made after it. Leaves none pending. */
const outcomesAround = Effect.fnUntraced(function*(at: At, happen: () => void) {
  const names = Array.from({ length: 18 }, (_, index) => `${index % 3 === 0 ? "once" : "pure"}-${index}`)
  const [underWay, later] = [names.slice(0, 6), names.slice(6)]
  const outcomes = new Map<string, Outcome>()
  const call = (name: string, gate?: string) =>
    Effect.map(outcomeOf(at, name, gate), (outcome) => void outcomes.set(name, outcome))
  const calling = yield* Effect.forkScoped(
    Effect.forEach(underWay, (name) => call(name, "open"), { concurrency: "unbounded" })
  )
  yield* Effect.forEach(underWay, (name) => at.begun(name), { discard: true })
  happen()
  yield* Effect.forEach(later, (name) => call(name), { concurrency: 3 })
  yield* at.open("open")
  yield* Fiber.join(calling)
  assert.strictEqual(yield* at.client.pending, 0)
  return outcomes
})

// Most of the time of each is waiting.
describe.concurrent("while nothing passes", () => {
  for (const { direction, which } of cases) {
    it.live(
      `${direction} the proxy on the ${which} connection of a server, every call is answered, by another one`,
      () =>
        Effect.gen(function*() {
          const proxy = yield* startProxy
          const { at: relayed, relays } = yield* behindRelays(proxy)
          let servers = 0
          const at = yield* start({
            server: Effect.suspend(() => ZmqBus.make(servers++ === 0 ? relayed : proxy)),
            client: ZmqBus.make(proxy)
          }, { replicas: 2 })
          for (const [name, outcome] of yield* outcomesAround(at, () => relays[which].stall(direction))) {
            assertKept(at, name, outcome)
          }
          relays[which].reset()
          const answered = new Set<string | undefined>()
          yield* Effect.map(at.run("again"), ({ server }) => answered.add(server)).pipe(
            Effect.repeat({ until: ({ size }) => size === 2, schedule: Schedule.spaced("5 millis") }),
            Effect.timeout("20 seconds")
          )
        }).pipe(quiet),
      60_000
    )

    it.live(
      `${direction} one of two proxies on the ${which} connection of a client, every call is answered`,
      () =>
        Effect.gen(function*() {
          const [first, second] = [yield* startProxy, yield* startProxy]
          const { at: relayed, relays } = yield* behindRelays(first)
          const all = (one: Pick<ZmqBus.Options, "xsub" | "xpub">) => ({
            xsub: `${one.xsub},${second.xsub}`,
            xpub: `${one.xpub},${second.xpub}`
          })
          const random = yield* Random.Random
          // So that it begins with the first.
          const client = ZmqBus.makeFailover(all(relayed)).pipe(
            Effect.provideService(Random.Random, { ...random, nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0 })
          )
          const at = yield* start({ server: ZmqBus.makeJoined(all(first)), client }, { replicas: 2 })
          const outcomes = yield* outcomesAround(at, () => relays[which].stall(direction))
          for (const [name, outcome] of outcomes) {
            // No replica was silent.
            assert.deepStrictEqual(outcome, Result.succeed(`done ${name}\n`))
            assertKept(at, name, outcome)
          }
        }).pipe(quiet),
      60_000
    )

    it.live(
      `${direction} the only proxy on the ${which} connection of a client, every call ends in its time`,
      () =>
        Effect.gen(function*() {
          const proxy = yield* startProxy
          const { at: relayed, relays } = yield* behindRelays(proxy)
          const at = yield* start({ server: ZmqBus.make(proxy), client: ZmqBus.make(relayed) }, {
            client: { timeout: 1500, circuit: "off" }
          })
          relays[which].stall(direction)
          const began = performance.now()
          const names = ["pure-1", "once-1", "pure-2", "once-2"]
          const outcomes = yield* Effect.forEach(names, (name) => outcomeOf(at, name), { concurrency: "unbounded" })
          assert.isBelow(performance.now() - began, 3000)
          const passes = which === "publishing" ? direction === "from" : direction === "to"
          assert.deepStrictEqual(
            outcomes,
            names.map((name) => passes ? Result.succeed(`done ${name}\n`) : Result.fail("Timeout"))
          )
          assert.strictEqual(yield* at.client.pending, 0)
          for (const name of names) assert.isAtMost(at.runs(name).length, 1)
          relays[which].reset()
          yield* at.call("again").pipe(Effect.retry(Schedule.spaced("20 millis")), Effect.timeout("20 seconds"))
        }).pipe(quiet),
      60_000
    )
  }
})

/** Subscribes, and then reads nothing of what comes. */
const subscriberThatNeverReads = (xpub: string, to: string) =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const socket = Net.connect({ host: "127.0.0.1", port: Number(xpub.split(":").at(-1)) })
      const nothing = () => {}
      const session: Session = new Session("SUB", mebibyte, {
        write: (bytes) => socket.write(bytes),
        ready: () => {
          socket.write(session.encodeSubscription(true, Buffer.from(to)))
          socket.pause()
          resume(Effect.succeed(socket))
        },
        message: nothing,
        large: nothing,
        subscription: nothing,
        ping: nothing,
        broken: (detail) => resume(Effect.die(new Error(detail)))
      })
      socket.on("error", (error) => resume(Effect.die(error)))
      socket.on("connect", () => session.open())
      socket.on("data", (chunk) => session.push(chunk))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** The memory of a process, in MiB. */
const residentOf = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024

describe("a caller that never reads its answers", () => {
  const answers = 600
  const big: Stack.Fixture = {
    category: "testing",
    name: "big",
    files: { "scripts/run.sh": `head -c ${mebibyte} /dev/zero | tr '\\0' x\n` }
  }

  it.live(
    "keeps no other from theirs, and the memory of the proxy and the server bounded",
    () =>
      Effect.gen(function*() {
        const skills = yield* Stack.writeSkills([big, Stack.echo])
        const proxy = yield* Program.startProxy()
        const args = ["server", "--topic", topic, "--skills-dir", skills, "--queue", "1000", "--workers", "4"]
        const server = yield* Program.start(args, "serving", { env: proxy.addresses })
        const at = { xsub: proxy.addresses.SKILLSCALE_PROXY_XSUB, xpub: proxy.addresses.SKILLSCALE_PROXY_XPUB }
        const bus = yield* ZmqBus.make(at)
        const built = yield* Layer.build(SkillClient.layer().pipe(Layer.provide(ZmqBus.layer(at))))
        const client = Context.get(built, SkillClient.SkillClient)
        const others = Effect.gen(function*() {
          const { content } = yield* client.invoke({ skill: "echo", topic, data: "others" })
          assert.strictEqual(content, "echo: others")
        })
        yield* Effect.retry(others, Schedule.spaced("20 millis"))
        /** The value of the series with this name and these labels. */
        const scrape = (...parts: ReadonlyArray<string>) =>
          Effect.promise(async () => {
            const lines = (await (await fetch(`${proxy.http}/metrics`)).text()).split("\n")
            const line = lines.find((line) => parts.every((part) => line.includes(part))) ?? assert.fail(parts.join())
            return Number(line.split(" ").at(-1))
          })
        const to = "AGENT_REPLY_deaf"
        const replies = Effect.promise(async () => {
          const topology: unknown = await (await fetch(`${proxy.http}/topology`)).json()
          return (topology as Proxy.Topology).replies
        })
        const before = yield* replies
        yield* subscriberThatNeverReads(at.xpub, to)
        yield* Effect.repeat(replies, { until: (count) => count > before, schedule: Schedule.spaced("10 millis") })
        const first = { proxy: residentOf(proxy.pid), server: residentOf(server.pid) }
        const most = { proxy: 0, server: 0 }
        const watch = Effect.sync(() => {
          most.proxy = Math.max(most.proxy, residentOf(proxy.pid))
          most.server = Math.max(most.server, residentOf(server.pid))
        })
        yield* Effect.forkScoped(Effect.repeat(watch, Schedule.spaced("50 millis")))
        for (let index = 0; index < answers; index++) {
          const request = {
            request_id: `deaf-${index}`,
            reply_to: to,
            intent: "",
            v: 2,
            skill: "big",
            accept: ["accepted"]
          }
          yield* bus.publish(topic, Buffer.from(JSON.stringify(request)))
        }
        const received = scrape("skillscale_proxy_bytes_total", "direction=\"in\"", "topic=\"(reply)\"")
        yield* Effect.andThen(others, received).pipe(
          Effect.repeat({ until: (bytes) => bytes >= answers * mebibyte, schedule: Schedule.spaced("20 millis") }),
          Effect.timeout("100 seconds")
        )
        for (let index = 0; index < 20; index++) yield* others
        yield* watch
        assert.isAbove(yield* scrape("skillscale_proxy_dropped_total", "slow_subscriber"), answers / 2)
        // 64 MiB for this subscriber, and 64 MiB of answers for callers that missed theirs; the rest is what Node takes.
        assert.isBelow(most.proxy - first.proxy, 250)
        // It would be all of the answers, and what comes and goes besides.
        assert.isBelow(most.server - first.server, answers)
      }).pipe(Effect.provide(NodeServices.layer), quiet),
    150_000
  )

  it.live(
    "keeps no other from theirs, where it gets them in parts",
    () =>
      Effect.gen(function*() {
        const large: Stack.Fixture = {
          ...big,
          files: { "scripts/run.sh": `head -c ${15 * mebibyte} /dev/zero | tr '\\0' x\n` }
        }
        const skills = yield* Stack.writeSkills([large, Stack.echo])
        const proxy = yield* Program.startProxy()
        const args = ["server", "--topic", topic, "--skills-dir", skills, "--workers", "2", "--metrics-port", "0"]
        const server = yield* Program.start(args, "serving", { env: proxy.addresses })
        const at = { xsub: proxy.addresses.SKILLSCALE_PROXY_XSUB, xpub: proxy.addresses.SKILLSCALE_PROXY_XPUB }
        const wire = yield* Wire.make(ZmqBus.make(at))
        const client = yield* SkillClient.make().pipe(Effect.provideService(Bus.Bus, wire.bus))
        const others = Effect.gen(function*() {
          const { content } = yield* client.invoke({ skill: "echo", topic, data: "others", timeout: "10 seconds" })
          assert.strictEqual(content, "echo: others")
        })
        yield* Effect.retry(others, Schedule.spaced("20 millis"))
        const deaf = yield* Wire.make(ZmqBus.make(at))
        const messages = yield* deaf.bus.subscription(["AGENT_REPLY_deaf"])
        yield* Effect.forkScoped(Stream.runDrain(messages))
        const accept = ["accepted", "part"]
        for (let index = 0; index < 12; index++) {
          const request = {
            request_id: `deaf-${index}`,
            reply_to: "AGENT_REPLY_deaf",
            intent: "",
            v: 2,
            skill: "big",
            accept
          }
          yield* deaf.bus.publish(topic, Buffer.from(JSON.stringify(request)))
        }
        const isTold = () => deaf.seen.some(({ message }) => message["event"] === "part")
        yield* eventually("a part", isTold, 30_000)
        for (let index = 0; index < 50; index++) yield* others
        // 64 MiB of answers wait, and two more were made meanwhile.
        assert.isBelow(residentOf(server.pid), 700)
      }).pipe(Effect.provide(NodeServices.layer), quiet),
    90_000
  )
})

/** Shifts the time of day of this process, in which clients, servers and proxies are; not that of the kernel. */
const timeOfDay = Effect.acquireRelease(
  Effect.sync(() => {
    const now = Date.now
    const state = { shift: 0, now }
    Date.now = () => now() + state.shift
    return state
  }),
  ({ now }) => Effect.sync(() => Date.now = now)
)

describe("when the time of day jumps by an hour", () => {
  for (const [way, shift] of [["forwards", 3_600_000], ["back", -3_600_000]] as const) {
    const beginWith = Effect.fnUntraced(function*(options?: Parameters<typeof start>[1]) {
      const time = yield* timeOfDay
      const proxy = yield* startProxy
      const at = yield* start({ server: ZmqBus.make(proxy), client: ZmqBus.make(proxy) }, options)
      const jump = Effect.sync(() => time.shift += shift)
      return { at, jump }
    })

    it.live(`${way}, leases go on, and calls are neither lost nor ended nor sent again`, () =>
      Effect.gen(function*() {
        const { at, jump } = yield* beginWith({ client: patient })
        const names = ["pure-1", "once-1"]
        const calling = yield* Effect.forEach(names, (name) => Effect.forkScoped(outcomeOf(at, name, "open")))
        yield* Effect.forEach(names, (name) => at.begun(name), { discard: true })
        const signs = () => at.wire.seen.filter(({ message }) => message["event"] === "alive").length
        yield* eventually("signs of life", () => signs() > 0)
        yield* jump
        const before = signs()
        // Three leases.
        yield* eventually("further signs of life", () => signs() >= before + 12)
        yield* at.open("open")
        for (const [index, name] of names.entries()) {
          assertKept(at, name, yield* Fiber.join(calling[index] ?? assert.fail()))
          assert.lengthOf(at.runs(name), 1)
        }
        for (const { attempt } of requests(at.wire)) assert.isUndefined(attempt)
      }).pipe(quiet), 60_000)

    it.live(`${way}, a deadline comes when it would have come`, () =>
      Effect.gen(function*() {
        const { at, jump } = yield* beginWith({ server: { workers: 1 } })
        const began = performance.now()
        const calling = yield* Effect.forkScoped(at.failure("endless", { gate: "never", timeout: 1500 }))
        yield* at.begun("endless")
        const waiting = yield* Effect.forkScoped(at.call("waiting"))
        yield* Effect.repeat(at.replicas[0]?.load ?? assert.fail(), {
          until: ({ queued }) => queued === 1,
          schedule: Schedule.spaced("2 millis")
        })
        yield* jump
        assert.strictEqual((yield* Fiber.join(calling))._tag, "Timeout")
        const took = performance.now() - began
        assert.isAtLeast(took, 1490)
        assert.isBelow(took, 4000)
        const [process = 0] = at.runs("endless")
        yield* eventually("its process ends", () => !Fs.existsSync(`/proc/${process}`), 2000)
        assert.strictEqual(yield* Fiber.join(waiting), "done waiting\n")
      }).pipe(quiet), 60_000)

    it.live(`${way}, a replica that dies is missed when it would have been`, () =>
      Effect.gen(function*() {
        const { at, jump } = yield* beginWith({ replicas: 2, client: patient })
        const calling = yield* Effect.forkScoped(at.run("moved", { gate: "open" }))
        yield* at.begun("moved")
        const holder = () => at.wire.seen.findLast(({ message }) => message["event"] === "alive")?.message["server"]
        yield* eventually("a sign of life", () => holder() !== undefined)
        const first = at.by(String(holder()))
        yield* jump
        yield* first.kill
        yield* at.begun("moved", 2)
        yield* at.open("open")
        assert.notStrictEqual((yield* Fiber.join(calling)).server, first.id)
      }).pipe(quiet), 60_000)

    it.live(`${way}, what is lost is sent again, and answered from what is kept`, () =>
      Effect.gen(function*() {
        const { at, jump } = yield* beginWith()
        at.wire.rule = (passing) => isRequest(passing) && requests(at.wire).length === 2 ? 0 : 1
        const calling = yield* Effect.forkScoped(at.call("lost"))
        yield* eventually("the request", () => requests(at.wire).length === 2)
        yield* jump
        assert.strictEqual(yield* Fiber.join(calling), "done lost\n")
        const answers = () => at.wire.seen.filter(isFinal).length
        const before = answers()
        at.wire.rule = losing(1, isFinal)
        const again = yield* Effect.forkScoped(at.call("kept"))
        yield* eventually("the answer that is lost", () => answers() > before)
        yield* jump
        assert.strictEqual(yield* Fiber.join(again), "done kept\n")
        assert.lengthOf(at.runs("kept"), 1)
      }).pipe(quiet), 60_000)

    it.live(`${way}, a circuit opens and closes when it would have`, () =>
      Effect.gen(function*() {
        const { at, jump } = yield* beginWith({
          client: { circuit: { failures: 3, period: "2 seconds", longestPeriod: "2 seconds" } }
        })
        const nobody = Effect.map(
          Effect.flip(at.client.run({ skill: "pure", topic: "TOPIC_NOBODY" })),
          ({ reason }) => reason._tag
        )
        for (let count = 0; count < 3; count++) assert.strictEqual(yield* nobody, "NoServer")
        const openedAt = performance.now()
        assert.strictEqual(yield* nobody, "CircuitOpen")
        yield* jump
        assert.strictEqual(yield* nobody, "CircuitOpen")
        yield* Effect.repeat(nobody, {
          until: (reason) => reason === "NoServer",
          schedule: Schedule.spaced("10 millis")
        })
        assert.isAtLeast(performance.now() - openedAt, 990)
        assert.isBelow(performance.now() - openedAt, 4000)
      }).pipe(quiet), 60_000)
  }
})

describe("a server that is stopped after it offered a call", () => {
  const once: Stack.Fixture = {
    category: "testing",
    name: "once",
    files: {
      "SKILL.md":
        "---\nname: once\ndescription: Must not run twice.\nmetadata:\n  skillscale.idempotent: \"false\"\n---\n",
      "scripts/run.sh": "echo \"$2\" >> \"$1\"\n"
    }
  }

  it.live("does not start it when it goes on after its caller was told that it is lost", () =>
    Effect.gen(function*() {
      const skills = yield* Stack.writeSkills([once])
      const runs = `${skills}/runs`
      const proxy = yield* Program.startProxy()
      const args = ["server", "--topic", topic, "--skills-dir", skills, "--sandbox", "off"]
      const server = yield* Program.start(args, "serving", { env: proxy.addresses })
      const { SKILLSCALE_PROXY_XPUB: xpub, SKILLSCALE_PROXY_XSUB: xsub } = proxy.addresses
      const wire = yield* Wire.make(ZmqBus.make({ xpub, xsub }))
      const client = yield* SkillClient.make().pipe(Effect.provideService(Bus.Bus, wire.bus))
      const call = (name: string) => client.run({ skill: "once", topic, args: [runs, name] })
      yield* Effect.retry(call("first"), Schedule.spaced("20 millis"))
      // Nothing but its own clock keeps it from starting.
      const isCancel = ({ message }: Wire.Passing) => message["kind"] === "cancel"
      wire.rule = (passing) => {
        if (passing.message["event"] === "offer") process.kill(server.pid, "SIGSTOP")
        return isCancel(passing) ? 0 : 1
      }
      const { reason } = yield* Effect.flip(call("stopped"))
      assert.strictEqual(reason._tag, "ReplicaLost")
      wire.rule = (passing) => isCancel(passing) ? 0 : 1
      yield* server.signal("SIGCONT")
      yield* call("last")
      assert.deepStrictEqual(Fs.readFileSync(runs, "utf8"), "first\nlast\n")
    }).pipe(Effect.provide(NodeServices.layer), quiet), 90_000)
})

describe("a server that is stopped", () => {
  const pure: Stack.Fixture = {
    category: "testing",
    name: "pure",
    files: {
      "SKILL.md": "---\nname: pure\ndescription: May run twice.\nmetadata:\n  skillscale.idempotent: \"true\"\n---\n",
      "scripts/run.sh": "echo \"$2\" >> \"$1/runs\"\nwhile [ -n \"$3\" ] && ! [ -e \"$1/$3\" ]; do sleep 0.01; done\n"
    }
  }

  /** A server with one worker whose cancellations are lost. */
  const startOne = Effect.gen(function*() {
    const directory = yield* Stack.writeSkills([pure])
    const proxy = yield* Program.startProxy()
    const args = ["server", "--topic", topic, "--skills-dir", directory, "--sandbox", "off", "--workers", "1"]
    const server = yield* Program.start(args, "serving", { env: proxy.addresses })
    const { SKILLSCALE_PROXY_XPUB: xpub, SKILLSCALE_PROXY_XSUB: xsub } = proxy.addresses
    const wire = yield* Wire.make(ZmqBus.make({ xpub, xsub }))
    const client = yield* SkillClient.make().pipe(Effect.provideService(Bus.Bus, wire.bus))
    const call = (name: string, more: { readonly gate?: string; readonly timeout?: number } = {}) =>
      client.run({
        skill: "pure",
        topic,
        args: [directory, name, more.gate ?? ""],
        ...(more.timeout === undefined ? {} : { timeout: more.timeout })
      })
    yield* Effect.retry(call("first"), Schedule.spaced("20 millis"))
    wire.rule = ({ message }) => message["kind"] === "cancel" ? 0 : 1
    const runs = () => linesOf(`${directory}/runs`)
    return { call, directory, runs, server, wire }
  })
  const reasonOf = Effect.fnUntraced(function*(call: ReturnType<Effect.Success<typeof startOne>["call"]>) {
    return (yield* Effect.flip(call)).reason._tag
  })

  it.live("does not start what came meanwhile and was given up", () =>
    Effect.gen(function*() {
      const { call, runs, server } = yield* startOne
      yield* server.signal("SIGSTOP")
      assert.strictEqual(yield* reasonOf(call("given up", { timeout: 1500 })), "Timeout")
      yield* server.signal("SIGCONT")
      yield* call("last")
      assert.deepStrictEqual(runs(), ["first", "last"])
    }).pipe(Effect.provide(NodeServices.layer), quiet), 60_000)

  it.live("does not start what waited for a worker and was given up meanwhile", () =>
    Effect.gen(function*() {
      const { call, directory, runs, server, wire } = yield* startOne
      const long = yield* Effect.forkChild(call("long", { gate: "open" }))
      yield* eventually("a run", () => runs().includes("long"))
      const queued = yield* Effect.forkChild(reasonOf(call("given up", { timeout: 2500 })))
      const isTold = () => {
        const { calls } = wire.seen.at(-1)?.message ?? {}
        return Array.isArray(calls) && calls.length === 2
      }
      yield* eventually("both in hand", isTold)
      yield* server.signal("SIGSTOP")
      Fs.writeFileSync(`${directory}/open`, "")
      assert.strictEqual(yield* Fiber.join(queued), "Timeout")
      yield* server.signal("SIGCONT")
      yield* Fiber.await(long)
      yield* call("last")
      assert.deepStrictEqual(runs().filter((run) => run !== "long"), ["first", "last"])
    }).pipe(Effect.provide(NodeServices.layer), quiet), 60_000)
})
