import { assert, describe, it } from "@effect/vitest"
import type * as Bus from "@skillscale/core/Bus"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as SkillClient from "@skillscale/client/SkillClient"
import { answerTo, busLayer, echo, type Json, serve, Wire } from "./support/fakes.ts"

const topic = "TOPIC_TEST"

const withClient = <A, E>(
  effect: Effect.Effect<A, E, SkillClient.SkillClient | Bus.Bus | Wire | Scope.Scope>,
  options?: SkillClient.Options
) => effect.pipe(Effect.provide(Layer.provideMerge(SkillClient.layer(options), busLayer)))

const stream = (request: Partial<SkillClient.RunRequest> = {}) =>
  Stream.unwrap(Effect.map(SkillClient.SkillClient, (client) => client.stream({ skill: "a", topic, ...request })))

const base64 = (text: string) => Buffer.from(text).toString("base64")

const chunk = (seq: number, text: string, name: "stdout" | "stderr" = "stdout"): Json => ({
  v: 2,
  event: "chunk",
  seq,
  stream: name,
  data: base64(text)
})

const script = (...answers: ReadonlyArray<Json>) =>
  serve([topic], (request) => Effect.forEach(answers, (body) => answerTo(request, body), { discard: true }))

const shown = (event: SkillClient.StreamEvent): string => {
  switch (event._tag) {
    case "Accepted":
      return `accepted ${event.server}`
    case "Progress":
      return `progress ${event.content}`
    case "Done":
      return `done ${event.result.exitCode} ${Buffer.from(event.result.stdout).toString()}`
    default:
      return `${event._tag} ${Buffer.from(event.data).toString()}`
  }
}

const collected = Effect.map(Stream.runCollect(stream()), (events) => events.map(shown))

const cancels = Effect.map(Wire, (wire) => wire.on(`@${topic}`).length)

const pending = Effect.flatMap(SkillClient.SkillClient, (client) => client.pending)

describe("SkillClient.stream", () => {
  it.effect("emits what happens, in order, and asks for it", () =>
    withClient(Effect.gen(function*() {
      yield* script(
        { v: 2, event: "accepted", server: "r1" },
        chunk(0, "one "),
        chunk(1, "warn", "stderr"),
        { v: 2, event: "progress", seq: 2, content: "50 %" },
        { v: 2, event: "from the future", seq: 3 },
        chunk(4, "two"),
        { v: 2, server: "r1", content: "one two", stderr: "warn", exit_code: 0 }
      )
      assert.deepStrictEqual(yield* collected, [
        "accepted r1",
        "Stdout one ",
        "Stderr warn",
        "progress 50 %",
        "Stdout two",
        "done 0 one two"
      ])
      assert.deepStrictEqual((yield* Wire).on(topic)[0]?.body["accept"], [
        "accepted",
        "offer",
        "part",
        "progress",
        "chunk"
      ])
      assert.strictEqual(yield* cancels, 0)
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("is over before what is appended to it begins", () =>
    withClient(Effect.gen(function*() {
      const calls = Metric.counter("skillscale_client_calls_total", {
        description: "Operations that ended, by outcome",
        incremental: true
      })
      const ended = Effect.map(
        Metric.value(Metric.withAttributes(calls, { operation: "stream", outcome: "Success" })),
        ({ count }) => count
      )
      yield* serve([topic], echo)
      const before = yield* ended
      const after = yield* Stream.runCollect(Stream.concat(Stream.drain(stream()), Stream.fromEffect(ended)))
      assert.deepStrictEqual(after, [before + 1])
    })))

  it.effect("a server that does not stream sends everything at the end", () =>
    withClient(Effect.gen(function*() {
      yield* serve([topic], echo)
      const events = yield* Stream.runCollect(stream({ stdin: "x" }))
      assert.deepStrictEqual(events.map(shown), ["Stdout echo: x", "done 0 echo: x"])
    })))

  it.effect("a script that fails still ends with Done; a run that fails is the stream's error", () =>
    withClient(Effect.gen(function*() {
      yield* script(chunk(0, "x"), { v: 2, status: "error", code: "SkillFailed", exit_code: 4, content: "x" })
      assert.deepStrictEqual(yield* collected, ["Stdout x", "done 4 x"])
      yield* serve(
        ["TOPIC_FULL"],
        (request) => answerTo(request, { status: "error", code: "Overloaded", error: "full" })
      )
      const error = yield* Effect.flip(Stream.runDrain(stream({ topic: "TOPIC_FULL", timeout: "5 millis" })))
      assert.strictEqual(error.reason._tag, "Overloaded")
      assert.strictEqual(error.operation, "stream")
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("repeats nothing, and takes what got lost at the end from the final answer", () =>
    withClient(Effect.gen(function*() {
      yield* script(chunk(0, "one "), chunk(0, "one "), { v: 2, content: "one two", exit_code: 0 })
      assert.deepStrictEqual(yield* collected, ["Stdout one ", "Stdout two", "done 0 one two"])
    })))

  it.effect("puts in its order what comes too early", () =>
    withClient(Effect.gen(function*() {
      yield* script(
        chunk(0, "a"),
        chunk(3, "d"),
        chunk(2, "c", "stderr"),
        { v: 2, event: "progress", seq: 1, content: "b" },
        { v: 2, content: "ade", stderr: "c", streamed: { stdout: 3, stderr: 1, progress: 1 } }
      )
      assert.deepStrictEqual(yield* collected, [
        "Stdout a",
        "progress b",
        "Stderr c",
        "Stdout d",
        "Stdout e",
        "done 0 ade"
      ])
    })))

  it.effect("passes nothing on behind a gap, and takes the rest of the output from the final answer", () =>
    withClient(Effect.gen(function*() {
      yield* script(
        chunk(0, "a"),
        chunk(1, "1\n", "stderr"),
        chunk(3, "c"),
        chunk(4, "2\n", "stderr"),
        chunk(5, "3\n", "stderr"),
        { v: 2, content: "abcd", stderr: "1\n2\n3\n", streamed: { stdout: 4, stderr: 6, progress: 0 } }
      )
      assert.deepStrictEqual(yield* collected, ["Stdout a", "Stderr 1\n", "Stdout bcd", "Stderr 2\n3\n", "done 0 abcd"])
    })))

  const missingAfter = (...answers: ReadonlyArray<Json>) =>
    withClient(Effect.gen(function*() {
      yield* script(...answers)
      const events = yield* Stream.runCollect(stream())
      const stderr = events.flatMap((event) => event._tag === "Stderr" ? [Buffer.from(event.data).toString()] : [])
      const done = events.at(-1)
      return { missing: done?._tag === "Done" ? done.missing : assert.fail(), stderr: stderr.join("|") }
    }))

  it.effect("tells what of the output the final answer does not have either", () =>
    Effect.gen(function*() {
      const streamed = { stdout: 2, stderr: 6, progress: 1 }
      const final = { v: 2, content: "ab", stderr: "2\n3\n", streamed }
      // The tail begins behind what was passed on, in it, and right at its end.
      assert.deepStrictEqual(
        yield* missingAfter(chunk(0, "a"), { ...final, stderr: "3\n" }),
        { missing: ["stderr", "progress"], stderr: "3\n" }
      )
      const progress = { v: 2, event: "progress", seq: 1, content: "b" }
      assert.deepStrictEqual(
        yield* missingAfter(chunk(0, "1\n2\n", "stderr"), progress, final),
        { missing: [], stderr: "1\n2\n|3\n" }
      )
      assert.deepStrictEqual(
        yield* missingAfter(chunk(0, "1\n", "stderr"), progress, final),
        { missing: [], stderr: "1\n|2\n3\n" }
      )
      // What is not exact has no place that is known.
      const inexact = { ...final, stderr: "\ufffd\n3\n" }
      assert.deepStrictEqual(
        yield* missingAfter(chunk(0, "1\n", "stderr"), progress, inexact),
        { missing: ["stderr"], stderr: "1\n" }
      )
      // The cap is not the stream's.
      assert.deepStrictEqual(
        yield* missingAfter(progress, { ...final, stderr: "1\n2\n3\n", streamed: { ...streamed, stdout: 3 } }),
        { missing: ["stdout", "progress"], stderr: "1\n2\n3\n" }
      )
      // A server that does not tell how much there was.
      const untold = { v: 2, content: "ab", stderr: "1\n" }
      assert.deepStrictEqual(yield* missingAfter(chunk(0, "a"), untold), { missing: [], stderr: "1\n" })
      assert.deepStrictEqual(
        yield* missingAfter(chunk(0, "1\n", "stderr"), chunk(2, "2\n", "stderr"), untold),
        { missing: ["stderr", "progress"], stderr: "1\n" }
      )
    }))

  it.effect("asks for the event that did not come, until it comes", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      const told = () =>
        wire.on(`@worker/${topic}/r1`).filter(({ body }) => body["kind"] === "read").map(({ body }) => body["next"])
      const late = yield* Deferred.make<void>()
      yield* serve([topic], (request) =>
        Effect.gen(function*() {
          for (const seq of [0, 2, 3]) yield* answerTo(request, { ...chunk(seq, `${seq}`), server: "r1" })
          yield* Deferred.await(late)
          yield* answerTo(request, { ...chunk(1, "1"), server: "r1" })
        }))
      const seen: Array<string> = []
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(stream({ timeout: "10 seconds" }), (event) => Effect.sync(() => seen.push(shown(event))))
      )
      yield* wire.next(topic)
      yield* Effect.repeat(Effect.yieldNow, { until: () => seen.length === 1 })
      yield* TestClock.adjust(499)
      assert.deepStrictEqual(told(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told(), [1])
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(told(), [1, 1])
      yield* Deferred.succeed(late, undefined)
      yield* Effect.repeat(Effect.yieldNow, { until: () => seen.length === 4 })
      assert.deepStrictEqual(seen, ["Stdout 0", "Stdout 1", "Stdout 2", "Stdout 3"])
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(told(), [1, 1])
      yield* Fiber.interrupt(fiber)
    })))

  it.effect("an event that cannot be read is an error that cancels the run", () =>
    withClient(Effect.gen(function*() {
      yield* script({ event: "chunk", seq: 0, stream: "stdout", data: "not base64!" })
      assert.strictEqual((yield* Effect.flip(collected)).reason._tag, "ProtocolError")
      assert.strictEqual(yield* cancels, 1)
    })))

  it.effect("leaving early cancels once; so does interruption", () =>
    withClient(Effect.gen(function*() {
      yield* script(chunk(0, "a"), chunk(1, "b"))
      assert.lengthOf(yield* Stream.runCollect(Stream.take(stream(), 1)), 1)
      assert.strictEqual(yield* cancels, 1)
      const seen = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(stream(), () => Deferred.succeed(seen, undefined))
      )
      yield* Deferred.await(seen)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* cancels, 2)
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("times out between two events, and cancels although nobody reads", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      yield* script(chunk(0, "a"))
      const read = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(Effect.flip(
        Stream.runForEach(stream({ timeout: 100 }), () => Deferred.await(read))
      ))
      yield* wire.next(topic)
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      yield* TestClock.adjust(99)
      assert.strictEqual(yield* cancels, 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* cancels, 1)
      yield* Deferred.succeed(read, undefined)
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "Timeout")
      assert.strictEqual(yield* cancels, 1)
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("does not time out once everything is here, however slowly it is read", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      yield* serve([topic], echo)
      const read = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(stream({ timeout: 100 }), () => Deferred.await(read))
      )
      yield* wire.next(topic)
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      yield* TestClock.adjust(1000)
      yield* Deferred.succeed(read, undefined)
      yield* Fiber.join(fiber)
      assert.strictEqual(yield* cancels, 0)
      const calls = (yield* Metric.snapshot).filter(({ id }) => id === "skillscale_client_calls_total")
      assert.deepStrictEqual(calls.map(({ attributes }) => attributes?.["outcome"]), ["Success"])
    })).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("times out when the bus does not take the request", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      wire.hanging.add(topic)
      const fiber = yield* Effect.forkChild(Effect.flip(Stream.runDrain(stream({ timeout: 100 }))))
      yield* wire.next(topic)
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "Timeout")
      assert.strictEqual(yield* cancels, 1)
      assert.strictEqual(yield* pending, 0)
    })))

  it.effect("bounds what waits to be read", () =>
    withClient(
      Effect.gen(function*() {
        const wire = yield* Wire
        const read = yield* Deferred.make<void>()
        yield* script(...Array.from({ length: 10 }, (_, seq) => chunk(seq, "x".repeat(1000))))
        const fiber = yield* Effect.forkChild(Effect.flip(Stream.runForEach(stream(), () => Deferred.await(read))))
        yield* wire.next(`@${topic}`)
        yield* Deferred.succeed(read, undefined)
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error.reason._tag, "Overloaded")
        assert.include(error.message, "read the stream faster")
        assert.strictEqual(yield* cancels, 1)
      }),
      { maxBuffered: 4000 }
    ))

  it.effect("tells what it read at half of the window, and once more when nothing comes for a while", () =>
    withClient(
      Effect.gen(function*() {
        const wire = yield* Wire
        const worker = `@worker/${topic}/r1`
        const told = () =>
          wire.on(worker).filter(({ body }) => body["kind"] === "read").map(({ body }) => body["bytes"])
        yield* script(
          ...Array.from({ length: 5 }, (_, seq) => ({ ...chunk(seq, "x".repeat(744)), server: "r1" })),
          { v: 2, event: "progress", seq: 5, content: "y".repeat(244), server: "r1" }
        )
        const seen: Array<string> = []
        const fiber = yield* Effect.forkChild(
          Stream.runForEach(stream({ timeout: "10 seconds" }), (event) => Effect.sync(() => seen.push(event._tag)))
        )
        yield* wire.next(worker)
        yield* Effect.repeat(Effect.yieldNow, { until: () => seen.length === 6 })
        assert.strictEqual(wire.on(topic)[0]?.body["window"], 4000)
        assert.deepStrictEqual(told(), [2000, 4000])
        // The first second had events in it.
        yield* TestClock.adjust(1000)
        assert.deepStrictEqual(told(), [2000, 4000])
        yield* TestClock.adjust(1000)
        assert.deepStrictEqual(told(), [2000, 4000, 5500])
        yield* Fiber.interrupt(fiber)
      }),
      { window: 4000 }
    ))

  it.effect("tells that it read nothing when nothing came, to whoever has the call", () =>
    withClient(Effect.gen(function*() {
      const wire = yield* Wire
      for (
        const [server, sign] of [["r1", { event: "accepted" }], ["r2", { event: "alive", calls: ["other"] }]] as const
      ) {
        yield* serve([`${topic}_${server}`], (request) => {
          const calls = "calls" in sign ? { calls: [...sign.calls, request["request_id"]] } : {}
          return answerTo(request, { v: 2, lease_ms: 60_000, server, ...sign, ...calls })
        })
        const fiber = yield* Effect.forkChild(
          Stream.runDrain(stream({ topic: `${topic}_${server}`, timeout: "10 seconds" })),
          { startImmediately: true }
        )
        yield* wire.next(`${topic}_${server}`)
        yield* TestClock.adjust(3000)
        const told = wire.on(`@worker/${topic}_${server}/${server}`).map(({ body }) => body)
        assert.deepStrictEqual(told.map(({ bytes, kind }) => [kind, bytes]), [["read", 0], ["read", 0]])
        assert.strictEqual(told[0]?.["request_id"], wire.on(`${topic}_${server}`)[0]?.body["request_id"])
        yield* Fiber.interrupt(fiber)
      }
    })))

  it.effect("an infinite timeout sends no budget", () =>
    withClient(Effect.gen(function*() {
      yield* serve([topic], echo)
      yield* Stream.runDrain(stream({ timeout: Infinity }))
      assert.notProperty((yield* Wire).on(topic)[0]?.body, "timeout_ms")
      yield* serve(["TOPIC_SLOW"], (request) => answerTo(request, { status: "error", code: "TimedOut" }))
      const error = yield* Effect.flip(Stream.runDrain(stream({ topic: "TOPIC_SLOW", timeout: Infinity })))
      assert.strictEqual(error.reason._tag, "Timeout")
    })))
})
