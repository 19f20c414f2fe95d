import { assert, describe, it } from "@effect/vitest"
import type * as Bus from "@skillscale/core/Bus"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import type * as Circuit from "../src/internal/circuit.ts"
import * as metrics from "../src/internal/metrics.ts"
import { answerTo, busLayer, echo, type Json, serve, Wire } from "./support/fakes.ts"

const topic = "TOPIC_TEST"

const withClient = <A, E>(
  effect: Effect.Effect<A, E, SkillClient.SkillClient | Bus.Bus | Wire | Scope.Scope>,
  options?: SkillClient.Options
) =>
  effect.pipe(
    Effect.provide(Layer.provideMerge(SkillClient.layer(options), busLayer)),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

const invoke = (request: Partial<SkillClient.InvokeRequest> = {}) =>
  Effect.flatMap(SkillClient.SkillClient, (client) => client.invoke({ skill: "a", topic, ...request }))

/** How a call ends. */
const outcome = <A>(effect: Effect.Effect<A, ClientError.ClientError, SkillClient.SkillClient>) =>
  Effect.match(effect, { onSuccess: () => "Success" as const, onFailure: ({ reason }) => reason._tag })

const outcomes = (times: number, request: Partial<SkillClient.InvokeRequest> = {}) =>
  Effect.forEach(Array.from({ length: times }), () => outcome(invoke(request)))

/** As the proxy answers where nobody serves. */
const nobody = (request: Json) => answerTo(request, { status: "error", code: "NoServer" })

/** A topic where `answer` says what happens to a call. */
const changing = Effect.fnUntraced(function*(name: string = topic) {
  const state: { answer: (request: Json) => Effect.Effect<unknown, never, Bus.Bus> } = { answer: nobody }
  yield* serve([name], (request) => state.answer(request))
  return state
})

const snapshot = (id: string) =>
  Effect.map(Metric.snapshot, (lines) =>
    Object.fromEntries(lines.flatMap((line) =>
      line.id !== id
        ? []
        : line.type === "Gauge"
        ? [[line.attributes?.["topic"], Number(line.state.value)]]
        : line.type === "Counter"
        ? [[line.attributes?.["topic"], Number(line.state.count)]]
        : []
    )))
const states = snapshot("skillscale_client_circuit_state")
const openings = snapshot("skillscale_client_circuit_openings_total")

const published = Effect.map(Wire, (wire) => wire.on(topic).length)

const settle = Effect.repeat(Effect.yieldNow, { times: 30 })

describe("the circuit of a topic", () => {
  it.effect("opens after 20 failures in a row; then calls fail at once, are not sent, and say what to do", () =>
    withClient(Effect.gen(function*() {
      const served = yield* changing()
      yield* outcomes(19)
      served.answer = echo
      yield* outcomes(1)
      served.answer = nobody
      assert.deepStrictEqual(yield* outcomes(20), Array.from({ length: 20 }, () => "NoServer"))
      assert.strictEqual(yield* published, 40)
      const error = yield* Effect.flip(invoke())
      assert.strictEqual(error.reason._tag, "CircuitOpen")
      assert.isTrue(error.isRetryable)
      const { retryAfterMs, ...reason } = error.reason._tag === "CircuitOpen" ? error.reason : { retryAfterMs: NaN }
      assert.include(reason, { topic })
      assert.isTrue(retryAfterMs >= 500 && retryAfterMs <= 1000)
      assert.strictEqual(
        error.message,
        "cannot invoke \"a\": the last calls to TOPIC_TEST all failed, so this one was not sent; check that its servers " +
          `and the proxy run and keep up, and try again in ${retryAfterMs} ms`
      )
      const streamed = Effect.flatMap(
        SkillClient.SkillClient,
        (client) => Stream.runDrain(client.stream({ skill: "a", topic }))
      )
      assert.strictEqual(yield* outcome(streamed), "CircuitOpen")
      assert.strictEqual(yield* published, 40)
      assert.strictEqual(yield* Effect.flatMap(SkillClient.SkillClient, (client) => client.pending), 0)
      // Others are not concerned.
      yield* serve(["TOPIC_OTHER"], echo)
      assert.deepStrictEqual(yield* outcomes(1, { topic: "TOPIC_OTHER" }), ["Success"])
      assert.deepStrictEqual(yield* states, { [topic]: 2 })
      assert.deepStrictEqual(yield* openings, { [topic]: 1 })
    })))

  it.effect("lets one call through after its period, and closes when that is answered", () =>
    withClient(
      Effect.gen(function*() {
        const served = yield* changing()
        yield* outcomes(3)
        yield* TestClock.adjust(999)
        assert.deepStrictEqual(yield* outcomes(1), ["CircuitOpen"])
        yield* TestClock.adjust(1001)
        let asked: Json = {}
        served.answer = (request) => Effect.sync(() => asked = request)
        const trial = yield* Effect.forkChild(outcome(invoke()), { startImmediately: true })
        yield* settle
        assert.deepStrictEqual(yield* states, { [topic]: 1 })
        assert.deepStrictEqual(yield* outcomes(2), ["CircuitOpen", "CircuitOpen"])
        assert.strictEqual(yield* published, 4)
        served.answer = echo
        yield* answerTo(asked, { status: "error", error: "the skill failed" })
        assert.strictEqual(yield* Fiber.join(trial), "SkillFailed")
        assert.deepStrictEqual(yield* outcomes(5), Array.from({ length: 5 }, () => "Success"))
        assert.deepStrictEqual(yield* states, { [topic]: 0 })
      }),
      { circuit: { failures: 3, period: "2 seconds" } }
    ))

  it.effect("opens for longer when the trial fails", () =>
    withClient(
      Effect.gen(function*() {
        yield* changing()
        yield* outcomes(1)
        for (const period of [1000, 2000, 3000, 3000]) {
          yield* TestClock.adjust(period / 2 - 1)
          assert.deepStrictEqual(yield* outcomes(1), ["CircuitOpen"])
          yield* TestClock.adjust(period / 2 + 1)
          assert.deepStrictEqual(yield* outcomes(1), ["NoServer"])
        }
        assert.deepStrictEqual(yield* openings, { [topic]: 5 })
      }),
      { circuit: { failures: 1, longestPeriod: 3000 } }
    ))

  it.effect("lets the next call through when the trial is interrupted, or when a server has it", () =>
    withClient(
      Effect.gen(function*() {
        const served = yield* changing()
        yield* outcomes(1)
        yield* TestClock.adjust(1000)
        served.answer = () => Effect.void
        const trial = () => Effect.forkChild(outcome(invoke()), { startImmediately: true })
        const interrupted = yield* trial()
        yield* settle
        assert.deepStrictEqual(yield* outcomes(1), ["CircuitOpen"])
        yield* Fiber.interrupt(interrupted)
        served.answer = (request) => answerTo(request, { v: 2, event: "accepted", server: "s", lease_ms: 60_000 })
        const taken = yield* trial()
        yield* settle
        served.answer = echo
        assert.deepStrictEqual(yield* outcomes(2), ["Success", "Success"])
        yield* Fiber.interrupt(taken)
      }),
      { circuit: { failures: 1 } }
    ))

  it.effect("does not end the calls that are on their way", () =>
    withClient(
      Effect.gen(function*() {
        const asked: Array<Json> = []
        const served = yield* changing()
        served.answer = (request) => Effect.sync(() => asked.push(request))
        const calls = yield* Effect.forEach(["x", "y"], (data) =>
          Effect.forkChild(invoke({ data }), { startImmediately: true }))
        yield* settle
        served.answer = nobody
        yield* outcomes(2)
        assert.deepStrictEqual(yield* outcomes(1), ["CircuitOpen"])
        for (const request of asked) {
          yield* echo(request)
        }
        const replies = yield* Effect.forEach(calls, Fiber.join)
        assert.deepStrictEqual(
          replies.map(({ content }) =>
            content
          ),
          ["echo: x", "echo: y"]
        )
        assert.deepStrictEqual(yield* outcomes(1), ["CircuitOpen"])
      }),
      { circuit: { failures: 2 } }
    ))

  it.effect("counts a call whose time is over before a server had it, and no other that runs out of time", () =>
    withClient(
      Effect.gen(function*() {
        const late = Effect.fnUntraced(function*(topic: string, request: Partial<SkillClient.InvokeRequest> = {}) {
          const call = yield* Effect.forkChild(outcome(invoke({ topic, timeout: 500, ...request })), {
            startImmediately: true
          })
          yield* settle
          yield* TestClock.adjust(500)
          return yield* Fiber.join(call)
        })
        // In less than 500 ms nobody has to have heard of it.
        assert.strictEqual(yield* late("TOPIC_UNHEARD", { timeout: 400 }), "Timeout")
        assert.strictEqual(yield* late("TOPIC_UNHEARD"), "Timeout")
        assert.strictEqual(yield* late("TOPIC_UNHEARD"), "CircuitOpen")
        yield* serve(
          ["TOPIC_HEARD"],
          (request) => answerTo(request, { v: 2, event: "accepted", server: "s", lease_ms: 60_000 })
        )
        assert.strictEqual(yield* late("TOPIC_HEARD"), "Timeout")
        assert.strictEqual(yield* late("TOPIC_HEARD"), "Timeout")
        const call = yield* Effect.forkChild(invoke({ topic: "TOPIC_LEFT" }), { startImmediately: true })
        yield* settle
        yield* Fiber.interrupt(call)
        assert.strictEqual(yield* late("TOPIC_LEFT"), "Timeout")
      }),
      { circuit: { failures: 1 } }
    ))

  it.effect("does not count what this client refuses itself", () =>
    withClient(
      Effect.gen(function*() {
        const served = yield* changing()
        served.answer = () => Effect.void
        const call = yield* Effect.forkChild(invoke(), { startImmediately: true })
        yield* settle
        assert.deepStrictEqual(yield* outcomes(3), ["Overloaded", "Overloaded", "Overloaded"])
        yield* Fiber.interrupt(call)
        served.answer = nobody
        yield* outcomes(1)
        yield* TestClock.adjust(1000)
        // The trial has to leave its place here, too.
        const other = yield* Effect.forkChild(invoke({ topic: "TOPIC_OTHER" }), { startImmediately: true })
        yield* settle
        assert.deepStrictEqual(yield* outcomes(2), ["Overloaded", "Overloaded"])
        yield* Fiber.interrupt(other)
        served.answer = echo
        assert.deepStrictEqual(yield* outcomes(1), ["Success"])
      }),
      { circuit: { failures: 1 }, maxPending: 1 }
    ))

  it.effect("does not count a call that waited for its turn in vain, and refuses those that wait when it opens", () =>
    withClient(
      Effect.gen(function*() {
        const asked: Array<Json> = []
        const hold = (request: Json) => Effect.sync(() => asked.push(request))
        const begin = (request: Partial<SkillClient.InvokeRequest> = {}) =>
          Effect.tap(Effect.forkChild(outcome(invoke(request)), { startImmediately: true }), settle)
        const served = yield* changing()
        served.answer = (request) => answerTo(request, { v: 2, server: "s", lease_ms: 1000 })
        yield* outcomes(1)
        // From now on there is one at a time.
        served.answer = (request) =>
          answerTo(request, { v: 2, status: "error", code: "Overloaded", retryable: false, server: "s" })
        yield* outcomes(1)
        served.answer = hold
        const first = yield* begin()
        const late = yield* begin({ timeout: 100 })
        assert.lengthOf(asked, 1)
        yield* TestClock.adjust(100)
        assert.strictEqual(yield* Fiber.join(late), "Timeout")
        for (const request of asked.splice(0)) yield* answerTo(request, { v: 2, server: "s", lease_ms: 1000 })
        assert.strictEqual(yield* Fiber.join(first), "Success")

        const calls = yield* Effect.forEach(Array.from({ length: 6 }), () => begin())
        assert.lengthOf(asked, 2)
        served.answer = (request) => answerTo(request, { status: "error", code: "ShuttingDown", retryable: false })
        for (const request of asked) yield* served.answer(request)
        const ends = yield* Effect.forEach(calls, Fiber.join)
        assert.deepStrictEqual(ends.slice(0, 2), ["ServerError", "ServerError"])
        assert.deepStrictEqual(ends.slice(-2), ["CircuitOpen", "CircuitOpen"])
      }),
      { circuit: { failures: 2 } }
    ))

  it.effect("refuses at once also when others wait for their turn", () =>
    withClient(
      Effect.gen(function*() {
        const served = yield* changing()
        served.answer = (request) => answerTo(request, { v: 2, server: "s", lease_ms: 1000 })
        yield* outcomes(1)
        served.answer = () => Effect.void
        const calls = yield* Effect.forEach(["x", "y"], () => Effect.forkChild(invoke(), { startImmediately: true }))
        yield* settle
        // There are twice as many under way now as may be.
        served.answer = (request) =>
          answerTo(request, { v: 2, status: "error", code: "Overloaded", retryable: false, server: "s" })
        assert.deepStrictEqual(yield* outcomes(2), ["Overloaded", "CircuitOpen"])
        yield* Effect.forEach(calls, Fiber.interrupt)
      }),
      { circuit: { failures: 1 } }
    ))

  it.effect("is never open when it is off", () =>
    withClient(
      Effect.gen(function*() {
        yield* changing()
        assert.deepStrictEqual(yield* outcomes(50), Array.from({ length: 50 }, () => "NoServer"))
        assert.deepStrictEqual(yield* states, {})
      }),
      { circuit: "off" }
    ))

  it.effect("has to have sensible numbers", () =>
    Effect.gen(function*() {
      const refused = (circuit: unknown) =>
        SkillClient.make({ circuit: circuit as SkillClient.CircuitOptions }).pipe(
          Effect.scoped,
          Effect.flip,
          Effect.map(({ message }) => message)
        )
      for (const failures of [0, 1.5, Number.NaN, "3"]) {
        assert.include(yield* refused({ failures }), "circuit.failures is")
      }
      for (const value of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        for (const name of ["window", "maxBuffered", "maxPending"]) {
          const error = yield* Effect.flip(withClient(Effect.void, { [name]: value }))
          assert.include(error.message, `${name} is ${value}; give a whole number of 1 or more`)
        }
      }
      assert.include(yield* refused({ period: -1 }), "-1 is not a duration")
      assert.include(yield* refused({ longestPeriod: "soon" }), "\"soon\" is not a duration")
      assert.include(yield* refused({ period: "2 seconds", longestPeriod: "1 second" }), "not longer than the second")
      assert.include(yield* refused({ period: "Infinity" }), "give finite ones")
      assert.include(yield* refused("on"), "circuit is on; give an object, or \"off\"")
      yield* Effect.scoped(SkillClient.make({ circuit: { period: "1 minute" } }))
    }).pipe(Effect.provide(busLayer)))

  it.effect("is kept for 1,024 topics, the oldest of which is forgotten for another one", () =>
    withClient(
      Effect.gen(function*() {
        const names = Array.from({ length: 1025 }, (_, index) => `TOPIC_${index}`)
        yield* serve(names, nobody)
        yield* Effect.forEach(names.slice(0, 1024), (topic) => outcomes(1, { topic }))
        const again = (index: number) => Effect.map(outcomes(1, { topic: names[index] }), ([tag]) => tag)
        assert.deepStrictEqual([yield* again(0), yield* again(1023)], ["CircuitOpen", "CircuitOpen"])
        const told = yield* states
        assert.strictEqual(Object.keys(told).length, 101)
        assert.deepStrictEqual([told["TOPIC_0"], told["TOPIC_99"], told["other"]], [2, 2, 2])
        assert.strictEqual((yield* openings)["other"], 924)
        yield* again(1024)
        assert.strictEqual((yield* states)["TOPIC_0"], 0)
        assert.strictEqual(yield* again(1), "CircuitOpen")
        assert.strictEqual(yield* again(0), "NoServer")
        assert.strictEqual(yield* again(2), "CircuitOpen")
      }),
      { circuit: { failures: 1 } }
    ))

  it.effect("is told closed when the client ends", () =>
    Effect.gen(function*() {
      yield* changing().pipe(
        Effect.andThen(outcomes(1)),
        Effect.provide(SkillClient.layer({ circuit: { failures: 1 } }))
      )
      assert.deepStrictEqual(yield* states, { [topic]: 0 })
      assert.deepStrictEqual(yield* openings, { [topic]: 1 })
    }).pipe(Effect.scoped, Effect.provide(busLayer), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("is told as the worst of those that share a label", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const change = (...[from, to]: [Circuit.State, Circuit.State]) => metrics.circuitChanged(topic, from, to, context)
      const value = Effect.map(states, (told) => told[topic])
      change("Closed", "Open")
      change("Closed", "Open")
      change("Open", "HalfOpen")
      assert.strictEqual(yield* value, 2)
      change("Open", "HalfOpen")
      change("HalfOpen", "Closed")
      assert.strictEqual(yield* value, 1)
      change("HalfOpen", "Closed")
      assert.strictEqual(yield* value, 0)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
