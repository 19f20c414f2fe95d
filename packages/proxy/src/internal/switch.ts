/**
 * The data path: two listening sockets, the connections behind them, and what happens to each message. It runs on
 * plain callbacks and counters, since one message costs well under a microsecond here; `Proxy` gives it a scope, typed
 * errors, metrics and logs.
 */
import type * as Control from "@skillscale/core/Control"
import * as Load from "@skillscale/core/Load"
import * as Topic from "@skillscale/core/Topic"
import * as Zmtp from "@skillscale/core/Zmtp"
import * as Result from "effect/Result"
import * as Net from "node:net"
import { countsOnAcknowledgement } from "./acknowledgement.ts"
import { controlAnswer } from "./control.ts"
import { noServerReply } from "./noServer.ts"
import type { Outlet } from "./outlet.ts"
import { Peer } from "./peer.ts"
import * as Routes from "./routes.ts"

export const dropReasons = ["slow_subscriber", "no_subscriber", "no_server", "malformed", "too_large"] as const

export type DropReason = typeof dropReasons[number]

export interface Options {
  readonly maxMessageBytes: number
  readonly highWaterMarkBytes: number
  readonly handshakeMs: number
  readonly heartbeatMs: number
  readonly maxLabels: number
  readonly maxSubscriptions: number
}

export interface Observer {
  /** Rate-bounded by the caller. */
  readonly onDropped: (reason: DropReason, topic: string) => void
  readonly onRefused: (address: string, detail: string) => void
  /** Runs `forward`; present when requests are traced. */
  readonly onMessage: ((topic: string, frames: () => ReadonlyArray<Buffer>, forward: () => void) => void) | undefined
}

const largestAnsweredBytes = 64 * 1024 * 1024
/** With the heads of its frames and its topic. */
const largestLoadBytes = Load.maxBytes + Routes.maxSubscriptionBytes + 32
/** What is collected at most before it is written. */
const mostReadBytes = 512 * 1024
const maxListedTopics = 10_000
/** How long after its start a proxy may be without servers that had lost the one before: they try again every second. */
export const settleMs = 1500

const listen = (server: Net.Server, host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen({ host, port }, () => {
      server.off("error", reject)
      const address = server.address()
      resolve(typeof address === "object" && address !== null ? address.port : port)
    })
  })

export class Switch {
  readonly routes: Routes.Routes<Peer>
  readonly dropped = new Map<DropReason, number>(dropReasons.map((reason) => [reason, 0]))
  readonly peers = { XSUB: new Set<Peer>(), XPUB: new Set<Peer>() }
  refusals = 0
  noServerReplies = 0
  readonly #options: Options
  readonly #observer: Observer
  readonly #servers: Array<Net.Server> = []
  #dirty: Array<Outlet> = []
  #read = 0
  /** When what is read just now was read. */
  #readAt: number | undefined
  #isFlushing = false
  #settledAt = Number.NEGATIVE_INFINITY
  #closing = false

  constructor(options: Options, observer: Observer) {
    this.#options = options
    this.#observer = observer
    this.routes = new Routes.Routes(options.maxLabels)
  }

  /** Listens and returns the port. Rejects with Node's error. */
  async listen(type: "XSUB" | "XPUB", host: string, port: number): Promise<number> {
    const server = Net.createServer((socket) => this.#accept(type, socket))
    const bound = await listen(server, host, port)
    // To a port that was chosen just now nobody is on the way back.
    if (type === "XPUB" && port !== 0) {
      this.#settledAt = performance.now() + settleMs
    }
    // Running out of descriptors while accepting must not end the process.
    server.on("error", (error) => this.#observer.onRefused("listener", error.message))
    this.#servers.push(server)
    return bound
  }

  #accept(type: "XSUB" | "XPUB", socket: Net.Socket): void {
    if (this.#closing) {
      socket.destroy()
      return
    }
    const peer = new Peer(socket, { ...this.#options, type }, {
      ready: (peer) => this.peers[type].add(peer),
      message: this.#message,
      large: this.#large,
      subscription: (peer, subscribe, prefix) => this.#subscription(peer, subscribe, prefix),
      drained: this.#drained,
      refused: (peer, detail) => {
        this.refusals += 1
        this.#observer.onRefused(peer.address, detail)
      },
      closed: (peer) => {
        this.#connections.delete(peer)
        this.peers[type].delete(peer)
        for (const key of peer.subscriptions) {
          this.routes.unsubscribe(key, peer)
        }
        peer.subscriptions.clear()
      }
    })
    this.#connections.add(peer)
  }

  readonly #connections = new Set<Peer>()

  #subscription(peer: Peer, subscribe: boolean, prefix: Buffer): void {
    const key = prefix.toString("latin1")
    if (!subscribe) {
      if (peer.subscriptions.delete(key)) {
        this.routes.unsubscribe(key, peer)
      }
    } else if (
      prefix.length > Routes.maxSubscriptionBytes || peer.subscriptions.size >= this.#options.maxSubscriptions
    ) {
      peer.broken(`a subscription of ${prefix.length} bytes after ${peer.subscriptions.size} others`)
    } else if (!peer.subscriptions.has(key)) {
      peer.subscriptions.add(key)
      this.routes.subscribe(key, peer)
      if (key.startsWith(Topic.workerPrefix)) {
        peer.watch()
      }
    }
  }

  #key(peer: Peer, chunk: Buffer, start: number, end: number): string {
    const last = peer.lastTopic
    const stop = Math.min(end, start + Routes.maxSubscriptionBytes + 1)
    const length = stop - start
    if (peer.lastKey !== undefined && last.length === length) {
      let index = 0
      while (index < length && last[index] === chunk[start + index]) {
        index += 1
      }
      if (index === length) {
        return peer.lastKey
      }
    }
    peer.lastTopic = Buffer.from(chunk.subarray(start, stop))
    peer.lastKey = chunk.toString("latin1", start, stop)
    return peer.lastKey
  }

  readonly #message = (
    peer: Peer,
    chunk: Buffer,
    start: number,
    end: number,
    topicStart: number,
    topicEnd: number
  ): void => {
    const key = this.#key(peer, chunk, topicStart, topicEnd)
    const route = this.routes.route(key)
    const tally = route.tally
    tally.messagesIn += 1
    tally.bytesIn += end - start
    if (this.#observer.onMessage !== undefined) {
      const frames = () => Zmtp.framesOf(chunk.subarray(start, end)).slice(1)
      this.#observer.onMessage(Routes.textOf(key), frames, () => this.#deliver(route, key, chunk, start, end))
    } else {
      this.#deliver(route, key, chunk, start, end)
    }
    if (route.load) {
      this.#told(peer, key, chunk.subarray(start, end))
    } else if (route.exact === 0 || route.control) {
      this.#answer(route, key, end - start, () => chunk.subarray(start, end))
    }
  }

  readonly #large = (
    peer: Peer,
    pieces: ReadonlyArray<Buffer>,
    length: number,
    topicStart: number,
    topicEnd: number
  ): void => {
    const head = Buffer.concat(pieces, Math.min(topicEnd, topicStart + Routes.maxSubscriptionBytes + 1))
    const key = this.#key(peer, head, topicStart, Math.min(topicEnd, head.length))
    const route = this.routes.route(key)
    route.tally.messagesIn += 1
    route.tally.bytesIn += length
    const must = route.replicas?.isMixed === true && countsOnAcknowledgement(pieces)
    const forward = () =>
      this.#forEachReceiver(route, key, length, must, (outlet) => {
        for (const piece of pieces) {
          outlet.add(piece, 0, piece.length)
        }
      })
    const whole = () => Buffer.concat(pieces, length)
    if (this.#observer.onMessage !== undefined) {
      this.#observer.onMessage(Routes.textOf(key), () => Zmtp.framesOf(whole()).slice(1), forward)
    } else {
      forward()
    }
    if (route.load) {
      this.#drop("malformed", key)
    } else if (route.exact === 0 || route.control) {
      this.#answer(route, key, length, whole)
    }
  }

  #deliver(route: Routes.Route<Peer>, key: string, chunk: Buffer, start: number, end: number): void {
    const must = route.replicas?.isMixed === true && countsOnAcknowledgement([chunk.subarray(start, end)])
    this.#forEachReceiver(route, key, end - start, must, (outlet) => outlet.add(chunk, start, end))
  }

  /** Calls `add` for every subscriber that has room, and for the replica that is to have the message. */
  #forEachReceiver(
    route: Routes.Route<Peer>,
    key: string,
    bytes: number,
    mustAcknowledge: boolean,
    add: (outlet: Outlet) => void
  ): void {
    const { replicas, subscribers, tally } = route
    for (const { outlet } of subscribers) {
      if (outlet.hasRoom(this.#onDirty)) {
        tally.messagesOut += 1
        tally.bytesOut += bytes
        add(outlet)
      } else {
        this.#drop("slow_subscriber", key)
      }
    }
    if (replicas !== undefined) {
      const next = replicas.next(this.#hasRoom, this.#readAt ??= performance.now(), mustAcknowledge)
      if (next === undefined) {
        return this.#drop("slow_subscriber", key)
      }
      tally.messagesOut += 1
      tally.bytesOut += bytes
      add(next.outlet)
    }
  }

  readonly #hasRoom = (peer: Peer): boolean => peer.outlet.hasRoom(this.#onDirty)

  readonly #onDirty = (outlet: Outlet): void => {
    this.#dirty.push(outlet)
  }

  /** Writes once for all that is read at a time: a write costs as much as many messages. */
  readonly #drained = (read: number): void => {
    this.#read += read
    this.#readAt = undefined
    if (this.#read >= mostReadBytes) {
      this.#flush()
    } else if (this.#dirty.length > 0 && !this.#isFlushing) {
      this.#isFlushing = true
      setImmediate(this.#flush)
    }
  }

  readonly #flush = (): void => {
    const dirty = this.#dirty
    this.#read = 0
    this.#isFlushing = false
    this.#dirty = []
    for (const outlet of dirty) {
      outlet.flush()
    }
  }

  #drop(reason: DropReason, key: string): void {
    this.dropped.set(reason, (this.dropped.get(reason) ?? 0) + 1)
    this.#observer.onDropped(reason, key)
  }

  /** Takes in what a replica tells of its load. Only its own host is believed. */
  #told(peer: Peer, key: string, message: Buffer): void {
    const load = message.length > largestLoadBytes ? undefined : Load.decode(Zmtp.framesOf(message).slice(1))
    if (load === undefined || Result.isFailure(load)) {
      return this.#drop("malformed", key)
    }
    this.routes.tell(key, (subscriber) => subscriber.host === peer.host, peer, load.success, performance.now())
  }

  /** Answers control messages, and requests that have no server. */
  #answer(route: Routes.Route<Peer>, key: string, length: number, whole: () => Buffer): void {
    const unheard = route.subscribers.length === 0
    // Nobody need follow the catalog.
    if (key === Topic.announcements) {
      return
    }
    if (length > largestAnsweredBytes) {
      return unheard ? this.#drop(route.control ? "no_subscriber" : "too_large", key) : undefined
    }
    const frames = Zmtp.framesOf(whole()).slice(1)
    const settleMs = Math.max(0, this.#settledAt - performance.now())
    if (route.control) {
      const facts = {
        fanout: route.exact,
        replicas: this.routes.replicasBehind(key),
        settleMs,
        topology: () => ({ topics: this.#liveTopics() })
      }
      const answer = controlAnswer(Routes.textOf(key), frames, facts)
      if (answer !== undefined) {
        return this.#reply(answer.replyTo, answer.payload)
      }
      return unheard ? this.#drop("no_subscriber", key) : undefined
    }
    const answer = noServerReply(Routes.textOf(key), frames, settleMs)
    switch (answer._tag) {
      case "NotRequest":
        return unheard ? this.#drop("no_subscriber", key) : undefined
      case "Malformed":
        return this.#drop("malformed", key)
      case "Reply":
        this.#drop("no_server", key)
        this.noServerReplies += 1
        return this.#reply(answer.replyTo, answer.payload)
    }
  }

  #reply(replyTo: string, payload: Uint8Array): void {
    const topic = Buffer.from(replyTo, "utf8")
    const key = topic.toString("latin1")
    const message = Zmtp.encodeMessage([topic, payload])
    this.#deliver(this.routes.route(key), key, message, 0, message.length)
  }

  #liveTopics(): Array<Control.TopologyReply["topics"][number]> {
    const topics = []
    for (const [key, replicas] of this.routes.counts()) {
      const topic = Routes.textOf(key)
      if (Topic.isSkills(topic) && topics.length < maxListedTopics) {
        topics.push({ topic, replicas })
      }
    }
    return topics.sort((a, b) => a.topic < b.topic ? -1 : 1)
  }

  /**
   * Stops accepting and reading, waits until every subscriber took what is queued for it or `drainMs` is over, and
   * disconnects. Never rejects.
   */
  async close(drainMs: number): Promise<void> {
    this.#closing = true
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())))
    for (const peer of this.peers.XSUB) {
      peer.socket.pause()
    }
    this.#flush()
    // A subscriber is read to the end: closing with unread input resets the connection and may discard its output.
    const ends = [...this.peers.XPUB].map((peer) =>
      new Promise<void>((resolve) => {
        peer.socket.once("finish", resolve).once("close", resolve)
        peer.socket.end()
      })
    )
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, drainMs)
    })
    await Promise.race([Promise.all(ends), late])
    clearTimeout(timer)
    for (const peer of this.#connections) {
      peer.socket.destroy()
    }
    await Promise.all(closed)
  }
}
