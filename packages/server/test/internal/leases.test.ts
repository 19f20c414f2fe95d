import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as Leases from "../../src/internal/leases.ts"
import type { Replies } from "../../src/internal/replies.ts"

const start = Effect.gen(function*() {
  const sent: Array<Protocol.Response> = []
  const replies: Pick<Replies, "sendSign"> = {
    sendSign: (_, response) =>
      Effect.sync(() => {
        sent.push(response)
        return new Uint8Array()
      })
  }
  const abandoned: Array<string> = []
  const leases = yield* Leases.make({
    id: "srv",
    topic: "TOPIC_X",
    leaseMs: 1000,
    replies,
    onAbandoned: ({ requestId }) => abandoned.push(requestId)
  })
  return {
    leases,
    abandoned: () => abandoned.splice(0),
    told: () => sent.splice(0).map(({ calls, event, requestId }) => [event, ...calls ?? [requestId]])
  }
})

const call = (requestId: string) => ({ replyTo: "AGENT_REPLY_x", requestId })

describe("leases tell a caller", () => {
  it.effect("of a call after 10 ms when it streams, of others within a quarter of a lease, and of none that is over", () =>
    Effect.gen(function*() {
      const { leases, told } = yield* start
      yield* leases.hold(call("streamed"), true)
      yield* leases.hold(call("other"), false)
      yield* leases.hold(call("short"), false)
      leases.release(call("short"))
      yield* leases.hold(call("short stream"), true)
      yield* TestClock.adjust(9)
      leases.release(call("short stream"))
      assert.deepStrictEqual(told(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told(), [["accepted", "streamed"]])
      yield* TestClock.adjust(240)
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

describe("leases give up", () => {
  it.effect("the calls of a caller that is silent for longer than they allow, and no others", () =>
    Effect.gen(function*() {
      const { abandoned, leases } = yield* start
      yield* leases.hold({ ...call("short"), leaseMs: 2000 }, false)
      yield* leases.hold({ ...call("long"), leaseMs: 3000 }, false)
      yield* leases.hold(call("endless"), false)
      yield* leases.hold({ replyTo: "AGENT_REPLY_y", requestId: "of another", leaseMs: 2000 }, false)
      yield* TestClock.adjust(1900)
      leases.heard("AGENT_REPLY_x")
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(abandoned(), ["of another"])
      leases.release({ replyTo: "AGENT_REPLY_y", requestId: "of another" })
      yield* TestClock.adjust(1400)
      assert.deepStrictEqual(abandoned(), [])
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(abandoned(), ["short"])
      leases.release(call("short"))
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(abandoned(), ["long"])
      leases.release(call("long"))
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(abandoned(), [])
    }))

  it.effect("no call before this server could have heard of its caller", () =>
    Effect.gen(function*() {
      const { abandoned, leases } = yield* start
      yield* leases.hold({ ...call("hasty"), leaseMs: 1 }, false)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(abandoned(), [])
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(abandoned(), ["hasty"])
    }))
})
