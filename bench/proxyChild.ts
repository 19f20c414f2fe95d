/**
 * One process of the proxy benchmark: a proxy, a publisher or a subscriber. It obeys `start` and `stop`, between which
 * it counts what it received and the CPU time that it took.
 *
 * The `raw` peers speak ZMTP 3.0 over plain TCP: the publisher writes ready-made blocks of messages and the subscriber
 * counts bytes, so that neither costs more than a system call per 64 KiB. The `zmq` peers are zeromq.js.
 */
import * as Load from "@skillscale/core/Load"
import * as Topic from "@skillscale/core/Topic"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Net from "node:net"
import * as Zmq from "zeromq"

export interface Task {
  readonly role: "skillscale" | "libzmq" | "raw-pub" | "raw-sub" | "zmq-pub" | "zmq-sub"
  readonly port: number
  readonly topics: ReadonlyArray<string>
  readonly size: number
  /** For `raw-sub`: so many connections, each a replica of every topic that tells its load at `xsub`. Default: a plain one. */
  readonly replicas?: { readonly count: number; readonly xsub: number } | undefined
}

export type Report =
  | { readonly kind: "listening"; readonly xsub: number; readonly xpub: number }
  /** A subscriber heard its first message. */
  | { readonly kind: "flowing" }
  | { readonly kind: "result"; readonly messages: number; readonly cpu: number; readonly seconds: number }

const task: Task = JSON.parse(process.argv[2] ?? "{}")
const report = (message: Report): void => void process.send?.(message)

let messages = () => 0
let begun = { messages: 0, cpu: process.cpuUsage(), at: 0 }
process.on("message", (order) => {
  if (order === "start") {
    begun = { messages: messages(), cpu: process.cpuUsage(), at: performance.now() }
  } else {
    const seconds = (performance.now() - begun.at) / 1000
    const { system, user } = process.cpuUsage(begun.cpu)
    report({ kind: "result", messages: messages() - begun.messages, cpu: (system + user) / 1e6 / seconds, seconds })
  }
})
process.on("disconnect", () => process.exit(0))

const greeting = Buffer.alloc(64)
greeting.set([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0])
greeting.write("NULL", 12)

const ready = (type: string): Buffer =>
  Buffer.concat([
    Buffer.from([4, 6 + 12 + 4 + type.length]),
    Buffer.from("\x05READY\x0bSocket-Type\0\0\0", "latin1"),
    Buffer.from([type.length]),
    Buffer.from(type)
  ])

const frame = (more: boolean, body: Buffer): Buffer => {
  const head = Buffer.alloc(body.length < 256 ? 2 : 9)
  head[0] = (more ? 1 : 0) | (body.length < 256 ? 0 : 2)
  if (body.length < 256) {
    head[1] = body.length
  } else {
    head.writeUInt32BE(body.length, 5)
  }
  return Buffer.concat([head, body])
}

const message = (topic: string): Buffer =>
  Buffer.concat([frame(true, Buffer.from(topic)), frame(false, Buffer.alloc(task.size, "x"))])

const connect = (type: string, port = task.port): Net.Socket => {
  const socket = Net.connect(port, "127.0.0.1")
  socket.setNoDelay(true)
  socket.on("error", () => process.exit(0))
  socket.write(Buffer.concat([greeting, ready(type)]))
  return socket
}

const rawPublisher = (): void => {
  const socket = connect("PUB")
  const round = Buffer.concat(task.topics.map(message))
  const block = Buffer.concat(Array.from({ length: Math.max(1, Math.floor(262_144 / round.length)) }, () => round))
  let isAsked = false
  let input = 0
  const pump = () => {
    while (socket.write(block));
  }
  socket.on("data", (chunk) => {
    input += chunk.length
    // What follows the peer's greeting and READY is its first subscription.
    if (!isAsked && input > 64 + ready("XSUB").length) {
      isAsked = true
      pump()
    }
  })
  socket.on("drain", pump)
}

/** Every how many milliseconds a replica tells its load. */
const reportMs = 5

/** Tells, for each replica, that it has nothing in hand and how much it received. */
const reportLoads = (xsub: number, received: ReadonlyArray<() => number>): void => {
  const socket = connect("PUB", xsub)
  const [topic = ""] = task.topics
  setInterval(() => {
    received.forEach((count, index) => {
      const load = Load.encode({ running: 0, queued: 0, workers: 4, received: count() })
      const name = Buffer.from(Topic.load(topic, String(index)))
      socket.write(Buffer.concat([frame(true, name), frame(false, Buffer.from(Result.getOrThrow(load)))]))
    })
  }, reportMs)
}

const rawSubscriber = (): void => {
  const length = message(task.topics[0] ?? "").length
  let isFlowing = false
  const counts = Array.from({ length: task.replicas?.count ?? 1 }, (_, index) => {
    const socket = connect("SUB")
    const workers = task.replicas === undefined ? [] : task.topics.map((topic) => Topic.worker(topic, String(index)))
    let bytes = 0
    let isGreeted = false
    socket.on("data", (chunk) => {
      bytes += chunk.length
      if (isGreeted && !isFlowing && bytes > 1024) {
        isFlowing = true
        report({ kind: "flowing" })
      }
      if (!isGreeted && bytes >= 64) {
        isGreeted = true
        const prefixes = [...workers, ...task.topics]
        socket.write(Buffer.concat(prefixes.map((prefix) => frame(false, Buffer.from(`\x01${prefix}`)))))
      }
    })
    return () => Math.floor(bytes / length)
  })
  messages = () => counts.reduce((sum, count) => sum + count(), 0)
  if (task.replicas !== undefined) {
    reportLoads(task.replicas.xsub, counts)
  }
}

const zmqPublisher = async (): Promise<void> => {
  const socket = new Zmq.Publisher({ noDrop: true, sendHighWaterMark: 10_000, linger: 0 })
  socket.connect(`tcp://127.0.0.1:${task.port}`)
  const topics = task.topics.map((topic) => Buffer.from(topic))
  const payload = Buffer.alloc(task.size, "x")
  for (let index = 0;; index++) {
    try {
      await socket.send([topics[index % topics.length] ?? payload, payload])
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

const zmqSubscriber = async (): Promise<void> => {
  const socket = new Zmq.Subscriber({ receiveHighWaterMark: 10_000, linger: 0 })
  socket.connect(`tcp://127.0.0.1:${task.port}`)
  socket.subscribe(...task.topics)
  let received = 0
  messages = () => received
  await socket.receive()
  report({ kind: "flowing" })
  for (;;) {
    await socket.receive()
    received += 1
  }
}

const portOf = (socket: Zmq.Socket): number => Number(socket.lastEndpoint?.split(":").at(-1))

switch (task.role) {
  case "skillscale": {
    const proxy = Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: 0 })
    Effect.runFork(Effect.scoped(Effect.flatMap(proxy, ({ xpubPort, xsubPort }) => {
      report({ kind: "listening", xsub: xsubPort, xpub: xpubPort })
      return Effect.never
    })))
    break
  }
  case "libzmq": {
    const front = new Zmq.XSubscriber({ receiveHighWaterMark: 10_000 })
    const back = new Zmq.XPublisher({ sendHighWaterMark: 10_000 })
    await front.bind("tcp://127.0.0.1:0")
    await back.bind("tcp://127.0.0.1:0")
    report({ kind: "listening", xsub: portOf(front), xpub: portOf(back) })
    void new Zmq.Proxy(front, back).run()
    break
  }
  case "raw-pub":
    rawPublisher()
    break
  case "raw-sub":
    rawSubscriber()
    break
  case "zmq-pub":
    await zmqPublisher()
    break
  case "zmq-sub":
    await zmqSubscriber()
    break
}
