/**
 * Who gets what. Subscriptions are kept per connection, as ZeroMQ does: subscribing twice counts once, and a
 * subscription matches every topic that begins with it. Those that subscribe to exactly a skill topic are its replicas,
 * of whom one gets each message; everyone else gets every message. The route of a topic is computed once and kept until a
 * subscription changes. Topics are strings of one character per byte, so that any bytes are a topic.
 */
import * as Topic from "@skillscale/core/Topic"

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
  /** The replicas of a skill topic, of whom one gets each message; empty for other topics. */
  readonly replicas: ReadonlyArray<S>
  /** The replica whose turn it is. */
  turn: number
  /** How many connections subscribe to exactly this topic, not only to a prefix of it. */
  readonly exact: number
  readonly control: boolean
  readonly tally: Tally
}

export const otherLabel = "(other)"
export const replyLabel = "(reply)"

/** A longer subscription is refused. Longer topics are matched by their first bytes. */
export const maxSubscriptionBytes = 1024

const maxRoutes = 8192

export const textOf = (key: string): string => Buffer.from(key, "latin1").toString("utf8")

export class Routes<S> {
  readonly #maxLabels: number
  readonly #subscriptions = new Map<string, Set<S>>()
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
    this.#routes = new Map()
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
    this.#routes = new Map()
  }

  /** The route of a topic, or of the first `maxSubscriptionBytes + 1` bytes of a longer one. */
  route(key: string): Route<S> {
    const known = this.#routes.get(key)
    if (known !== undefined) {
      return known
    }
    const exact = this.#subscriptions.get(key) ?? new Set<S>()
    const replicas = Topic.isSkills(key) ? exact : new Set<S>()
    const subscribers = new Set<S>(replicas === exact ? [] : exact)
    for (const length of this.#lengths.keys()) {
      if (length < key.length) {
        for (const subscriber of this.#subscriptions.get(key.slice(0, length)) ?? []) {
          if (!replicas.has(subscriber)) {
            subscribers.add(subscriber)
          }
        }
      }
    }
    const route = {
      subscribers: [...subscribers],
      replicas: [...replicas],
      turn: 0,
      exact: exact.size,
      control: Topic.isControl(key),
      tally: this.#tally(key)
    }
    if (this.#routes.size >= maxRoutes) {
      this.#routes = new Map()
    }
    this.#routes.set(key, route)
    return route
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

  /** The label before the bound on their number: replies share one, and so does what cannot be a topic. */
  label(key: string): string {
    const text = textOf(key)
    if (Buffer.byteLength(text) !== key.length || text.length === 0 || key.length > Topic.maxBytes) {
      return otherLabel
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
