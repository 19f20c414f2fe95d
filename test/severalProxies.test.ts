/** A client and a server with two proxies, of which the client uses one; `npm run chaos` has more of it. */
import * as SkillClient from "@skillscale/client/SkillClient"
import type * as FailoverBus from "@skillscale/core/FailoverBus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stack from "./support/stack.ts"

const topic = "TOPIC_TESTING"
const slow: Stack.Fixture = {
  category: "testing",
  name: "slow",
  files: { "scripts/run.sh": "echo began; sleep 2; echo done" }
}

const startProxy = Effect.gen(function*() {
  const scope = yield* Scope.make()
  const proxy = yield* Scope.provide(
    Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false }),
    scope
  )
  const close = Scope.close(scope, Exit.void)
  yield* Effect.addFinalizer(() => close)
  return { ...proxy, close }
})

const two = Effect.fnUntraced(function*(options: FailoverBus.Options = {}) {
  const [first, second] = [yield* startProxy, yield* startProxy]
  const at = { xsub: `${first.xsub},${second.xsub}`, xpub: `${first.xpub},${second.xpub}` }
  yield* Layer.build(Stack.serverOn(ZmqBus.layerJoined(at), [slow, Stack.echo], { topic }))
  const random = yield* Random.Random
  const built = yield* Layer.build(SkillClient.layer().pipe(Layer.provide(ZmqBus.layerFailover({ ...at, ...options }))))
    .pipe(
      Effect.provideService(Random.Random, { ...random, nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0 })
    )
  return { client: Context.get(built, SkillClient.SkillClient), first, second, at }
})

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

describe("with two proxies", () => {
  it.live("a call goes on when its proxy ends, and so do the next ones", () =>
    Effect.gen(function*() {
      // The end of the connection tells, not the silence.
      const { client, first } = yield* two({ silence: "1 minute" })
      const calling = yield* Effect.forkChild(client.invoke({ skill: "slow", topic }))
      // Whether it is at work by then makes no difference.
      yield* Effect.sleep(500)
      yield* first.close
      assert.strictEqual((yield* Fiber.join(calling)).content, "began\ndone\n")
      assert.strictEqual((yield* client.invoke({ skill: "echo", topic, data: "again" })).content, "echo: again")
    }).pipe(quiet), 30_000)

  it.live("a server is reached through either, and one that is away holds it up nowhere", () =>
    Effect.gen(function*() {
      const { at, first, second } = yield* two()
      for (const { xpub, xsub } of [first, second]) {
        const client = yield* Layer.build(SkillClient.layer().pipe(Layer.provide(ZmqBus.layer({ xsub, xpub }))))
        const { content } = yield* Context.get(client, SkillClient.SkillClient).invoke({
          skill: "echo",
          topic,
          data: "x"
        })
        assert.strictEqual(content, "echo: x")
      }
      yield* first.close
      const client = yield* Layer.build(SkillClient.layer().pipe(Layer.provide(ZmqBus.layerFailover(at))))
      for (let count = 0; count < 20; count++) {
        const { content } = yield* Context.get(client, SkillClient.SkillClient).invoke({
          skill: "echo",
          topic,
          data: "x"
        })
        assert.strictEqual(content, "echo: x")
      }
    }).pipe(quiet), 30_000)
})
