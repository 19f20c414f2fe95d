import { assert, describe, it } from "@effect/vitest"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as Load from "@skillscale/core/Load"
import * as Topic from "@skillscale/core/Topic"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Stack from "./support/stack.ts"

const topic = "TOPIC_TESTING"
const hold: Stack.Fixture = { category: "testing", name: "hold", files: { "scripts/run.sh": "sleep 60\n" } }
const ids = ["a", "b"]

const until = (what: string, condition: Effect.Effect<boolean>) =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("2 millis") }),
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`never: ${what}`)) })
  )

/** With one worker. */
const server = (id: string) => Layer.fresh(Stack.server([Stack.echo, hold], { topic, id, workers: 1, drain: 0 }))

describe("routing", () => {
  it.live("gives requests to the server that has a free worker", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.Proxy
      const bus = yield* Bus.Bus
      const client = yield* SkillClient.SkillClient
      const loads = new Map<string, Load.Load>()
      yield* Stream.runForEach(bus.subscribe(...ids.map((id) => Topic.load(topic, id))), ({ frames, topic: told }) =>
        Effect.sync(() => loads.set(told.slice(-1), Result.getOrThrow(Load.decode(frames))))).pipe(Effect.forkScoped)
      const replicas = Effect.map(proxy.topology, ({ topics }) =>
        topics.find((info) => info.topic === topic)?.replicas)
      yield* until("both servers", Effect.map(replicas, (count) => count === ids.length))
      const call = Effect.map(client.invoke({ skill: "echo", topic, data: "" }), ({ server }) => server)
      /** Until so many requests have reached the servers, and all but those are done. What is heard here the proxy has read. */
      const settled = (received: number, running: number) =>
        until(
          `${received} received, ${running} running`,
          Effect.sync(() => {
            const all = [...loads.values()]
            return all.reduce((sum, load) => sum + (load.received ?? 0), 0) === received &&
              all.reduce((sum, load) => sum + load.running, 0) === running
          })
        )
      assert.deepStrictEqual((yield* Effect.all([call, call])).toSorted(), ids)
      yield* settled(2, 0)

      const held = yield* Effect.forkScoped(client.invoke({ skill: "hold", topic, data: "", timeout: "60 seconds" }))
      yield* settled(3, 1)
      const busy = ids.find((id) => loads.get(id)?.running === 1)
      for (let index = 0; index < 10; index += 1) {
        assert.notStrictEqual(yield* call, busy)
        yield* settled(4 + index, 1)
      }
      yield* Fiber.interrupt(held)
      yield* settled(13, 0)
      assert.deepStrictEqual((yield* Effect.all([call, call])).toSorted(), ids)
    }).pipe(
      Effect.provide(
        Layer.mergeAll(server("a"), server("b"), Layer.provide(SkillClient.layer(), Layer.fresh(Stack.bus)), Stack.bus)
          .pipe(
            Layer.provideMerge(Stack.proxy)
          )
      )
    ), 60_000)
})
