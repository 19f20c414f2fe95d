/**
 * The bus against peers that stop, stall, break off and talk nonsense.
 */
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Zmtp from "@skillscale/core/Zmtp"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Os from "node:os"
import * as Link from "../src/internal/zmtpLink.ts"
import { skipUnless } from "../../../test/support/mustRun.ts"
import { collect, eventually } from "./busSuite.ts"
import * as FakeProxy from "./fakeProxy.ts"

const mebibyte = 1024 * 1024
/** Much more than the kernel buffers on both ends of a Unix socket. */
const huge = Buffer.alloc(8 * mebibyte, "0123456789abcdef")

let sockets = 0
const unixSocket = () => `ipc://${Os.tmpdir()}/skillscale-${process.pid}-${sockets++}.sock`

/** Where nothing listens. */
const nobody = "tcp://127.0.0.1:1"

const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, index) => String(from + index))

const publishAll = (bus: Bus.Bus["Service"], texts: ReadonlyArray<string>) =>
  Effect.forEach(texts, (text) => bus.publish("NEWS", Buffer.from(text)), { discard: true })

const textsOf = (heard: ReadonlyArray<FakeProxy.Heard>) =>
  heard.map(({ payload }) => payload.length > 100 ? `${payload.length} bytes` : payload.toString())

const textOf = (message: Bus.Message) => Buffer.concat(message.frames).toString()

/** A bus that only publishes, with what it logs. */
const publisher = Effect.fnUntraced(function*(xsub: string, options?: Partial<ZmqBus.Options>) {
  const logged: Array<string> = []
  const bus = yield* ZmqBus.make({ xsub, xpub: xsub, linger: 0, ...options }).pipe(Effect.provide(logTo(logged)))
  return { bus, logged }
})

const logTo = (logged: Array<string>) =>
  Logger.layer([
    Logger.make(({ fiber, message }) =>
      void logged.push(`${String(message)}: ${String(fiber.getRef(References.CurrentLogAnnotations)["detail"])}`)
    )
  ])

const subscribed = Effect.fnUntraced(function*(xpub: string, options?: Partial<ZmqBus.Options>) {
  const logged: Array<string> = []
  const bus = yield* ZmqBus.make({ xsub: nobody, xpub, linger: 0, ...options }).pipe(Effect.provide(logTo(logged)))
  return { logged, stream: yield* bus.subscription(["NEWS"]) }
})

const listen = (type: FakeProxy.Options["type"], options?: Partial<FakeProxy.Options>) =>
  FakeProxy.listen({ type, ...options })

/** A turn of the event loop, in which every socket of this process reads what it may. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** A peer that reads 64 KiB every four milliseconds, so that 16 MiB take it a second. */
const slowReader = Effect.suspend(() =>
  listen("XSUB", {
    address: unixSocket(),
    onReady: ({ socket }) =>
      socket.on("data", () => {
        socket.pause()
        setTimeout(() => socket.resume(), 4)
      })
  })
)

/** A peer that can be stopped, and started again at its address. */
const restartable = Effect.fnUntraced(function*(options: FakeProxy.Options) {
  const start = Effect.fnUntraced(function*(options: FakeProxy.Options) {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const peer = yield* FakeProxy.listen(options).pipe(Scope.provide(scope))
    return { ...peer, stop: Scope.close(scope, Exit.void) }
  })
  const first = yield* start(options)
  return {
    ...first,
    again: (more?: Partial<FakeProxy.Options>) => start({ ...options, ...more, address: first.address })
  }
})

describe("a proxy that goes away", () => {
  it.live("gets what was published meanwhile when it is back, in order and once", () =>
    Effect.gen(function*() {
      const peer = yield* restartable({ type: "XSUB" })
      const { bus } = yield* publisher(peer.address)
      yield* publishAll(bus, numbers(10))
      yield* eventually("10 messages", () => peer.heard().length === 10)
      yield* peer.stop
      const broken = yield* peer.again({ speak: (socket) => socket.destroy() })
      yield* eventually("the end is noticed", () => broken.connections.length > 0)
      yield* publishAll(bus, numbers(500, 10))
      const attempts = broken.connections.length
      yield* eventually("another attempt", () => broken.connections.length > attempts)
      yield* broken.stop
      const again = yield* peer.again()
      yield* eventually("500 messages", () => again.heard().length >= 500)
      assert.deepStrictEqual(textsOf(again.heard()), numbers(500, 10))
    }))

  it.live("gets a message again of which it had a part, and what was behind it", () =>
    Effect.gen(function*() {
      const peer = yield* restartable({ type: "XSUB", address: unixSocket() })
      const { bus } = yield* publisher(peer.address)
      yield* publishAll(bus, ["first"])
      yield* eventually("the first", () => peer.heard().length === 1)
      const socket = peer.connections[0]?.socket
      socket?.on("data", () => socket.bytesRead > huge.length / 2 && socket.pause())
      yield* bus.publish("NEWS", huge)
      yield* publishAll(bus, numbers(5))
      yield* eventually("half of the message", () => socket?.isPaused() === true)
      yield* peer.stop
      const again = yield* peer.again()
      yield* eventually("all", () => again.heard().length >= 6)
      assert.deepStrictEqual(textsOf(again.heard()), [`${huge.length} bytes`, ...numbers(5)])
      assert.isTrue(again.heard()[0]?.payload.equals(huge))
    }))

  it.live("does not get what has expired when it is back", () =>
    Effect.gen(function*() {
      const peer = yield* restartable({ type: "XSUB" })
      const { bus } = yield* publisher(peer.address)
      yield* bus.publish("NEWS", Buffer.from("first"), { expiresInMs: 60_000 })
      yield* eventually("the first", () => peer.heard().length === 1)
      yield* peer.stop
      const broken = yield* peer.again({ speak: (socket) => socket.destroy() })
      yield* eventually("the end is noticed", () => broken.connections.length > 0)
      const at = performance.now()
      for (const payload of ["expires", "stays", huge, "unlimited"]) {
        const options = payload === "unlimited" ? {} : { expiresInMs: payload === "stays" ? 60_000 : 50 }
        yield* bus.publish("NEWS", Buffer.from(payload), options)
      }
      yield* eventually("the time is over", () => performance.now() - at > 60)
      yield* broken.stop
      const again = yield* peer.again()
      yield* eventually("the last", () => textsOf(again.heard()).includes("unlimited"))
      assert.deepStrictEqual(textsOf(again.heard()), ["stays", "unlimited"])
    }))

  it.live("gets the rest of a message that expires while it is on its way, and no more of it on the next connection", () =>
    Effect.gen(function*() {
      const send = Effect.fnUntraced(function*() {
        const peer = yield* restartable({ type: "XSUB", address: unixSocket() })
        const { bus } = yield* publisher(peer.address)
        yield* publishAll(bus, ["first"])
        yield* eventually("the first", () => peer.heard().length === 1)
        const socket = peer.connections[0]?.socket
        socket?.on("data", () => socket.bytesRead < huge.length && socket.pause())
        const at = performance.now()
        yield* bus.publish("NEWS", huge, { expiresInMs: 50 })
        yield* publishAll(bus, ["last"])
        yield* eventually("a part of the message", () => socket?.isPaused() === true)
        yield* eventually("the time is over", () => performance.now() - at > 60)
        return { peer, socket }
      })
      const slow = yield* send()
      const resuming = yield* Effect.forkScoped(
        Effect.repeat(Effect.sync(() => slow.socket?.resume()), Schedule.spaced("1 millis"))
      )
      yield* eventually("all", () => slow.peer.heard().length === 3)
      yield* Fiber.interrupt(resuming)
      assert.deepStrictEqual(textsOf(slow.peer.heard()), ["first", `${huge.length} bytes`, "last"])
      const { peer } = yield* send()
      yield* peer.stop
      const again = yield* peer.again()
      yield* eventually("the last", () => again.heard().length > 0)
      assert.deepStrictEqual(textsOf(again.heard()), ["last"])
    }))

  it.live("gets what the kernel refused when the end was not yet noticed", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB")
      const { bus } = yield* publisher(peer.address)
      yield* publishAll(bus, ["first"])
      yield* eventually("the first", () => peer.heard().length === 1)
      // The kernel knows of the reset at once, this end only after its next read.
      peer.connections[0]?.socket.resetAndDestroy()
      yield* publishAll(bus, numbers(3))
      yield* eventually("the rest", () => peer.heard().length >= 4)
      assert.deepStrictEqual(textsOf(peer.heard()), ["first", ...numbers(3)])
      assert.strictEqual(peer.connections.length, 2)
    }))

  it.live("does not get twice what it had", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB")
      const { bus } = yield* publisher(peer.address, { heartbeat: "50 millis" })
      const sent = numbers(3000)
      // Broken off again and again in the middle of the stream.
      const breaking = yield* Effect.sync(() => {
        const last = peer.connections.at(-1)
        if (last !== undefined && last.heard.length > 100) {
          last.socket.resetAndDestroy()
        }
      }).pipe(Effect.repeat(Schedule.spaced("1 millis")), Effect.forkScoped)
      yield* Effect.forEach(sent, (text, index) =>
        Effect.andThen(
          bus.publish("NEWS", Buffer.from(text.padEnd(2000))),
          index % 10 === 0 ? Effect.sleep(0) : Effect.void
        ))
      yield* Fiber.interrupt(breaking)
      yield* bus.publish("NEWS", Buffer.from("last"))
      yield* eventually("the last", () => peer.connections.at(-1)?.heard.at(-1)?.payload.toString() === "last")
      const heard = peer.heard().map(({ payload }) => payload.toString().trim())
      assert.isAbove(peer.connections.length, 3)
      assert.deepStrictEqual(heard, [...sent.filter((text) => heard.includes(text)), "last"])
      peer.connections.at(-1)?.socket.resetAndDestroy()
      const before = peer.connections.length
      yield* eventually(
        "another connection",
        () => peer.connections.length > before && (peer.connections.at(-1)?.pings ?? 0) > 0
      )
      yield* publishAll(bus, ["end"])
      yield* eventually("the end", () => peer.heard().at(-1)?.payload.toString() === "end")
      assert.deepStrictEqual(textsOf(peer.connections.at(-1)?.heard ?? []), ["end"])
    }))

  it.live("gets what waited for it when it comes late, in order", () =>
    Effect.gen(function*() {
      const peer = yield* restartable({ type: "XSUB", speak: (socket) => socket.destroy() })
      const { bus } = yield* publisher(peer.address)
      const waiting = yield* Effect.forkScoped(
        Effect.forEach(numbers(10), (name) => publishAll(bus, [`${name}a`, `${name}b`]), { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* peer.stop
      const again = yield* peer.again({ speak: undefined })
      yield* Fiber.join(waiting)
      yield* eventually("all", () => again.heard().length >= 20)
      // Who sends again comes after those who waited.
      assert.deepStrictEqual(textsOf(again.heard()), [
        ...numbers(10).map((name) => `${name}a`),
        ...numbers(10).map((name) => `${name}b`)
      ])
    }))

  it.live("is subscribed to again, and nothing sent after that is lost", () =>
    Effect.gen(function*() {
      const free: Proxy.Options = { host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false }
      const start = (options: Proxy.Options) =>
        Proxy.make(options).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
      const first = yield* Scope.make()
      const { xpub, xpubPort, xsub, xsubPort } = yield* start(free).pipe(Scope.provide(first))
      const net = { connect: ZmqBus.make({ xsub, xpub, linger: 0 }) }
      const bus = yield* net.connect
      const messages = yield* collect(net, "TOPIC_NEWS", "@OTHER")
      let next = 0
      yield* Effect.suspend(() => bus.publish("TOPIC_NEWS", Buffer.from(String(next++)))).pipe(
        Effect.repeat(Schedule.spaced("1 millis")),
        Effect.forkScoped
      )
      yield* eventually("messages", () => messages.length > 20)
      yield* Scope.close(first, Exit.void)
      const again = yield* start({ ...free, xsubPort, xpubPort })
      const isBack = Effect.map(
        again.topology,
        ({ publishers, topics }) =>
          publishers > 0 && ["TOPIC_NEWS", "@OTHER"].every((name) =>
            topics.some(({ replicas, topic }) => topic === name && replicas === 1)
          )
      )
      yield* isBack.pipe(Effect.repeat({ until: (back) => back, schedule: Schedule.spaced("1 millis") }))
      const from = next
      const heard = () => messages.map((message) => Number(textOf(message)))
      yield* eventually("messages after it", () => (heard().at(-1) ?? 0) >= from + 100)
      assert.deepStrictEqual(heard().filter((number) => number >= from).slice(0, 100), numbers(100, from).map(Number))
      assert.deepStrictEqual(heard(), [...new Set(heard())].sort((a, b) => a - b))
    }))

  it.live("is tried again after 10 ms to 1 s, less and less often", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { speak: (socket) => socket.destroy() })
      yield* publisher(peer.address)
      yield* eventually("8 attempts", () => peer.connections.length >= 8)
      const pauses = peer.connections.map(({ at }, index) => at - (peer.connections[index - 1]?.at ?? 0)).slice(1)
      assert.isAbove(Math.min(...pauses), 9)
      assert.isBelow(Math.max(...pauses.slice(0, 2)), 400)
      assert.isAbove(pauses.at(-1) ?? 0, 450)
      assert.isBelow(pauses.at(-1) ?? 0, 1500)
    }))

  it.live("holds up a close for no longer than linger, and only when something was published", () =>
    Effect.gen(function*() {
      const closing = Effect.fnUntraced(function*(published: boolean) {
        const peer = yield* restartable({ type: "XSUB" })
        const scope = yield* Scope.make()
        const { bus } = yield* publisher(peer.address, { linger: "300 millis" }).pipe(Scope.provide(scope))
        if (published) {
          yield* publishAll(bus, ["1"])
        }
        yield* peer.stop
        const begun = performance.now()
        yield* Scope.close(scope, Exit.void)
        return performance.now() - begun
      })
      assert.isBelow(yield* closing(false), 150)
      const took = yield* closing(true)
      assert.isAbove(took, 290)
      assert.isBelow(took, 900)
    }))

  it.live("fails what waits for it with Closed when the bus closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { bus } = yield* publisher(nobody).pipe(Scope.provide(scope))
      const waiting = yield* Effect.forkScoped(Effect.flip(publishAll(bus, ["1"])), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Closed")
    }))

  it.live("is named with what is known of it", () =>
    Effect.gen(function*() {
      const { bus } = yield* publisher(nobody, { sendTimeout: "100 millis" })
      const { reason } = yield* Effect.flip(publishAll(bus, ["1"]))
      assert.strictEqual(reason._tag, "Unreachable")
      assert.match(reason._tag === "Unreachable" ? String(reason.cause) : "", /no proxy answered at .*: .*ECONNREFUSED/)
    }))
})

describe("a proxy that does not read", () => {
  it.live("is sent 1,000 messages by default, and the next fails with Backpressure", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { address: unixSocket(), onReady: ({ socket }) => socket.pause() })
      const { bus } = yield* publisher(peer.address, { sendTimeout: "100 millis" })
      yield* bus.publish("NEWS", huge)
      yield* publishAll(bus, numbers(999))
      const error = yield* Effect.flip(publishAll(bus, ["refused"]))
      assert.strictEqual(error.reason._tag, "Backpressure")
    }))

  it.live("is sent as many messages as the high-water mark, and the next fails with Backpressure", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", {
        address: unixSocket(),
        onReady: ({ socket }) => socket.pause()
      })
      const { bus } = yield* publisher(peer.address, { sendHighWaterMark: 5, sendTimeout: "100 millis" })
      yield* bus.publish("NEWS", huge)
      yield* publishAll(bus, numbers(4))
      const error = yield* Effect.flip(publishAll(bus, ["refused"]))
      assert.deepStrictEqual(error.reason, new Bus.Backpressure({ timeoutMs: 100 }))
      const interrupted = yield* Effect.timeoutOption(publishAll(bus, ["interrupted"]), "20 millis")
      assert.isTrue(Option.isNone(interrupted))
      // Those that wait are let in by their turn.
      const waiting = yield* Effect.forkScoped(
        Effect.forEach(numbers(10), (name) => publishAll(bus, [`${name}a`, `${name}b`]), { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      peer.connections[0]?.socket.resume()
      yield* Fiber.join(waiting)
      yield* eventually("all", () => peer.heard().length >= 25)
      assert.deepStrictEqual(textsOf(peer.heard()), [
        `${huge.length} bytes`,
        ...numbers(4),
        ...numbers(10).map((name) => `${name}a`),
        ...numbers(10).map((name) => `${name}b`)
      ])
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("is sent as many bytes as the high-water mark, and the next fails with Backpressure", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { address: unixSocket(), onReady: ({ socket }) => socket.pause() })
      const terms = { sendHighWaterMarkBytes: 2 * huge.length, sendTimeout: "100 millis" } as const
      const { bus } = yield* publisher(peer.address, terms)
      yield* bus.publish("NEWS", huge)
      yield* bus.publish("NEWS", huge)
      assert.strictEqual((yield* Effect.flip(publishAll(bus, ["refused"]))).reason._tag, "Backpressure")
      peer.connections[0]?.socket.resume()
      yield* publishAll(bus, ["next"])
      yield* eventually("all", () => peer.heard().length >= 3)
      assert.deepStrictEqual(textsOf(peer.heard()), [`${huge.length} bytes`, `${huge.length} bytes`, "next"])
    }))

  it.live("is sent 64 MiB by default", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { address: unixSocket(), onReady: ({ socket }) => socket.pause() })
      const { bus } = yield* publisher(peer.address, { sendTimeout: "100 millis" })
      for (let count = 0; count < 8; count++) yield* bus.publish("NEWS", huge)
      assert.strictEqual((yield* Effect.flip(publishAll(bus, ["refused"]))).reason._tag, "Backpressure")
    }))

  it.live("is sent what is urgent ahead of what waits, also when there is no room", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { address: unixSocket(), onReady: ({ socket }) => socket.pause() })
      const { bus } = yield* publisher(peer.address, { sendHighWaterMark: 3, sendTimeout: "100 millis" })
      const urgent = (text: string) => bus.publish("NEWS", Buffer.from(text), { isUrgent: true })
      yield* bus.publish("NEWS", huge)
      yield* publishAll(bus, ["one", "two"])
      for (const text of ["a", "b", "c"]) yield* urgent(text)
      assert.strictEqual((yield* Effect.flip(urgent("refused"))).reason._tag, "Backpressure")
      peer.connections[0]?.socket.resume()
      yield* eventually("all", () => peer.heard().length >= 6)
      assert.deepStrictEqual(textsOf(peer.heard()), [`${huge.length} bytes`, "a", "b", "c", "one", "two"])
    }))

  it.live("lets a publisher wait until a message has left, has expired, or the bus closes", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { address: unixSocket(), onReady: ({ socket }) => socket.pause() })
      const scope = yield* Scope.fork(yield* Effect.scope)
      const { bus } = yield* Scope.provide(publisher(peer.address), scope)
      const waiting = (payload: Buffer, more: Bus.PublishOptions = {}) =>
        Effect.forkScoped(bus.publish("NEWS", payload, { ...more, waitsUntilSent: true }), { startImmediately: true })
      const turns = Effect.repeat(turn, { times: 10 })
      // Then the proxy has asked for messages.
      yield* publishAll(bus, ["first"])
      const fibers = [
        yield* waiting(huge),
        yield* waiting(Buffer.from("expires"), { expiresInMs: 0 }),
        yield* waiting(Buffer.from("next"))
      ]
      yield* turns
      assert.deepStrictEqual(fibers.map((fiber) => fiber.pollUnsafe()), [undefined, undefined, undefined])
      peer.connections[0]?.socket.resume()
      yield* Effect.forEach(fibers, Fiber.join)
      yield* eventually("all", () => peer.heard().length >= 3)
      assert.deepStrictEqual(textsOf(peer.heard()), ["first", `${huge.length} bytes`, "next"])
      peer.connections[0]?.socket.pause()
      const last = yield* waiting(Buffer.concat([huge, huge]))
      yield* turns
      assert.isUndefined(last.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(last)
    }))

  it.live("is waited for longer than that while it reads, however slowly", () =>
    Effect.gen(function*() {
      const peer = yield* slowReader
      const { bus } = yield* publisher(peer.address, { sendHighWaterMark: 1, sendTimeout: "400 millis" })
      const begun = performance.now()
      yield* bus.publish("NEWS", Buffer.concat([huge, huge]))
      yield* publishAll(bus, ["next"])
      assert.isAbove(performance.now() - begun, 800)
    }))

  it.live("is left when it shows no sign of life, and gets all of the message on the next connection", () =>
    Effect.gen(function*() {
      const peer: FakeProxy.FakeProxy = yield* listen("XSUB", {
        address: unixSocket(),
        onReady: (connection) => connection === peer.connections[0] && connection.socket.pause()
      })
      const { bus, logged } = yield* publisher(peer.address, { heartbeat: "20 millis" })
      yield* bus.publish("NEWS", huge)
      yield* eventually("the message", () => peer.heard().length > 0)
      assert.deepStrictEqual(textsOf(peer.heard()), [`${huge.length} bytes`])
      assert.deepStrictEqual(logged, ["connection ended, and will be made again: silent for 80 ms"])
    }))

  it.live("is not left while it reads, however slowly", () =>
    Effect.gen(function*() {
      const peer = yield* slowReader
      const { bus } = yield* publisher(peer.address, { heartbeat: "100 millis" })
      const begun = performance.now()
      yield* bus.publish("NEWS", Buffer.concat([huge, huge]))
      yield* eventually("the message", () => peer.heard().length > 0)
      assert.isAbove(performance.now() - begun, 5 * 100)
      assert.strictEqual(peer.connections.length, 1)
    }))
})

describe("a proxy that is silent", () => {
  it.live("is left after four heartbeats without an answer", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { answersPings: false })
      const { bus, logged } = yield* publisher(peer.address, { heartbeat: "20 millis" })
      yield* publishAll(bus, ["1"])
      yield* eventually("another connection", () => peer.connections.length > 1)
      // Five when the proxy's subscription came after the first.
      assert.include([4, 5], peer.connections[0]?.pings)
      yield* eventually("one more", () => peer.connections.length > 2)
      // The same trouble is told once.
      assert.deepStrictEqual(logged, ["connection ended, and will be made again: silent for 80 ms"])
    }))

  it.live("is kept when it answers", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB")
      yield* publisher(peer.address, { heartbeat: "5 millis" })
      yield* eventually("20 pings", () => (peer.connections[0]?.pings ?? 0) >= 20)
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("is left when it does not shake hands in time", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XSUB", { speak: () => {} })
      const { logged } = yield* publisher(peer.address, { handshakeTimeout: "50 millis" })
      yield* eventually("another connection", () => peer.connections.length > 1)
      assert.deepStrictEqual(logged, ["connection ended, and will be made again: no handshake within 50 ms"])
    }))
})

describe("a proxy that talks nonsense", () => {
  const nonsense: Readonly<Record<string, readonly [(type: "XSUB" | "XPUB") => Buffer, RegExp]>> = {
    "another protocol": [() => Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), /not a ZMTP peer/],
    "random bytes": [() => Buffer.alloc(100_000, 0xab), /not a ZMTP peer/],
    "the wrong port": [
      (type) => Buffer.concat([Zmtp.signature, Zmtp.greetingTail, Zmtp.encodeReady(type === "XSUB" ? "XPUB" : "XSUB")]),
      /socket type/
    ],
    "a frame that does not exist": [
      (type) => Buffer.concat([Zmtp.signature, Zmtp.greetingTail, Zmtp.encodeReady(type), Buffer.from([255, 255])]),
      /frame flags 255/
    ],
    "a message over the limit": [
      (type) =>
        Buffer.concat([
          Zmtp.signature,
          Zmtp.greetingTail,
          Zmtp.encodeReady(type),
          Buffer.from([2, 0, 0, 0, 0, 0x10, 0, 0, 1])
        ]),
      /more than 268435456 bytes/
    ]
  }
  for (const [what, [bytes, detail]] of Object.entries(nonsense)) {
    it.live(`is left and tried again: ${what}`, () =>
      Effect.gen(function*() {
        const xsub = yield* restartable({ type: "XSUB", speak: (socket) => socket.write(bytes("XSUB")) })
        const xpub = yield* restartable({ type: "XPUB", speak: (socket) => socket.write(bytes("XPUB")) })
        const { bus, logged } = yield* publisher(xsub.address)
        const sub = yield* subscribed(xpub.address)
        const pulling = yield* Effect.forkScoped(Stream.runHead(sub.stream))
        const publishing = yield* Effect.forkScoped(publishAll(bus, ["1"]))
        yield* eventually("attempts", () => xsub.connections.length > 3 && xpub.connections.length > 3)
        for (const told of [logged, sub.logged]) {
          assert.strictEqual(told.length, 1, String(told))
          assert.match(told[0] ?? "", detail)
        }
        yield* Effect.all([xsub.stop, xpub.stop])
        const again = yield* xsub.again({ speak: undefined })
        yield* xpub.again({ speak: undefined, onReady: ({ socket }) => socket.write(FakeProxy.encode("NEWS", "good")) })
        yield* Fiber.join(publishing)
        assert.deepStrictEqual(Option.map(yield* Fiber.join(pulling), textOf), Option.some("good"))
        yield* eventually("the message", () => again.heard().length === 1)
      }))
  }
})

describe("a subscription", () => {
  it.live("reads what comes byte by byte", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XPUB", {
        onReady: ({ socket }) => {
          const bytes = Buffer.concat(numbers(20).map((text) => FakeProxy.encode("NEWS", text.repeat(20))))
          socket.setNoDelay(true)
          const next = (at: number): void => {
            if (at < bytes.length) {
              socket.write(bytes.subarray(at, at + 1), () => setImmediate(next, at + 1))
            }
          }
          next(0)
        }
      })
      const { stream } = yield* subscribed(peer.address)
      const messages = yield* stream.pipe(Stream.take(20), Stream.runCollect)
      assert.deepStrictEqual(messages.map(textOf), numbers(20).map((text) => text.repeat(20)))
      yield* eventually("the topic", () => String(peer.connections[0]?.prefixes) === "NEWS")
    }))

  it.live("that is not pulled holds 1,000 messages by default, and some that came with them", () =>
    Effect.gen(function*() {
      const all = 20_000
      let written = 0
      const peer = yield* listen("XPUB", {
        address: unixSocket(),
        onReady: ({ socket }) => {
          const message = FakeProxy.encode("NEWS", "x".repeat(2000))
          const more = (): void => {
            while (written < all && socket.write(message)) written += 1
            written += 1
          }
          socket.on("drain", more)
          more()
        }
      })
      yield* subscribed(peer.address)
      yield* eventually("the peer writes", () => written > 0)
      let before = -1
      while (written !== before) {
        before = written
        yield* Effect.repeat(turn, { times: 100 })
      }
      assert.isAbove(written, 1000)
      assert.isBelow(written, 2000)
    }))

  it.live("that is not pulled holds up its peer, and loses nothing", () =>
    Effect.gen(function*() {
      const sent = numbers(10_000)
      let written = 0
      const peer = yield* listen("XPUB", {
        address: unixSocket(),
        onReady: ({ socket }) => {
          const more = (): void => {
            while (written < sent.length && socket.write(FakeProxy.encode("NEWS", sent[written]?.padEnd(500) ?? ""))) {
              written += 1
            }
            written += 1
          }
          socket.on("drain", more)
          more()
        }
      })
      const { stream } = yield* subscribed(peer.address, { capacity: 10 })
      yield* eventually("the peer writes", () => written > 0)
      // Nothing is pulled: what is written stops at what the kernel and this process hold, which is when no turn moves it.
      let before = -1
      while (written !== before) {
        before = written
        yield* Effect.repeat(turn, { times: 100 })
      }
      assert.isBelow(written * 500, mebibyte)
      const heard: Array<string> = []
      yield* stream.pipe(
        Stream.take(sent.length),
        Stream.runForEach((message) => Effect.sync(() => heard.push(textOf(message).trim())))
      )
      assert.deepStrictEqual(heard, sent)
    }))

  it.live("gives what came before its end, then Closed", () =>
    Effect.gen(function*() {
      const peer = yield* listen("XPUB", {
        onReady: ({ socket }) => socket.write(Buffer.concat(numbers(3).map((text) => FakeProxy.encode("NEWS", text))))
      })
      const scope = yield* Scope.make()
      const { stream } = yield* subscribed(peer.address).pipe(Scope.provide(scope))
      const first = yield* Stream.runHead(stream)
      yield* Scope.close(scope, Exit.void)
      const heard: Array<string> = []
      const error = yield* stream.pipe(
        Stream.runForEach((message) => Effect.sync(() => heard.push(textOf(message)))),
        Effect.flip
      )
      assert.deepStrictEqual([...Option.toArray(first).map(textOf), ...heard], numbers(3))
      assert.strictEqual(error.reason._tag, "Closed")
      yield* eventually("its connection ends", () => peer.connections[0]?.isClosed === true)
    }))

  it.live("answers heartbeats", () =>
    Effect.gen(function*() {
      let read = Buffer.alloc(0)
      const peer = yield* listen("XPUB", {
        onReady: ({ socket }) => {
          socket.on("data", (chunk: Buffer) => {
            read = Buffer.concat([read, chunk])
          })
          socket.write(Zmtp.encodeCommand("PING", Buffer.from("\0\nctx")))
        }
      })
      yield* subscribed(peer.address)
      yield* eventually("a PONG", () => read.includes(Zmtp.encodeCommand("PONG", Buffer.from("ctx"))))
    }))
})

describe("addresses", () => {
  const hasIpv6 = Object.values(Os.networkInterfaces()).flat().some((info) => info?.address === "::1")
  const addresses: ReadonlyArray<readonly [listen: string, connect: (address: string) => string, skip: boolean]> = [
    ["tcp://[::1]:0", (address) => address, skipUnless(hasIpv6, "IPv6")],
    ["tcp://127.0.0.1:0", (address) => address.replace("127.0.0.1", "localhost"), false],
    [unixSocket(), (address) => address, false],
    [`ipc://@skillscale-${process.pid}`, (address) => address, skipUnless(process.platform === "linux", "Linux")]
  ]
  for (const [address, connect, skip] of addresses) {
    it.live.skipIf(skip)(`publishes and subscribes over ${address}`, () =>
      Effect.gen(function*() {
        const xsub = yield* listen("XSUB", { address })
        const xpub = yield* listen("XPUB", {
          address: address.replace(/^(ipc:.*)$/, "$1-xpub"),
          onReady: ({ socket }) => socket.write(FakeProxy.encode("NEWS", "hello"))
        })
        const bus = yield* ZmqBus.make({ xsub: connect(xsub.address), xpub: connect(xpub.address), linger: 0 })
        const message = yield* Stream.runHead(yield* bus.subscription(["NEWS"]))
        assert.deepStrictEqual(Option.map(message, textOf), Option.some("hello"))
        yield* publishAll(bus, ["1"])
        yield* eventually("the message", () => xsub.heard().length === 1)
      }))
  }

  it("of TCP are without delay and kept alive", () => {
    const socket = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 10_000 }
    assert.deepStrictEqual(Link.target("tcp://[::1]:5444"), { host: "::1", port: 5444, ...socket })
    assert.deepStrictEqual(Link.target("tcp://proxy.example:1"), { host: "proxy.example", port: 1, ...socket })
  })

  it.live("that are none fail at once, with the value and what is accepted", () =>
    Effect.gen(function*() {
      const good = "tcp://127.0.0.1:1"
      const bad = [
        "nonsense",
        "tcp://127.0.0.1",
        "tcp://:::",
        "tcp://127.0.0.1:0",
        "udp://127.0.0.1:1",
        "ipc://",
        `ipc://${"x".repeat(108)}`
      ]
      for (const address of bad) {
        for (const options of [{ xsub: address, xpub: good }, { xsub: good, xpub: address }]) {
          const { operation, reason } = yield* Effect.flip(ZmqBus.make(options))
          assert.deepStrictEqual([operation, reason._tag], ["connect", "Unreachable"])
          assert.include(reason._tag === "Unreachable" ? String(reason.cause) : "", `got ${JSON.stringify(address)}`)
        }
      }
    }))
})
