/** What a call is promised, over every transport; `docs/protocol.md` has it in a table. */
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Zmq from "zeromq"
import { suite } from "./callSuite.ts"

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

const startProxy = Effect.fnUntraced(function*(ports?: { readonly xsubPort: number; readonly xpubPort: number }) {
  const scope = yield* Scope.make()
  const options = { host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false, ...ports } as const
  const proxy = yield* Proxy.make(options).pipe(Scope.provide(scope), quiet)
  const close = Scope.close(scope, Exit.void)
  yield* Effect.addFinalizer(() => close)
  return { ...proxy, close }
})

const memory = Effect.map(Bus.makeHub(), (hub) => ({ server: hub.connect, client: hub.connect }))

const oneProxy = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const proxy = yield* startProxy()
  const connect = ZmqBus.make(proxy)
  const disturb = Effect.andThen(proxy.close, Scope.provide(startProxy(proxy), scope))
  return { server: connect, client: connect, disturb: Effect.asVoid(disturb) }
})

const severalProxies = Effect.gen(function*() {
  const [first, second] = [yield* startProxy(), yield* startProxy()]
  const at = { xsub: `${first.xsub},${second.xsub}`, xpub: `${first.xpub},${second.xpub}` }
  const random = yield* Random.Random
  // So that clients begin with the first.
  const client = ZmqBus.makeFailover(at).pipe(
    Effect.provideService(Random.Random, { ...random, nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0 })
  )
  return { server: ZmqBus.makeJoined(at), client, disturb: first.close }
})

/** libzmq's own proxy, on Unix sockets: it gives every request to every replica, and answers nothing itself. */
const libzmq = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-calls-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
  )
  const at = { xsub: `ipc://${folder}/xsub`, xpub: `ipc://${folder}/xpub` }
  yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const unbounded = { linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 }
      const proxy = new Zmq.Proxy(new Zmq.XSubscriber(unbounded), new Zmq.XPublisher(unbounded))
      await proxy.frontEnd.bind(at.xsub)
      await proxy.backEnd.bind(at.xpub)
      return { proxy, ended: proxy.run() }
    }),
    ({ ended, proxy }) =>
      Effect.promise(() => {
        proxy.terminate()
        return ended
      })
  )
  return { server: ZmqBus.make(at), client: ZmqBus.make(at) }
})

suite("in memory", memory, { replicas: true, tellsAbsence: false, survivesProxy: false })
suite("one proxy", oneProxy, { replicas: true, tellsAbsence: true, survivesProxy: true })
suite("several proxies", severalProxies, { replicas: true, tellsAbsence: true, survivesProxy: true })
suite("libzmq's proxy", libzmq, { replicas: false, tellsAbsence: false, survivesProxy: false })
