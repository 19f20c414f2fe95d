/** The question whether the servers of a topic acknowledge requests, where it and its answers may be lost. */
import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import * as ClientError from "../src/ClientError.ts"
import type * as Connection from "../src/internal/connection.ts"
import * as Ping from "../src/internal/ping.ts"

const start = Effect.gen(function*() {
  const sent: Array<number> = []
  let listener: Connection.Listener | undefined
  const connection: Connection.Connection = {
    replyTo: "AGENT_REPLY_x",
    pendingCount: () => listener === undefined ? 0 : 1,
    open: (_, opened) => {
      listener = opened
      return Result.succeed({ requestId: "ping", replyTo: "AGENT_REPLY_x" })
    },
    transmit: () => TestClock.testClockWith((clock) => Effect.sync(() => sent.push(clock.currentTimeMillisUnsafe()))),
    command: () => Effect.void,
    close: () => Effect.sync(() => listener = undefined),
    listen: () => Effect.never,
    exchange: () => Effect.never
  }
  const asking = yield* Effect.forkChild(Ping.ask(connection, "TOPIC_X"))
  yield* TestClock.adjust(0)
  const answer = (fields: Partial<Protocol.Response>) =>
    listener?.onAnswer({ requestId: "ping", status: "success", content: "", error: "", ...fields })
  return { sent, asking, answer, listener: () => listener, connection }
})

const found = (asking: Fiber.Fiber<Option.Option<Ping.Found>>) => Effect.map(Fiber.join(asking), Option.getOrUndefined)

describe("the question whether servers acknowledge", () => {
  it.effect("is answered by one that does, and no more is open then", () =>
    Effect.gen(function*() {
      const { answer, asking, connection } = yield* start
      answer({ event: "fanout", content: "1" })
      answer({ server: "a", content: "{}" })
      assert.strictEqual(yield* found(asking), "Acknowledging")
      assert.strictEqual(connection.pendingCount(), 0)
    }))

  it.effect("is answered by the proxy when only others serve the topic, or nobody", () =>
    Effect.gen(function*() {
      for (const [replicas, expected] of [[2, "Others"], [0, "Nobody"], [undefined, "Others"]] as const) {
        const { answer, asking } = yield* start
        answer({ event: "fanout", content: "0", ...(replicas === undefined ? {} : { replicas }) })
        assert.strictEqual(yield* found(asking), expected)
      }
    }))

  it.effect("is not answered by a proxy to which servers may be on their way back", () =>
    Effect.gen(function*() {
      const { answer, asking } = yield* start
      answer({ event: "fanout", content: "0", replicas: 0, settleMs: 700 })
      yield* TestClock.adjust("1 second")
      assert.isUndefined(asking.pollUnsafe())
      answer({ event: "fanout", content: "0", replicas: 0 })
      assert.strictEqual(yield* found(asking), "Nobody")
    }))

  it.effect("is asked again after 250 ms, twice as long each time, up to 2 s, and given up after 5 s", () =>
    Effect.gen(function*() {
      const { asking, sent } = yield* start
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(asking.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(sent, [0, 250, 750, 1750, 3750])
      assert.isUndefined(yield* found(asking))
    }))

  it.effect("is asked again at once when messages may have been lost, and ends with the client", () =>
    Effect.gen(function*() {
      const { asking, listener, sent } = yield* start
      yield* TestClock.adjust(100)
      listener()?.onRestored?.()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(sent, [0, 100])
      listener()?.onFailure(new ClientError.Closed())
      assert.isUndefined(yield* found(asking))
    }))
})
