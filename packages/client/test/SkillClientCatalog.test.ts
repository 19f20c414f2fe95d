import { assert, describe, it } from "@effect/vitest"
import type * as Bus from "@skillscale/core/Bus"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as SkillClient from "@skillscale/client/SkillClient"
import { answerTo, busLayer, catalogReply, echo, type Json, serve, skill, Wire } from "./support/fakes.ts"

const everyone = "@SERVERS"

const withClient = <A, E>(
  effect: Effect.Effect<A, E, SkillClient.SkillClient | Bus.Bus | Wire | Scope.Scope>,
  options?: SkillClient.Options
) => effect.pipe(Effect.provide(Layer.provideMerge(SkillClient.layer(options), busLayer)))

const catalog = Effect.flatMap(SkillClient.SkillClient, (client) => client.catalog)

const invoke = (name: string, options: Partial<SkillClient.InvokeRequest> = {}) =>
  Effect.flatMap(SkillClient.SkillClient, (client) => client.invoke({ skill: name, ...options }))

const fanout = (count: number | string): Json => ({ event: "fanout", content: String(count) })

const answers = (...bodies: ReadonlyArray<Json>) =>
  serve([everyone], (request) => Effect.forEach(bodies, (body) => answerTo(request, body), { discard: true }))

/** Runs an effect, moving the test clock on by milliseconds whenever it waits, and tells how long it took. */
const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const fiber = yield* Effect.forkChild(effect)
    for (let step = 0; fiber.pollUnsafe() === undefined && step < 5000; step++) {
      yield* Effect.repeat(Effect.yieldNow, { times: 10 })
      if (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(1)
    }
    return [yield* Fiber.join(fiber), (yield* Clock.currentTimeMillis) - start] as const
  })

const digestA = `sha256:${"a".repeat(64)}`
const digestB = `sha256:${"b".repeat(64)}`

describe("SkillClient.catalog", () => {
  it.effect("ends as soon as everybody whom the proxy counted has answered, in any order", () =>
    withClient(Effect.gen(function*() {
      const one = catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"))
      const two = catalogReply("s2", "TOPIC_A", skill("a", "TOPIC_A"))
      const three = catalogReply("s1", "TOPIC_B", skill("b", "TOPIC_B"))
      for (const order of [[fanout(3), one, two, three], [one, two, three, fanout(3)], [three, fanout(3), two, one]]) {
        yield* Effect.scoped(Effect.gen(function*() {
          yield* answers(...order)
          const [entries, took] = yield* timed(catalog)
          assert.deepStrictEqual(entries.map(({ name, servers, topic }) => [topic, name, servers]), [
            ["TOPIC_A", "a", ["s1", "s2"]],
            ["TOPIC_B", "b", ["s1"]]
          ])
          assert.strictEqual(took, 0)
        }))
      }
      assert.strictEqual(yield* Effect.flatMap(SkillClient.SkillClient, (client) => client.pending), 0)
    })))

  it.effect("without a count ends when it is quiet", () =>
    withClient(Effect.gen(function*() {
      yield* serve([everyone], (request) =>
        Effect.gen(function*() {
          yield* answerTo(request, catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A")))
          yield* Effect.sleep(80)
          yield* answerTo(request, catalogReply("s2", "TOPIC_B", skill("b", "TOPIC_B")))
        }).pipe(Effect.forkDetach))
      const [entries, took] = yield* timed(catalog)
      assert.lengthOf(entries, 2)
      assert.strictEqual(took, 180)
    })))

  it.effect("is empty at once when the proxy counts nobody, after a second when nobody answers", () =>
    withClient(Effect.gen(function*() {
      assert.deepStrictEqual(yield* timed(catalog), [[], 1000])
      yield* answers(fanout(0))
      assert.deepStrictEqual(yield* timed(catalog), [[], 0])
    })))

  it.effect("does not wait for ever for one that does not answer, nor for what never stops", () =>
    withClient(Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        yield* answers(fanout(2), catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A")))
        const [entries, took] = yield* timed(catalog)
        assert.lengthOf(entries, 1)
        assert.strictEqual(took, 2000)
      }))
      yield* serve(
        [everyone],
        (request) =>
          Effect.forever(Effect.andThen(answerTo(request, catalogReply("s", "TOPIC_A")), Effect.sleep(90))).pipe(
            Effect.forkDetach
          )
      )
      assert.strictEqual((yield* timed(catalog))[1], 2000)
    })))

  it.effect("counts answers that it cannot read, and the same server twice once", () =>
    withClient(Effect.gen(function*() {
      const one = catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"))
      yield* answers(
        fanout(4),
        fanout("many"),
        one,
        one,
        { content: "{" },
        { status: "maybe" },
        { status: "error", code: "Internal" }
      )
      const [entries, took] = yield* timed(catalog)
      assert.lengthOf(entries, 1)
      assert.strictEqual(took, 0)
    })))

  it.effect("shows replicas with different versions apart", () =>
    withClient(Effect.gen(function*() {
      yield* answers(
        fanout(2),
        catalogReply("s2", "TOPIC_A", skill("a", "TOPIC_A", digestB)),
        catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A", digestA))
      )
      assert.deepStrictEqual((yield* catalog).map(({ digest, servers }) => [digest, servers]), [
        [digestA, ["s1"]],
        [digestB, ["s2"]]
      ])
    })))
})

describe("finding the topic", () => {
  const asked = Effect.map(Wire, (wire) => wire.on(everyone).length)

  it.effect("asks once, remembers for the TTL, and refreshes on a miss", () =>
    withClient(Effect.gen(function*() {
      yield* serve(["TOPIC_A"], echo)
      yield* answers(fanout(1), catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A")))
      yield* Effect.all(Array.from({ length: 20 }, () => invoke("a")), { concurrency: "unbounded" })
      assert.strictEqual(yield* asked, 1)
      yield* TestClock.adjust("9 seconds")
      yield* invoke("a")
      assert.strictEqual(yield* asked, 1)
      yield* TestClock.adjust("1 seconds")
      yield* invoke("a")
      assert.strictEqual(yield* asked, 2)
      const error = yield* Effect.flip(invoke("aa"))
      assert.strictEqual(yield* asked, 3)
      assert.strictEqual(error.reason._tag, "SkillNotFound")
      assert.include(error.message, "did you mean a?")
      assert.include(error.message, "there are: a")
    })))

  it.effect("takes the first topic by name, or the one with the pinned digest", () =>
    withClient(Effect.gen(function*() {
      yield* serve(["TOPIC_A", "TOPIC_B"], (request, topic) => answerTo(request, { v: 2, content: topic }))
      yield* answers(
        fanout(2),
        catalogReply("s2", "TOPIC_B", skill("a", "TOPIC_B", digestB)),
        catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A", digestA))
      )
      assert.strictEqual((yield* invoke("a")).content, "TOPIC_A")
      assert.strictEqual((yield* invoke("a", { digest: digestB })).content, "TOPIC_B")
    })))

  it.effect("tells nobody from not found, and does not remember it", () =>
    withClient(Effect.gen(function*() {
      const [error] = yield* timed(Effect.flip(invoke("a")))
      assert.strictEqual(error.reason._tag, "NoServer")
      yield* serve(["TOPIC_A"], echo)
      yield* answers(fanout(1), catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A")))
      yield* invoke("a")
      assert.strictEqual(yield* asked, 2)
    })))

  it.effect("an interrupted caller does not take the refresh away from the others", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      yield* serve(["TOPIC_A"], echo)
      const first = yield* Effect.forkChild(invoke("a"))
      const question = yield* wire.next(everyone)
      const second = yield* Effect.forkChild(invoke("a"), { startImmediately: true })
      yield* Fiber.interrupt(first)
      yield* answerTo(question, fanout(1))
      yield* answerTo(question, catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A")))
      assert.strictEqual((yield* Fiber.join(second)).topic, "TOPIC_A")
      assert.strictEqual(yield* asked, 1)
    })))

  it.effect("forgets a topic that nobody serves any more", () =>
    withClient(Effect.gen(function*() {
      yield* serve(["TOPIC_A"], (request) => answerTo(request, { status: "error", code: "NoServer" }))
      yield* answers(fanout(1), catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A")))
      yield* Effect.flip(invoke("a"))
      yield* Effect.flip(invoke("a"))
      assert.strictEqual(yield* asked, 2)
    })))

  it.effect("suggests names that resemble", () =>
    withClient(Effect.gen(function*() {
      const known = ["csv-analyzer", "pdf", "text-summarizer", "git-log"].map((name) => skill(name, "TOPIC_A"))
      yield* answers(fanout(1), catalogReply("s1", "TOPIC_A", ...known))
      const near = (name: string) =>
        Effect.map(Effect.flip(invoke(name)), ({ reason }) => reason._tag === "SkillNotFound" ? reason.near : undefined)
      assert.deepStrictEqual(yield* near("csv-analyser"), ["csv-analyzer"])
      assert.deepStrictEqual(yield* near("CSV"), ["csv-analyzer"])
      assert.deepStrictEqual(yield* near("pfd"), ["pdf"])
      assert.deepStrictEqual(yield* near("weather-forecast"), [])
    })))
})

describe("SkillClient.describe, resource and topology", () => {
  it.effect("asks the topic's servers and takes the first answer", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const reply = {
        skill: skill("a", "TOPIC_A"),
        instructions: "# A",
        resources: [{ path: "SKILL.md", size: 3, sha256: "0".repeat(64) }]
      }
      yield* serve(["@TOPIC_A"], (request) => {
        const content = request["kind"] === "describe" ? reply : { path: request["path"], data: "aGk=" }
        return Effect.repeat(answerTo(request, { content: JSON.stringify(content) }), { times: 1 })
      })
      assert.strictEqual((yield* client.describe("a", { topic: "TOPIC_A" })).instructions, "# A")
      assert.strictEqual(Buffer.from(yield* client.resource("a", "x/y", { topic: "TOPIC_A" })).toString(), "hi")
      assert.deepInclude((yield* Wire).on("@TOPIC_A")[1]?.body, { kind: "resource", skill: "a", path: "x/y" })
    })))

  it.effect("names what is missing", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      yield* serve(["@TOPIC_A"], (request) =>
        answerTo(request, { status: "error", code: "SkillNotFound", error: "no skill \"a\": TOPIC_A has b" }))
      yield* serve(["@TOPIC_B"], (request) =>
        answerTo(request, fanout(0)))
      yield* serve(["@TOPIC_C"], (request) => answerTo(request, { content: "{}" }))
      const tag = (topic: string) =>
        Effect.map(Effect.flip(client.describe("a", { topic })), ({ reason }) => reason._tag)
      assert.strictEqual(yield* tag("TOPIC_A"), "SkillNotFound")
      assert.strictEqual(yield* tag("TOPIC_B"), "NoServer")
      assert.strictEqual(yield* tag("TOPIC_C"), "ProtocolError")
    })))

  it.effect("reads the topology, and does not wait for a proxy that is not there", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const [error, took] = yield* timed(Effect.flip(client.topology))
      assert.deepStrictEqual([error.reason._tag, took], ["Timeout", 5000])
      const topology = { topics: [{ topic: "TOPIC_A", replicas: 2 }] }
      yield* serve(["@PROXY"], (request) => answerTo(request, { content: JSON.stringify(topology) }))
      assert.deepStrictEqual(yield* client.topology, topology)
    })))
})
