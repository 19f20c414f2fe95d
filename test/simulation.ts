/**
 * A network that loses, repeats, delays and reorders messages, with one proxy that can be away and peers that can die and be
 * stopped. All of it follows from one seed and the clock of the test.
 */
import * as Bus from "@skillscale/core/Bus"
import * as Topic from "@skillscale/core/Topic"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { controlAnswer } from "../packages/proxy/src/internal/control.ts"
import { noServerReply } from "../packages/proxy/src/internal/noServer.ts"

/** What goes wrong with each message on each of its two ways, to the proxy and from it. */
export interface Faults {
  /** Shares from 0 to 1. */
  readonly loss: number
  readonly duplication: number
  /** In milliseconds. */
  readonly delay: number
}

interface Subscription {
  readonly topics: ReadonlySet<string>
  readonly queue: Queue.Queue<Bus.Message, Bus.BusError>
  readonly peer: Peer
  /** When the proxy knows of it. */
  from: number
}

/** One process on the network. */
export interface Peer {
  readonly bus: Bus.Bus["Service"]
  /** From now on nothing comes from it or reaches it. */
  readonly kill: Effect.Effect<void>
  /** For so long nothing comes from it or reaches it; then it does, all at once. In milliseconds. */
  readonly stop: (ms: number) => Effect.Effect<void>
}

interface State extends Peer {
  isDead: boolean
  stoppedUntil: number
}

export interface Network {
  faults: Faults
  readonly join: Effect.Effect<Peer, never, Scope.Scope>
  /** The proxy is gone for so long, with all that it had, and knows its peers again within a second after that. */
  readonly restartProxy: (ms: number) => Effect.Effect<void>
}

const reconnectMs = 1000

export const make = (random: () => number): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const subscriptions = new Set<Subscription>()
    let awayUntil = 0
    let generation = 0

    const later = (effect: Effect.Effect<void>) => Effect.asVoid(Effect.forkIn(effect, scope))
    const until = (time: () => number): Effect.Effect<void> =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        now >= time() ? Effect.void : Effect.andThen(
          Effect.sleep(Math.ceil(time() - now)),
          Effect.suspend(() => until(time))
        ))
    /** One way of a message: not at all, once or twice, each time after a while. */
    const way = (arrive: Effect.Effect<void>) =>
      Effect.suspend(() => {
        const { delay, duplication, loss } = network.faults
        const copies = random() < loss ? 0 : random() < duplication ? 2 : 1
        const copy = Effect.suspend(() => later(Effect.andThen(Effect.sleep(Math.ceil(random() * delay)), arrive)))
        return Effect.forEach(Array.from({ length: copies }), () => copy, { discard: true })
      })

    const reach = (subscription: Subscription, message: Bus.Message) =>
      way(Effect.gen(function*() {
        const peer = states.get(subscription.peer)
        if (peer === undefined) return
        yield* until(() => peer.stoppedUntil)
        if (!peer.isDead && subscriptions.has(subscription)) Queue.offerUnsafe(subscription.queue, message)
      }))

    const route = (topic: string, payload: Uint8Array): Effect.Effect<void> =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        if (now < awayUntil) return
        const message = { topic, frames: [payload] }
        const receivers = [...subscriptions].filter(({ from, topics }) => from <= now && topics.has(topic))
        if (Topic.isSkills(topic)) {
          const replica = receivers[Math.floor(random() * receivers.length)]
          if (replica !== undefined) return yield* reach(replica, message)
          const answer = noServerReply(topic, [payload])
          if (answer._tag === "Reply") yield* route(answer.replyTo, answer.payload)
          return
        }
        yield* Effect.forEach(receivers, (receiver) => reach(receiver, message), { discard: true })
        if (!Topic.isControl(topic)) return
        const answer = controlAnswer(topic, [payload], {
          fanout: receivers.length,
          isSettled: true,
          topology: () => ({ topics: [] })
        })
        if (answer !== undefined) yield* route(answer.replyTo, answer.payload)
      })

    const states = new Map<Peer, State>()
    const join = Effect.gen(function*() {
      const state: State = {
        isDead: false,
        stoppedUntil: 0,
        kill: Effect.sync(() => {
          state.isDead = true
          for (const subscription of subscriptions) {
            if (subscription.peer === state) subscriptions.delete(subscription)
          }
        }),
        stop: (ms) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            state.stoppedUntil = Math.max(state.stoppedUntil, now + ms)
          }),
        bus: Bus.make({
          publish: (topic, payload) =>
            Effect.gen(function*() {
              const sent = generation
              yield* later(Effect.gen(function*() {
                yield* until(() => state.stoppedUntil)
                // What was on its way when the proxy went is gone with it.
                yield* way(Effect.suspend(() => sent === generation ? route(topic, payload) : Effect.void))
              }))
            }).pipe(Effect.when(Effect.sync(() => !state.isDead)), Effect.asVoid),
          subscription: Effect.fnUntraced(function*(topics) {
            const queue = yield* Queue.unbounded<Bus.Message, Bus.BusError>()
            const from = yield* Clock.currentTimeMillis
            const subscription: Subscription = { topics: new Set(topics), queue, peer: state, from }
            subscriptions.add(subscription)
            yield* Effect.addFinalizer(() => Effect.sync(() => subscriptions.delete(subscription)))
            return Stream.fromEffectRepeat(Queue.take(queue))
          })
        })
      }
      states.set(state, state)
      yield* Effect.addFinalizer(() => state.kill)
      return state
    })

    const network: Network = {
      faults: { loss: 0, duplication: 0, delay: 1 },
      join,
      restartProxy: (ms) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          generation += 1
          awayUntil = now + ms
          for (const subscription of subscriptions) subscription.from = awayUntil + random() * reconnectMs
        })
    }
    return network
  })
