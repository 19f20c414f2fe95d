/**
 * A simulated world of servers and clients on several proxies, and the storm that goes over it. What fails in it, and how,
 * follows from one seed.
 */
import * as Bus from "@skillscale/core/Bus"
import * as JoinedBus from "@skillscale/core/JoinedBus"
import * as SkillServer from "@skillscale/server/SkillServer"
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { randomFrom } from "../chaos/random.ts"
import * as Calls from "./simulatedCalls.ts"
import * as Skills from "./simulatedSkills.ts"
import * as Simulation from "./simulation.ts"

const replicas = 3
export const clients = 2
export const stormMs = 20_000
export const callTimeoutMs = 90_000
export const callerLeaseMs = 10_000
export const window = 2000

/** What fails with one seed, and how. */
export interface Plan {
  readonly proxies: number
  readonly weather: Simulation.Weather
  readonly hits: { readonly proxies: boolean; readonly replicas: boolean; readonly clients: boolean }
  /** The least that a proxy is away, in milliseconds: longer than a client bears when there is another one. */
  readonly leastAwayMs: number
  readonly highWaterMark: number
  /** Every other storm has answers in parts. */
  readonly partBytes: number
}

const calm: Simulation.Weather = { loss: 0, duplication: 0, delay: 5, isOrdered: true }

const makePlan = (seed: number, random: () => number): Plan => {
  const proxies = 1 + Math.floor(random() * 3)
  const isOrdered = random() < 0.5
  const worst = random() < 0.5 ? 0.04 : 0.2
  return {
    proxies,
    weather: {
      loss: isOrdered ? 0 : random() * worst,
      duplication: isOrdered ? 0 : random() * 0.2,
      delay: 1 + Math.round(random() * 300),
      isOrdered
    },
    hits: { proxies: random() < 0.7, replicas: random() < 0.6, clients: random() < 0.3 },
    leastAwayMs: proxies > 1 && random() < 0.5 ? 2000 : 0,
    highWaterMark: random() < 0.5 ? 1000 : 30,
    partBytes: seed % 2 === 0 ? 32 : 64 * 1024
  }
}

export const isUndisturbed = ({ hits }: Plan): boolean => !(hits.proxies || hits.replicas || hits.clients)

/** Lets time pass until a fiber is done. */
export const settled = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>) {
  while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("1 second")
  return yield* Fiber.join(fiber)
})

interface Replica {
  readonly peer: Simulation.Peer
  readonly scope: Scope.Closeable
  readonly load: SkillServer.SkillServer["Service"]["load"]
}

export interface World {
  readonly plan: Plan
  readonly random: () => number
  readonly between: (least: number, most: number) => number
  readonly network: Simulation.Network
  readonly wire: Calls.Wire
  readonly runs: Skills.Runs
  readonly startReplica: Effect.Effect<Replica, never, Scope.Scope>
  readonly serving: Array<Replica>
  readonly agents: ReadonlyArray<Calls.Agent>
}

export const makeWorld = Effect.fnUntraced(function*(seed: number) {
  const random = randomFrom(seed)
  const plan = makePlan(seed, random)
  const wire = Calls.makeWire(yield* Clock.Clock, process.env["TRACE"])
  const runs: Skills.Runs = new Map()
  const { highWaterMark, proxies } = plan
  if (process.env["TRACE"] !== undefined) console.log(plan)
  const { onMessage, onMishap } = wire
  const network = yield* Simulation.make({ random, proxies, highWaterMark, onMessage, onMishap })

  const startReplica = Effect.orDie(Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const peer = yield* Scope.provide(network.join, scope)
    const starting = Effect.gen(function*() {
      const [first, ...others] = yield* Effect.forEach(
        Array.from({ length: proxies }, (_, index) => index),
        peer.connect
      )
      const bus = yield* JoinedBus.make(first ?? assert.fail(), ...others)
      const options = { topic: Skills.topic, workers: 2, queue: 4, drain: 0, partBytes: plan.partBytes }
      return yield* SkillServer.make(options).pipe(
        Effect.provide([Layer.succeed(Bus.Bus, bus), Skills.layer(runs, random, wire.readOf)])
      )
    })
    const { load } = yield* Scope.provide(peer.within(starting), scope)
    return { peer, scope, load } satisfies Replica
  }))
  const serving = yield* Effect.forEach(Array.from({ length: replicas }), () => startReplica)
  yield* TestClock.adjust("1 second")

  const connecting = Effect.flatMap(
    network.join,
    (peer) =>
      Calls.connect(peer, proxies, wire, {
        connectTimeout: "30 seconds",
        timeout: callTimeoutMs,
        lease: callerLeaseMs,
        window
      })
  )
  const agents: Array<Calls.Agent> = []
  for (let index = 0; index < clients; index++) agents.push(yield* settled(yield* Effect.forkScoped(connecting)))
  const between = (least: number, most: number) => Math.round(least + random() * (most - least))
  return { plan, random, between, network, wire, runs, startReplica, serving, agents } satisfies World
})

/** One proxy always runs, or is back soon. */
const disturbProxy = ({ between, network, plan, random }: World) =>
  Effect.map(Clock.currentTimeMillis, (now) => {
    const index = Math.floor(random() * plan.proxies)
    const isSteady = (proxy: number) => now - network.runsSince(proxy) >= 2500
    const others = Array.from({ length: plan.proxies }, (_, other) => other).filter((other) => other !== index)
    const mayStayAway = others.some(isSteady)
    if (!mayStayAway && (plan.leastAwayMs > 0 || !isSteady(index))) return
    const ms = between(plan.leastAwayMs, mayStayAway ? 7000 : 1000)
    if (random() < 0.5) network.restart(index, ms)
    else network.freeze(index, ms)
  })

/** At once, or as one that is told to end. */
const endReplica = ({ between, random, serving, startReplica }: World) =>
  Effect.gen(function*() {
    // One stays, so that somebody could answer.
    const index = 1 + Math.floor(random() * (replicas - 1))
    const replica = serving[index]
    if (replica === undefined) return
    const isKilled = random() < 0.5
    if (isKilled) replica.peer.kill(random() < 0.5 ? 0 : between(1, 5000))
    yield* Effect.forkScoped(Scope.close(replica.scope, Exit.void))
    yield* Effect.sleep(between(0, 3000))
    serving[index] = yield* startReplica
  })

const disturbPeer = (world: World, peer: Simulation.Peer | undefined) =>
  Effect.sync(() => {
    const ms = world.between(100, 5000)
    if (world.random() < 0.5) peer?.halt(ms)
    else peer?.cut(ms)
  })

export const storm = Effect.fnUntraced(function*(world: World) {
  const { agents, between, network, plan: { hits, weather }, random, serving } = world
  const pick = <A>(values: ReadonlyArray<A>): A | undefined => values[Math.floor(random() * values.length)]
  const mishaps = [
    ...(hits.proxies ? [disturbProxy(world), disturbProxy(world)] : []),
    ...(hits.replicas ? [endReplica(world), Effect.suspend(() => disturbPeer(world, pick(serving)?.peer))] : []),
    ...(hits.clients ? [Effect.suspend(() => disturbPeer(world, pick(agents)?.peer))] : [])
  ]
  network.weather = weather
  const until = (yield* Clock.currentTimeMillis) + stormMs
  while ((yield* Clock.currentTimeMillis) < until) {
    yield* Effect.sleep(between(200, 3000))
    yield* pick(mishaps) ?? Effect.void
  }
  network.weather = calm
})
