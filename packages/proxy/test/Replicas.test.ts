import * as Control from "@skillscale/core/Control"
import * as Load from "@skillscale/core/Load"
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Proxy from "@skillscale/proxy/Proxy"
import { settleMs } from "../src/internal/switch.ts"
import {
  childSubscriber,
  count,
  eventually,
  getText,
  publisher,
  replicas,
  request,
  start,
  subscriber
} from "./support.ts"

const topic = "TOPIC_SHARED"
const replyTo = "AGENT_REPLY_control"

interface Heard {
  readonly heard: ReadonlyArray<ReadonlyArray<Buffer>>
}

const heardBy = (...subscribers: ReadonlyArray<Heard>) =>
  subscribers.map(({ heard }) => heard.filter((frames) => String(frames[0]) === topic).length)

describe("replicas of a topic", () => {
  it.live("take turns, while taps hear everything", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [one, two, three, tap] = yield* Effect.forEach([topic, topic, topic, "TOPIC_"], (name) =>
        subscriber(proxy, [name]))
      assert.isDefined(one && two && three && tap)
      if (!one || !two || !three || !tap) {
        return
      }
      yield* replicas(proxy, topic, 3)
      const { send } = yield* publisher(proxy)
      for (let index = 0; index < 30; index += 1) {
        yield* send(topic, `message ${index}`)
      }
      yield* eventually(
        "30 messages",
        Effect.sync(() =>
          heardBy(tap)[0] === 30
        )
      )
      yield* eventually("a third each", Effect.sync(() => heardBy(one, two, three).every((count) => count === 10)))
      const texts = new Set([one, two, three].flatMap(({ heard }) => heard.map((frames) => String(frames[1]))))
      assert.strictEqual(texts.size, 30)
    }))

  it.live("get what another replica has no room for", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ highWaterMarkBytes: 1024 * 1024 })
      const stuck = yield* childSubscriber(proxy, topic, "stop")
      yield* replicas(proxy, topic, 1)
      const live = yield* subscriber(proxy, [topic])
      yield* replicas(proxy, topic, 2)
      stuck.kill("SIGSTOP")
      const { send } = yield* publisher(proxy)
      const body = Buffer.alloc(1024 * 1024)
      const total = 120
      for (let index = 0; index < total; index += 1) {
        yield* send(topic, body)
      }
      // What a stopped replica holds is bounded by the kernel's buffers and the high-water mark; the live one gets the rest.
      yield* eventually("most messages", Effect.sync(() => (heardBy(live)[0] ?? 0) > total - 40))
    }))
})

const idle: Load.Load = { running: 0, queued: 0, workers: 4 }
const full: Load.Load = { running: 4, queued: 64, workers: 4 }

/** A replica that can tell its load: who it is, what it hears, and what it tells. */
const replica = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"], id: string) {
  const { heard } = yield* subscriber(proxy, [Topic.worker(topic, id), topic])
  const { send } = yield* publisher(proxy)
  /** The proxy has it when the effect returns. */
  const tell = Effect.fnUntraced(function*(load: Load.Load, as = id) {
    const before = yield* loadsIn(proxy)
    yield* send(Topic.load(topic, as), Result.getOrThrow(Load.encode(load)))
    yield* eventually("the load", Effect.map(loadsIn(proxy), (loads) => loads > before))
  })
  return { heard, tell, send }
})

const loadsIn = (proxy: Proxy.Proxy["Service"]) =>
  Effect.map(proxy.topology, ({ topics }) => topics.find(({ topic }) => topic === "@load")?.messagesIn ?? 0)

const malformedIn = (proxy: Proxy.Proxy["Service"]) =>
  Effect.map(proxy.topology, ({ dropped }) => dropped["malformed"] ?? 0)

const sum = (counts: ReadonlyArray<number>): number => counts.reduce((total, count) => total + count, 0)

/** Sends so many requests and tells how many of them each got. */
const shares = Effect.fnUntraced(function*(
  send: (...frames: ReadonlyArray<string>) => Effect.Effect<void>,
  requests: number,
  subscribers: ReadonlyArray<Heard>
) {
  const before = heardBy(...subscribers)
  for (let index = 0; index < requests; index += 1) {
    yield* send(topic, `request ${index}`)
  }
  yield* eventually("all requests", Effect.sync(() => sum(heardBy(...subscribers)) === sum(before) + requests))
  return heardBy(...subscribers).map((count, index) => count - (before[index] ?? 0))
})

describe("the load of replicas", () => {
  it.live("keeps requests from one that is slow", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [slow, fast] = [yield* replica(proxy, "slow"), yield* replica(proxy, "fast")]
      yield* slow.tell({ ...idle, received: 0 })
      yield* fast.tell({ ...idle, received: 0 })
      const { send } = yield* publisher(proxy)
      for (let index = 0; index < 20; index += 1) {
        const [toSlow = 0, toFast = 0] = yield* shares(send, 1, [slow, fast])
        const [bySlow = 0, byFast = 0] = heardBy(slow, fast)
        // The slow one ends none.
        yield* toSlow > 0 ? slow.tell({ ...idle, running: bySlow, received: bySlow }) : Effect.void
        yield* toFast > 0 ? fast.tell({ ...idle, received: byFast }) : Effect.void
      }
      assert.isAtMost(heardBy(slow)[0] ?? 0, 1)
    }))

  it.live("keeps requests from one that is full, until it is not", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [a, b, c] = [yield* replica(proxy, "a"), yield* replica(proxy, "b"), yield* replica(proxy, "c")]
      yield* a.tell(full)
      yield* b.tell(idle)
      yield* c.tell(idle)
      const { send } = yield* publisher(proxy)
      assert.deepStrictEqual(yield* shares(send, 20, [a, b, c]), [0, 10, 10])
      yield* a.tell(idle)
      assert.deepStrictEqual(yield* shares(send, 10, [a, b, c]), [10, 0, 0])
    }))

  it.live("does not matter when the connection has no room", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ highWaterMarkBytes: 1024 * 1024 })
      const stuck = yield* childSubscriber(proxy, `${Topic.worker(topic, "stuck")},${topic}`, "stop")
      yield* replicas(proxy, topic, 1)
      const live = yield* replica(proxy, "live")
      yield* live.tell({ ...idle, running: 3 })
      stuck.kill("SIGSTOP")
      const body = Buffer.alloc(1024 * 1024)
      for (let index = 0; index < 120; index += 1) {
        // As if it were done with all of them.
        yield* live.tell(idle, "stuck")
        yield* live.send(topic, body)
      }
      yield* eventually("most messages", Effect.sync(() => (heardBy(live)[0] ?? 0) > 80))
    }))

  it.live("is forgotten with the connection that told it, since a later one may be lost", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const { heard } = yield* subscriber(proxy, [Topic.worker(topic, "a"), topic])
      const b = yield* replica(proxy, "b")
      yield* b.tell(idle)
      const telling = yield* Scope.make()
      const a = { heard, send: (yield* publisher(proxy).pipe(Scope.provide(telling))).send }
      yield* a.send(Topic.load(topic, "a"), JSON.stringify(full))
      yield* eventually("both loads", Effect.map(loadsIn(proxy), (loads) => loads === 2))
      const { send } = yield* publisher(proxy)
      assert.deepStrictEqual(yield* shares(send, 10, [a, b]), [0, 10])
      const { publishers } = yield* proxy.topology
      yield* Scope.close(telling, Exit.void)
      yield* eventually("the end", Effect.map(proxy.topology, (now) => now.publishers < publishers))
      assert.deepStrictEqual(yield* shares(send, 10, [a, b]), [5, 5])
    }))

  it.live("ends with the connection of the replica, and goes to its last one", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const scope = yield* Scope.make()
      const first = yield* replica(proxy, "a").pipe(Scope.provide(scope))
      const other = yield* replica(proxy, "b")
      yield* first.tell({ ...full, received: 9 })
      yield* other.tell({ ...idle, running: 1 })
      const { send } = yield* publisher(proxy)
      assert.deepStrictEqual(yield* shares(send, 10, [first, other]), [0, 10])
      // It comes back before the proxy knows that it was gone.
      const again = yield* subscriber(proxy, [Topic.worker(topic, "a"), topic])
      yield* first.tell({ ...idle, received: 9 })
      yield* other.tell(full)
      assert.deepStrictEqual(yield* shares(send, 4, [first, other, again]), [0, 0, 4])
      yield* Scope.close(scope, Exit.void)
      yield* replicas(proxy, topic, 2)
      // Nobody tells its load any more, so that it has its turn.
      assert.deepStrictEqual(yield* shares(send, 10, [other, again]), [5, 5])
    }))

  it.live("leaves replicas of version 1 their turn", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const old = yield* subscriber(proxy, [topic])
      const [a, b] = [yield* replica(proxy, "a"), yield* replica(proxy, "b")]
      const { send } = yield* publisher(proxy)
      for (const load of [idle, full]) {
        yield* a.tell(load)
        yield* b.tell({ ...load, queued: load.queued + 1000 })
        assert.deepStrictEqual(yield* shares(send, 30, [old, a, b]), [10, 20, 0])
      }
    }))

  it.live("leaves the turn where it is while agents come and go", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [one, two] = [yield* subscriber(proxy, [topic]), yield* subscriber(proxy, [topic])]
      const { send } = yield* publisher(proxy)
      for (let index = 0; index < 4; index += 1) {
        yield* Effect.scoped(subscriber(proxy, [replyTo]))
        yield* shares(send, 1, [one, two])
      }
      assert.deepStrictEqual(heardBy(one, two), [2, 2])
    }))

  it.live("is read, or dropped and counted", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [a, b] = [yield* replica(proxy, "a"), yield* replica(proxy, "b")]
      yield* a.tell(full)
      yield* b.tell(idle)
      const own = Topic.load(topic, "a")
      const garbage: ReadonlyArray<ReadonlyArray<string | Uint8Array>> = [
        [own],
        [own, ""],
        [own, "{"],
        [own, "null"],
        [own, Buffer.from([0xff, 0xfe])],
        [own, JSON.stringify(idle), ""],
        [own, JSON.stringify({ ...idle, running: -1 })],
        [own, JSON.stringify({ ...idle, workers: Load.maxCount + 1 })],
        [own, JSON.stringify(idle).padEnd(Load.maxBytes + 1)],
        [own, JSON.stringify(idle).padEnd(3 * 1024 * 1024)],
        [own, JSON.stringify({ kind: "catalog", request_id: "q", reply_to: replyTo })]
      ]
      for (const frames of garbage) {
        yield* a.send(...frames)
      }
      // These can be read, and are of nobody.
      for (
        const name of ["@load/", "@load//", `@load/${topic}`, `@load/${topic}/`, `@load/${topic}/c`, "@load/a/b/c"]
      ) {
        yield* a.send(name, JSON.stringify(idle))
      }
      yield* a.send(Topic.load("TOPIC_OTHER", "a"), JSON.stringify(idle))
      assert.deepStrictEqual(yield* shares(a.send, 10, [a, b]), [0, 10])
      assert.strictEqual(yield* malformedIn(proxy), garbage.length)
      assert.strictEqual((yield* proxy.topology).dropped["no_subscriber"], 0)
      yield* a.tell(idle)
      yield* b.tell(full)
      assert.deepStrictEqual(yield* shares(a.send, 10, [a, b]), [10, 0])
    }))

  it.live("is what the replica's own host says, and there the first who does", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [a, b] = [yield* replica(proxy, "a"), yield* replica(proxy, "b")]
      const port = proxy.xsubPort
      const far = yield* publisher({ ...proxy, xsub: `tcp://127.0.0.2:0;127.0.0.1:${port}` })
      const tellAs = (from: typeof far, load: Load.Load) =>
        Effect.gen(function*() {
          const before = yield* loadsIn(proxy)
          yield* from.send(Topic.load(topic, "a"), JSON.stringify(load))
          yield* eventually("the load", Effect.map(loadsIn(proxy), (loads) => loads > before))
        })
      yield* b.tell(idle)
      yield* tellAs(far, full)
      // Nobody was believed, so that it has its turn.
      assert.deepStrictEqual(yield* shares(b.send, 4, [a, b]), [2, 2])
      yield* a.tell(idle)
      yield* b.tell(idle)
      yield* tellAs(far, full)
      yield* tellAs(yield* publisher(proxy), full)
      assert.deepStrictEqual(yield* shares(b.send, 4, [a, b]), [2, 2])
      // Whoever subscribes as the replica from another host, or without serving the topic, is not told of.
      const taking = yield* subscriber({ ...proxy, xpub: `tcp://127.0.0.2:0;127.0.0.1:${proxy.xpubPort}` }, [
        Topic.worker(topic, "a"),
        topic
      ])
      yield* subscriber(proxy, [Topic.worker(topic, "a")])
      yield* a.tell(full)
      yield* b.tell(idle)
      assert.deepStrictEqual(yield* shares(b.send, 9, [a, b, taking]), [0, 6, 3])
    }))

  it.live("is passed on to those who subscribe to it, in one series with all others", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ maxTopics: 4 })
      const watcher = yield* subscriber(proxy, ["@load/"])
      const a = yield* replica(proxy, "a")
      for (let index = 0; index < 20; index += 1) {
        yield* subscriber(proxy, [Topic.worker(topic, `other ${index}`)])
        yield* a.tell({ ...idle, running: index }, `other ${index}`)
      }
      yield* count("loads", watcher.heard, 20)
      assert.deepStrictEqual(watcher.heard.slice(0, 20).map((frames) => JSON.parse(String(frames[1])).running), [
        ...Array(20).keys()
      ])
      yield* shares(a.send, 1, [a])
      const { topics } = yield* proxy.topology
      assert.deepInclude(topics.find((info) => info.topic === "@load"), { messagesIn: 20, messagesOut: 20 })
      assert.deepInclude(topics.find((info) => info.topic === "@worker"), { replicas: 21 })
      assert.isFalse(topics.some((info) => info.topic.includes("/")))
      const { body } = yield* getText(`${proxy.metricsUrl}/metrics`)
      assert.include(body, `skillscale_proxy_messages_total{topic="${topic}",direction="in"} 1`)
    }))
})

describe("a topic with replicas of both versions", () => {
  const plain = request("r", replyTo)
  const counting = request("r", replyTo, { v: 2, accept: ["accepted", "offer"] })
  const named = (name: string) => Topic.worker(topic, name)

  /** How many of so many requests each gets. */
  const got = Effect.fnUntraced(function*(
    send: (...frames: ReadonlyArray<string>) => Effect.Effect<void>,
    body: string,
    requests: number,
    subscribers: ReadonlyArray<Heard>
  ) {
    return yield* shares((to) => send(to, body), requests, subscribers)
  })

  it.live("has a request that is sent again without an acknowledgement run by those of version 2", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const old = yield* subscriber(proxy, [topic])
      const { send } = yield* publisher(proxy)
      assert.deepStrictEqual(yield* got(send, counting, 2, [old]), [2])
      // Neither tells a load, as one that has only just begun.
      const [a, b] = [yield* replica(proxy, "a"), yield* replica(proxy, "b")]
      assert.deepStrictEqual(yield* got(send, counting, 20, [old, a, b]), [0, 10, 10])
      assert.deepStrictEqual(yield* got(send, plain, 30, [old, a, b]), [10, 10, 10])
      yield* a.tell(full)
      assert.deepStrictEqual((yield* got(send, counting, 10, [old, a, b]))[0], 0)
      yield* b.tell(idle)
      assert.deepStrictEqual(yield* got(send, counting, 10, [old, a, b]), [0, 0, 10])
      assert.deepStrictEqual(yield* got(send, plain, 30, [old, a, b]), [10, 0, 20])
    }))

  it.live("knows them before they serve it and after, and forgets them when they are gone", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const old = yield* subscriber(proxy, [topic])
      const { send } = yield* publisher(proxy)
      const gone = yield* Scope.make()
      const a = yield* subscriber(proxy, [named("a"), named("a too"), topic]).pipe(Scope.provide(gone))
      // Who hears all names is none of them, nor is who serves another topic.
      const tap = yield* subscriber(proxy, [
        "@worker/",
        `${Topic.worker(topic, "")}`,
        Topic.worker("TOPIC_OTHER", "c"),
        topic
      ])
      assert.deepStrictEqual(yield* got(send, counting, 6, [old, tap, a]), [0, 0, 6])
      a.socket.unsubscribe(named("a"))
      yield* replicas(proxy, "@worker", 4)
      assert.deepStrictEqual(yield* got(send, counting, 6, [old, tap, a]), [0, 0, 6])
      a.socket.unsubscribe(named("a too"))
      yield* replicas(proxy, "@worker", 3)
      assert.deepStrictEqual(yield* got(send, counting, 6, [old, tap, a]), [2, 2, 2])
      a.socket.subscribe(named("a"))
      yield* replicas(proxy, "@worker", 4)
      assert.deepStrictEqual(yield* got(send, counting, 6, [old, tap, a]), [0, 0, 6])
      yield* Scope.close(gone, Exit.void)
      yield* replicas(proxy, topic, 2)
      assert.deepStrictEqual(yield* got(send, counting, 4, [old, tap]), [2, 2])
    }))

  it.live("is no different for a request that comes in pieces", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const old = yield* subscriber(proxy, [topic])
      const a = yield* replica(proxy, "a")
      const { send } = yield* publisher(proxy)
      const data = "\"accepted\"".repeat(400_000)
      const accept = ["offer", "accepted"]
      for (const more of [{ v: 2, accept, data }, { v: 2, data, accept }]) {
        assert.deepStrictEqual(yield* got(send, request("r", replyTo, more), 4, [old, a]), [0, 4])
      }
      assert.deepStrictEqual(yield* got(send, request("r", replyTo, { data }), 4, [old, a]), [2, 2])
    }))

  it.live("has no room for it when those of version 2 have none", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ highWaterMarkBytes: 1024 * 1024 })
      const stuck = yield* childSubscriber(proxy, `${named("stuck")},${topic}`, "stop")
      yield* replicas(proxy, topic, 1)
      const old = yield* subscriber(proxy, [topic])
      yield* replicas(proxy, topic, 2)
      stuck.kill("SIGSTOP")
      const { send } = yield* publisher(proxy)
      const body = request("r", replyTo, { v: 2, accept: ["accepted"], data: "x".repeat(1024 * 1024) })
      for (let index = 0; index < 60; index += 1) {
        yield* send(topic, body)
      }
      yield* eventually(
        "some that are dropped",
        Effect.map(proxy.topology, ({ dropped }) => (dropped["slow_subscriber"] ?? 0) > 0)
      )
      yield* got(send, plain, 1, [old])
      assert.deepStrictEqual(heardBy(old), [1])
    }))
})

/** A proxy where there was one before, of an address of its own, so that nobody takes its ports while it is away. */
const restarted = Effect.gen(function*() {
  const host = "127.0.0.3"
  const { xpubPort, xsubPort } = yield* Effect.scoped(start({ host }))
  const begunAt = performance.now()
  return { begunAt, proxy: yield* start({ host, xpubPort, xsubPort }) }
})

describe("control messages", () => {
  const ask = Effect.fnUntraced(function*(to: string, control: Control.Control, servers: number) {
    const proxy = yield* start()
    for (let index = 0; index < servers; index += 1) {
      yield* subscriber(proxy, [to, topic])
    }
    const asker = yield* subscriber(proxy, [replyTo])
    const { send } = yield* publisher(proxy)
    yield* send(to, Result.getOrThrow(Control.encode(control)))
    yield* send(replyTo, "end")
    yield* eventually("the end", Effect.sync(() => asker.heard.some((frames) => String(frames[1]) === "end")))
    return asker.heard.filter((frames) => String(frames[1]) !== "end")
      .map((frames) => Result.getOrThrow(Protocol.decodeResponse(frames.slice(1))))
  })

  for (const servers of [0, 2]) {
    it.live(`a question is answered with how many got it: ${servers}`, () =>
      Effect.gen(function*() {
        const [fanout, ...others] = yield* ask(Topic.everyServer, { kind: "catalog", requestId: "q", replyTo }, servers)
        assert.lengthOf(others, 0)
        assert.deepInclude(fanout, { requestId: "q", status: "success", event: "fanout", content: String(servers) })
      }))
  }

  for (const servers of [0, 2]) {
    it.live(`a question to a topic is answered with how many serve it as well: ${servers}`, () =>
      Effect.gen(function*() {
        const proxy = yield* start()
        const asker = yield* subscriber(proxy, [replyTo])
        // Which does not hear control messages.
        yield* Effect.forEach(Array.from({ length: servers }), () => subscriber(proxy, [topic]))
        const { send } = yield* publisher(proxy)
        const ping = Result.getOrThrow(Control.encode({ kind: "ping", requestId: "q", replyTo }))
        for (const to of [Topic.control(topic), Topic.everyServer, "@AGENT_REPLY_none"]) yield* send(to, ping)
        yield* count("answers", asker.heard, 3)
        assert.deepStrictEqual(
          asker.heard.map((frames) => JSON.parse(String(frames[1]))).map((
            { content, replicas }
          ) => [content, replicas]),
          [["0", servers], ["0", undefined], ["0", undefined]]
        )
      }))
  }

  for (const servers of [0, 1]) {
    it.live(`one replica is asked on its own topic, and answered at once when it is gone: ${servers}`, () =>
      Effect.gen(function*() {
        const question = { kind: "describe", requestId: "q", replyTo, skill: "s" } as const
        const [fanout, ...others] = yield* ask(Topic.worker(topic, "a"), question, servers)
        assert.lengthOf(others, 0)
        assert.deepInclude(fanout, { requestId: "q", event: "fanout", content: String(servers) })
      }))
  }

  it.live("the live topics are answered on the proxy's topic", () =>
    Effect.gen(function*() {
      const [reply] = yield* ask(Topic.proxy, { kind: "topology", requestId: "q", replyTo }, 2)
      assert.deepInclude(reply, { requestId: "q", status: "success" })
      assert.deepStrictEqual(JSON.parse(reply?.content ?? ""), { topics: [{ topic, replicas: 2 }] })
    }))

  it.live("a proxy that has only just begun calls no replica gone that may be on its way back", () =>
    Effect.gen(function*() {
      const { begunAt, proxy } = yield* restarted
      const asker = yield* subscriber(proxy, [replyTo])
      const { send } = yield* publisher(proxy)
      const renew = Result.getOrThrow(Control.encode({ kind: "renew", requestId: "q", replyTo }))
      yield* eventually(
        "the answer",
        Effect.map(send(Topic.worker(topic, "a"), renew), () => asker.heard.length > 0)
      )
      assert.isAtLeast(performance.now() - begunAt, settleMs)
      const [answer] = asker.heard.map((frames) => Result.getOrThrow(Protocol.decodeResponse(frames.slice(1))))
      assert.deepInclude(answer, { requestId: "q", event: "fanout", content: "0" })
    }))

  it.live("a proxy that has only just begun says for how long servers may be on their way back, to those who understand", () =>
    Effect.gen(function*() {
      const { begunAt, proxy } = yield* restarted
      const asker = yield* subscriber(proxy, [replyTo])
      const { send } = yield* publisher(proxy)
      const catalog = Result.getOrThrow(Control.encode({ kind: "catalog", requestId: "q", replyTo }))
      const ask = Effect.gen(function*() {
        const before = asker.heard.length
        yield* send(Topic.everyServer, catalog)
        yield* send(topic, request("new", replyTo, { v: 2 }))
        yield* send(topic, request("old", replyTo))
        yield* count("answers", asker.heard, before + 3)
        const told: ReadonlyArray<Readonly<Record<string, unknown>>> = asker.heard.slice(before).map((frames) =>
          JSON.parse(String(frames[1]))
        )
        assert.deepStrictEqual(told.map(({ code, content }) => code ?? content), ["0", "NoServer", "NoServer"])
        assert.notProperty(told[2], "settle_ms")
        return told.slice(0, 2).map((answer) => answer["settle_ms"])
      })
      for (const ms of yield* ask) {
        assert.isAtLeast(Number(ms) + performance.now() - begunAt, settleMs)
        assert.isAtMost(Number(ms), settleMs)
      }
      yield* Effect.sleep(begunAt + settleMs - performance.now())
      yield* eventually("a time after that", Effect.map(ask, ([ms]) => ms === undefined))
      assert.deepStrictEqual(yield* ask, [undefined, undefined])
      // Nobody comes back to a port of which nobody knew.
      const fresh = yield* start()
      const other = yield* subscriber(fresh, [replyTo])
      yield* (yield* publisher(fresh)).send(Topic.everyServer, catalog)
      yield* count("answers", other.heard, 1)
      assert.notProperty(JSON.parse(String(other.heard[0]?.[1])), "settle_ms")
    }))

  it.live("a cancellation has no answer", () =>
    Effect.gen(function*() {
      assert.lengthOf(yield* ask(Topic.control(topic), { kind: "cancel", requestId: "q", replyTo }, 0), 0)
    }))
})
