import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as Leases from "../../src/internal/leases.ts"
import type { Replies } from "../../src/internal/replies.ts"

const start = Effect.gen(function*() {
  const sent: Array<Protocol.Response> = []
  const replies: Replies = {
    publish: () => Effect.void,
    send: (_, response) =>
      Effect.sync(() => {
        sent.push(response)
        return new Uint8Array()
      }),
    sendFinal: () => Effect.succeed(new Uint8Array()),
    refuse: () => Effect.succeed(new Uint8Array())
  }
  const leases = yield* Leases.make({ id: "srv", leaseMs: 1000, replies })
  return { leases, told: () => sent.splice(0).map(({ calls, event, requestId }) => [event, ...calls ?? [requestId]]) }
})

const call = (requestId: string) => ({ replyTo: "AGENT_REPLY_x", requestId })

describe("leases tell a caller", () => {
  it.effect("of a call at once when it streams, of others within a quarter of a lease, and of none that is over", () =>
    Effect.gen(function*() {
      const { leases, told } = yield* start
      yield* leases.hold(call("streamed"), true)
      yield* leases.hold(call("other"), false)
      yield* leases.hold(call("short"), false)
      leases.release(call("short"))
      assert.deepStrictEqual(told(), [["accepted", "streamed"]])
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(told(), [["alive", "streamed"], ["accepted", "other"]])
      // Once is enough, also where it waits twice.
      yield* leases.hold(call("other"), false)
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(told(), [["alive", "streamed", "other"]])
      leases.release(call("streamed"))
      leases.release(call("other"))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(told(), [])
      yield* leases.hold(call("later"), false)
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(told(), [["accepted", "later"]])
    }))
})
