/**
 * Who gets what. Subscriptions are kept per connection, as ZeroMQ does: subscribing twice counts once, and a
 * subscription matches every topic that begins with it. Those that subscribe to exactly a skill topic are its replicas,
 * of whom one gets each message; everyone else gets every message. The route of a topic is computed once and kept until a
 * subscription changes; what is known of replicas is kept for as long as they subscribe. Topics are strings of one
 * character per byte, so that any bytes are a topic.
 */
import type * as Load from "@skillscale/core/Load"
import * as Topic from "@skillscale/core/Topic"
import { ReplicaSet, type Reporter } from "./replicaSet.ts"

/** Messages and bytes (as framed on the wire) of one label. */
export interface Tally {
  readonly label: string
  messagesIn: number
  bytesIn: number
  messagesOut: number
  bytesOut: number
}

export interface Route<S> {
  /** Everyone who gets every message. */
  readonly subscribers: ReadonlyArray<S>
  /** The replicas of a skill topic, of whom one gets each message. */
  readonly replicas: ReplicaSet<S> | undefined
  /** How many connections subscribe to exactly this topic, not only to a prefix of it. */
  readonly exact: number
  readonly control: boolean
  /** Whether a replica tells its load here, which is for the proxy. */
  readonly load: boolean
  readonly tally: Tally
}

export const otherLabel = "(other)"
export const replyLabel = "(reply)"
export const workerLabel = "@worker"
export const loadLabel = "@load"

/** A longer subscription is refused. Longer topics are matched by their first bytes. */
export const maxSubscriptionBytes = 1024

const maxRoutes = 8192

/** The topic that a replica serves whose worker topic this is, if it is one. */
const servedBy = (key: string): string | undefined => {
  const end = key.lastIndexOf("/")
  return key.startsWith(Topic.workerPrefix) && end < key.length - 1 && end > Topic.workerPrefix.length
    ? key.slice(Topic.workerPrefix.length, end)
    : undefined
}

export const textOf = (key: string): string => Buffer.from(key, "latin1").toString("utf8")

export class Routes<S> {
  readonly #maxLabels: number
  readonly #subscriptions = new Map<string, Set<S>>()
  readonly #replicas = new Map<string, ReplicaSet<S>>()
  /** By topic, who subscribes to how many worker topics of it: these are of version 2, and acknowledge requests. */
  readonly #workers = new Map<string, Map<S, number>>()
  readonly #tallies = new Map<string, Tally>()
  readonly #lengths = new Map<number, number>()
  #labels = 0
  #routes = new Map<string, Route<S>>()

  constructor(maxLabels: number) {
    this.#maxLabels = maxLabels
  }

  subscribe(key: string, subscriber: S): void {
    const subscribers = this.#subscriptions.get(key)
    if (subscribers === undefined) {
      this.#subscriptions.set(key, new Set([subscriber]))
      this.#lengths.set(key.length, (this.#lengths.get(key.length) ?? 0) + 1)
    } else {
      subscribers.add(subscriber)
    }
    if (Topic.isSkills(key)) {
      const replicas = this.#replicas.get(key) ?? new ReplicaSet()
      this.#replicas.set(key, replicas)
      replicas.add(subscriber)
      replicas.acknowledges(subscriber, this.#workers.get(key)?.has(subscriber) === true)
    }
    this.#countWorker(key, subscriber, 1)
    this.#routes = new Map()
  }

  #countWorker(key: string, subscriber: S, change: 1 | -1): void {
    const topic = servedBy(key)
    if (topic === undefined) {
      return
    }
    const workers = this.#workers.get(topic) ?? new Map<S, number>()
    const count = (workers.get(subscriber) ?? 0) + change
    if (count > 0) {
      workers.set(subscriber, count)
      this.#workers.set(topic, workers)
    } else {
      workers.delete(subscriber)
      if (workers.size === 0) {
        this.#workers.delete(topic)
      }
    }
    this.#replicas.get(topic)?.acknowledges(subscriber, count > 0)
  }

  unsubscribe(key: string, subscriber: S): void {
    const subscribers = this.#subscriptions.get(key)
    if (subscribers !== undefined && subscribers.delete(subscriber) && subscribers.size === 0) {
      this.#subscriptions.delete(key)
      const left = (this.#lengths.get(key.length) ?? 1) - 1
      if (left === 0) {
        this.#lengths.delete(key.length)
      } else {
        this.#lengths.set(key.length, left)
      }
    }
    const replicas = this.#replicas.get(key)
    replicas?.delete(subscriber)
    if (replicas?.size === 0) {
      this.#replicas.delete(key)
    }
    this.#countWorker(key, subscriber, -1)
    this.#routes = new Map()
  }

  /** The route of a topic, or of the first `maxSubscriptionBytes + 1` bytes of a longer one. */
  route(key: string): Route<S> {
    const known = this.#routes.get(key)
    if (known !== undefined) {
      return known
    }
    const exact = this.#subscriptions.get(key) ?? new Set<S>()
    const replicas = this.#replicas.get(key)
    const subscribers = new Set<S>(replicas === undefined ? exact : [])
    for (const length of this.#lengths.keys()) {
      if (length < key.length) {
        for (const subscriber of this.#subscriptions.get(key.slice(0, length)) ?? []) {
          if (replicas?.has(subscriber) !== true) {
            subscribers.add(subscriber)
          }
        }
      }
    }
    const route = {
      subscribers: [...subscribers],
      replicas,
      exact: exact.size,
      control: Topic.isControl(key),
      load: key.startsWith(Topic.loadPrefix),
      tally: this.#tally(key)
    }
    if (this.#routes.size >= maxRoutes) {
      this.#routes = new Map()
    }
    this.#routes.set(key, route)
    return route
  }

  /** How many serve the topic whose control topic this is, if it is one. */
  replicasBehind(key: string): number | undefined {
    const topic = key.slice(1)
    return Topic.control(topic) === key && Topic.isSkills(topic) ? this.#replicas.get(topic)?.size ?? 0 : undefined
  }

  /**
   * Takes in what a replica tells of its load on this topic. Of those that `isFrom` holds for, it is the replica that
   * subscribed to the worker topic last: a connection whose peer is gone may not have ended yet.
   */
  tell(loadKey: string, isFrom: (subscriber: S) => boolean, reporter: Reporter, load: Load.Load, now: number): void {
    const name = loadKey.slice(Topic.loadPrefix.length)
    const replicas = this.#replicas.get(name.slice(0, Math.max(0, name.lastIndexOf("/"))))
    let teller: S | undefined
    for (const subscriber of this.#subscriptions.get(Topic.workerPrefix + name) ?? []) {
      teller = replicas?.has(subscriber) === true && isFrom(subscriber) ? subscriber : teller
    }
    if (teller !== undefined) {
      replicas?.tell(teller, reporter, load, now)
    }
  }

  #tally(key: string): Tally {
    const name = this.label(key)
    const known = this.#tallies.get(name)
    if (known !== undefined) {
      return known
    }
    const full = name !== otherLabel && name !== replyLabel && this.#labels >= this.#maxLabels
    if (full) {
      return this.#named(otherLabel)
    }
    if (name !== otherLabel && name !== replyLabel) {
      this.#labels += 1
    }
    return this.#named(name)
  }

  #named(label: string): Tally {
    const known = this.#tallies.get(label)
    if (known !== undefined) {
      return known
    }
    const tally = { label, messagesIn: 0, bytesIn: 0, messagesOut: 0, bytesOut: 0 }
    this.#tallies.set(label, tally)
    return tally
  }

  /**
   * The label before the bound on their number: replies share one, and so do what cannot be a topic, and the topics of
   * single replicas, which come and go.
   */
  label(key: string): string {
    const text = textOf(key)
    if (Buffer.byteLength(text) !== key.length || text.length === 0 || key.length > Topic.maxBytes) {
      return otherLabel
    }
    if (text.startsWith(Topic.workerPrefix)) {
      return workerLabel
    }
    if (text.startsWith(Topic.loadPrefix)) {
      return loadLabel
    }
    return Topic.isSkills(text) || Topic.isControl(text) ? text : replyLabel
  }

  /** Everything counted so far, at most `maxLabels + 2` entries. */
  get tallies(): ReadonlyArray<Tally> {
    return [...this.#tallies.values()]
  }

  /** Every live subscription and the number of connections that hold it. */
  *counts(): Generator<readonly [key: string, replicas: number]> {
    for (const [key, subscribers] of this.#subscriptions) {
      yield [key, subscribers.size]
    }
  }
}
