import { assert, describe, it } from "@effect/vitest"
import type * as Bus from "@skillscale/core/Bus"
import * as Topic from "@skillscale/core/Topic"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import { answerTo, busLayer, echo, type Json, serve, text, utf8, Wire } from "./support/fakes.ts"

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

describe("SkillClient.run", () => {
  it.effect("a script that exits non-zero is a result", () =>
    withClient(Effect.gen(function*() {
      yield* failing({
        v: 2,
        server: "r1",
        code: "SkillFailed",
        error: "exit code 2",
        exit_code: 2,
        content: "out",
        stderr: "err",
        truncated: ["stderr"],
        artifacts: [{ path: "a.txt", size: 2, sha256: "0".repeat(64), mime: "text/plain", data: "aGk=" }],
        usage: { wall_ms: 1, cpu_ms: 2, max_rss_bytes: 3, queue_ms: 4, exec_ms: 5 }
      })
      const result = yield* run({
        script: "scripts/x.py",
        args: ["--n", "1"],
        env: { A: "b" },
        files: { f: utf8("x") }
      })
      assert.strictEqual(result.exitCode, 2)
      assert.isUndefined(result.signal)
      assert.strictEqual(Buffer.from(result.stdout).toString(), "out")
      assert.strictEqual(result.stderr, "err")
      assert.deepStrictEqual(result.truncated, ["stderr"])
      assert.strictEqual(Buffer.from(result.artifacts[0]?.data ?? []).toString(), "hi")
      assert.strictEqual(result.usage?.execMs, 5)
      assert.strictEqual(result.server, "r1")
      const { args, env, files, script } = (yield* Wire).on(topic)[0]?.body ?? {}
      assert.deepStrictEqual({ args, env, files, script }, {
        args: ["--n", "1"],
        env: { A: "b" },
        files: { f: "eA==" },
        script: "scripts/x.py"
      })
    })))

  it.effect("a script that a signal ended is a result, another failure is not", () =>
    withClient(Effect.gen(function*() {
      yield* failing({ code: "SkillFailed", exit_code: -1, signal: "SIGSEGV" })
      const result = yield* run()
      assert.deepStrictEqual([result.exitCode, result.signal], [undefined, "SIGSEGV"])
      yield* serve(["TOPIC_LIMIT"], (request) => answerTo(request, { status: "error", code: "CpuLimit", exit_code: 1 }))
      assert.strictEqual((yield* reasonOf(run({ topic: "TOPIC_LIMIT" })))._tag, "LimitExceeded")
    })))

  it.effect("standard output is exact when it is no text", () =>
    withClient(Effect.gen(function*() {
      yield* serve([topic], (request) => answerTo(request, { v: 2, content: "\uFFFD", stdout: "/w==", exit_code: 0 }))
      const result = yield* run()
      assert.deepStrictEqual(Array.from(result.stdout), [0xff])
    })))

  it.effect("does not pass off what a version 1 server ran instead", () =>
    withClient(Effect.gen(function*() {
      yield* serve([topic], echo)
      assert.strictEqual((yield* run({ stdin: "x" })).exitCode, 0)
      const digest = `sha256:${"0".repeat(64)}`
      const reason = yield* reasonOf(run({ script: "x.py", args: ["1"], digest }))
      assert.strictEqual(reason._tag, "Unsupported")
      assert.include(reason.message, "script, args, digest")
      assert.strictEqual((yield* reasonOf(invoke({ data: new Uint8Array([0xff]) })))._tag, "Unsupported")
      assert.strictEqual((yield* reasonOf(invoke({ digest })))._tag, "Unsupported")
    })))
})

describe("SkillClient.invokeAll", () => {
  it.effect("keeps the order, bounds the concurrency, and loses nothing to a failure", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      let running = 0
      let most = 0
      yield* serve([topic], (request) =>
        Effect.gen(function*() {
          most = Math.max(most, ++running)
          yield* Effect.repeat(Effect.yieldNow, { times: 5 })
          running--
          yield* text(request["intent"]).includes("3")
            ? answerTo(request, { status: "error", error: "three" })
            : echo(request)
        }).pipe(Effect.forkDetach))
      const requests = Array.from({ length: 6 }, (_, index) => ({ skill: "a", topic, data: String(index) }))
      const results = yield* client.invokeAll(requests, { concurrency: 2 })
      assert.deepStrictEqual(
        results.map((result) => Result.isSuccess(result) ? result.success.content : result.failure.reason._tag),
        ["echo: 0", "echo: 1", "echo: 2", "SkillFailed", "echo: 4", "echo: 5"]
      )
      assert.strictEqual(most, 2)
    })))

  it.effect("invokeSequential stops at the first failure and names it", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      yield* serve([topic], echo)
      yield* serve(["TOPIC_BAD"], (request) => answerTo(request, { status: "error", error: "no" }))
      const good = { skill: "a", topic, data: "x" }
      const bad = { skill: "b", topic: "TOPIC_BAD" }
      assert.lengthOf(yield* client.invokeSequential([good, good]), 2)
      const error = yield* Effect.flip(client.invokeSequential([good, bad, good]))
      assert.strictEqual(error.index, 1)
      assert.include(error.message, "cannot invokeSequential \"b\" (request 1)")
      assert.lengthOf((yield* Wire).on(topic), 3)
    })))
})

describe("SkillClient under load", () => {
  it.effect("1,000 calls each get their own answer among shuffled, duplicated and late ones", () =>
    withClient(Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const count = 1000
      const waiting: Array<Json> = []
      const all = yield* Deferred.make<void>()
      yield* serve([topic], (request) => {
        waiting.push(request)
        return waiting.length === count ? Deferred.succeed(all, undefined) : Effect.void
      })
      const late = yield* ignored("late")
      const requests = Array.from({ length: count }, (_, index) => ({ skill: "a", topic, data: `#${index}` }))
      const fiber = yield* Effect.forkChild(client.invokeAll(requests, { concurrency: "unbounded" }))
      yield* Deferred.await(all)
      assert.strictEqual(yield* pending, count)
      let state = 42
      const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648
      const shuffled = waiting.map((request) => ({ request, at: random() })).sort((a, b) => a.at - b.at)
      for (const { request } of shuffled) {
        yield* echo(request)
        if (random() < 0.3) yield* echo(request)
      }
      const results = yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        results.map((result) => Result.isSuccess(result) ? result.success.content : result.failure.message),
        requests.map(({ data }) => `echo: ${data}`)
      )
      for (const { request } of shuffled.slice(0, 100)) yield* echo(request)
      assert.strictEqual(yield* pending, 0)
      assert.isAbove(yield* ignored("late"), late + 200)
      assert.isEmpty((yield* Wire).on(`@${topic}`))
    })))

  it.effect("interrupting 100 of 200 calls cancels exactly those", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      const fibers = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => index),
        (index) => Effect.forkChild(invoke({ data: String(index) }), { startImmediately: true })
      )
      const requests = wire.on(topic).map(({ body }) => body)
      assert.lengthOf(requests, 200)
      yield* Fiber.interruptAll(fibers.filter((_, index) => index % 2 === 0))
      assert.deepStrictEqual(
        wire.on(`@${topic}`).map(({ body }) => text(body["request_id"])).sort(),
        requests.filter((_, index) => index % 2 === 0).map((request) => text(request["request_id"])).sort()
      )
      yield* Effect.forEach(requests, echo)
      for (const [index, fiber] of fibers.entries()) {
        if (index % 2 === 1) assert.strictEqual((yield* Fiber.join(fiber)).content, `echo: ${index}`)
      }
      assert.strictEqual(yield* pending, 0)
    })))
})

describe("SkillClient answers a server's signs of life", () => {
  const worker = Topic.worker(topic, "r1")
  const alive = (request: Json, ...calls: ReadonlyArray<unknown>) =>
    answerTo(request, { v: 2, event: "alive", server: "r1", topic, lease_ms: 60_000, calls })

  it.effect("by saying that it waits, six times within its lease", () =>
    withClient(
      Effect.gen(function*() {
        const wire = yield* Wire
        const fiber = yield* Effect.forkChild(invoke({ data: "x", timeout: "1 minute" }), { startImmediately: true })
        const [request = assert.fail()] = wire.on(topic).map(({ body }) => body)
        assert.strictEqual(request["lease_ms"], 12_000)
        const id = request["request_id"]
        for (let second = 1; second <= 8; second++) {
          yield* TestClock.adjust("1 second")
          yield* alive(request, id)
        }
        yield* TestClock.adjust(0)
        const said = wire.on(worker).map(({ body }) => [body["kind"], body["request_id"]])
        assert.deepStrictEqual(said, Array.from({ length: 4 }, () => ["waiting", id]))
        yield* echo(request)
        assert.strictEqual((yield* Fiber.join(fiber)).content, "echo: x")
      }),
      { lease: "12 seconds" }
    ))

  it.effect("by cancelling again what it does not wait for", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      const fiber = yield* Effect.forkChild(invoke({ data: "x" }), { startImmediately: true })
      const [request = assert.fail()] = wire.on(topic).map(({ body }) => body)
      yield* Fiber.interrupt(fiber)
      yield* alive(request, request["request_id"])
      yield* TestClock.adjust(0)
      const said = wire.on(worker).map(({ body }) => [body["kind"], body["request_id"], body["reply_to"]])
      assert.deepStrictEqual(said, [["cancel", request["request_id"], request["reply_to"]]])
    })))

  it.effect("and takes no lease that servers could not keep", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(withClient(Effect.void, { lease: "999 millis" }))
      assert.include(error.message, "lease is 999 ms; give 1 second or more")
    }))
})
