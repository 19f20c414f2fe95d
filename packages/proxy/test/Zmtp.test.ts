import * as Zmtp from "@skillscale/core/Zmtp"
import type * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { greeting } from "../../../test/support/zmtp.ts"
import { noServerReply } from "../src/internal/noServer.ts"
import { count, eventually, publisher, replicas, start, subscriber } from "./support.ts"

/** A TCP connection, what it read, and whether it was ended. */
const connect = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<{ socket: Net.Socket; read: () => Buffer; isClosed: () => boolean }>((resume) => {
      const chunks: Array<Buffer> = []
      let closed = false
      const socket = Net.connect(port, "127.0.0.1", () =>
        resume(Effect.succeed({
          socket,
          read: () => Buffer.concat(chunks),
          isClosed: () => closed
        })))
      socket.on("data", (chunk) => chunks.push(chunk))
      socket.on("error", () => {})
      socket.on("close", () => {
        closed = true
      })
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const stillWorks = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"]) {
  const { heard } = yield* subscriber(proxy, ["TOPIC_WORKS"])
  const { send } = yield* publisher(proxy)
  yield* send("TOPIC_WORKS", "1")
  yield* count("messages", heard, 1)
})

describe("noServerReply", () => {
  const ask = (topic: string, body: object) => noServerReply(topic, [Buffer.from(JSON.stringify(body))])._tag
  const wellFormed = { request_id: "1", reply_to: "AGENT_REPLY_1", intent: "x" }

  it("answers requests, and nothing else", () => {
    assert.strictEqual(ask("TOPIC_X", wellFormed), "Reply")
    assert.strictEqual(ask("custom", wellFormed), "Reply")
    assert.strictEqual(ask("@TOPIC_X", wellFormed), "NotRequest")
    assert.strictEqual(ask("AGENT_REPLY_1", { request_id: "1", status: "success" }), "NotRequest")
    assert.strictEqual(
      ask("AGENT_REPLY_1", { request_id: "1", status: "success", content: "\"reply_to\"" }),
      "NotRequest"
    )
    assert.strictEqual(ask("TOPIC_X", { ...wellFormed, reply_to: "@X" }), "Malformed")
    assert.strictEqual(ask("TOPIC_X", { ...wellFormed, reply_to: "TOPIC_X" }), "Malformed")
    assert.strictEqual(noServerReply("TOPIC_X", [])._tag, "Malformed")
  })

  it("answers what it cannot read but for the address", () => {
    assert.strictEqual(ask("TOPIC_X", { request_id: "1", reply_to: "AGENT_REPLY_1" }), "Reply")
    for (const request_id of [undefined, 7, "", "i".repeat(257)]) {
      const reply = noServerReply("TOPIC_X", [Buffer.from(JSON.stringify({ ...wellFormed, request_id }))])
      const { payload, replyTo } = reply._tag === "Reply" ? reply : assert.fail(reply._tag)
      const answer = JSON.parse(Buffer.from(payload).toString())
      assert.deepInclude(answer, { request_id: "unknown", code: "NoServer", v: 2 })
      assert.strictEqual(replyTo, "AGENT_REPLY_1")
    }
  })
})

describe("peers that are not ZeroMQ", () => {
  it.live("are disconnected and hurt nobody", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ maxMessageBytes: 1000, handshakeTimeout: "300 millis" })
      const garbage = [
        Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Buffer.alloc(100_000, 0xab),
        Buffer.alloc(64, 0xff),
        greeting(1, "CURVE"),
        Buffer.concat([greeting(1), Zmtp.encodeReady("PUB"), Buffer.from([255, 255])]),
        Buffer.concat([greeting(1), Zmtp.encodeMessage([Buffer.from("before READY")])]),
        Buffer.concat([
          greeting(1),
          Zmtp.encodeReady("PUB"),
          Zmtp.encodeReady("SUB"),
          Zmtp.encodeMessage([Buffer.alloc(1001)])
        ]),
        Buffer.concat([greeting(1), Zmtp.encodeCommand("READY", Buffer.from("\u00ffx"))]),
        // Silence: ended when the handshake is overdue.
        Buffer.alloc(0),
        Zmtp.signature.subarray(0, 5)
      ]
      for (const port of [proxy.xsubPort, proxy.xpubPort]) {
        const connections = yield* Effect.forEach(garbage, (bytes) =>
          Effect.map(connect(port), (connection) => {
            connection.socket.write(bytes)
            return connection
          }))
        yield* eventually("all are disconnected", Effect.sync(() => connections.every(({ isClosed }) => isClosed())))
      }
      assert.deepInclude(yield* proxy.topology, { publishers: 0, subscribers: 0 })
      yield* stillWorks(proxy)
    }))

  it.live("a subscriber may hold only so many subscriptions, and only short ones", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ maxSubscriptions: 3 })
      for (const topics of [["A", "B", "C", "D"], ["x".repeat(1025)]]) {
        const { isClosed, socket } = yield* connect(proxy.xpubPort)
        socket.write(Buffer.concat([
          greeting(1),
          Zmtp.encodeReady("SUB"),
          ...topics.map((topic) => Zmtp.encodeCommand("SUBSCRIBE", Buffer.from(topic)))
        ]))
        yield* eventually("it is disconnected", Effect.sync(isClosed))
      }
      assert.deepInclude(yield* proxy.topology, { subscribers: 0, replies: 0 })
    }))
})

describe("by default", () => {
  const subscriptions = (count: number) =>
    Buffer.concat([
      greeting(1),
      Zmtp.encodeReady("SUB"),
      ...Array.from({ length: count }, (_, index) => Zmtp.encodeCommand("SUBSCRIBE", Buffer.from(`TOPIC_${index}`)))
    ])
  /** The beginning of a frame of so many bytes. */
  const frame = (bytes: number) => {
    const head = Buffer.alloc(9)
    head[0] = 2
    head.writeBigUInt64BE(BigInt(bytes), 1)
    return Buffer.concat([greeting(1), Zmtp.encodeReady("PUB"), head])
  }

  it.live("a connection has 10,000 subscriptions, and a message 256 MiB", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const write = (port: number, bytes: Buffer) =>
        Effect.map(connect(port), (connection) => {
          connection.socket.write(bytes)
          return connection
        })
      // With its head.
      const largest = 256 * 1024 * 1024 - 9
      const within = [yield* write(proxy.xpubPort, subscriptions(10_000)), yield* write(proxy.xsubPort, frame(largest))]
      const beyond = [
        yield* write(proxy.xpubPort, subscriptions(10_001)),
        yield* write(proxy.xsubPort, frame(largest + 1))
      ]
      yield* eventually("those beyond are disconnected", Effect.sync(() => beyond.every(({ isClosed }) => isClosed())))
      yield* eventually(
        "the others are not",
        Effect.map(proxy.topology, ({ publishers, subscribers }) => publishers + subscribers === 2)
      )
      assert.isFalse(within.some(({ isClosed }) => isClosed()))
    }))
})

describe("versions", () => {
  const subscribe = (topic: string) => Zmtp.encodeMessage([Buffer.from(`\u0001${topic}`)])
  const message = Zmtp.encodeMessage([Buffer.from("TOPIC_A"), Buffer.from("payload")])
  const peers = {
    "3.1": {
      publisher: Buffer.concat([greeting(1), Zmtp.encodeReady("PUB")]),
      subscriber: Buffer.concat([
        greeting(1),
        Zmtp.encodeReady("SUB"),
        Zmtp.encodeCommand("SUBSCRIBE", Buffer.from("TOPIC_A"))
      ]),
      asked: Zmtp.encodeCommand("SUBSCRIBE", Buffer.alloc(0))
    },
    "3.0": {
      publisher: Buffer.concat([greeting(0), Zmtp.encodeReady("PUB")]),
      subscriber: Buffer.concat([greeting(0), Zmtp.encodeReady("SUB"), subscribe("TOPIC_A")]),
      asked: subscribe("")
    },
    "2.0": {
      publisher: Buffer.concat([Zmtp.signature.subarray(0, 10), Buffer.from([1, 1, 0, 0])]),
      subscriber: Buffer.concat([Zmtp.signature.subarray(0, 10), Buffer.from([1, 2, 0, 0]), subscribe("TOPIC_A")]),
      asked: subscribe("")
    }
  }
  for (const [version, peer] of Object.entries(peers)) {
    it.live(`a ZMTP ${version} publisher reaches a ZMTP ${version} subscriber`, () =>
      Effect.gen(function*() {
        const proxy = yield* start()
        const sub = yield* connect(proxy.xpubPort)
        sub.socket.write(peer.subscriber)
        yield* replicas(proxy, "TOPIC_A", 1)
        const pub = yield* connect(proxy.xsubPort)
        pub.socket.write(peer.publisher)
        yield* eventually("it is asked for everything", Effect.sync(() => pub.read().includes(peer.asked)))
        pub.socket.write(message)
        yield* eventually("the message", Effect.sync(() => sub.read().includes(message)))
        sub.socket.write(Zmtp.encodeMessage([Buffer.from("\u0000TOPIC_A")]))
        yield* replicas(proxy, "TOPIC_A", 0)
      }))
  }

  it.live("a subscriber gets its own messages and not a byte of the others", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const topics = ["TOPIC_A", "TOPIC_B", "TOPIC_C"]
      const subs = yield* Effect.forEach(topics, (topic) =>
        Effect.map(connect(proxy.xpubPort), (connection) => {
          const ready = Zmtp.encodeReady("SUB")
          connection.socket.write(Buffer.concat([greeting(0), ready, subscribe(topic)]))
          return connection
        }))
      yield* Effect.forEach(topics, (topic) => replicas(proxy, topic, 1))
      const messages = Array.from({ length: 2000 }, (_, index) => {
        const topic = topics[index % 7 % 3] ?? ""
        return [topic, Zmtp.encodeMessage([Buffer.from(topic), Buffer.alloc(index * 37 % 600, String(index))])] as const
      })
      const pub = yield* connect(proxy.xsubPort)
      pub.socket.write(Buffer.concat([peers["3.0"].publisher, ...messages.map(([, bytes]) => bytes)]))
      for (const [index, topic] of topics.entries()) {
        const expected = Buffer.concat(messages.filter(([to]) => to === topic).map(([, bytes]) => bytes))
        const handshake = 64 + Zmtp.encodeReady("XPUB").length
        const read = () => subs[index]?.read().subarray(handshake) ?? Buffer.alloc(0)
        yield* eventually(`all of ${topic}`, Effect.sync(() => read().length >= expected.length))
        assert.isTrue(read().equals(expected), topic)
      }
    }))

  it.live("answers PING with its context", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const { read, socket } = yield* connect(proxy.xsubPort)
      socket.write(
        Buffer.concat([greeting(1), Zmtp.encodeReady("PUB"), Zmtp.encodeCommand("PING", Buffer.from("\0\nctx"))])
      )
      const pong = Zmtp.encodeCommand("PONG", Buffer.from("ctx"))
      yield* eventually("a PONG", Effect.sync(() => read().includes(pong)))
    }))

  it.live("refuses a subscriber on the publishers' port and the reverse", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const wrong = [[proxy.xsubPort, peers["3.1"].subscriber], [proxy.xpubPort, peers["3.1"].publisher]] as const
      for (const [port, bytes] of wrong) {
        const { isClosed, socket } = yield* connect(port)
        socket.write(bytes)
        yield* eventually("it is disconnected", Effect.sync(isClosed))
      }
    }))
})

describe("a server", () => {
  const pings = (read: Buffer): number => read.toString("latin1").split("\x04PING").length - 1

  /** A connection that subscribes to these topics by itself. `answers` tells whether it answers what it is asked. */
  const subscribed = Effect.fnUntraced(function*(
    proxy: Proxy.Proxy["Service"],
    topics: ReadonlyArray<string>,
    { answers, minor }: { readonly answers: boolean; readonly minor: number }
  ) {
    const peer = yield* connect(proxy.xpubPort)
    peer.socket.write(Buffer.concat([greeting(minor), Zmtp.encodeReady("SUB")]))
    yield* eventually("the handshake", Effect.sync(() => peer.read().includes("READY")))
    for (const topic of topics) {
      const body = Buffer.from(topic)
      peer.socket.write(
        minor === 0
          ? Zmtp.encodeMessage([Buffer.concat([Buffer.from([1]), body])])
          : Zmtp.encodeCommand("SUBSCRIBE", body)
      )
    }
    if (answers) peer.socket.on("data", () => peer.socket.write(Zmtp.encodeCommand("PONG", new Uint8Array())))
    return peer
  })

  it.live("that shows no sign of life is disconnected, and nobody else", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ heartbeat: "50 millis" })
      const topic = "TOPIC_BEAT"
      const own = (name: string) => [topic, `@worker/${topic}/${name}`]
      const alive = yield* subscribed(proxy, own("alive"), { answers: true, minor: 1 })
      // Those that do not understand the question are not asked, nor are those that may stop reading.
      const old = yield* subscribed(proxy, own("old"), { answers: false, minor: 0 })
      const plain = yield* subscribed(proxy, [topic, "AGENT_REPLY_x"], { answers: false, minor: 1 })
      yield* replicas(proxy, topic, 3)
      const gone = yield* subscribed(proxy, own("gone"), { answers: false, minor: 1 })
      yield* eventually("it is left", Effect.sync(gone.isClosed))
      yield* replicas(proxy, topic, 3)
      assert.isAtMost(pings(gone.read()), 4)
      const before = pings(alive.read())
      yield* eventually("signs of the other", Effect.sync(() => pings(alive.read()) > before + 5))
      assert.deepStrictEqual([alive, old, plain].map(({ isClosed }) => isClosed()), [false, false, false])
      assert.deepStrictEqual([old, plain].map(({ read }) => pings(read())), [0, 0])
    }))
})
