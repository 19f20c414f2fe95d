import { assert, describe, it } from "@effect/vitest"
import * as Bus from "@skillscale/core/Bus"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
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

/** A server that is counted and never answers. */
const hung = serve([everyone], () => Effect.void)

/** Answers each question with each body after its milliseconds. */
const answersAfter = (...bodies: ReadonlyArray<readonly [number, Json]>) =>
  serve([everyone], (request) =>
    Effect.forEach(
      bodies,
      ([after, body]) => Effect.forkDetach(Effect.andThen(Effect.sleep(after), answerTo(request, body))),
      { discard: true }
    ))

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

  /** A proxy that settles at a time, servers that are back by then or not, and what they were asked. */
  const settling = Effect.fnUntraced(
    function*(settlesAt: number, back: ReadonlyArray<readonly [at: number, reply: Json]>) {
      const start = yield* Clock.currentTimeMillis
      const asked: Array<number> = []
      yield* serve([everyone], (request) =>
        Effect.gen(function*() {
          const now = (yield* Clock.currentTimeMillis) - start
          asked.push(now)
          const replies = back.filter(([at]) => at <= now)
          const left = settlesAt - now
          yield* answerTo(request, { ...fanout(replies.length), v: 2, ...(left > 0 ? { settle_ms: left } : {}) })
          yield* Effect.forEach(replies, ([, reply]) => answerTo(request, reply), { discard: true })
        }))
      return asked
    }
  )
  const one = catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"))
  const two = catalogReply("s2", "TOPIC_B", skill("b", "TOPIC_B"))

  it.effect("is asked for again until a proxy that began lately has settled, with those who are back by then", () =>
    withClient(Effect.gen(function*() {
      const asked = yield* settling(1400, [[0, one], [800, two], [1500, catalogReply("s3", "TOPIC_C")]])
      const { survey } = yield* SkillClient.SkillClient
      const [{ answered, servers, skills }, took] = yield* timed(survey)
      assert.deepStrictEqual([answered, servers, skills.map(({ name }) => name)], [2, 2, ["a", "b"]])
      assert.deepStrictEqual(asked, [0, 50, 150, 350, 750, 1150, 1400])
      assert.strictEqual(took, 1400)
      assert.deepStrictEqual((yield* timed(survey))[1], 0)
    })))

  it.effect("is not complete by an answer that cannot be read and was given twice", () =>
    withClient(Effect.gen(function*() {
      const unreadable = { server: "s0", content: "{" }
      yield* settling(100, [[0, unreadable], [100, one]])
      const [entries] = yield* timed(catalog)
      assert.deepStrictEqual(entries.map(({ name }) => name), ["a"])
    })))

  it.effect("is waited for in vain no longer than a proxy may take to settle, whatever that says", () =>
    withClient(Effect.gen(function*() {
      yield* answers({ ...fanout(0), v: 2, settle_ms: 1e9 })
      assert.deepStrictEqual(yield* timed(catalog), [[], 2100])
    })))

  it.effect("is asked for again when messages may have been lost", () =>
    Effect.gen(function*() {
      const bus = yield* Bus.Bus
      const losses = yield* Queue.unbounded<void>()
      const client = yield* SkillClient.make().pipe(
        Effect.provideService(Bus.Bus, Bus.make({ ...bus, restored: Stream.fromQueue(losses) }))
      )
      let asked = 0
      yield* serve([everyone], (request) =>
        asked++ === 0
          ? answerTo(request, fanout(1))
          : Effect.andThen(answerTo(request, fanout(1)), answerTo(request, one)))
      yield* Effect.forkChild(Effect.delay(Queue.offer(losses, undefined), 300))
      const [entries, took] = yield* timed(client.catalog)
      assert.deepStrictEqual([entries.map(({ name }) => name), took], [["a"], 300])
    }).pipe(Effect.provide(busLayer)))

  it.effect("tells where a skill is as soon as that is known, and of none before the proxy has settled", () =>
    withClient(Effect.gen(function*() {
      yield* serve(["TOPIC_B"], echo)
      yield* settling(1400, [[0, one], [800, two]])
      const [, took] = yield* timed(invoke("b", { data: "x" }))
      // Asked again at 1,150 ms, and the others had 100 ms.
      assert.strictEqual(took, 1250)
      const error = yield* timed(Effect.flip(invoke("c", { data: "x" })))
      assert.strictEqual(error[0].reason._tag, "SkillNotFound")
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
        catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"), skill("b", "TOPIC_A")),
        { content: "{" },
        { status: "maybe" },
        { status: "error", code: "Internal" }
      )
      const [entries, took] = yield* timed(catalog)
      assert.lengthOf(entries, 1)
      assert.strictEqual(took, 0)
    })))

  it.effect("tells how many of the servers answered", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const one = catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"))
      const two = catalogReply("s2", "TOPIC_B", skill("b", "TOPIC_B"))
      yield* hung
      const cases: ReadonlyArray<readonly [ReadonlyArray<Json>, ReadonlyArray<unknown>]> = [
        [[fanout(2), one, two], [["a", "b"], 2, 2, 0]],
        [[fanout(3), one, two], [["a", "b"], 2, 3, 2000]],
        [[fanout(3), { content: "{" }, one], [["a"], 2, 3, 2000]],
        [[one], [["a"], 1, undefined, 100]],
        [[{ status: "error", code: "NoServer" }], [[], 0, 0, 0]]
      ]
      for (const [bodies, expected] of cases) {
        yield* Effect.scoped(Effect.gen(function*() {
          yield* answers(...bodies)
          const [{ answered, servers, skills }, took] = yield* timed(client.survey)
          assert.deepStrictEqual([skills.map(({ name }) => name), answered, servers, took], expected)
        }))
      }
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

  it.effect("keeps a catalog that is newer than what was contradicted", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      const answer = yield* Deferred.make<void>()
      yield* serve(["TOPIC_A"], (request) =>
        Effect.andThen(Deferred.await(answer), answerTo(request, { status: "error", code: "NoServer" })))
      yield* serve(["TOPIC_B"], echo)
      yield* answers(fanout(1), catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"), skill("b", "TOPIC_B")))
      const call = yield* Effect.forkChild(Effect.flip(invoke("a")))
      yield* wire.next("TOPIC_A")
      yield* catalog
      yield* Deferred.succeed(answer, undefined)
      yield* Fiber.join(call)
      yield* invoke("b")
      assert.strictEqual(yield* asked, 2)
    })))

  it.effect("leaves the answers to others when one of them is contradicted", () =>
    withClient(Effect.gen(function*() {
      yield* serve(["TOPIC_A"], (request) => answerTo(request, { status: "error", code: "NoServer" }))
      yield* serve(["TOPIC_B"], echo)
      yield* answers(fanout(1), catalogReply("s1", "TOPIC_A", skill("a", "TOPIC_A"), skill("b", "TOPIC_B")))
      yield* Effect.flip(invoke("a", { topic: "TOPIC_A" }))
      yield* invoke("b")
      yield* Effect.flip(invoke("missing"))
      assert.strictEqual(yield* asked, 2)
      yield* invoke("b")
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

describe("finding the topic while a server hangs", () => {
  const asked = Effect.map(Wire, (wire) => wire.on(everyone).length)
  const byTopic = serve(
    ["TOPIC_A", "TOPIC_B", "TOPIC_C"],
    (request, topic) => answerTo(request, { v: 2, content: topic })
  )
  const topicOf = (...[name, options]: Parameters<typeof invoke>) =>
    Effect.map(timed(invoke(name, options)), ([{ content }, took]) => [content, took])
  const a = (topic: string, digest = digestA) => catalogReply(`of ${topic}`, topic, skill("a", topic, digest))

  it.effect("waits the quiet time, and fills the cache at the end of the gathering", () =>
    withClient(Effect.gen(function*() {
      yield* byTopic
      yield* hung
      yield* answers(fanout(2), a("TOPIC_A"))
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 100])
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 0])
      yield* TestClock.adjust(2000 - 100 + 9999)
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 0])
      assert.strictEqual(yield* asked, 1)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 100])
      assert.strictEqual(yield* asked, 2)
    })))

  it.effect("takes the first topic by name of those that answered in the quiet time", () =>
    withClient(Effect.gen(function*() {
      yield* byTopic
      yield* hung
      yield* answersAfter([0, fanout(4)], [10, a("TOPIC_C")], [20, a("TOPIC_B")], [150, a("TOPIC_A")])
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_B", 110])
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_B", 0])
      yield* TestClock.adjust(40)
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 0])
      yield* TestClock.adjust(2000)
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 0])
      assert.strictEqual(yield* asked, 1)
    })))

  it.effect("waits as long as the options say", () =>
    withClient(
      Effect.gen(function*() {
        yield* byTopic
        yield* hung
        yield* answersAfter([0, fanout(3)], [0, a("TOPIC_B")], [250, a("TOPIC_A")])
        assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 300])
      }),
      { catalogQuiet: 300 }
    ))

  it.effect("waits for the pinned digest, and for all when nobody has it", () =>
    withClient(Effect.gen(function*() {
      yield* byTopic
      yield* hung
      yield* answersAfter([0, fanout(3)], [0, a("TOPIC_A")], [500, a("TOPIC_B", digestB)])
      assert.deepStrictEqual(yield* topicOf("a", { digest: digestB }), ["TOPIC_B", 600])
    })).pipe(Effect.andThen(withClient(Effect.gen(function*() {
      yield* byTopic
      yield* hung
      yield* answers(fanout(2), a("TOPIC_A"))
      assert.deepStrictEqual(yield* topicOf("a", { digest: digestB }), ["TOPIC_A", 2000])
    })))))

  it.effect("waits for all when nobody has the skill", () =>
    withClient(Effect.gen(function*() {
      yield* byTopic
      yield* hung
      yield* answersAfter([0, fanout(3)], [0, a("TOPIC_A")], [
        1500,
        catalogReply("s2", "TOPIC_B", skill("b", "TOPIC_B"))
      ])
      const [error, took] = yield* timed(Effect.flip(invoke("c")))
      assert.deepStrictEqual([error.reason._tag, took], ["SkillNotFound", 2000])
      assert.include(error.message, "there are: a, b")
      assert.deepStrictEqual(yield* topicOf("b"), ["TOPIC_B", 0])
    })))

  it.effect("asks once for all who look, whatever they look for, and whoever of them gives up", () =>
    withClient(Effect.gen(function*() {
      yield* byTopic
      yield* hung
      yield* answersAfter([0, fanout(3)], [0, a("TOPIC_A")], [
        300,
        catalogReply("s2", "TOPIC_B", skill("b", "TOPIC_B"))
      ])
      const first = yield* Effect.forkChild(invoke("b"), { startImmediately: true })
      const many = Effect.all(Array.from({ length: 20 }, () => invoke("a")), { concurrency: "unbounded" })
      const [, took] = yield* timed(Effect.andThen(Fiber.interrupt(first), many))
      assert.strictEqual(took, 100)
      assert.deepStrictEqual(yield* topicOf("b"), ["TOPIC_B", 300])
      assert.strictEqual(yield* asked, 1)
    })))

  it.effect("asks again when a call contradicts what was heard, and lets it not into the cache", () =>
    withClient(Effect.gen(function*() {
      yield* hung
      yield* serve(["TOPIC_A"], (request) => answerTo(request, { status: "error", code: "NoServer" }))
      yield* answers(fanout(2), a("TOPIC_A"))
      const [, took] = yield* timed(Effect.flip(invoke("a")))
      assert.strictEqual(took, 100)
      yield* TestClock.adjust(5000)
      yield* timed(Effect.flip(invoke("a")))
      assert.strictEqual(yield* asked, 2)
      yield* timed(Effect.flip(invoke("a")))
      assert.strictEqual(yield* asked, 3)
    })))

  it.effect("never puts an older catalog in the place of a newer one", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      yield* byTopic
      yield* Effect.scoped(Effect.gen(function*() {
        yield* hung
        yield* answers(fanout(2), a("TOPIC_A"))
        assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_A", 100])
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* answers(fanout(1), a("TOPIC_B"))
        yield* client.catalog
      }))
      yield* TestClock.adjust(2000)
      assert.strictEqual(yield* client.pending, 0)
      assert.deepStrictEqual(yield* topicOf("a"), ["TOPIC_B", 0])
      assert.strictEqual(yield* asked, 2)
    })))

  it.effect("the gathering ends with the client, and who waits for it fails with Closed", () =>
    Effect.gen(function*() {
      const wire = yield* Wire
      yield* byTopic
      yield* hung
      yield* answers(fanout(2), a("TOPIC_A"))
      for (const stuck of [false, true]) {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(Layer.fresh(SkillClient.layer()), scope)
        const client = Context.get(context, SkillClient.SkillClient)
        if (stuck) wire.hanging.add(everyone)
        else yield* timed(client.invoke({ skill: "a" }))
        const waiting = yield* Effect.forkChild(Effect.flip(client.invoke({ skill: "b" })), { startImmediately: true })
        assert.strictEqual(yield* client.pending, 1)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Closed")
        assert.strictEqual(yield* client.pending, 0)
      }
    }).pipe(Effect.provide(busLayer)))
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

  it.effect("asks one replica alone, and for one digest", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const describe = (digest: string) => ({ skill: skill("a", "TOPIC_A", digest), instructions: "", resources: [] })
      yield* serve(["@TOPIC_A"], (request) => answerTo(request, { content: JSON.stringify(describe(digestB)) }))
      yield* serve(["@worker/TOPIC_A/one"], (request) => {
        const resource = { path: "x", data: "aGk=", digest: digestA }
        return answerTo(request, {
          content: JSON.stringify(request["kind"] === "describe" ? describe(digestA) : resource)
        })
      })
      const at = { topic: "TOPIC_A", server: "one", digest: digestA }
      assert.strictEqual((yield* client.describe("a", at)).skill.digest, digestA)
      assert.strictEqual(Buffer.from(yield* client.resource("a", "x", at)).toString(), "hi")
      const { on } = yield* Wire
      assert.isEmpty(on("@TOPIC_A"))
      for (const { body } of on("@worker/TOPIC_A/one")) assert.strictEqual(body["digest"], digestA)
      yield* client.describe("a", { topic: "TOPIC_A" })
      assert.notProperty(on("@TOPIC_A")[0]?.body ?? assert.fail(), "digest")
    })))

  it.effect("takes no answer of a server that does not know of digests for another one's", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      yield* serve(["@TOPIC_A"], (request) => {
        const reply = { skill: skill("a", "TOPIC_A", digestB), instructions: "# A", resources: [] }
        return answerTo(request, {
          content: JSON.stringify(request["kind"] === "describe" ? reply : { path: request["path"], data: "aGk=" })
        })
      })
      const pinned = { topic: "TOPIC_A", digest: digestA }
      const described = yield* Effect.flip(client.describe("a", pinned))
      assert.deepInclude(described.reason, { _tag: "SkillChanged", digest: digestA })
      assert.include(described.message, digestB)
      const read = yield* Effect.flip(client.resource("a", "x", pinned))
      assert.deepInclude(read.reason, { _tag: "Unsupported", fields: ["digest"] })
    })))

  it.effect("asks nobody who cannot be meant", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const refused = (options: SkillClient.QuestionOptions) =>
        Effect.flatMap(
          Effect.all([Effect.flip(client.describe("a", options)), Effect.flip(client.resource("a", "x", options))]),
          (errors) => Effect.sync(() => errors.forEach(({ reason }) => assert.strictEqual(reason._tag, "BadRequest")))
        )
      yield* refused({ server: "one" })
      for (const server of ["", "a/b", "x".repeat(65), 7 as never]) yield* refused({ topic: "TOPIC_A", server })
      yield* refused({ topic: "TOPIC_A", digest: "latest" })
      assert.isEmpty((yield* Wire).published.filter(({ topic }) => topic.startsWith("@")))
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
