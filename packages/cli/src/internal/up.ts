import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as SkillServer from "@skillscale/server/SkillServer"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Exit from "./exit.ts"
import { hold } from "./hold.ts"
import * as ProxyCommand from "./proxy.ts"
import * as Runner from "./runner.ts"

export interface Input extends ProxyCommand.Input, Runner.Options {}

type Servers = FiberMap.FiberMap<string, never, Exit.Failed>

/** Starts the servers that are missing, and ends those whose last skill went. */
const adjust = Effect.fnUntraced(function*(servers: Servers, topics: ReadonlySet<string>, options: Runner.Options) {
  for (const [topic] of servers) {
    // Not awaited: the server drains while others start.
    if (!topics.has(topic)) {
      yield* FiberMap.remove(servers, topic).pipe(Effect.forkScoped({ startImmediately: true, uninterruptible: true }))
    }
  }
  for (const topic of topics) {
    const server = Layer.launch(Exit.layerOrUnavailable(SkillServer.layer({ ...options, topic })))
    yield* FiberMap.run(servers, topic, server, { onlyIfMissing: true })
  }
})

/** Says that calls are answered from now on: the proxy knows a server of every topic. */
const announce = Effect.fnUntraced(function*(servers: Servers, skills: number) {
  const { metricsUrl, topology, xpub, xsub } = yield* Proxy.Proxy
  const isServed = Effect.map(topology, (known) => {
    const live = new Set(known.topics.filter(({ replicas }) => replicas > 0).map(({ topic }) => topic))
    return Array.from(servers, ([topic]) => topic).every((topic) => live.has(topic))
  })
  yield* isServed.pipe(Effect.repeat({ schedule: Schedule.spaced("10 millis"), until: (served) => served }))
  yield* Effect.logInfo("skillscale is ready").pipe(
    Effect.annotateLogs({ xsub, xpub, http: metricsUrl ?? "none", topics: Array.from(servers).length, skills })
  )
})

/** Keeps one server for every topic of the catalog, as skills come and go. A server that fails fails the effect. */
const everyTopic = Effect.fnUntraced(function*(options: Runner.Options) {
  const discovery = yield* SkillDiscovery.SkillDiscovery
  const servers: Servers = yield* FiberMap.make<string, never, Exit.Failed>()
  let announced = false
  const follow = Stream.runForEach(discovery.changes, ({ skills }) =>
    Effect.gen(function*() {
      const topics = new Set(skills.map((skill) => skill.topic))
      if (topics.size === 0) {
        yield* Effect.logWarning("there are no skills; make one with: skillscale skills new NAME").pipe(
          Effect.annotateLogs({ directory: options.skills })
        )
      }
      yield* adjust(servers, topics, options)
      if (announced) return
      announced = true
      yield* Effect.forkScoped(announce(servers, skills.length))
    }))
  return yield* Effect.raceFirst(Effect.andThen(follow, Effect.never), FiberMap.join(servers))
})

export const up = (input: Input) => {
  const bus = Layer.unwrap(
    Effect.map(Proxy.Proxy, ({ xpub, xsub }) => Exit.layerOrUnavailable(ZmqBus.layer({ xsub, xpub })))
  )
  const parts = bus.pipe(
    Layer.provideMerge(ProxyCommand.layer(input)),
    // Outermost, so that a wrong folder is told before a port is opened.
    Layer.provideMerge(Runner.layer(input)),
    Layer.provide(Telemetry.layer({ serviceName: "skillscale" }))
  )
  return hold(parts, Effect.scoped(everyTopic(input)))
}
