/** The state machine of one call, step by step; `test/callProtocol.test.ts` has it in a network that fails. */
import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Delivery from "../src/internal/delivery.ts"

const topic = "TOPIC_TEST"

/** A topic whose servers acknowledge, as is heard of others all the time. */
const busy = (): Delivery.Habits => ({ acknowledges: true, clearAt: Number.POSITIVE_INFINITY })
/** One of which nothing was heard since long ago. */
const quiet = (acknowledges?: boolean): Delivery.Habits => ({ acknowledges, clearAt: -1 })

const begin = (options: Partial<Delivery.Options> = {}) => {
  const habits = busy()
  const delivery = Delivery.make({ topic, deadline: 60_000, ackMs: 500, habits, random: () => 0, ...options })
  assert.deepStrictEqual(delivery.begin(0), [{ _tag: "Send", attempt: 0 }])
  return { delivery, habits }
}

const response = (fields: Partial<Protocol.Response>): Protocol.Response => ({
  requestId: "r",
  status: "success",
  content: "",
  error: "",
  ...fields
})
const event = (event: string, server: string, fields: Partial<Protocol.Response> = {}) =>
  response({ event, server, ...fields })
const accepted = (server: string) => event("accepted", server, { leaseMs: 1000 })
const alive = (server: string) => event("alive", server, { leaseMs: 1000, calls: ["r"] })
const refusal = (code: string, server: string, fields: Partial<Protocol.Response> = {}) =>
  response({ status: "error", code, server, retryable: true, ...fields })
const cancel = (server: string, attempt = 0): Delivery.Step => ({ _tag: "Cancel", server, attempt })
const tags = (steps: ReadonlyArray<Delivery.Step>) => steps.map(({ _tag }) => _tag)

/** What comes of a silence of 5 s, in which the replica is asked twice a second. */
const outlasted = (delivery: Delivery.Delivery, askedAt: number) => {
  delivery.onTick(askedAt)
  const asked: Array<number> = []
  for (let now = askedAt + 50; now < askedAt + Delivery.patienceMs; now += 50) {
    for (const step of delivery.onTick(now)) {
      assert.strictEqual(step._tag, "Renew")
      asked.push(now - askedAt)
    }
  }
  assert.deepStrictEqual(asked, [500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500])
  return delivery.onTick(askedAt + Delivery.patienceMs)[0]
}

describe("a call that nobody acknowledges", () => {
  it("is sent again after 500 ms, 1 s and then every 2 s", () => {
    const { delivery } = begin()
    const sent: Array<number> = []
    for (let now = 0; now <= 8000; now += 100) {
      for (const step of delivery.onTick(now)) {
        assert.deepStrictEqual(step, { _tag: "Send", attempt: sent.length + 1 })
        sent.push(now)
      }
    }
    assert.deepStrictEqual(sent, [500, 1500, 3500, 5500, 7500])
  })

  it("is sent again after 500 ms anew when its replica was lost, or messages may have been", () => {
    const sentAt = (delivery: Delivery.Delivery, from: number) => {
      for (let now = from;; now += 100) if (delivery.onTick(now).length > 0) return now - from
    }
    const { delivery } = begin()
    assert.deepStrictEqual([sentAt(delivery, 0), sentAt(delivery, 500)], [500, 1000])
    delivery.onRestored(1600)
    assert.strictEqual(sentAt(delivery, 1600), 500)
    delivery.onResponse(accepted("a"), 2200)
    delivery.onResponse(event("unknown", "a"), 2300)
    assert.strictEqual(sentAt(delivery, 2300), 500)
  })

  it("is recalled when it ends, since another replica may have it", () => {
    const once = begin().delivery
    assert.deepStrictEqual(tags(once.onResponse(response({ server: "a" }), 10)), ["Finish"])
    const refused = begin().delivery
    refused.onResponse(refusal("Overloaded", "a"), 10)
    refused.onTurn(50)
    assert.deepStrictEqual(tags(refused.onResponse(response({ server: "b" }), 60)), ["Finish"])
    const twice = begin().delivery
    twice.onTick(500)
    assert.deepStrictEqual(tags(twice.onResponse(response({ server: "a" }), 600)), ["Recall", "Finish"])
  })

  it("is sent again at once when messages may have been lost, unless it waits for its turn", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(delivery.onRestored(10), [{ _tag: "Send", attempt: 1 }])
    delivery.onResponse(refusal("Overloaded", "a"), 20)
    assert.isEmpty(delivery.onRestored(21))
    assert.deepStrictEqual(tags(begin({ habits: quiet(true) }).delivery.onRestored(10)), ["Ping"])
    assert.isEmpty(begin({ habits: quiet(false) }).delivery.onRestored(10))
  })

  it("waits until somebody acknowledges something, and is then sent again at the next tick", () => {
    const habits = quiet(true)
    const { delivery } = begin({ habits })
    for (let now = 500; now < 900; now += 100) assert.deepStrictEqual(tags(delivery.onTick(now)), ["Ping"])
    habits.clearAt = 850
    assert.deepStrictEqual(delivery.onTick(850), [{ _tag: "Send", attempt: 1 }])
    // That was said of what was sent before.
    for (let now = 900; now < 1850; now += 100) assert.isEmpty(delivery.onTick(now))
    assert.deepStrictEqual(tags(delivery.onTick(1850)), ["Ping"])
    habits.clearAt = 1851
    assert.deepStrictEqual(tags(delivery.onTick(1852)), ["Send"])
  })

  it("needs no question when another call has heard of a server since it was sent", () => {
    const habits = quiet(true)
    const { delivery } = begin({ habits })
    begin({ habits }).delivery.onResponse(accepted("a"), 1)
    assert.deepStrictEqual(tags(delivery.onTick(500)), ["Send"])
    const before = begin({ habits: { acknowledges: true, clearAt: 0 } }).delivery
    assert.deepStrictEqual(tags(before.onTick(500)), ["Ping"])
  })

  it("is sent again as soon as that is known when messages may have been lost, and 500 ms after that", () => {
    const habits = quiet(true)
    const { delivery } = begin({ habits })
    assert.deepStrictEqual(tags(delivery.onRestored(10)), ["Ping"])
    assert.deepStrictEqual(tags(delivery.onTick(100)), ["Ping"])
    habits.clearAt = 110
    assert.deepStrictEqual(tags(delivery.onTick(110)), ["Send"])
    assert.isEmpty(delivery.onTick(609))
    assert.deepStrictEqual(tags(delivery.onTick(610)), ["Ping"])
    // Nothing of that is so when it was sent meanwhile.
    const other = begin({ habits: quiet(true) }).delivery
    other.onRestored(10)
    other.onResponse(refusal("Overloaded", "a"), 20)
    other.onTurn(40)
    assert.isEmpty(other.onTick(100))
  })

  it("is not sent again while only servers are there that acknowledge nothing, until others are", () => {
    const habits = quiet(true)
    const { delivery } = begin({ habits })
    assert.deepStrictEqual(tags(delivery.onTick(500)), ["Ping"])
    habits.acknowledges = false
    for (let now = 600; now < 3000; now += 100) assert.isEmpty(delivery.onTick(now))
    assert.isEmpty(delivery.onRestored(3000))
    habits.acknowledges = undefined
    assert.deepStrictEqual(tags(delivery.onTick(3100)), ["Ping"])
    habits.acknowledges = true
    habits.clearAt = 3150
    assert.deepStrictEqual(tags(delivery.onTick(3150)), ["Send"])
    assert.deepStrictEqual(tags(delivery.onResponse(response({ content: "late" }), 3160)), ["Recall", "Finish"])
  })

  it("is not sent again where servers do not acknowledge, and asks where that is not known", () => {
    const unknown = begin({ habits: quiet() })
    assert.deepStrictEqual(tags(unknown.delivery.onTick(499)), [])
    assert.deepStrictEqual(tags(unknown.delivery.onTick(500)), ["Ping"])
    const old = begin({ habits: quiet(false) })
    for (let now = 0; now < 60_000; now += 500) assert.isEmpty(old.delivery.onTick(now))
  })

  it("learns from any answer with a lease that servers acknowledge", () => {
    for (const told of [accepted("a"), response({ server: "a", leaseMs: 1000 })]) {
      const habits = quiet()
      begin({ habits }).delivery.onResponse(told, 1)
      assert.deepStrictEqual(habits, { acknowledges: true, clearAt: 1 })
    }
  })
})

describe("a call that may run twice, when a replica asks whether it is still waited for", () => {
  const question = (server: string, offer: number) => event("offer", server, { offer, leaseMs: 1000, retryable: true })

  it("is granted, and may still go to another replica when that one is lost", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(delivery.onResponse(question("a", 7), 1), [{ _tag: "Grant", server: "a", offer: 7 }])
    assert.deepStrictEqual(tags(delivery.onResponse(accepted("a"), 2)), ["Event"])
    assert.deepStrictEqual(delivery.onResponse(question("a", 8), 3), [{ _tag: "Grant", server: "a", offer: 8 }])
    assert.deepStrictEqual(delivery.onResponse(event("unknown", "a", { offer: 9 }), 4), [{ _tag: "Send", attempt: 1 }])
  })

  it("is not granted when another replica has it", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 1)
    assert.deepStrictEqual(delivery.onResponse(question("b", 1), 2), [cancel("b")])
  })
})

describe("an answer in parts", () => {
  const texts = (content: string) =>
    Array.from(JSON.stringify({ request_id: "r", status: "success", content, error: "", v: 2, server: "a" })).reduce(
      (parts: ReadonlyArray<string>, letter, index) =>
        index % 20 === 0 ? [...parts, letter] : [...parts.slice(0, -1), `${parts.at(-1)}${letter}`],
      []
    )
  const all = texts("the answer")
  const part = (index: number, fields: Partial<Protocol.Response> = {}, of = all) =>
    event("part", "a", { content: of[index] ?? "", part: index, parts: of.length, attempt: 0, ...fields })
  const received = (parts: number): Delivery.Step => ({ _tag: "Received", server: "a", attempt: 0, parts })

  it("is taken part by part, in order, and told of; the last one ends the call", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(delivery.onResponse(part(1), 1), [received(0)])
    assert.deepStrictEqual(delivery.onResponse(part(0), 2), [received(1)])
    assert.deepStrictEqual(delivery.onResponse(part(0), 3), [received(1)])
    for (let index = 1; index < all.length - 1; index++) {
      assert.deepStrictEqual(delivery.onResponse(part(index), 4), [received(index + 1)])
    }
    const [told, finish] = delivery.onResponse(part(all.length - 1), 5)
    assert.deepStrictEqual(told, received(all.length))
    assert.deepInclude(finish, { _tag: "Finish" })
    assert.deepInclude(finish?._tag === "Finish" ? finish.response : {}, { content: "the answer", server: "a" })
    assert.deepStrictEqual(delivery.onResponse(part(0), 6), [])
  })

  it("is begun anew when its replica runs the call anew, and what the first run says means nothing then", () => {
    const { delivery } = begin()
    delivery.onResponse(part(0), 1)
    delivery.onResponse(event("unknown", "a"), 2)
    const again: Delivery.Step = { _tag: "Received", server: "a", attempt: 1, parts: 1 }
    assert.deepStrictEqual(delivery.onResponse(part(0, { attempt: 1 }), 3), [again])
    assert.deepStrictEqual(delivery.onResponse(part(1), 4), [])
  })

  it("shows that its replica is there", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 0)
    delivery.onResponse(part(0), 900)
    assert.isEmpty(delivery.onTick(1800))
    assert.deepStrictEqual(tags(delivery.onTick(1900)), ["Renew"])
  })

  it("is not taken from another replica than the one that has the call", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("b"), 0)
    assert.deepStrictEqual(delivery.onResponse(part(0), 1), [])
  })

  it("fails the call when the parts make no answer, do not tell which they are, or are too many", () => {
    const failure = (...responses: ReadonlyArray<Protocol.Response>) => {
      const { delivery } = begin()
      const steps = responses.flatMap((response) => delivery.onResponse(response, 1))
      return steps.flatMap((step) =>
        step._tag === "Fail" ? [step.reason._tag] : step._tag === "Cancel" ? ["Cancel"] : []
      )
    }
    assert.deepStrictEqual(failure(event("part", "a", { content: "{", part: 0, parts: 1 })), [
      "ProtocolError",
      "Cancel"
    ])
    assert.deepStrictEqual(failure(event("part", "a", { content: "{" })), ["ProtocolError", "Cancel"])
    const large = "x".repeat(33 * 1024 * 1024)
    const two = [0, 1].map((index) => event("part", "a", { content: large, part: index, parts: 3 }))
    assert.deepStrictEqual(failure(...two), ["TooLarge", "Cancel"])
  })
})

describe("while output or parts of other answers arrive", () => {
  it("a replica that sends them is there, and others have twice as long to answer", () => {
    const bulk = new Map([["a", 900]])
    const bulkAt = (server?: string) => server === undefined ? 950 : bulk.get(server) ?? Number.NEGATIVE_INFINITY
    const of = (server: string) => {
      const { delivery } = begin({ bulkAt })
      delivery.onResponse(accepted(server), 0)
      return delivery
    }
    const first = of("a")
    assert.isEmpty(first.onTick(1899))
    assert.deepStrictEqual(tags(first.onTick(1900)), ["Renew"])
    // Also after it was asked.
    bulk.set("a", 2000)
    assert.isEmpty(first.onTick(2249))
    assert.deepStrictEqual(tags(first.onTick(2250)), ["Send"])
    const other = of("b")
    assert.deepStrictEqual(tags(other.onTick(1000)), ["Renew"])
    assert.isEmpty(other.onTick(1499))
    assert.deepStrictEqual(tags(other.onTick(1500)), ["Send"])
  })
})

describe("a request that is on its way out for long", () => {
  it("is waited for from when it has left, a millisecond longer for each 4 kB, and twice as long each time", () => {
    const { delivery } = begin()
    delivery.onSent(400_000, 10_000)
    assert.isEmpty(delivery.onTick(10_599))
    assert.deepStrictEqual(tags(delivery.onTick(10_600)), ["Send"])
    assert.isEmpty(delivery.onTick(11_799))
    assert.deepStrictEqual(tags(delivery.onTick(11_800)), ["Send"])
  })
})

describe("a call that a replica has", () => {
  it("stays there for as long as that gives signs of life", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(tags(delivery.onResponse(accepted("a"), 10)), ["Event"])
    for (let now = 250; now < 60_000; now += 250) {
      assert.isEmpty(delivery.onTick(now))
      assert.isEmpty(delivery.onResponse(alive("a"), now))
    }
    assert.deepStrictEqual(tags(delivery.onResponse(response({ server: "a" }), 60_000)), ["Finish"])
    assert.isEmpty(delivery.onResponse(response({ server: "b" }), 60_001))
    assert.isEmpty(delivery.onTick(70_000))
  })

  it("is asked for when the lease is over, and sent again when nobody says a word or that it is unknown", () => {
    const silence = (delivery: Delivery.Delivery) => {
      delivery.onResponse(accepted("a"), 0)
      assert.isEmpty(delivery.onTick(999))
      assert.deepStrictEqual(delivery.onTick(1000), [{ _tag: "Renew", server: "a" }])
    }
    const mute = begin().delivery
    silence(mute)
    assert.isEmpty(mute.onTick(1000 + Delivery.renewMs - 1))
    assert.deepStrictEqual(mute.onTick(1000 + Delivery.renewMs), [{ _tag: "Send", attempt: 1 }])
    for (const told of [event("unknown", "a", { offer: 0 }), response({ event: "fanout", content: "0" })]) {
      const { delivery } = begin()
      silence(delivery)
      assert.isEmpty(delivery.onResponse(response({ event: "fanout", content: "1" }), 1001))
      assert.deepStrictEqual(delivery.onResponse(told, 1002), [{ _tag: "Send", attempt: 1 }])
    }
    const back = begin().delivery
    silence(back)
    assert.isEmpty(back.onResponse(accepted("a"), 1100))
    assert.isEmpty(back.onTick(2000))
  })

  it("is asked for at once when messages may have been lost, with a whole lease to answer", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 0)
    delivery.onTick(1000)
    assert.deepStrictEqual(delivery.onRestored(1200), [{ _tag: "Renew", server: "a" }])
    assert.isEmpty(delivery.onTick(2199))
    assert.deepStrictEqual(delivery.onTick(2200), [{ _tag: "Renew", server: "a" }])
  })

  it("is not given to another that takes it as well, unless it is silent", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 0)
    assert.deepStrictEqual(delivery.onResponse(accepted("b"), 1), [cancel("b")])
    delivery.onTick(1000)
    assert.deepStrictEqual(delivery.onResponse(alive("c"), 1001)[0], cancel("a"))
    // Whoever answers first has answered.
    const answer = response({ server: "a" })
    assert.deepStrictEqual(delivery.onResponse(answer, 1002), [cancel("c"), {
      _tag: "Finish",
      response: answer
    }])
  })

  it("is lost with it when output was passed on", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 0)
    assert.deepStrictEqual(tags(delivery.onResponse(event("chunk", "a", { seq: 0 }), 1)), ["Event"])
    assert.isEmpty(delivery.onResponse(event("chunk", "b", { seq: 0 }), 2))
    const failure = outlasted(delivery, 1001)
    assert.isTrue(failure?._tag === "Fail" && failure.reason._tag === "ReplicaLost")
  })
})

describe("a call of which output came first", () => {
  const chunk = (server: string, seq = 0) => event("chunk", server, { seq })

  it("is with the replica that wrote it, which need not say that it has the call", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(tags(delivery.onResponse(chunk("a"), 1)), ["Event"])
    assert.isEmpty(delivery.onResponse(accepted("a"), 2))
    assert.isEmpty(delivery.onResponse(alive("a"), 3))
    assert.deepStrictEqual(tags(delivery.onResponse(chunk("a", 1), 4)), ["Event"])
    for (let now = 100; now < 1003; now += 100) assert.isEmpty(delivery.onTick(now))
    assert.isEmpty(delivery.onTick(1003))
    assert.deepStrictEqual(delivery.onTick(1004), [{ _tag: "Renew", server: "a" }])
    const failure = outlasted(begun(), 1001)
    assert.isTrue(failure?._tag === "Fail" && failure.reason._tag === "ReplicaLost")
  })

  const begun = () => {
    const { delivery } = begin()
    delivery.onResponse(chunk("a"), 1)
    return delivery
  }

  it("is with nobody before its beginning came, and may be sent to another", () => {
    const { delivery } = begin()
    assert.isEmpty(delivery.onResponse(chunk("a", 1), 1))
    assert.deepStrictEqual(tags(delivery.onResponse(alive("a"), 2)), ["Event"])
    assert.deepStrictEqual(delivery.onTick(1003), [{ _tag: "Renew", server: "a" }])
    assert.deepStrictEqual(delivery.onTick(1003 + Delivery.renewMs), [{ _tag: "Send", attempt: 1 }])
  })

  it("hears nothing of a run of another replica", () => {
    const delivery = begun()
    assert.isEmpty(delivery.onResponse(chunk("b", 1), 2))
    assert.deepStrictEqual(delivery.onResponse(accepted("b"), 3), [cancel("b")])
    assert.isEmpty(delivery.onResponse(response({ server: "b" }), 4))
    assert.deepStrictEqual(tags(delivery.onResponse(response({ server: "a" }), 5)), ["Finish"])
  })

  it("is lost when the replica runs it anew, of which nothing is passed on", () => {
    const { delivery } = begin()
    delivery.onResponse({ ...chunk("a"), attempt: 1 }, 1)
    assert.isEmpty(delivery.onResponse({ ...chunk("a", 1), attempt: 0 }, 2))
    assert.isEmpty(delivery.onResponse(refusal("ShuttingDown", "a", { attempt: 0 }), 2))
    assert.deepStrictEqual(tags(delivery.onResponse({ ...chunk("a", 1), attempt: 1 }, 3)), ["Event"])
    const steps = delivery.onResponse({ ...chunk("a"), attempt: 2 }, 4)
    assert.deepStrictEqual(tags(steps), ["Cancel", "Fail"])
    assert.isTrue(steps[1]?._tag === "Fail" && steps[1].reason._tag === "ReplicaLost")
  })

  it("is not cancelled for an offer that comes late", () => {
    const { delivery } = begin()
    delivery.onResponse(event("offer", "a", { leaseMs: 1000, offer: 0 }), 1)
    delivery.onResponse(chunk("a"), 2)
    assert.isEmpty(delivery.onResponse(event("offer", "a", { leaseMs: 1000, offer: 1 }), 3))
  })

  it("is not sent again by a server without a name either", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(tags(delivery.onResponse(response({ event: "chunk", seq: 0 }), 1)), ["Event"])
    for (let now = 100; now < 10_000; now += 100) assert.isEmpty(delivery.onTick(now))
    assert.isEmpty(delivery.onRestored(10_000))
    assert.deepStrictEqual(tags(delivery.onResponse(response({ server: "a" }), 10_001)), ["Finish"])
  })
})

describe("a call that must not run twice", () => {
  const offer = (server: string, offer: number) => event("offer", server, { leaseMs: 1000, offer })

  it("is granted to one replica, as often as that offers, and to no other", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(delivery.onResponse(offer("a", 3), 0), [{ _tag: "Grant", server: "a", offer: 3 }])
    assert.deepStrictEqual(delivery.onResponse(offer("b", 9), 1), [cancel("b")])
    assert.deepStrictEqual(delivery.onResponse(offer("a", 4), 2), [{ _tag: "Grant", server: "a", offer: 4 }])
    assert.deepStrictEqual(tags(delivery.onTick(1002)), ["Renew"])
    assert.deepStrictEqual(delivery.onResponse(accepted("b"), 1003), [cancel("b")])
    const failure = outlasted(delivery, 1002)
    assert.isTrue(failure?._tag === "Fail" && failure.reason._tag === "ReplicaLost")
  })

  it("goes from a replica that has it to one that offers it", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 0)
    assert.deepStrictEqual(delivery.onResponse(offer("b", 0), 1), [
      { _tag: "Grant", server: "b", offer: 0 },
      cancel("a")
    ])
  })

  it("is told of once where it is when the offer came first", () => {
    for (const sign of [accepted("a"), alive("a")]) {
      const { delivery } = begin()
      delivery.onResponse(offer("a", 0), 0)
      assert.deepStrictEqual(delivery.onResponse(sign, 1), [{ _tag: "Event", response: sign }])
      assert.isEmpty(delivery.onResponse(sign, 2))
    }
  })

  it("is not granted to a replica that is being told to end it, until it was sent again", () => {
    const { delivery } = begin()
    delivery.onResponse(accepted("a"), 0)
    assert.deepStrictEqual(delivery.onResponse(accepted("b"), 1), [cancel("b")])
    assert.deepStrictEqual(delivery.onResponse(offer("b", 0), 2), [cancel("b")])
    assert.deepStrictEqual(delivery.onResponse(offer("a", 0), 3), [{ _tag: "Grant", server: "a", offer: 0 }])
    const other = begin().delivery
    other.onResponse(accepted("a"), 0)
    other.onResponse(accepted("b"), 1)
    other.onTick(1000)
    assert.deepStrictEqual(tags(other.onResponse(event("unknown", "a", { offer: 0 }), 1001)), ["Send"])
    assert.deepStrictEqual(
      other.onResponse({ ...offer("b", 1), attempt: 0 }, 1002),
      [cancel("b", 1)]
    )
    assert.isEmpty(other.onResponse(refusal("NotGranted", "b", { attempt: 0, offer: 2 }), 1003))
    assert.deepStrictEqual(tags(other.onTick(2001)), ["Send"])
    assert.deepStrictEqual(
      other.onResponse({ ...offer("b", 2), attempt: 2 }, 2002),
      [{ _tag: "Grant", server: "b", offer: 2 }]
    )
    // What that had finished is as good.
    assert.deepStrictEqual(tags(other.onResponse(response({ server: "b", attempt: 0 }), 2003)), ["Recall", "Finish"])
  })

  it("does not believe what was said before the offer that it granted", () => {
    const { delivery } = begin()
    delivery.onResponse(offer("a", 5), 0)
    for (const code of ["NotGranted", "Overloaded", "ShuttingDown", "Cancelled"]) {
      assert.isEmpty(delivery.onResponse(refusal(code, "a", { offer: 5 }), 1))
      assert.isEmpty(delivery.onResponse(refusal(code, "a"), 1))
    }
    assert.isEmpty(delivery.onResponse(event("unknown", "a", { offer: 5 }), 1))
    assert.deepStrictEqual(tags(delivery.onResponse(refusal("NotGranted", "a", { offer: 6 }), 2)), ["Wait"])
    assert.deepStrictEqual(delivery.onTurn(20), [{ _tag: "Send", attempt: 1 }])
    assert.deepStrictEqual(delivery.onResponse(offer("b", 0), 30), [{ _tag: "Grant", server: "b", offer: 0 }])
  })
})

describe("a call that is refused for the moment", () => {
  it("is sent again after pauses that double up to a second, half of them by chance", () => {
    for (const [random, share] of [[0, 0.5], [0.999_999, 1]] as const) {
      const { delivery } = begin({ random: () => random })
      let now = 0
      for (const most of [20, 40, 80, 160, 320, 640, 1000, 1000]) {
        const [wait] = delivery.onResponse(refusal("Overloaded", "a"), now)
        const ms = wait?._tag === "Wait" ? wait.ms : assert.fail(JSON.stringify(wait))
        assert.approximately(ms, most * share, 0.01)
        assert.isTrue(wait?._tag === "Wait" && wait.isFull)
        now += ms
        assert.isEmpty(delivery.onTick(now + 5000))
        assert.deepStrictEqual(tags(delivery.onTurn(now)), ["Send"])
        assert.isEmpty(delivery.onTurn(now))
      }
    }
  })

  it("fails so when its time would be over", () => {
    const { delivery } = begin({ deadline: 10 })
    assert.deepStrictEqual(tags(delivery.onResponse(refusal("Overloaded", "a"), 0)), ["Finish"])
  })

  it("fails with what is not worth another try, as a server that ended what it had started", () => {
    const { delivery } = begin()
    assert.deepStrictEqual(tags(delivery.onResponse(refusal("ShuttingDown", "a", { retryable: false }), 0)), ["Finish"])
  })

  it("waits 2 s for a server of a topic that had one, and not for one of a topic that had none", () => {
    const absent = response({ status: "error", code: "NoServer", retryable: true })
    const known = begin().delivery
    let now = 0
    for (; now < Delivery.absenceMs; now += 100) {
      assert.deepStrictEqual(tags(known.onResponse(absent, now)), ["Wait"], String(now))
      known.onTurn(now + 50)
    }
    assert.deepStrictEqual(tags(known.onResponse(absent, now)), ["Finish"])
    const never = begin({ habits: quiet() }).delivery
    assert.deepStrictEqual(tags(never.onResponse(absent, 0)), ["Finish"])
    const held = begin().delivery
    held.onResponse(accepted("a"), 0)
    assert.isEmpty(held.onResponse(absent, 1))
  })

  it("waits for a server that may be on its way back to the proxy, also of a topic that had none, and no longer", () => {
    const absent = (settleMs: number) => response({ status: "error", code: "NoServer", retryable: true, settleMs })
    for (const habits of [quiet(), quiet(false), quiet(true)]) {
      const { delivery } = begin({ habits, random: () => 0.999_999 })
      const waits = Array.from([[0, 1500], [20, 1480], [60, 3]] as const, ([now, settleMs]) => {
        const [wait] = delivery.onResponse(absent(settleMs), now)
        assert.deepStrictEqual(tags(delivery.onTurn(now)), ["Send"])
        return wait?._tag === "Wait" && !wait.isFull ? Math.round(wait.ms) : undefined
      })
      assert.deepStrictEqual(waits, [20, 40, 3])
      const settled = response({ status: "error", code: "NoServer", retryable: true })
      // What a topic that had servers may be without them begins then.
      assert.deepStrictEqual(tags(delivery.onResponse(settled, 63)), [habits.acknowledges === true ? "Wait" : "Finish"])
    }
    const hurried = begin({ habits: quiet(), deadline: 5 }).delivery
    assert.deepStrictEqual(tags(hurried.onResponse(absent(1500), 0)), ["Finish"])
  })
})
