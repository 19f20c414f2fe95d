/**
 * Calls on a network that fails in every way it can: the client and the servers are real, the network and the clock are not.
 * `SIMULATIONS=1000` tries more seeds, `SEED=7` one.
 */
import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Executor from "@skillscale/server/Executor"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as SkillServer from "@skillscale/server/SkillServer"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { randomFrom } from "../chaos/random.ts"
import * as Simulation from "./simulation.ts"

const topic = "TOPIC_SIMULATED"
const replicas = 3
const clients = 2
const callsPerClient = 25
const faultyMs = 20_000
const callTimeoutMs = 90_000

/** `pure` may run twice for one call, `once` must not. */
const skillNames = ["pure", "once"] as const

const catalog: SkillDiscovery.Catalog = {
  skills: skillNames.map((name) => ({
    name,
    description: `Runs ${name}.`,
    category: "simulated",
    topic,
    root: `/skills/${name}`,
    file: `/skills/${name}/SKILL.md`,
    manifest: { name, description: `Runs ${name}.`, metadata: {}, extra: {} } as never,
    digest: `sha256:${"0".repeat(64)}`,
    files: [],
    entry: Option.some("scripts/run.sh"),
    scripts: ["scripts/run.sh"],
    diagnostics: []
  })),
  diagnostics: []
}

const discovery = Layer.succeed(SkillDiscovery.SkillDiscovery, {
  catalog: Effect.succeed(catalog),
  find: () => Effect.succeed(Option.none()),
  changes: Stream.never,
  refresh: Effect.succeed(catalog),
  instructions: () => Effect.succeed(""),
  resources: () => [],
  resource: () => Effect.succeed(new Uint8Array())
})

const executor = Layer.succeed(Executor.Executor, {
  capabilities: {
    name: "none",
    limits: false,
    wholeTree: false,
    outlivesNothing: false,
    usage: false,
    confines: false
  },
  run: () => Effect.never,
  stream: () => Stream.never,
  canOverlay: () => false
} as never)

const usage = { wallMs: 1, userMs: 1, systemMs: 0, maxRssBytes: 1 }

/** Its data is the name of the call and how long it runs, in milliseconds. */
const runner = (starts: Map<string, Array<number>>, random: () => number) =>
  Layer.succeed(SkillRunner.SkillRunner, {
    isIdempotent: (skill) => skill.name === "pure",
    run: (_, call, hooks) =>
      Effect.gen(function*() {
        const [name = "", ms = "0"] = Buffer.from(call.stdin ?? []).toString().split(" ")
        yield* Effect.sleep(Math.ceil(random() * 20))
        yield* hooks?.beforeStart ?? Effect.void
        starts.set(name, [...starts.get(name) ?? [], yield* Clock.currentTimeMillis])
        yield* Effect.sleep(Number(ms))
        return {
          exitCode: 0,
          signal: "",
          stdout: Buffer.from(`done ${name}`),
          stderr: new Uint8Array(),
          stdoutTruncated: false,
          stderrTruncated: false,
          artifacts: [],
          artifactsTruncated: false,
          warm: false,
          usage
        } as never
      })
  })

interface Replica {
  readonly peer: Simulation.Peer
  readonly scope: Scope.Closeable
  readonly load: SkillServer.SkillServer["Service"]["load"]
}

/** Counts the timers that a program waits for. */
const counting = (clock: Clock.Clock) => {
  let sleeping = 0
  return {
    clock: {
      ...clock,
      sleep: (duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => sleeping += 1),
          () => clock.sleep(duration),
          () => Effect.sync(() => sleeping -= 1)
        )
    } satisfies Clock.Clock,
    sleeping: () => sleeping
  }
}

/** Lets time pass until a fiber is done. */
const settled = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>) {
  while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("1 second")
  return yield* Fiber.join(fiber)
})

interface Outcome {
  readonly at: number
  /** None when it was interrupted. */
  readonly result: Option.Option<Result.Result<string, ClientError.Reason>>
}

const simulate = Effect.fnUntraced(function*(seed: number) {
  const random = randomFrom(seed)
  const between = (least: number, most: number) => Math.round(least + random() * (most - least))
  const network = yield* Simulation.make(random)
  /** When each call was started. */
  const starts = new Map<string, Array<number>>()

  const startReplica = Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const peer = yield* Scope.provide(network.join, scope)
    const server = yield* SkillServer.make({ topic, workers: 2, queue: 4, drain: 0 }).pipe(
      Effect.provide([
        Layer.succeed(Bus.Bus, peer.bus),
        discovery,
        executor,
        runner(starts, random)
      ]),
      Scope.provide(scope)
    )
    return { peer, scope, load: server.load } satisfies Replica
  })
  const serving: Array<Replica> = yield* Effect.forEach(Array.from({ length: replicas }), () => startReplica)

  const start = Effect.gen(function*() {
    const peer = yield* network.join
    const counted = counting(yield* Clock.Clock)
    const connecting = yield* SkillClient.make({ connectTimeout: "30 seconds", timeout: callTimeoutMs }).pipe(
      Effect.provide(Layer.succeed(Bus.Bus, peer.bus)),
      Effect.provideService(Clock.Clock, counted.clock),
      Effect.forkScoped
    )
    yield* TestClock.adjust("2 seconds")
    return { client: yield* Fiber.join(connecting), counted, peer }
  })
  const agents = yield* Effect.forEach(Array.from({ length: clients }), () => start)
  // So that the clients know what the servers of the topic do.
  for (const { client } of agents) {
    yield* settled(yield* Effect.forkScoped(client.invoke({ skill: "pure", topic, data: "first 0" })))
  }

  const outcomes = new Map<string, Outcome>()
  const call = (agent: number, index: number) =>
    Effect.gen(function*() {
      const { client, counted } = agents[agent] ?? assert.fail()
      const skill = skillNames[Math.floor(random() * skillNames.length)] ?? "pure"
      const name = `${skill}-${agent}-${index}`
      const isImpatient = random() < 0.1
      yield* Effect.sleep(between(0, faultyMs))
      const invoked = client.invoke({ skill, topic, data: `${name} ${between(0, 3000)}` }).pipe(
        Effect.provideService(Clock.Clock, counted.clock),
        Effect.map(({ content }) => content),
        Effect.mapError(({ reason }) => reason),
        Effect.result
      )
      const result = yield* isImpatient ? Effect.timeoutOption(invoked, between(0, 2000)) : Effect.asSome(invoked)
      assert.isFalse(outcomes.has(name), `a second outcome of ${name}`)
      outcomes.set(name, { at: yield* Clock.currentTimeMillis, result })
    })
  const calls = yield* Effect.forEach(
    Array.from({ length: clients * callsPerClient }, (_, index) => index),
    (index) => call(index % clients, index),
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.forkScoped)

  /** At once, or as one that is told to end. */
  const endOne = (isKilled: boolean) =>
    Effect.gen(function*() {
      // One stays, so that somebody could answer.
      const index = 1 + Math.floor(random() * (replicas - 1))
      const replica = serving[index]
      if (replica === undefined) return
      if (isKilled) yield* replica.peer.kill
      yield* Effect.forkScoped(Scope.close(replica.scope, Exit.void))
      yield* Effect.sleep(between(0, 3000))
      serving[index] = yield* startReplica
    })
  const stopOne = Effect.suspend(() =>
    serving[Math.floor(random() * replicas)]?.peer.stop(between(100, 5000)) ?? Effect.void
  )
  const mishaps = [
    endOne(true),
    endOne(false),
    stopOne,
    stopOne,
    Effect.suspend(() => network.restartProxy(between(0, 1000)))
  ]
  const faults = Effect.gen(function*() {
    network.faults = { loss: random() * 0.2, duplication: random() * 0.2, delay: between(1, 300) }
    const until = (yield* Clock.currentTimeMillis) + faultyMs
    while ((yield* Clock.currentTimeMillis) < until) {
      yield* Effect.sleep(between(200, 3000))
      yield* mishaps[Math.floor(random() * mishaps.length)] ?? Effect.void
    }
    network.faults = { loss: 0, duplication: 0, delay: 5 }
  })
  const failing = yield* Effect.forkScoped(faults)
  yield* settled(calls)
  yield* settled(failing)

  assert.strictEqual(outcomes.size, clients * callsPerClient)
  for (const [name, { result }] of outcomes) {
    if (Option.isNone(result)) continue
    if (Result.isSuccess(result.value)) {
      assert.strictEqual(result.value.success, `done ${name}`)
      assert.isTrue(starts.has(name), name)
    } else {
      const reason = result.value.failure
      const isLost = reason._tag === "ReplicaLost" || reason._tag === "ServerError" && reason.code === "ShuttingDown"
      assert.isTrue(name.startsWith("once") && isLost, `${name}: ${reason.message}`)
    }
  }
  // What was cancelled or is of no use any more ends as well, and then nothing is left.
  yield* TestClock.adjust("20 seconds")
  for (const { client, counted } of agents) {
    assert.strictEqual(yield* client.pending, 0)
    assert.strictEqual(counted.sleeping(), 0, "timers of a client that waits for nothing")
  }
  for (const { load } of serving) assert.deepStrictEqual(yield* load, { running: 0, queued: 0 })
  for (const [name, times] of starts) {
    if (!name.startsWith("once")) continue
    assert.lengthOf(times, 1, `${name} ran ${times.length} times`)
    // Whoever was told that it is lost may call again.
    const outcome = outcomes.get(name)
    const wasTold = outcome !== undefined && Option.isSome(outcome.result)
    assert.isTrue(!wasTold || times.every((time) => time <= outcome.at), `${name} started after its caller was told`)
  }
})

const seeds = process.env["SEED"] !== undefined
  ? [Number(process.env["SEED"])]
  : Array.from({ length: Number(process.env["SIMULATIONS"] ?? 20) }, (_, index) => index + 1)

describe("calls on a network that fails end in exactly one outcome, and none runs twice that must not,", () => {
  for (const seed of seeds) {
    it.effect(`with seed ${seed}`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const exit = yield* Effect.exit(Scope.provide(simulate(seed), scope))
        yield* settled(yield* Effect.forkChild(Scope.close(scope, exit)))
        return yield* exit
      }).pipe(Random.withSeed(seed)), 60_000)
  }
})
