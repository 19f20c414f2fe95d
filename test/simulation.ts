/**
 * A network that loses, repeats, delays and reorders messages, or breaks as TCP does, with proxies that die, restart and
 * freeze, and peers that die, stop and are cut off. All of it follows from one seed and the clock of the test.
 */
import * as Bus from "@skillscale/core/Bus"
import * as Topic from "@skillscale/core/Topic"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { controlAnswer } from "../packages/proxy/src/internal/control.ts"
import { noServerReply } from "../packages/proxy/src/internal/noServer.ts"
import * as Switch from "../packages/proxy/src/internal/switch.ts"
import * as Time from "./simulatedTime.ts"

/** What happens to each message on each of its two ways, to a proxy and from it. */
export interface Weather {
  /** Shares from 0 to 1. */
  readonly loss: number
  readonly duplication: number
  /** At most, in milliseconds. */
  readonly delay: number
  /** Whether messages stay in order on one connection. */
  readonly isOrdered: boolean
}

/** One process on the network. */
export interface Peer {
  /** Its bus at one proxy. */
  readonly connect: (proxy: number) => Effect.Effect<Bus.Bus["Service"], never, Scope.Scope>
  /** Runs something as a part of this process: by its clock, and counted. */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** What is under way in it. */
  readonly inHand: () => { readonly timers: number; readonly fibers: number }
  /** Ends it. The proxies notice that after so many milliseconds. */
  readonly kill: (unnoticedMs: number) => void
  /** For so many milliseconds it does not run. */
  readonly halt: (ms: number) => void
  /** For so many milliseconds nothing comes from it or reaches it; then it does, all at once. */
  readonly cut: (ms: number) => void
}

export interface Options {
  readonly random: () => number
  readonly proxies: number
  /** Messages that wait for a proxy that is away. */
  readonly highWaterMark: number
  /** Hears what becomes of every message: it leaves its publisher, arrives at a subscription, or is lost. */
  readonly onMessage: (fate: Fate, topic: string, payload: Uint8Array) => void
  /** Hears what fails, and for how long. */
  readonly onMishap: (what: string, ms: number) => void
}

export type Fate = "leaves" | "arrives" | "is lost"

export interface Network {
  weather: Weather
  readonly join: Effect.Effect<Peer, never, Scope.Scope>
  /** The proxy dies, with all that it had, and is back after so many milliseconds; its peers find it again within a second. */
  readonly restart: (proxy: number, ms: number) => void
  /** For so many milliseconds the proxy does not run. */
  readonly freeze: (proxy: number, ms: number) => void
  /** Since when the proxy runs; in the future while it does not. */
  readonly runsSince: (proxy: number) => number
}

interface Message {
  readonly topic: string
  readonly payload: Uint8Array
}

interface Proxy {
  readonly subscriptions: Set<Subscription>
  /** Those whose connections break when it dies. */
  readonly connections: Set<() => void>
  generation: number
  backAt: number
  thawsAt: number
}

interface Subscription {
  readonly owner: State
  readonly topics: ReadonlySet<string>
  readonly send: (message: Message) => void
  /** Whether the proxy knows of it. */
  isKnown: boolean
}

interface State {
  isDead: boolean
  haltedUntil: number
  cutUntil: number
}

interface Outgoing extends Message {
  readonly expiresAt: number
}

const sendTimeoutMs = 5000
const lingerMs = 1000
const connectMs = 50
const reconnectMs = 1000

const busError = (operation: Bus.BusError["operation"], reason: Bus.BusError["reason"]) =>
  new Bus.BusError({ operation, reason })
const closed = (operation: Bus.BusError["operation"]) => busError(operation, new Bus.Closed())

export const make = Effect.fnUntraced(function*(
  { highWaterMark, onMessage, onMishap, proxies: count, random }: Options
): Effect.fn.Return<Network, never, Scope.Scope> {
  const { at, clock, now } = yield* Time.makeAgenda
  const untilAfter = (what: string, ms: number): number => {
    onMishap(what, ms)
    return now() + ms
  }
  const proxies = Array.from({ length: count }, (): Proxy => ({
    subscriptions: new Set(),
    connections: new Set(),
    generation: 0,
    backAt: 0,
    thawsAt: 0
  }))
  const proxyAt = (index: number): Proxy => {
    const proxy = proxies[index]
    if (proxy === undefined) throw new RangeError(`there is no proxy ${index}`)
    return proxy
  }
  const tell = (fate: Fate, { payload, topic }: Message): void => onMessage(fate, topic, payload)
  const lose = (message: Message): void => tell("is lost", message)

  /** One way of messages, on which they wait while it is held. What is on it when the proxy dies is lost. */
  const makeWay = (proxy: Proxy, heldUntil: () => number, arrive: (message: Message) => void) => {
    interface Passing {
      readonly message: Message
      readonly generation: number
      readonly due: number
    }
    const line: Array<Passing> = []
    const pass = ({ generation, message }: Passing) => generation === proxy.generation ? arrive(message) : lose(message)
    const passInOrder = (): void => {
      for (let first = line[0]; first !== undefined && first.due <= now(); first = line[0]) {
        if (heldUntil() > now()) return at(heldUntil(), passInOrder)
        line.shift()
        pass(first)
      }
    }
    const passAlone = (passing: Passing) => (): void =>
      heldUntil() > now() ? at(heldUntil(), passAlone(passing)) : pass(passing)

    return (message: Message): void => {
      const { delay, duplication, isOrdered, loss } = network.weather
      if (random() < loss) return lose(message)
      for (let copies = random() < duplication ? 2 : 1; copies > 0; copies--) {
        const due = now() + Math.ceil(random() * delay)
        const passing = { message, generation: proxy.generation, due: Math.max(due, line.at(-1)?.due ?? 0) }
        if (isOrdered) line.push(passing)
        at(isOrdered ? passing.due : due, isOrdered ? passInOrder : passAlone(passing))
      }
    }
  }

  const route = (proxy: Proxy, message: Message): void => {
    const { payload, topic } = message
    const settleMs = Math.max(0, proxy.backAt + Switch.settleMs - now())
    const receivers = [...proxy.subscriptions].filter(({ isKnown, topics }) => isKnown && topics.has(topic))
    if (Topic.isSkills(topic)) {
      const replica = receivers[Math.floor(random() * receivers.length)]
      if (replica !== undefined) return replica.send(message)
      const answer = noServerReply(topic, [payload], settleMs)
      if (answer._tag === "Reply") route(proxy, { topic: answer.replyTo, payload: answer.payload })
      return
    }
    if (receivers.length === 0) lose(message)
    for (const { send } of receivers) send(message)
    if (!Topic.isControl(topic)) return
    const served = topic.slice(1)
    const replicas = Topic.isSkills(served)
      ? [...proxy.subscriptions].filter(({ isKnown, topics }) => isKnown && topics.has(served)).length
      : undefined
    const facts = { fanout: receivers.length, replicas, settleMs, topology: () => ({ topics: [] }) }
    const answer = controlAnswer(topic, [payload], facts)
    if (answer !== undefined) route(proxy, { topic: answer.replyTo, payload: answer.payload })
  }

  /** A connection that is made again whenever the proxy dies, until it is closed. */
  const link = (proxy: Proxy, state: State, onBroken: () => void, onChange: (isUp: boolean) => void) => {
    let isClosed = false
    let isUp = false
    const heldUntil = () => Math.max(proxy.backAt, proxy.thawsAt, state.haltedUntil, state.cutUntil)
    const attempt = (generation: number) => (): void => {
      if (isClosed || state.isDead || generation !== proxy.generation) return
      if (heldUntil() > now()) return at(heldUntil() + random() * reconnectMs, attempt(generation))
      isUp = true
      onChange(true)
    }
    const notice = (): void => {
      const until = Math.max(state.haltedUntil, state.cutUntil)
      if (until > now()) at(until, notice)
      else if (!isClosed) onBroken()
    }
    const onDeath = (): void => {
      if (isUp) at(now(), notice)
      isUp = false
      onChange(false)
      at(proxy.backAt + random() * reconnectMs, attempt(proxy.generation))
    }
    proxy.connections.add(onDeath)
    at(now() + random() * connectMs, attempt(proxy.generation))
    return () => {
      isClosed = true
      proxy.connections.delete(onDeath)
    }
  }

  /** What goes to one proxy, and waits while that is away: the outbox of `ZmqBus`. */
  const makePublisher = Effect.fnUntraced(function*(proxy: Proxy, state: State, onBroken: () => void) {
    let isOpen = true
    let isUp = false
    let wasUp = false
    const outbox: Array<Outgoing> = []
    const waiters = new Map<Outgoing, (exit: Exit.Exit<void, Bus.BusError>) => void>()
    let onEmpty = () => {}
    const send = makeWay(
      proxy,
      () => Math.max(proxy.thawsAt, state.haltedUntil, state.cutUntil),
      (message) => route(proxy, message)
    )
    const hasRoom = () => wasUp && outbox.length < highWaterMark
    const admit = (): void => {
      for (const [message, settle] of waiters) {
        if (!hasRoom()) return
        waiters.delete(message)
        outbox.push(message)
        settle(Exit.void)
      }
    }
    const pump = (): void => {
      admit()
      for (let message = isUp ? outbox.shift() : undefined; message !== undefined; message = outbox.shift()) {
        const isDue = now() < message.expiresAt
        tell(isDue ? "leaves" : "is lost", message)
        if (isDue) send(message)
        admit()
      }
      if (outbox.length === 0) onEmpty()
    }
    const unlink = link(proxy, state, onBroken, (up) => {
      isUp = up
      wasUp ||= up
      pump()
    })
    yield* Effect.addFinalizer(() =>
      Effect.callback<void>((resume) => {
        isOpen = false
        for (const settle of waiters.values()) settle(Exit.fail(closed("publish")))
        waiters.clear()
        onEmpty = () => resume(Effect.void)
        if (outbox.length === 0 || state.isDead) onEmpty()
        else at(now() + lingerMs, onEmpty)
      }).pipe(Effect.ensuring(Effect.sync(() => {
        unlink()
        outbox.forEach(lose)
        outbox.length = 0
      })))
    )
    const wait = (message: Outgoing) =>
      Effect.callback<void, Bus.BusError>((resume) => {
        waiters.set(message, resume)
        at(now() + sendTimeoutMs, () => {
          if (!waiters.delete(message)) return
          const reason = wasUp
            ? new Bus.Backpressure({ timeoutMs: sendTimeoutMs })
            : new Bus.Unreachable({ address: "simulated", cause: new Error("the proxy is away") })
          resume(Effect.fail(busError("publish", reason)))
        })
        return Effect.sync(() => waiters.delete(message))
      })
    const publish: Bus.Publish = (topic, payload, { expiresInMs = Number.POSITIVE_INFINITY } = {}) =>
      Effect.suspend(() => {
        if (state.isDead) return Effect.void
        if (!isOpen) return Effect.fail(closed("publish"))
        const message = { topic, payload, expiresAt: now() + expiresInMs }
        if (waiters.size > 0 || !hasRoom()) return wait(message)
        outbox.push(message)
        pump()
        return Effect.void
      })
    return publish
  })

  const subscribe = Effect.fnUntraced(function*(
    proxy: Proxy,
    state: State,
    onBroken: () => void,
    topics: ReadonlyArray<string>
  ) {
    const queue = yield* Queue.unbounded<Bus.Message, Bus.BusError>()
    const subscription: Subscription = {
      owner: state,
      topics: new Set(topics),
      isKnown: false,
      send: makeWay(proxy, () => Math.max(proxy.thawsAt, state.haltedUntil, state.cutUntil), (message) => {
        const isHeard = proxy.subscriptions.has(subscription) && !state.isDead
        if (!isHeard) return lose(message)
        tell("arrives", message)
        Queue.offerUnsafe(queue, { topic: message.topic, frames: [message.payload] })
      })
    }
    proxy.subscriptions.add(subscription)
    const unlink = link(proxy, state, onBroken, (isUp) => subscription.isKnown = isUp)
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        unlink()
        // Of one that was killed the proxy learns in its own time.
        if (!state.isDead) proxy.subscriptions.delete(subscription)
        return Queue.fail(queue, closed("subscribe"))
      })
    )
    return Stream.fromEffectRepeat(Queue.take(queue))
  })

  const connectTo = Effect.fnUntraced(function*(proxy: Proxy, state: State) {
    const scope = yield* Effect.scope
    const broken = yield* PubSub.sliding<string>(16)
    const onBroken = () => void PubSub.publishUnsafe(broken, "the proxy died")
    const publish = yield* makePublisher(proxy, state, onBroken)
    let isOpen = true
    yield* Effect.addFinalizer(() => Effect.sync(() => isOpen = false))
    return Bus.make({
      publish,
      broken: Stream.fromPubSub(broken),
      subscription: Effect.fnUntraced(function*(topics) {
        if (!isOpen) return yield* closed("subscribe")
        const until = yield* Scope.fork(scope)
        yield* Effect.addFinalizer((exit) => Scope.close(until, exit))
        return yield* Scope.provide(subscribe(proxy, state, onBroken, topics), until)
      })
    })
  })

  const join = Effect.gen(function*() {
    const state: State = { isDead: false, haltedUntil: 0, cutUntil: 0 }
    let timers = 0
    let fibers = 0
    const forget = (): void => {
      for (const { subscriptions } of proxies) {
        for (const subscription of subscriptions) if (subscription.owner === state) subscriptions.delete(subscription)
      }
    }
    const own = Time.clockOf(clock, () => state.haltedUntil, (change) => timers += change)
    const counter: Metric.FiberRuntimeMetricsService = {
      recordFiberStart: () => fibers += 1,
      recordFiberEnd: () => fibers -= 1
    }
    const peer: Peer = {
      connect: (proxy) => connectTo(proxyAt(proxy), state),
      within: (effect) =>
        effect.pipe(
          Effect.provideService(Clock.Clock, own),
          Effect.provideService(Metric.FiberRuntimeMetrics, counter)
        ),
      inHand: () => ({ timers, fibers }),
      kill: (unnoticedMs) => {
        state.isDead = true
        if (unnoticedMs === 0) forget()
        else at(untilAfter("unnoticed death", unnoticedMs), forget)
      },
      halt: (ms) => void (state.haltedUntil = Math.max(state.haltedUntil, untilAfter("halt", ms))),
      cut: (ms) => void (state.cutUntil = Math.max(state.cutUntil, untilAfter("cut", ms)))
    }
    yield* Effect.addFinalizer(() => Effect.sync(() => state.isDead || peer.kill(0)))
    return peer
  })

  const network: Network = {
    weather: { loss: 0, duplication: 0, delay: 1, isOrdered: true },
    join,
    restart: (index, ms) => {
      const proxy = proxyAt(index)
      proxy.generation += 1
      proxy.backAt = Math.max(proxy.backAt, untilAfter(`restart of proxy ${index}`, ms))
      proxy.thawsAt = 0
      for (const onDeath of proxy.connections) onDeath()
    },
    freeze: (index, ms) => {
      const proxy = proxyAt(index)
      if (proxy.backAt <= now()) proxy.thawsAt = Math.max(proxy.thawsAt, untilAfter(`freeze of proxy ${index}`, ms))
    },
    runsSince: (index) => Math.max(proxyAt(index).backAt, proxyAt(index).thawsAt)
  }
  return network
})
