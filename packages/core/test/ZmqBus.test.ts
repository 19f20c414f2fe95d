import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Zmq from "zeromq"
import { collect, eventually, type Net, suite } from "./busSuite.ts"

const free: Proxy.Options = { host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false }

const startProxy = (options: Proxy.Options = free) =>
  Proxy.make(options).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

const netOf = ({ xpub, xsub }: Pick<ZmqBus.Options, "xsub" | "xpub">): Net => ({ connect: ZmqBus.make({ xsub, xpub }) })

/** libzmq's own proxy, on Unix sockets. */
const startLibzmqProxy = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-bus-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
  )
  const xsub = `ipc://${folder}/xsub`
  const xpub = `ipc://${folder}/xpub`
  yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const unbounded = { linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 }
      const proxy = new Zmq.Proxy(new Zmq.XSubscriber(unbounded), new Zmq.XPublisher(unbounded))
      await proxy.frontEnd.bind(xsub)
      await proxy.backEnd.bind(xpub)
      const ended = proxy.run()
      return { proxy, ended }
    }),
    ({ ended, proxy }) =>
      Effect.promise(() => {
        proxy.terminate()
        return ended
      })
  )
  return { xsub, xpub }
})

suite("the proxy over TCP", Effect.map(startProxy(), (proxy) => netOf(proxy)))
suite("libzmq's proxy over Unix sockets", Effect.map(startLibzmqProxy, netOf), { replicas: false })

describe("ZmqBus", () => {
  it.live("hears every frame of a foreign publisher, and is heard by a foreign subscriber", () =>
    Effect.gen(function*() {
      const proxy = yield* startProxy()
      const net = netOf(proxy)
      const bus = yield* net.connect
      const messages = yield* collect(net, "TOPIC_A")
      const foreign = yield* Effect.acquireRelease(
        Effect.sync(() => ({ pub: new Zmq.Publisher({ linger: 0 }), sub: new Zmq.Subscriber({ linger: 0 }) })),
        ({ pub, sub }) => Effect.sync(() => [pub, sub].forEach((socket) => socket.close()))
      )
      foreign.pub.connect(proxy.xsub)
      foreign.sub.connect(proxy.xpub)
      foreign.sub.subscribe("TOPIC_B")
      yield* Effect.promise(() => foreign.pub.send(["TOPIC_A", "1", "", "3"])).pipe(
        Effect.andThen(Effect.suspend(() => messages.length > 0 ? Effect.void : Effect.fail("not yet"))),
        Effect.retry(Schedule.spaced("10 millis"))
      )
      assert.deepStrictEqual(messages[0]?.frames.map((frame) => Buffer.from(frame).toString()), ["1", "", "3"])
      const heard = foreign.sub.receive()
      yield* bus.publish("TOPIC_B", Buffer.from([0, 255])).pipe(
        Effect.repeat(Schedule.spaced("10 millis")),
        Effect.race(Effect.promise(() => heard))
      )
      assert.deepStrictEqual((yield* Effect.promise(() => heard)).map((frame) => [...frame]), [
        [...Buffer.from("TOPIC_B")],
        [0, 255]
      ])
    }))

  it.live("flows again after the proxy was restarted", () =>
    Effect.gen(function*() {
      const first = yield* Scope.make()
      const proxy = yield* startProxy().pipe(Scope.provide(first))
      const net = netOf(proxy)
      const bus = yield* net.connect
      const messages = yield* collect(net, "TOPIC_A")
      yield* bus.publish("TOPIC_A", Buffer.from("before"))
      yield* eventually("the first message", () => messages.length === 1)
      yield* Scope.close(first, Exit.void)
      const again = yield* startProxy({ ...free, xsubPort: proxy.xsubPort, xpubPort: proxy.xpubPort })
      const replicas = Effect.map(again.topology, ({ topics }) => topics.some((info) => info.replicas > 0))
      yield* replicas.pipe(
        Effect.repeat({ until: (live) => live, schedule: Schedule.spaced("5 millis") }),
        Effect.timeout("10 seconds")
      )
      yield* bus.publish("TOPIC_A", Buffer.from("after"))
      yield* eventually("the second message", () => messages.length === 2)
      assert.strictEqual(Buffer.concat(messages[1]?.frames ?? []).toString(), "after")
    }))

  it.live("publishes before the proxy exists, and fails with Unreachable when it does not come", () =>
    Effect.gen(function*() {
      const taken = yield* Scope.make()
      const { xpub, xpubPort, xsub, xsubPort } = yield* startProxy().pipe(Scope.provide(taken))
      yield* Scope.close(taken, Exit.void)
      const late = yield* ZmqBus.make({ xsub, xpub })
      const waiting = yield* late.publish("TOPIC_A", Buffer.from("early")).pipe(Effect.forkScoped)
      const hasty = yield* ZmqBus.make({ xsub, xpub, sendTimeout: "100 millis" })
      const error = yield* Effect.flip(hasty.publish("TOPIC_A", Buffer.from("1")))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.include(error.message, xsub)
      yield* startProxy({ ...free, xsubPort, xpubPort })
      yield* eventually("the publish is accepted", () => waiting.pollUnsafe() !== undefined)
      const exit = waiting.pollUnsafe()
      assert.isTrue(exit !== undefined && Exit.isSuccess(exit))
    }))

  it.live("refuses a malformed address", () =>
    Effect.gen(function*() {
      const good = "tcp://127.0.0.1:1"
      for (const options of [{ xsub: "nonsense", xpub: good }, { xsub: good, xpub: "tcp://:::" }]) {
        const error = yield* Effect.flip(ZmqBus.make(options))
        assert.deepStrictEqual([error.operation, error.reason._tag], ["connect", "Unreachable"])
      }
    }))

  it.live("reports backpressure when the proxy does not read", () =>
    Effect.gen(function*() {
      const stalled = yield* Effect.acquireRelease(
        Effect.sync(() => new Zmq.XSubscriber({ linger: 0, receiveHighWaterMark: 1, receiveBufferSize: 4096 })),
        (socket) => Effect.sync(() => socket.close())
      )
      yield* Effect.promise(() => stalled.bind("tcp://127.0.0.1:0"))
      yield* Effect.promise(() => stalled.send(Buffer.from([1])))
      // ZeroMQ passes the subscription on from within a call; this one takes the first message and no other.
      const first = stalled.receive()
      const xsub = stalled.lastEndpoint ?? ""
      const bus = yield* ZmqBus.make({ xsub, xpub: xsub, sendTimeout: "200 millis", sendHighWaterMark: 2, linger: 0 })
      const payload = Buffer.alloc(1024 * 1024)
      const error = yield* bus.publish("TOPIC_A", payload).pipe(
        Effect.forever,
        Effect.flip,
        Effect.timeout("20 seconds")
      )
      assert.strictEqual(error._tag === "BusError" ? error.reason._tag : error._tag, "Backpressure")
      yield* Effect.promise(() => first)
      const drain = (async () => {
        for await (const _ of stalled) {
          void _
        }
      })()
      yield* bus.publish("TOPIC_A", payload).pipe(
        Effect.retry(Schedule.spaced("10 millis")),
        Effect.timeout("10 seconds")
      )
      stalled.close()
      yield* Effect.promise(() => drain)
    }))

  it.live("delivers what a process published right before it ended", () =>
    Effect.gen(function*() {
      const proxy = yield* startProxy()
      const messages = yield* collect(netOf(proxy), "TOPIC_A")
      const child = spawn(process.execPath, [
        "--conditions=skillscale",
        Path.join(import.meta.dirname, "publishAndExit.ts"),
        proxy.xsub,
        proxy.xpub
      ], { stdio: "inherit" })
      const [code] = yield* Effect.promise(() => once(child, "exit"))
      assert.strictEqual(code, 0)
      yield* eventually("1,000 messages", () => messages.length >= 1000)
      assert.strictEqual(messages.length, 1000)
    }))
})
