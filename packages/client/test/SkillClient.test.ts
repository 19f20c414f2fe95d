import { assert, describe, it } from "@effect/vitest"
import * as Bus from "@skillscale/core/Bus"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import { answerTo, busLayer, echo, type Json, send, serve, skill, text, utf8, Wire } from "./support/fakes.ts"
import { createHash } from "node:crypto"

const topic = "TOPIC_TEST"

const withClient = <A, E>(
  effect: Effect.Effect<A, E, SkillClient.SkillClient | Bus.Bus | Wire | Scope.Scope>,
  options?: SkillClient.Options
) => effect.pipe(Effect.provide(Layer.provideMerge(SkillClient.layer(options), busLayer)))

const reasonOf = <A>(effect: Effect.Effect<A, ClientError.ClientError, SkillClient.SkillClient>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const invoke = (request: Partial<SkillClient.InvokeRequest> = {}) =>
  Effect.flatMap(SkillClient.SkillClient, (client) => client.invoke({ skill: "a", topic, ...request }))

const run = (request: Partial<SkillClient.RunRequest> = {}) =>
  Effect.flatMap(SkillClient.SkillClient, (client) => client.run({ skill: "a", topic, ...request }))

const pending = Effect.flatMap(SkillClient.SkillClient, (client) => client.pending)

const failing = (body: Json) => serve([topic], (request) => answerTo(request, { status: "error", ...body }))

const failingOn = (name: string) => serve([name], (request) => answerTo(request, { status: "error", error: "no" }))

const ignored = (kind: string) =>
  Effect.map(
    Metric.value(Metric.withAttributes(
      Metric.counter("skillscale_client_ignored_replies_total", {
        description: "Replies that no pending call waits for: late, duplicate, foreign or malformed",
        incremental: true
      }),
      { kind }
    )),
    ({ count }) => count
  )

const publishing = (publish: Bus.Bus["Service"]["publish"]) =>
  Layer.effect(Bus.Bus, Effect.map(Bus.Bus, ({ subscription }) => Bus.make({ subscription, publish }))).pipe(
    Layer.provide(Bus.layerMemory)
  )

const deaf = publishing(() => Effect.void)

const broken = publishing(() =>
  Effect.fail(
    new Bus.BusError({ operation: "publish", reason: new Bus.Unreachable({ address: "tcp://x", cause: "refused" }) })
  )
)

describe("SkillClient.invoke", () => {
  it.effect("sends what servers of both versions understand, and reads a version 1 answer", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      yield* serve([topic], echo)
      const reply = yield* invoke({ data: "a,b", timeout: 500 })
      assert.strictEqual(reply.content, "echo: a,b")
      assert.strictEqual(reply.topic, topic)
      const { request_id, reply_to, timestamp, traceparent, ...rest } = wire.on(topic)[0]?.body ?? {}
      assert.match(text(reply_to), /^AGENT_REPLY_[0-9a-f]{32}$/)
      assert.match(text(request_id), /^[0-9a-f]{16}$/)
      assert.isNumber(timestamp)
      assert.match(text(traceparent), /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
      assert.deepStrictEqual(rest, {
        v: 2,
        skill: "a",
        intent: "{\"skill\":\"a\",\"data\":\"a,b\"}",
        timeout_ms: 500,
        lease_ms: 30_000,
        accept: ["accepted", "offer", "part"]
      })
    })))

  it.effect("sends text once, in the intent, and bytes that are no text once, as stdin", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      yield* serve([topic], (request) => answerTo(request, { v: 2 }))
      yield* invoke({ data: utf8("\uFEFFgrüße") })
      yield* invoke({ data: new Uint8Array([0xff, 0x00]) })
      const [asText, asBytes] = wire.on(topic).map(({ body }) => body)
      assert.strictEqual(asText?.["intent"], JSON.stringify({ skill: "a", data: "\uFEFFgrüße" }))
      assert.notProperty(asText, "stdin")
      assert.strictEqual(asBytes?.["intent"], "{\"skill\":\"a\",\"data\":\"\"}")
      assert.strictEqual(asBytes?.["stdin"], "/wA=")
    })))

  it.effect("gives every code a reason", () =>
    withClient(Effect.gen(function*() {
      let body: Json = {}
      yield* serve([topic], (request) => answerTo(request, { status: "error", error: "because", ...body }))
      const expected: ReadonlyArray<readonly [string | undefined, ClientError.Reason["_tag"], boolean]> = [
        [undefined, "SkillFailed", false],
        ["BadRequest", "BadRequest", false],
        ["InvalidInput", "InvalidInput", false],
        ["InvalidOutput", "InvalidOutput", false],
        ["NoServer", "NoServer", true],
        ["SkillNotFound", "SkillNotFound", false],
        ["ScriptNotFound", "ScriptNotFound", false],
        ["SkillChanged", "SkillChanged", false],
        ["SkillFailed", "SkillFailed", false],
        ["Overloaded", "Overloaded", true],
        ["TimedOut", "Timeout", false],
        ["Cancelled", "Cancelled", false],
        ["ShuttingDown", "ServerError", true],
        ["NotGranted", "ServerError", true],
        ["OutputLimit", "LimitExceeded", false],
        ["MemoryLimit", "LimitExceeded", false],
        ["CpuLimit", "LimitExceeded", false],
        ["Killed", "Killed", false],
        ["SpawnFailed", "ServerError", false],
        ["Rejected", "Rejected", false],
        ["TooLarge", "TooLarge", false],
        ["Internal", "ServerError", false],
        ["FromTheFuture", "ServerError", false]
      ]
      for (const [code, tag, retryable] of expected) {
        body = code === undefined ? {} : { code }
        // Too short for another try.
        const error = yield* Effect.flip(invoke({ timeout: "5 millis" }))
        assert.strictEqual(error.reason._tag, tag, code)
        assert.strictEqual(error.isRetryable, retryable, code)
        assert.include(error.message, "because", code)
        assert.include(error.message, "cannot invoke \"a\"", code)
      }
      body = { code: "FromTheFuture", retryable: true }
      assert.isTrue((yield* Effect.flip(invoke())).isRetryable)
      body = { code: "TimedOut", retryable: true }
      assert.isTrue((yield* Effect.flip(invoke())).isRetryable)
    })))

  it.effect("tells exit code, standard error and output of a skill that failed", () =>
    withClient(Effect.gen(function*() {
      yield* failing({ code: "SkillFailed", exit_code: 3, stderr: "no such column", content: "partial" })
      const reason = yield* reasonOf(invoke())
      assert.deepInclude({ ...reason }, { exitCode: 3, stderr: "no such column", content: "partial" })
      assert.strictEqual(reason.message, "the script exited with 3: no such column")
    })))

  it.effect("tells where data does not fit, and what a script wrote that does not", () =>
    withClient(Effect.gen(function*() {
      const issues = [{ path: "/rows/0", message: "expected string, got 5" }, { path: "", message: "lacks \"name\"" }]
      const output = { content: "[5]", stderr: "odd" }
      const data = Buffer.from("a,b")
      const sha256 = createHash("sha256").update(data).digest("hex")
      const file = { path: "out/table.csv", size: data.length, sha256, mime: "text/csv" }
      let code = "InvalidInput"
      yield* serve(
        [topic],
        (request) =>
          answerTo(request, {
            status: "error",
            error: "because",
            code,
            issues,
            ...output,
            artifacts: [{ ...file, data: data.toString("base64") }]
          })
      )
      assert.deepInclude({ ...(yield* reasonOf(invoke())) }, { _tag: "InvalidInput", issues, detail: "because" })
      code = "InvalidOutput"
      const expected = { _tag: "InvalidOutput" as const, issues, detail: "because", ...output }
      for (const reason of [yield* reasonOf(invoke()), yield* reasonOf(run())]) {
        assert.deepInclude({ ...reason }, expected)
        const [made] = reason._tag === "InvalidOutput" ? reason.artifacts : []
        assert.deepStrictEqual({ ...made, data: Buffer.from(made?.data ?? "") }, { ...file, data })
        assert.deepInclude(JSON.parse(JSON.stringify(reason)), { artifacts: [file] })
      }
    })))

  it.effect("refuses requests that cannot be sent", () =>
    withClient(Effect.gen(function*() {
      assert.strictEqual((yield* reasonOf(invoke({ skill: "" })))._tag, "BadRequest")
      assert.strictEqual((yield* reasonOf(invoke({ digest: "latest" })))._tag, "BadRequest")
      assert.strictEqual((yield* reasonOf(invoke({ timeout: -1 })))._tag, "BadRequest")
      assert.strictEqual((yield* reasonOf(run({ files: { "../x": new Uint8Array() } })))._tag, "BadRequest")
      assert.strictEqual((yield* reasonOf(invoke({ data: "x".repeat(65 * 1024 * 1024) })))._tag, "TooLarge")
      assert.strictEqual(yield* pending, 0)
      assert.isEmpty((yield* Wire).on(topic))
    })))

  it.effect("times out, cancels once and ignores the answer that comes later", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      const fiber = yield* Effect.forkChild(Effect.exit(invoke({ timeout: "2 seconds" })))
      const request = yield* wire.next(topic)
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const exit = yield* Fiber.join(fiber)
      const error = Option.getOrThrow(Cause.findErrorOption(Option.getOrThrow(Exit.getCause(exit))))
      assert.strictEqual(error.reason._tag, "Timeout")
      assert.include(error.message, "2000 ms")
      const commands = wire.on(`@${topic}`).map(({ body }) => body)
      assert.deepStrictEqual(commands.filter(({ kind }) => kind !== "ping"), [
        { kind: "cancel", request_id: request["request_id"], reply_to: request["reply_to"] }
      ])
      const before = yield* ignored("late")
      yield* answerTo(request, { content: "late" })
      yield* answerTo(request, { content: "late" })
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.strictEqual(yield* ignored("late"), before + 2)
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("an interrupted call cancels exactly once, an answered one never", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      const fiber = yield* Effect.forkChild(invoke())
      const request = yield* wire.next(topic)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(wire.on(`@${topic}`).map(({ body }) => body["request_id"]), [request["request_id"]])
      assert.strictEqual(yield* pending, 0)
      yield* serve([topic], echo)
      yield* invoke()
      assert.lengthOf(wire.on(`@${topic}`), 1)
    })))

  it.effect("interruption waits at most a second for a bus that does not take the cancellation", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      wire.hanging.add(`@${topic}`)
      const fiber = yield* Effect.forkChild(invoke())
      yield* wire.next(topic)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* wire.next(`@${topic}`)
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(interrupting.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(interrupting)
    })))

  it.effect("a request that the bus does not take is interrupted too", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      wire.hanging.add(topic)
      const fiber = yield* Effect.forkChild(reasonOf(invoke({ timeout: 50 })))
      yield* wire.next(topic)
      yield* TestClock.adjust(50)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Timeout")
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("sends the budget that is left when finding the topic took time", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      yield* serve([topic], echo)
      const fiber = yield* Effect.forkChild(invoke({ topic: undefined, timeout: "10 seconds" }))
      const question = yield* wire.next("@SERVERS")
      yield* TestClock.adjust(900)
      yield* answerTo(question, {
        content: JSON.stringify({ server: "s", topic, skills: [skill("a", topic)] })
      })
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      yield* TestClock.adjust(100)
      yield* Fiber.join(fiber)
      assert.strictEqual(wire.on(topic)[0]?.body["timeout_ms"], 9000)
    })))

  it.effect("asks the bus to send a call only while somebody waits for it, each time that it is sent", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      let refusals = 0
      yield* serve([topic], (request) =>
        refusals++ === 0
          ? answerTo(request, { v: 2, status: "error", code: "Overloaded", retryable: true, server: "s" })
          : echo(request))
      const call = yield* Effect.forkChild(invoke({ timeout: 5000 }))
      yield* wire.next(topic)
      for (let waited = 0; waited < 100; waited += 10) yield* TestClock.adjust(10)
      yield* Fiber.join(call)
      const [first, second] = wire.on(topic)
      assert.strictEqual(first?.expiresInMs, 5000)
      assert.isBelow(second?.expiresInMs ?? NaN, 5000)
      assert.strictEqual(second?.expiresInMs, second?.body["timeout_ms"])
      yield* invoke({ timeout: "Infinity" })
      assert.isUndefined(wire.on(topic)[2]?.expiresInMs)

      yield* Effect.forkChild(
        Effect.flatMap(SkillClient.SkillClient, (client) => client.describe("a", { topic, timeout: 700 }))
      )
      yield* wire.next(`@${topic}`)
      assert.strictEqual(wire.on(`@${topic}`)[0]?.expiresInMs, 700)
      const late = yield* Effect.forkChild(invoke({ topic: "TOPIC_NOBODY", timeout: 800 }))
      yield* wire.next("TOPIC_NOBODY")
      yield* TestClock.adjust(800)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(late)))
      // What ends a call has to arrive however late it is.
      assert.deepStrictEqual(
        wire.on("@TOPIC_NOBODY").map(({ body, expiresInMs }) => [body["kind"], expiresInMs]).at(-1),
        ["cancel", undefined]
      )
    })))

  it.effect("malformed, foreign and event messages are harmless; a malformed answer to a call is its error", () =>
    withClient(Effect.gen(function*() {
      const malformed = yield* ignored("malformed")
      const foreign = yield* ignored("foreign")
      yield* serve([topic], (request) =>
        Effect.gen(function*() {
          const replyTo = text(request["reply_to"])
          yield* send(replyTo, "{")
          yield* send(replyTo, "[]")
          yield* send(replyTo, { request_id: "someone else's", status: "success", content: "x", error: "" })
          yield* send(replyTo, { request_id: "someone else's", status: "maybe" })
          yield* answerTo(request, { event: "progress", content: "50 %" })
          yield* answerTo(request, { v: 2, event: "unheard of", content: "?" })
          yield* echo(request)
        }).pipe(Effect.orDie))
      assert.strictEqual((yield* invoke({ data: "x" })).content, "echo: x")
      assert.strictEqual(yield* ignored("malformed"), malformed + 3)
      assert.strictEqual(yield* ignored("foreign"), foreign + 1)

      yield* serve(["TOPIC_BROKEN"], (request) => answerTo(request, { status: "maybe" }))
      const reason = yield* reasonOf(invoke({ topic: "TOPIC_BROKEN" }))
      assert.strictEqual(reason._tag, "ProtocolError")
      assert.include(reason.message, "status")
    })))

  it.effect("bounds the number of pending calls", () =>
    withClient(
      Effect.gen(function*() {
        const wire = yield* Wire
        yield* Effect.forkChild(invoke())
        yield* Effect.forkChild(invoke())
        yield* wire.next(topic)
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        assert.strictEqual(yield* pending, 2)
        const error = yield* Effect.flip(invoke())
        assert.strictEqual(error.reason._tag, "Overloaded")
        assert.isTrue(error.isRetryable)
      }),
      { maxPending: 2 }
    ))

  it.effect("closing fails what waits with Closed and cancels it", () =>
    Effect.gen(function*() {
      const wire = yield* Wire
      const fiber = yield* Effect.scoped(Effect.gen(function*() {
        const context = yield* Layer.build(SkillClient.layer())
        const fiber = yield* Effect.forkDetach(reasonOf(invoke()).pipe(Effect.provide(context)))
        yield* wire.next(topic)
        return fiber
      }))
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Closed")
      assert.lengthOf(wire.on(`@${topic}`), 1)
    }).pipe(Effect.provide(busLayer)))

  it.effect("a subscription that breaks fails what waits with its reason, and later calls with Closed", () =>
    Effect.gen(function*() {
      const memory = yield* Layer.build(busLayer)
      const inner = Context.get(memory, Bus.Bus)
      const wire = Context.get(memory, Wire)
      const breaking = yield* Deferred.make<never, Bus.BusError>()
      const fragile = Bus.make({
        publish: inner.publish,
        subscription: (topics) => Effect.map(inner.subscription(topics), Stream.interruptWhen(Deferred.await(breaking)))
      })
      const context = yield* Layer.build(SkillClient.layer()).pipe(Effect.provideService(Bus.Bus, fragile))
      const fiber = yield* Effect.forkChild(reasonOf(invoke()).pipe(Effect.provide(context)))
      yield* wire.next(topic)
      const reason = new Bus.Unreachable({ address: "tcp://x", cause: "gone" })
      yield* Deferred.fail(breaking, new Bus.BusError({ operation: "subscribe", reason }))
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Unreachable")
      assert.strictEqual((yield* reasonOf(invoke()).pipe(Effect.provide(context)))._tag, "Closed")
    }))

  it.effect("leaves a span that the request continues", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      yield* serve([topic], echo)
      yield* serve(["TOPIC_OPEN"], (request) => answerTo(request, { v: 2, event: "accepted", server: "r" }))
      yield* Effect.all([
        client.invoke({ skill: "a", topic }),
        Stream.runDrain(client.stream({ skill: "a", topic })),
        Effect.flip(client.invoke({ skill: "a", topic, digest: "wrong" })),
        Stream.runDrain(Stream.take(client.stream({ skill: "a", topic: "TOPIC_OPEN" }), 1)),
        Effect.flip(Stream.runDrain(client.stream({ skill: "a", topic, digest: "wrong" })))
      ]).pipe(Effect.provideService(Tracer.Tracer, tracer))
      const sent = (yield* Wire).on(topic).map(({ body }) => body)
      const seen = spans.map(({ attributes, name, spanId }) => ({ name, spanId, ...Object.fromEntries(attributes) }))
      assert.deepStrictEqual(
        seen.slice(0, 2),
        ["SkillClient.invoke", "SkillClient.stream"].map((name, index) => ({
          name,
          spanId: text(sent[index]?.["traceparent"]).split("-")[2] ?? "",
          skill: "a",
          topic,
          request_id: sent[index]?.["request_id"],
          outcome: "Success"
        }))
      )
      assert.deepStrictEqual(
        spans.slice(2).map(({ attributes }) => attributes.get("outcome")),
        ["BadRequest", "Interrupted", "BadRequest"]
      )
    })))

  it.effect("counts calls by outcome and measures them", () =>
    withClient(Effect.gen(function*() {
      yield* serve([topic], (request) => Effect.andThen(TestClock.adjust(30), echo(request)))
      yield* failingOn("TOPIC_BAD")
      yield* invoke()
      yield* reasonOf(invoke({ topic: "TOPIC_BAD" }))
      const lines = (yield* Metric.snapshot).filter(({ id }) => id.startsWith("skillscale_client_call"))
      const counts = lines.flatMap((metric) =>
        metric.type === "Counter" ? [[metric.attributes?.["outcome"], Number(metric.state.count)]] : []
      )
      assert.deepStrictEqual(counts, [["Success", 1], ["SkillFailed", 1]])
      const histogram = lines.find((metric) => metric.type === "Histogram")
      assert.strictEqual(histogram?.type === "Histogram" ? histogram.state.max : undefined, 0.03)
    })).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("connecting to a bus that delivers nothing fails in time and says what to check", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.scoped(Layer.build(SkillClient.layer()))))
      yield* TestClock.adjust("5 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.isTrue(error.isRetryable)
      assert.include(error.message, "cannot connect: no message came back through the proxy within 5000 ms")
      assert.include(error.message, "SKILLSCALE_PROXY_XSUB")
    }).pipe(Effect.provide(deaf)))

  it.effect("a bus that fails while connecting is asked again until the time is up", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.scoped(Layer.build(SkillClient.layer()))))
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.include((yield* Fiber.join(fiber)).message, "tcp://x cannot be reached")
    }).pipe(Effect.provide(broken)))
})
