/** Servers of both versions on one topic: those of version 1 acknowledge nothing, and run a request as often as it comes. */
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Zmq from "zeromq"
import * as Calls from "./support/calls.ts"

/** How long a call takes: much longer than a client waits for an acknowledgement. */
const workMs = 1500

const startProxy = Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false })

/** A server of version 1, which works on all requests at once, and what it ran. It is subscribed when the effect returns. */
const startOld = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"]) {
  const before = yield* replicasOf(proxy)
  const publisher = new Zmq.Publisher({ linger: 0 })
  const subscriber = new Zmq.Subscriber({ linger: 0 })
  publisher.connect(proxy.xsub)
  subscriber.connect(proxy.xpub)
  subscriber.subscribe(Calls.topic)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      publisher.close()
      subscriber.close()
    })
  )
  const ran: Array<Readonly<Record<string, unknown>>> = []
  const answer = async (request: Readonly<Record<string, unknown>>): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, workMs))
    const reply = { request_id: request["request_id"], status: "success", content: "old", error: "", timestamp: 1 }
    if (!publisher.closed) await publisher.send([String(request["reply_to"]), JSON.stringify(reply)])
  }
  void (async () => {
    for await (const [to, body] of subscriber) {
      if (String(to) !== Calls.topic) continue
      const request: Readonly<Record<string, unknown>> = JSON.parse(String(body))
      ran.push(request)
      void answer(request)
    }
  })()
  yield* until("the old server", Effect.map(replicasOf(proxy), (count) => count === before + 1))
  return { ran }
})

const replicasOf = (proxy: Proxy.Proxy["Service"]) =>
  Effect.map(proxy.topology, ({ topics }) => topics.find(({ topic }) => topic === Calls.topic)?.replicas ?? 0)

const until = (what: string, condition: Effect.Effect<boolean>): Effect.Effect<void> =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("5 millis") }),
    Effect.timeoutOrElse({ duration: "15 seconds", orElse: () => Effect.die(new Error(`never: ${what}`)) }),
    Effect.asVoid
  )

/** A server of each version, and our client. */
const both = Effect.gen(function*() {
  const proxy = yield* startProxy
  const connect = ZmqBus.make(proxy)
  const at = yield* Calls.start({ server: connect, client: connect })
  const old = yield* startOld(proxy)
  return { at, old, proxy }
})

const test = (title: string, body: Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(title, () => Effect.provideService(body, References.MinimumLogLevel, "None"), 60_000)

describe("a topic with servers of both versions", () => {
  test(
    "has each call of our client run once, by one of version 2",
    Effect.gen(function*() {
      const { at, old } = yield* both
      const names = Array.from({ length: 8 }, (_, index) => `call-${index}`)
      const calling = yield* Effect.forkScoped(Effect.forEach(
        names,
        (name, index) => at.call(name, { skill: index % 2 === 0 ? "once" : "pure", gate: "open" }),
        { concurrency: "unbounded" }
      ))
      yield* Effect.forEach(names, (name) => at.begun(name))
      yield* Effect.sleep(workMs)
      yield* at.open("open")
      assert.deepStrictEqual(yield* Fiber.join(calling), names.map((name) => `done ${name}\n`))
      for (const name of names) assert.lengthOf(at.runs(name), 1)
      assert.isEmpty(old.ran)
    })
  )

  test(
    "has requests of version 1 run by all of them",
    Effect.gen(function*() {
      const { at, old, proxy } = yield* both
      const publisher = yield* Effect.acquireRelease(
        Effect.sync(() => new Zmq.XPublisher({ linger: 0 })),
        (socket) => Effect.sync(() => socket.close())
      )
      publisher.connect(proxy.xsub)
      yield* Effect.promise(() => publisher.receive())
      for (let index = 0; index < 6; index++) {
        const intent = JSON.stringify({ skill: "pure", data: "" })
        const request = { request_id: `r${index}`, reply_to: "AGENT_REPLY_old", intent, timestamp: 1 }
        yield* Effect.promise(() => publisher.send([Calls.topic, JSON.stringify(request)]))
      }
      const [server] = at.replicas
      const taken = () =>
        server?.wire.seen.filter(({ message, way }) => way === "in" && /^r\d$/.test(String(message["request_id"]))) ??
          []
      yield* Calls.eventually("all of them", () => old.ran.length + taken().length === 6)
      assert.lengthOf(old.ran, 3)
    })
  )

  test(
    "has a call run once by one of version 1 that is left when the others are gone",
    Effect.gen(function*() {
      const { at, old, proxy } = yield* both
      yield* at.replicas[0]?.kill ?? Effect.void
      yield* until("the end of ours", Effect.map(replicasOf(proxy), (count) => count === 1))
      const before = Calls.requests(at.wire).length
      const replies = yield* Effect.all([
        at.client.invoke({ skill: "pure", topic: Calls.topic, data: "" }),
        at.client.invoke({ skill: "once", topic: Calls.topic, data: "" })
      ], { concurrency: 2 })
      assert.deepStrictEqual(replies.map(({ content }) => content), ["old", "old"])
      assert.lengthOf(old.ran, 2)
      assert.lengthOf(Calls.requests(at.wire), before + 2)
      // That was asked, and told.
      assert.isNotEmpty(Calls.controlsOf(at.wire, "ping"))
    })
  )
})
