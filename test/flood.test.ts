/** More calls than two replicas can take, from several clients at once, over TCP. */
import * as SkillClient from "@skillscale/client/SkillClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Result from "effect/Result"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Stack from "./support/stack.ts"

const topic = "TOPIC_TESTING"
const clients = 4
const callsOfEach = 2500
const mebibyte = 1024 * 1024

/** What is in use when nothing is left to collect, in MiB. */
const heap = (): number => {
  setFlagsFromString("--expose-gc")
  const collect: unknown = runInNewContext("gc")
  if (typeof collect === "function") collect()
  return process.memoryUsage().heapUsed / mebibyte
}

describe("10,000 calls at once into two replicas", () => {
  it.live("are all answered, by both, within bounded memory", () =>
    Effect.gen(function*() {
      const fixtures: ReadonlyArray<Stack.Fixture> = [{ category: "testing", name: "advice", files: {} }]
      const proxy = yield* Layer.build(Stack.proxy)
      for (const id of ["one", "two"]) {
        yield* Layer.build(Stack.server(fixtures, { topic, id, workers: 4, queue: 64 })).pipe(Effect.provide(proxy))
      }
      const made = yield* Effect.forEach(Array.from({ length: clients }), () =>
        Effect.map(
          Layer.build(Layer.provide(SkillClient.layer(), Stack.bus)).pipe(Effect.provide(proxy)),
          (context) => Context.get(context, SkillClient.SkillClient)
        ))
      const requests = Array.from({ length: callsOfEach }, () => ({ skill: "advice", topic, timeout: 100_000 }))
      const callAll = (count: number) =>
        Effect.forEach(made, (client) => client.invokeAll(requests.slice(0, count), { concurrency: "unbounded" }), {
          concurrency: "unbounded"
        })
      yield* callAll(100)
      const before = heap()
      let most = 0
      const watching = setInterval(() => most = Math.max(most, process.memoryUsage().heapUsed / mebibyte), 20)
      const results = (yield* Effect.ensuring(callAll(callsOfEach), Effect.sync(() => clearInterval(watching)))).flat()
      const outcomes: Record<string, number> = {}
      for (const result of results) {
        const outcome = Result.isSuccess(result) ? String(result.success.server) : result.failure.reason._tag
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      }
      assert.sameMembers(Object.keys(outcomes), ["one", "two"], JSON.stringify(outcomes))
      assert.lengthOf(results, clients * callsOfEach)
      for (const client of made) assert.strictEqual(yield* client.pending, 0)
      assert.isBelow(most - before, 400)
      // The servers keep their replies for a minute.
      assert.isBelow(heap() - before, 64)
    }).pipe(Effect.provideService(References.MinimumLogLevel, "Error")), 150_000)
})
