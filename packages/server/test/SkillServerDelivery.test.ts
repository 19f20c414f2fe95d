/** What a server does for callers that hear of it while their calls last: acknowledgement, signs of life, offers. */
import { assert, describe, it } from "@effect/vitest"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Finished from "../src/internal/finished.ts"
import * as Serving from "./fixtures/serving.ts"
import * as Support from "./fixtures/support.ts"

type Server = Effect.Success<ReturnType<typeof Serving.serve>>

const own = Topic.worker(Serving.topic, "srv")

/** A line for each run. */
const skills: Readonly<Record<string, Support.Files>> = {
  ...Serving.skills,
  count: { "scripts/run.sh": "echo run >> \"$1\"; echo counted" }
}
const runsOf = (path: string) => Fs.existsSync(path) ? Fs.readFileSync(path, "utf8").split("\n").length - 1 : 0

const events = (at: Server, id: string, event: string) =>
  at.replies.filter((reply) => reply.requestId === id && reply.event === event)

const heard = (at: Server, id: string, event: string, count = 1) =>
  Effect.map(
    Support.eventually(`${count} ${event} of ${id}`, () => events(at, id, event).length >= count),
    () => events(at, id, event)[count - 1] ?? assert.fail()
  )

describe("SkillServer tells a caller that asks for accepted", () => {
  it.live("that it has the call, for how long that holds, and four times in that which calls it has", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ lease: 80 })
      const [one, two] = [at.gate("one"), at.gate("two")]
      yield* at.send({ request_id: "one", skill: "gate", args: [one.path], accept: ["accepted"] })
      yield* at.send({ request_id: "two", skill: "gate", args: [two.path], accept: ["accepted"] })
      yield* at.send({ request_id: "silent", skill: "gate", args: [two.path] })
      assert.deepInclude(yield* heard(at, "one", "accepted"), { status: "success", server: "srv", leaseMs: 80, v: 2 })
      const signs = () => at.replies.filter(({ event }) => event === "alive")
      yield* Support.eventually("a sign of both", () => signs().at(-1)?.calls?.length === 2)
      assert.deepInclude(signs().at(-1), { requestId: "one", server: "srv", leaseMs: 80, calls: ["one", "two"] })
      yield* one.open
      yield* at.final("one")
      const before = signs().length
      yield* Support.eventually("signs of the other", () => signs().length >= before + 2)
      assert.deepStrictEqual(signs().at(-1)?.calls, ["two"])
      yield* two.open
      yield* at.final("two")
      yield* at.final("silent")
    }))

  it.live("of 1,000 calls at most in one message", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ lease: 200, workers: 1, queue: 2000 })
      const gate = at.gate("many")
      for (let index = 0; index < 1001; index++) {
        yield* at.send({ skill: "gate", args: [gate.path], accept: ["accepted"], timeout_ms: 60_000 })
      }
      const signs = () => at.replies.filter(({ event }) => event === "alive").map(({ calls }) => calls?.length ?? 0)
      yield* Support.eventually("two signs", () => signs().includes(1000) && signs().includes(1))
      assert.isAtMost(Math.max(...signs()), 1000)
      yield* Effect.forEach(at.replies.filter(({ event }) => event === "accepted"), ({ requestId }) =>
        at.control({ kind: "cancel", request_id: requestId }))
    }))
})

describe("SkillServer ends a call whose caller is silent for longer than its lease", () => {
  const silent = Effect.fnUntraced(function*(options: Serving.Options) {
    const at = yield* Serving.serve({ ...options })
    const gate = at.gate("silent")
    const request = { request_id: "silent", skill: "gate", args: [gate.path], accept: ["accepted"], lease_ms: 1 }
    yield* at.send(request)
    yield* gate.begun
    return { at, gate, request }
  })

  it.live("says so, and runs it again when it is asked to", () =>
    Effect.gen(function*() {
      const { at, gate, request } = yield* silent({ metadata: { gate: { "skillscale.idempotent": "true" } } })
      const answer = yield* at.final("silent")
      assert.deepInclude(answer, { status: "error", code: "Cancelled", retryable: true })
      assert.deepStrictEqual(yield* at.server.load, { running: 0, queued: 0 })
      yield* gate.open
      yield* at.send({ ...request, attempt: 1, lease_ms: 60_000 })
      yield* Support.eventually("a second answer", () => at.finals("silent").length === 2)
      assert.deepInclude(at.finals("silent")[1], { status: "success", content: "passed\n" })
    }))

  it.live("and keeps that answer when it must not run twice", () =>
    Effect.gen(function*() {
      const { at, request } = yield* silent({ metadata: { gate: { "skillscale.idempotent": "false" } } })
      assert.deepInclude(yield* at.final("silent"), { status: "error", code: "Cancelled", retryable: false })
      yield* at.send({ ...request, attempt: 1 })
      yield* Support.eventually("the answer again", () => at.finals("silent").length === 2)
      assert.deepInclude(at.finals("silent")[1], { code: "Cancelled" })
    }))

  it.live("but none of a caller that says that it waits", () =>
    Effect.gen(function*() {
      const { at, gate, request } = yield* silent({})
      for (const signs = () => at.replies.filter(({ event }) => event === "alive").length; signs() < 8;) {
        const before = signs()
        yield* at.control({ kind: "waiting", request_id: request.request_id }, own)
        yield* Support.eventually("another sign", () => signs() > before)
      }
      yield* gate.open
      assert.deepInclude(yield* at.final("silent"), { status: "success" })
    }))
})

describe("SkillServer tells a caller again that what it granted did not start", () => {
  it.live("when that asks, and offers it anew when that sends it again", () =>
    Effect.gen(function*() {
      const metadata = { count: { "skillscale.idempotent": "false" } }
      const at = yield* Serving.serve({ skills, metadata, lease: 80 })
      const path = Path.join(at.directory, "runs")
      const request = { request_id: "late", skill: "count", args: [path], accept: ["accepted", "offer"] }
      yield* at.send(request)
      const first = yield* at.final("late")
      assert.deepInclude(first, { code: "NotGranted", retryable: true, offer: 4 })
      yield* at.control({ kind: "renew", request_id: "late" }, own)
      yield* Support.eventually("the refusal again", () => at.finals("late").length === 2)
      assert.deepStrictEqual(at.finals("late")[1], first)
      assert.isEmpty(events(at, "late", "unknown"))
      yield* at.send({ ...request, attempt: 1 })
      const { offer = assert.fail() } = yield* heard(at, "late", "offer", 5)
      assert.strictEqual(offer, 4)
      yield* at.control({ kind: "grant", request_id: "late", offer }, own)
      yield* Support.eventually("the answer", () => at.finals("late").some(({ status }) => status === "success"))
      assert.strictEqual(runsOf(path), 1)
    }))
})

describe("SkillServer tells of which sending of a request it speaks", () => {
  it.live("in events and in the answer, and ends no later one by a cancellation", () =>
    Effect.gen(function*() {
      const skills = { gate: { "scripts/run.sh": `echo waiting; ${Serving.gate}` } }
      const at = yield* Serving.serve({ skills })
      const gate = at.gate("late")
      const accept = ["accepted", "chunk"]
      yield* at.send({ request_id: "late", skill: "gate", args: [gate.path], accept, attempt: 2 })
      yield* gate.begun
      yield* at.control({ kind: "cancel", request_id: "late", attempt: 1 }, own)
      yield* at.send({ request_id: "late", skill: "gate", args: [gate.path], accept, attempt: 3 })
      yield* heard(at, "late", "accepted", 2)
      yield* heard(at, "late", "chunk")
      yield* gate.open
      yield* at.final("late")
      const said = at.replies.filter(({ event, requestId }) => requestId === "late" && event !== "alive")
      assert.isAtLeast(said.length, 4)
      assert.deepStrictEqual(said.map(({ attempt }) => attempt), said.map(() => 2))
      const other = at.gate("other")
      yield* at.send({ request_id: "other", skill: "gate", args: [other.path], accept })
      yield* other.begun
      yield* at.control({ kind: "cancel", request_id: "other", attempt: 0 }, own)
      yield* at.send({ request_id: "plain", skill: "gate", args: [gate.path], attempt: 2 })
      assert.notProperty(yield* at.final("plain"), "attempt")
      assert.isEmpty(at.finals("other"))
    }))
})

describe("SkillServer does not run a request again that is sent again", () => {
  const counted = Effect.fnUntraced(function*(options: Serving.Options = {}) {
    const at = yield* Serving.serve({ skills, ...options })
    const path = Path.join(at.directory, "runs")
    return { at, path, request: { request_id: "same", skill: "count", args: [path], accept: ["accepted"] } }
  })

  it.live("while it runs, but acknowledges it again", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const gate = at.gate("again")
      const request = { request_id: "same", skill: "gate", args: [gate.path], accept: ["accepted"] }
      yield* at.send(request)
      yield* gate.begun
      yield* at.send({ ...request, attempt: 1 })
      yield* heard(at, "same", "accepted")
      yield* at.control({ kind: "renew", request_id: "same" }, own)
      yield* heard(at, "same", "accepted", 2)
      yield* gate.open
      yield* at.final("same")
      assert.lengthOf(at.finals("same"), 1)
    }))

  it.live("when it ended, but sends the reply again, to a renewal as well", () =>
    Effect.gen(function*() {
      const { at, path, request } = yield* counted()
      yield* at.call(request)
      yield* at.send({ ...request, attempt: 1 })
      yield* Support.eventually("the reply again", () => at.finals("same").length === 2)
      yield* at.control({ kind: "renew", request_id: "same" }, own)
      yield* Support.eventually("the reply once more", () => at.finals("same").length === 3)
      const [first, second, third] = at.finals("same")
      assert.deepStrictEqual([second, third], [first, first])
      assert.strictEqual(runsOf(path), 1)
    }))

  it.live("unless the reply is gone, for its time or for want of room", () =>
    Effect.gen(function*() {
      const late = yield* counted({ keepReplies: 0 })
      yield* late.at.call(late.request)
      yield* late.at.send(late.request)
      yield* Support.eventually("a second run", () => runsOf(late.path) === 2)
      const small = yield* counted({ keptReplyBytes: 1000 })
      yield* small.at.call(small.request)
      yield* small.at.call({ ...small.request, request_id: "another" })
      yield* small.at.send(small.request)
      yield* Support.eventually("a third run", () => runsOf(small.path) === 3)
    }))

  it.live("and says of a call that it does not know that it is unknown", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      yield* at.control({ kind: "renew", request_id: "never" }, own)
      assert.deepInclude(yield* heard(at, "never", "unknown"), { server: "srv", v: 2 })
    }))

  it.live("but tries again what it refused for the moment", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 1, queue: 0 })
      const gate = at.gate("busy")
      yield* at.send({ request_id: "busy", skill: "gate", args: [gate.path] })
      yield* gate.begun
      const request = { request_id: "later", skill: "echo", accept: ["accepted"] }
      assert.strictEqual((yield* at.call(request)).code, "Overloaded")
      yield* gate.open
      yield* at.final("busy")
      yield* at.send({ ...request, attempt: 1 })
      yield* Support.eventually("another answer", () => at.finals("later").length === 2)
      assert.strictEqual(at.finals("later")[1]?.status, "success")
    }))
})

describe("Finished", () => {
  const reply = (bytes: number) => new Uint8Array(bytes)

  it("keeps replies in time and bytes, the latest longest", () => {
    const finished = Finished.make({ maxBytes: 4000, keepMs: 100 })
    finished.keep("a", reply(1000), 0)
    finished.keep("b", reply(1000), 10)
    assert.deepStrictEqual([finished.find("a", 20)?.length, finished.find("b", 20)?.length], [1000, 1000])
    finished.keep("c", reply(1000), 30)
    assert.deepStrictEqual([finished.find("a", 30), finished.find("b", 30)?.length], [undefined, 1000])
    finished.keep("d", reply(4000), 30)
    assert.isUndefined(finished.find("d", 30))
    assert.strictEqual(finished.find("c", 30)?.length, 1000)
    assert.isUndefined(finished.find("b", 110))
    assert.isUndefined(finished.find("c", 130))
    finished.keep("e", reply(3000), 140)
    finished.keep("e", reply(3000), 141)
    assert.strictEqual(finished.find("e", 142)?.length, 3000)
  })
})

describe("SkillServer asks whether a call is still waited for", () => {
  const metadata = { echo: { "skillscale.idempotent": "true" } }
  const offers = { accept: ["accepted", "offer"] }
  const now = () => Date.now() / 1000

  it.live("when its request was long on its way, and starts it when that is granted", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ skills, metadata, lease: "10 seconds" })
      for (const timestamp of [now() - 2, now() + 2]) {
        const request_id = `late ${timestamp}`
        yield* at.send({ request_id, skill: "echo", timestamp, ...offers })
        const offer = yield* heard(at, request_id, "offer")
        assert.strictEqual(offer.retryable, true)
        yield* at.control({ kind: "grant", request_id, offer: offer.offer ?? 0 }, own)
        assert.strictEqual((yield* at.final(request_id)).status, "success")
      }
    }))

  it.live("and does not start it when nobody grants that", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ skills, metadata, lease: 100 })
      const answer = yield* at.call({ request_id: "given up", skill: "echo", timestamp: now() - 2, ...offers })
      assert.strictEqual(answer.code, "NotGranted")
    }))

  it.live("and not when it was not, nor one that does not understand that", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ skills, metadata })
      yield* at.call({ request_id: "in time", skill: "echo", timestamp: now(), ...offers })
      yield* at.call({ request_id: "unknown", skill: "echo", ...offers })
      yield* at.call({ request_id: "plain", skill: "echo", timestamp: now() - 2, accept: ["accepted"] })
      for (const id of ["in time", "unknown", "plain"]) assert.isEmpty(events(at, id, "offer"))
    }))
})

describe("SkillServer offers a call that must not run twice", () => {
  const metadata = { count: { "skillscale.idempotent": "false" } }
  const offering = Effect.fnUntraced(function*(options: Serving.Options = {}) {
    const at = yield* Serving.serve({ skills, metadata, ...options })
    const path = Path.join(at.directory, "runs")
    return { at, path, request: { request_id: "once", skill: "count", args: [path], accept: ["accepted", "offer"] } }
  })
  const grant = (at: Server, offer: number | undefined) =>
    at.control({ kind: "grant", request_id: "once", offer: offer ?? 0 }, own)

  it.live("before it starts, and starts when that is granted", () =>
    Effect.gen(function*() {
      const { at, path, request } = yield* offering({ lease: "10 seconds" })
      yield* at.send(request)
      const offer = yield* heard(at, "once", "offer")
      assert.deepInclude(offer, { server: "srv", offer: 0, leaseMs: 10_000, v: 2 })
      assert.strictEqual(runsOf(path), 0)
      yield* grant(at, offer.offer)
      yield* grant(at, offer.offer)
      assert.strictEqual((yield* at.final("once")).content, "counted\n")
      assert.strictEqual(runsOf(path), 1)
    }))

  it.live("again while nobody grants it, and gives up within the lease", () =>
    Effect.gen(function*() {
      const { at, path, request } = yield* offering({ lease: 100 })
      const answer = yield* at.call(request)
      assert.deepInclude(answer, { status: "error", code: "NotGranted", retryable: true })
      assert.deepStrictEqual(events(at, "once", "offer").map(({ offer }) => offer), [0, 1, 2, 3])
      yield* grant(at, 3)
      yield* at.ask({ kind: "ping" })
      assert.strictEqual(runsOf(path), 0)
    }))

  it.live("and does not start for a grant of an offer that is too old, or of one that it never made", () =>
    Effect.gen(function*() {
      const { at, path, request } = yield* offering({
        lease: 120,
        // As a server that was stopped just then: what it sends is heard, and the answer comes, when its lease is over.
        publish: (publish) => (to, payload) =>
          Buffer.from(payload).includes("\"event\":\"offer\"") && Buffer.from(payload).includes("\"offer\":0")
            ? Effect.andThen(publish(to, payload), Effect.sleep(150))
            : Effect.andThen(Effect.void, publish(to, payload))
      })
      yield* at.send(request)
      yield* heard(at, "once", "offer")
      yield* grant(at, 0)
      yield* grant(at, 7)
      const next = yield* heard(at, "once", "offer", 2)
      assert.strictEqual(runsOf(path), 0)
      yield* grant(at, next.offer)
      assert.strictEqual((yield* at.final("once")).status, "success")
      assert.strictEqual(runsOf(path), 1)
    }))

  it.live("only to a caller that understands offers, and only when the skill is not idempotent", () =>
    Effect.gen(function*() {
      const { at, path, request } = yield* offering()
      assert.strictEqual((yield* at.call({ ...request, request_id: "a", accept: ["accepted"] })).status, "success")
      // It runs unconfined, and ends with its time while it waits.
      const unsaid = yield* at.call({ skill: "echo", request_id: "c", accept: ["accepted", "offer"], timeout_ms: 300 })
      assert.strictEqual(unsaid.code, "TimedOut")
      assert.isNotEmpty(events(at, "c", "offer"))
      assert.strictEqual(runsOf(path), 1)
      const declared = yield* Serving.serve({ metadata: { echo: { "skillscale.idempotent": "true" } } })
      assert.strictEqual(
        (yield* declared.call({ skill: "echo", request_id: "b", accept: ["accepted", "offer"] })).status,
        "success"
      )
      assert.isEmpty(events(declared, "b", "offer"))
    }))

  it.live("and ends like every call when it is cancelled", () =>
    Effect.gen(function*() {
      const { at, path, request } = yield* offering()
      yield* at.send(request)
      const { offer } = yield* heard(at, "once", "offer")
      yield* at.control({ kind: "cancel", request_id: "once" }, own)
      yield* grant(at, offer)
      yield* at.ask({ kind: "ping" })
      yield* Support.eventually("no call in hand", () => Effect.runSync(at.server.load).running === 0)
      assert.isEmpty(at.finals("once"))
      assert.strictEqual(runsOf(path), 0)
    }))
})
