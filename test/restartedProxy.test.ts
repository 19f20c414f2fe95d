/** Clients that find a proxy before the servers do, which are on their way back to it. */
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stack from "./support/stack.ts"

const topic = "TOPIC_TESTING"
/** After so much of the 1.5 s for which a proxy waits for its servers. */
const lateMs = 700

const quiet = Effect.provideService(References.MinimumLogLevel, "None")
// Of an address of its own, so that nobody takes its ports while it is away.
const startProxy = ({ xpubPort, xsubPort } = { xsubPort: 0, xpubPort: 0 }) =>
  Proxy.make({ host: "127.0.0.3", metricsPort: false, xpubPort, xsubPort })

/** Ends a proxy and starts another in its place. */
const restart = Effect.fnUntraced(function*<A, E>(
  before: (proxy: Proxy.Proxy["Service"]) => Effect.Effect<A, E, Scope.Scope>
) {
  const ending = yield* Scope.make()
  const first = yield* Scope.provide(startProxy(), ending)
  const made = yield* before(first)
  yield* Scope.close(ending, Exit.void)
  // A process that is being started has the listener of the first one until it runs.
  const again = Effect.retry(startProxy(first), Schedule.spaced("10 millis"))
  const proxy = yield* Effect.timeout(again, "10 seconds")
  return { made, proxy, begunAt: performance.now() }
})

/** A server that is ready but for its subscription, which waits for the latch. */
const startServer = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"]) {
  const subscribes = yield* Latch.make(false)
  const isReady = yield* Latch.make(false)
  const bus = yield* ZmqBus.make(proxy)
  const late = Bus.make({
    publish: bus.publish,
    subscription: (topics) =>
      isReady.open.pipe(Effect.andThen(subscribes.await), Effect.andThen(bus.subscription(topics)))
  })
  yield* Effect.forkScoped(Layer.build(Stack.serverOn(Layer.succeed(Bus.Bus, late), [Stack.echo], { topic })))
  yield* isReady.await
  return subscribes
})

/** A client that knows nothing yet. */
const freshClient = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"]) {
  return yield* SkillClient.make().pipe(Effect.provideService(Bus.Bus, yield* ZmqBus.make(proxy)))
})

type Client = SkillClient.SkillClient["Service"]

const asks: Readonly<Record<string, (client: Client) => Effect.Effect<unknown, unknown>>> = {
  "calls by their topic": ({ invoke }) =>
    Effect.map(invoke({ skill: "echo", topic, data: "x" }), ({ content }) => content),
  "calls by their skill": ({ invoke }) => Effect.map(invoke({ skill: "echo", data: "x" }), ({ content }) => content),
  "questions to a topic": ({ describe }) => Effect.map(describe("echo", { topic }), () => "echo: x"),
  "the catalog": ({ survey }) => Effect.map(survey, ({ skills }) => `${skills.map(({ name }) => name)}: x`)
}

describe("a proxy that has just restarted", () => {
  for (const [what, ask] of Object.entries(asks)) {
    it.live(`has ${what} wait for a server that is on its way back`, () =>
      Effect.gen(function*() {
        const { begunAt, made: subscribes, proxy } = yield* restart(startServer)
        const asking = yield* Effect.forkScoped(ask(yield* freshClient(proxy)))
        yield* Effect.sleep(begunAt + lateMs - performance.now())
        assert.isUndefined(asking.pollUnsafe())
        yield* subscribes.open
        assert.strictEqual(yield* Fiber.join(asking), "echo: x")
      }).pipe(quiet), 30_000)
  }

  it.live(
    "tells of a topic that nobody serves when that is sure, and at once from then on",
    () =>
      Effect.gen(function*() {
        const { begunAt, proxy } = yield* restart(() => Effect.void)
        const asked = (proxy: Proxy.Proxy["Service"]) =>
          Effect.gen(function*() {
            const client = yield* freshClient(proxy)
            const from = performance.now()
            const error = yield* Effect.flip(client.invoke({ skill: "echo", topic, data: "x" }))
            assert.strictEqual(error.reason._tag, "NoServer")
            const { answered, servers } = yield* client.survey
            assert.deepStrictEqual([answered, servers], [0, 0])
            return performance.now() - from
          })
        yield* asked(proxy)
        assert.isAtLeast(performance.now() - begunAt, 1400)
        assert.isBelow(yield* asked(proxy), 1000)
        // As from one to which no server can come back.
        assert.isBelow(yield* asked(yield* startProxy()), 1000)
      }).pipe(quiet),
    30_000
  )
})
