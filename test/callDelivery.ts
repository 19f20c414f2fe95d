/** Calls whose messages are lost and repeated. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Path from "node:path"
import { randomFrom } from "../chaos/random.ts"
import type { Harness } from "./callSuite.ts"
import {
  controlsOf,
  eventually,
  flowed,
  heard,
  idle,
  isFinal,
  isRequest,
  linesOf,
  losing,
  pieces,
  requests,
  start,
  topic
} from "./support/calls.ts"

export const delivery = ({ capabilities, test }: Harness): void => {
  test(
    "is acknowledged, told of while it runs, and answered once",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const calling = yield* Effect.forkScoped(at.call("long", { gate: "open" }))
      yield* at.begun("long")
      const { request_id } = requests(at.wire).at(-1) ?? assert.fail()
      const signs = () => heard(at.wire, request_id)
      yield* eventually("signs of life", () => signs().filter((sign) => sign === "alive").length >= 5)
      yield* at.open("open")
      assert.strictEqual(yield* Fiber.join(calling), "done long\n")
      assert.strictEqual(signs()[0], "accepted")
      assert.strictEqual(signs().at(-1), "final")
      assert.deepStrictEqual([...new Set(signs().slice(1, -1))], ["alive"])
      assert.lengthOf(at.runs("long"), 1)
    })
  )

  test(
    "is sent again when its request is lost",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      at.wire.rule = losing(2, isRequest)
      assert.strictEqual(yield* at.call("lost"), "done lost\n")
      assert.lengthOf(at.runs("lost"), 1)
      const sent = requests(at.wire).slice(-3)
      assert.deepStrictEqual(sent.map(({ attempt }) => attempt), [undefined, 1, 2])
      assert.lengthOf([...new Set(sent.map(({ request_id }) => request_id))], 1)
    })
  )

  test(
    "is sent again when its request and the questions after that are lost",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const before = requests(at.wire).length
      const losesRequest = losing(1, isRequest)
      const losesPing = losing(2, ({ message, way }) => way === "out" && message["kind"] === "ping")
      at.wire.rule = (passing) => losesRequest(passing) * losesPing(passing)
      assert.strictEqual(yield* at.call("unasked"), "done unasked\n")
      assert.lengthOf(at.runs("unasked"), 1)
      assert.lengthOf(controlsOf(at.wire, "ping"), 3)
      assert.lengthOf(requests(at.wire), before + 2)
    })
  )

  test(
    "that is lost is not sent again where nobody acknowledges anything any more, until somebody does",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const before = requests(at.wire).length
      const [server] = at.replicas
      if (server === undefined) return
      server.wire.rule = ({ way }) => way === "out" ? 0 : 1
      at.wire.rule = losing(1, isRequest)
      const calling = yield* Effect.forkScoped(at.call("unsaid"))
      yield* eventually("questions", () => controlsOf(at.wire, "ping").length >= 3)
      assert.lengthOf(requests(at.wire), before + 1)
      server.wire.rule = () => 1
      assert.strictEqual(yield* Fiber.join(calling), "done unsaid\n")
      assert.lengthOf(at.runs("unsaid"), 1)
    })
  )

  test(
    "whose request is lost with the only server fails with NoServer soon",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      at.wire.rule = losing(1, isRequest)
      const began = performance.now()
      const calling = yield* Effect.forkScoped(at.failure("lost"))
      yield* at.replicas[0]?.kill ?? Effect.void
      assert.strictEqual((yield* Fiber.join(calling))._tag, "NoServer")
      assert.isBelow(performance.now() - began, 10_000)
    }),
    capabilities.tellsAbsence
  )

  test(
    "whose request arrives more than once is run once by a replica",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      at.wire.rule = (passing) => isRequest(passing) ? 3 : 1
      const calling = yield* Effect.forkScoped(at.call("again", { gate: "open" }))
      yield* at.begun("again")
      const [server] = at.replicas
      const arrivals = () =>
        server?.wire.seen.filter(({ message, way }) => way === "in" && message["reply_to"] !== undefined).length ?? 0
      const before = arrivals()
      // It is known while it runs, and after that.
      yield* at.open("open")
      yield* Fiber.join(calling)
      yield* at.call("other")
      yield* eventually("the copies", () => arrivals() >= before + 3)
      assert.lengthOf(at.runs("again"), 1)
      assert.lengthOf(at.runs("other"), 1)
    })
  )

  test(
    "whose acknowledgements are lost is sent again while it runs, and run once",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const sent = () => requests(at.wire).length
      const before = sent()
      at.wire.rule = ({ message, way }) => way === "in" && message["event"] !== undefined && sent() < before + 3 ? 0 : 1
      const calling = yield* Effect.forkScoped(at.call("unheard", { gate: "open" }))
      yield* eventually("three requests", () => sent() === before + 3)
      yield* at.open("open")
      assert.strictEqual(yield* Fiber.join(calling), "done unheard\n")
      assert.lengthOf(at.runs("unheard"), 1)
    })
  )

  test(
    "whose answer is lost is answered again from what its replica keeps",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      for (const skill of ["pure", "once"] as const) {
        at.wire.rule = losing(2, isFinal)
        assert.strictEqual(yield* at.call(`short ${skill}`, { skill }), `done short ${skill}\n`)
        at.wire.rule = losing(2, isFinal)
        const calling = yield* Effect.forkScoped(at.call(`long-${skill}`, { skill, gate: `open-${skill}` }))
        yield* at.begun(`long-${skill}`)
        // Long enough to be acknowledged.
        yield* eventually("a sign of life", () => at.wire.seen.at(-1)?.message["event"] === "alive")
        yield* at.open(`open-${skill}`)
        assert.strictEqual(yield* Fiber.join(calling), `done long-${skill}\n`)
        assert.lengthOf(at.runs(`long-${skill}`), 1)
      }
      assert.lengthOf(at.runs("short"), 2)
    })
  )

  test(
    "whose answer is large gets it in parts, whole and from one run, though some of them are lost",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const lost = new Set<unknown>()
      at.wire.rule = ({ message: { event, part }, way }) => {
        if (way !== "in" || event !== "part" || typeof part !== "number" || part % 20 !== 7 || lost.has(part)) return 1
        lost.add(part)
        return 0
      }
      const { stdout } = yield* at.client.run({ skill: "flow", topic, args: [at.directory] })
      assert.strictEqual(Buffer.from(stdout).toString(), flowed)
      assert.isAbove(lost.size, 2)
      assert.lengthOf(linesOf(Path.join(at.directory, "written")), pieces)
      const { request_id } = requests(at.wire).at(-1) ?? assert.fail()
      assert.notInclude(heard(at.wire, request_id), "final")
      yield* Effect.forEach(at.replicas, idle)
    })
  )

  test(
    "has one outcome, its own, whatever is lost and repeated on the way",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 3 })
      const random = randomFrom(11)
      const storm = () => random() < 0.1 ? 0 : random() < 0.1 ? 2 : 1
      for (const { wire } of [at.caller, ...at.replicas]) wire.rule = storm
      const names = Array.from({ length: 40 }, (_, index) => index % 2 === 0 ? `pure-${index}` : `once-${index}`)
      const outcomes = new Map<string, Array<Result.Result<string, unknown>>>()
      yield* Effect.forEach(
        names,
        Effect.fnUntraced(function*(name) {
          const skill = name.startsWith("pure") ? "pure" : "once"
          const outcome = yield* Effect.result(at.call(name, { skill }))
          outcomes.set(name, [...outcomes.get(name) ?? [], Result.mapError(outcome, ({ reason }) => reason._tag)])
        }),
        { concurrency: 10 }
      )
      for (const { wire } of [at.caller, ...at.replicas]) wire.rule = () => 1
      for (const name of names) {
        const [outcome, ...others] = outcomes.get(name) ?? []
        assert.lengthOf(others, 0)
        if (name.startsWith("once")) assert.isAtMost(at.runs(name).length, 1, name)
        const isLost = name.startsWith("once") && outcome !== undefined && Result.isFailure(outcome) &&
          outcome.failure === "ReplicaLost"
        if (!isLost) assert.deepStrictEqual(outcome, Result.succeed(`done ${name}\n`), name)
      }
      assert.strictEqual(yield* at.client.pending, 0)
      yield* Effect.forEach(at.replicas, idle)
    })
  )

  test(
    "to a topic that nobody serves fails with NoServer at once",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const began = performance.now()
      const { reason } = yield* Effect.flip(at.client.run({ skill: "pure", topic: "TOPIC_NOBODY" }))
      assert.strictEqual(reason._tag, "NoServer")
      assert.isBelow(performance.now() - began, 2000)
    }),
    capabilities.tellsAbsence
  )

  test(
    "to a topic that nobody serves fails when its time is over",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const { reason } = yield* Effect.flip(at.client.run({ skill: "pure", topic: "TOPIC_NOBODY", timeout: 500 }))
      assert.strictEqual(reason._tag, "Timeout")
      assert.strictEqual(yield* at.client.pending, 0)
    }),
    !capabilities.tellsAbsence
  )
}
