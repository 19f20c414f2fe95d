/**
 * The client over real sockets and the real proxy.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as SkillClient from "@skillscale/client/SkillClient"
import { answerTo, catalogReply, echo, serve, skill, text } from "./support/fakes.ts"

const topic = "TOPIC_TCP"

const proxyLayer = Proxy.layer({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false })

const addresses = Effect.map(Proxy.Proxy, ({ xpub, xsub }) => ({ xpub, xsub }))

const bus = Layer.unwrap(Effect.map(addresses, ZmqBus.layer))

/** A server on a connection of its own, subscribed at the proxy when the effect returns. */
const play = (...[topics, handle]: Parameters<typeof serve>) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(Layer.fresh(bus))
    const proxy = yield* Proxy.Proxy
    yield* serve(topics, handle).pipe(Effect.provide(context))
    yield* Effect.andThen(Effect.sleep(1), proxy.topology).pipe(
      Effect.repeat({
        until: (known) =>
          topics.every((name) => known.topics.some(({ replicas, topic }) => topic === name && replicas > 0))
      })
    )
  })

const live = <A, E>(effect: Effect.Effect<A, E, Proxy.Proxy | Scope.Scope>) =>
  Effect.provide(Effect.scoped(effect), proxyLayer)

const clientWith = (options?: SkillClient.Options) =>
  Effect.map(
    Layer.build(Layer.provide(SkillClient.layer(options), Layer.fresh(bus))),
    (context) => ({
      use: <A, E>(f: (client: SkillClient.SkillClient["Service"]) => Effect.Effect<A, E>) =>
        Effect.provide(Effect.flatMap(SkillClient.SkillClient, f), context)
    })
  )

const client = clientWith()

/** Leads to a port, unless it is shut. */
const relay = Effect.fnUntraced(function*(port: number) {
  const sockets = new Set<Net.Socket>()
  let isOpen = true
  let refused = 0
  const server = Net.createServer((near) => {
    if (!isOpen) {
      refused += 1
      near.destroy()
      return
    }
    const far = Net.connect(port, "127.0.0.1")
    for (const [from, to] of [[near, far], [far, near]] as const) {
      sockets.add(from.on("error", () => {}).on("close", () => to.destroy()))
      from.pipe(to)
    }
  })
  const shut = () => {
    isOpen = false
    sockets.forEach((socket) => socket.destroy())
  }
  yield* Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      shut()
      server.close()
    })
  )
  const bound = server.address()
  const address = `tcp://127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`
  return { address, shut, open: () => void (isOpen = true), refused: () => refused }
})

const median = (values: ReadonlyArray<number>): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN

describe("SkillClient over TCP", () => {
  it.live("connects and hears the first reply at once", () =>
    live(Effect.gen(function*() {
      yield* play([topic], echo)
      const ready = yield* client
      yield* ready.use(({ invoke }) => invoke({ skill: "a", topic, data: "warm", timeout: "5 seconds" }))
      const times: Array<number> = []
      for (let round = 0; round < 15; round++) {
        const start = performance.now()
        yield* Effect.scoped(Effect.gen(function*() {
          const { use } = yield* client
          const reply = yield* use(({ invoke }) => invoke({ skill: "a", topic, data: String(round) }))
          assert.strictEqual(reply.content, `echo: ${round}`)
          times.push(performance.now() - start)
        }))
      }
      console.log(
        `connect + first reply over TCP: median ${median(times).toFixed(1)} ms, worst ${
          Math.max(...times).toFixed(1)
        } ms`
      )
      assert.isBelow(median(times), 1000)
    })))

  it.live("1,000 calls at once each get their own answer", () =>
    live(Effect.gen(function*() {
      yield* play([topic], echo)
      const { use } = yield* client
      const requests = Array.from({ length: 1000 }, (_, index) => ({ skill: "a", topic, data: `#${index}` }))
      const start = performance.now()
      const results = yield* use(({ invokeAll }) => invokeAll(requests, { concurrency: 100 }))
      console.log(`1,000 calls over TCP: ${(performance.now() - start).toFixed(0)} ms`)
      assert.deepStrictEqual(
        results.map((result) => result._tag === "Success" ? result.success.content : result.failure.message),
        requests.map(({ data }) => `echo: ${data}`)
      )
      assert.strictEqual(yield* use(({ pending }) => pending), 0)
    })))

  it.live("a topic that nobody serves is NoServer at once", () =>
    live(Effect.gen(function*() {
      const { use } = yield* client
      const start = performance.now()
      const error = yield* use(({ invoke }) => Effect.flip(invoke({ skill: "a", topic: "TOPIC_NOBODY" })))
      assert.strictEqual(error.reason._tag, "NoServer")
      assert.isBelow(performance.now() - start, 1000)
    })))

  it.live("gathers the catalog and cancels through the proxy", () =>
    live(Effect.gen(function*() {
      let cancelled = ""
      let requested = ""
      yield* play(["@SERVERS"], (request) => answerTo(request, catalogReply("s", topic, skill("a", topic))))
      yield* play([topic, `@${topic}`], (request) =>
        Effect.sync(() => {
          if (request["kind"] === "cancel") cancelled = String(request["request_id"])
          else requested = String(request["request_id"])
        }))
      const { use } = yield* client
      const call = yield* Effect.forkChild(use(({ invoke }) => invoke({ skill: "a" })))
      yield* Effect.sleep(1).pipe(Effect.repeat({ until: () => requested !== "" }))
      yield* Fiber.interrupt(call)
      yield* Effect.sleep(1).pipe(Effect.repeat({ until: () => cancelled === requested }))
      const start = performance.now()
      assert.lengthOf(yield* use(({ catalog }) => catalog), 1)
      console.log(`catalog over TCP: ${(performance.now() - start).toFixed(1)} ms`)
    })))

  it.live("a server that hangs holds no call up", () =>
    live(Effect.gen(function*() {
      yield* play(["@SERVERS"], () => Effect.void)
      yield* play(["@SERVERS"], (request) => answerTo(request, catalogReply("s", topic, skill("a", topic))))
      yield* play([topic], echo)
      const { use } = yield* clientWith({ catalogTimeout: "1 minute" })
      const reply = yield* use(({ invoke }) => invoke({ skill: "a", data: "hi", timeout: "20 seconds" }))
      assert.strictEqual(reply.content, "echo: hi")
    })))

  it.live("a call whose time is over when the way to the proxy is open again does not run", () =>
    live(Effect.gen(function*() {
      const { xpub, xsubPort } = yield* Proxy.Proxy
      const requested: Array<string> = []
      yield* play(
        [topic],
        (request) => Effect.andThen(Effect.sync(() => requested.push(text(request["intent"]))), echo(request))
      )
      const way = yield* relay(xsubPort)
      const context = yield* Layer.build(Layer.provide(SkillClient.layer(), ZmqBus.layer({ xsub: way.address, xpub })))
      const call = (data: string, timeout: Duration.Input) =>
        Context.get(context, SkillClient.SkillClient).invoke({ skill: "a", topic, data, timeout })
      yield* call("before", "20 seconds")
      way.shut()
      yield* Effect.sleep(1).pipe(Effect.repeat({ until: () => way.refused() > 0 }))
      assert.strictEqual((yield* Effect.flip(call("meanwhile", "50 millis"))).reason._tag, "Timeout")
      way.open()
      yield* call("after", "20 seconds")
      assert.deepStrictEqual(requested, ["before", "after"].map((data) => JSON.stringify({ skill: "a", data })))
    })))

  it.live("the Promise client connects to the same proxy", () =>
    live(Effect.gen(function*() {
      yield* play([topic], echo)
      const options = yield* addresses
      yield* Effect.promise(async () => {
        await using client = await PromiseClient.connect(options)
        const call = () => client.invoke({ skill: "a", topic, data: "hi", timeout: "2 seconds" })
        const reply = await call()
        assert.strictEqual(reply.content, "echo: hi")
      })
    })))

  it.live("survives a message that the bus cannot read as its own", () =>
    live(Effect.gen(function*() {
      const context = yield* Layer.build(Layer.fresh(bus))
      const { use } = yield* client
      yield* play([topic], (request) =>
        Effect.gen(function*() {
          const { publish } = yield* Bus.Bus
          yield* publish(String(request["reply_to"]), new Uint8Array([0xff, 0xfe]))
          yield* echo(request)
        }).pipe(Effect.orDie, Effect.provide(context)))
      const reply = yield* use(({ invoke }) => invoke({ skill: "a", topic, data: "x", timeout: "5 seconds" }))
      assert.strictEqual(reply.content, "echo: x")
    })))
})
