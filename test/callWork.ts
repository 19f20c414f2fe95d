/** Calls whose time is over, that are interrupted, streamed, and too many. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Path from "node:path"
import type { Harness } from "./callSuite.ts"
import {
  eventually,
  idle,
  isRequest,
  isRunning,
  linesOf,
  losing,
  pieceBytes,
  pieces,
  requests,
  start,
  topic
} from "./support/calls.ts"

const mebibyte = 1024 * 1024

export const work = ({ test }: Harness): void => {
  test(
    "is not started when its time is over before a worker is free",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { server: { workers: 1 } })
      const first = yield* Effect.forkScoped(at.call("first", { gate: "open" }))
      yield* at.begun("first")
      // Only its own time ends it.
      at.wire.rule = ({ message }) => message["kind"] === "cancel" ? 0 : 1
      const reason = yield* at.failure("late", { timeout: 400 })
      assert.strictEqual(reason._tag, "Timeout")
      // The server counts from when it has the request, which may be later.
      yield* eventually(
        "its time is over there",
        () => at.wire.seen.some(({ message }) => message["code"] === "TimedOut")
      )
      yield* at.open("open")
      yield* Fiber.join(first)
      assert.strictEqual(yield* at.call("next"), "done next\n")
      assert.lengthOf(at.runs("late"), 0)
    })
  )

  test(
    "has its process ended when its time is over, though nobody cancels it",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      at.wire.rule = ({ message }) => message["kind"] === "cancel" ? 0 : 1
      const began = performance.now()
      const reason = yield* at.failure("endless", { gate: "never", timeout: 500 })
      assert.strictEqual(reason._tag, "Timeout")
      assert.isBelow(performance.now() - began, 2000)
      yield* eventually("its process ends", () => at.runs("endless").every((pid) => !isRunning(pid)), 2000)
      assert.lengthOf(at.runs("endless"), 1)
    })
  )

  test(
    "that is sent again has what is left of its time",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      at.wire.rule = losing(2, isRequest)
      yield* at.call("lost", { timeout: 10_000 })
      const [first = 0, second = 0, third = 0] = requests(at.wire).slice(-3).map(({ timeout_ms }) => Number(timeout_ms))
      assert.isAtMost(first, 10_000)
      assert.isAtMost(second, first - 490)
      assert.isAtMost(third, second - 490)
    })
  )

  test(
    "that is interrupted has its process ended, and so has each call of a client that closes",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2 })
      const other = yield* at.connect
      const calling = yield* Effect.forkScoped(at.call("mine", { gate: "never" }))
      const others = yield* Effect.forEach(
        ["a", "b", "c"],
        (name) => Effect.forkScoped(Effect.exit(at.call(name, { gate: "never", by: other })))
      )
      yield* Effect.forEach(["mine", "a", "b", "c"], (name) => at.begun(name), { discard: true })
      const ends = (...names: ReadonlyArray<string>) =>
        eventually(
          `the processes of ${names.join()} end`,
          () => names.flatMap((name) => at.runs(name)).every((pid) => !isRunning(pid)),
          1000
        )
      yield* Fiber.interrupt(calling)
      yield* ends("mine")
      // Where every replica gets every request, one of two that began, or begins yet, has been told to end.
      yield* eventually("the others run", () => ["a", "b", "c"].every((name) => at.runs(name).some(isRunning)))
      yield* other.close
      yield* ends("a", "b", "c")
      for (const fiber of others) assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      yield* Effect.forEach(at.replicas, idle)
    })
  )

  test(
    "whose output is streamed brings it in order, and makes no more than its reader takes",
    Effect.fnUntraced(function*(net) {
      const window = 128 * 1024
      const at = yield* start(net, { client: { window } })
      const written = () => linesOf(Path.join(at.directory, "written")).length
      const lines: Array<number> = []
      const progress: Array<string> = []
      let rest = ""
      let seen = 0
      let results = 0
      yield* Stream.runForEach(
        at.client.stream({ skill: "flow", topic, args: [at.directory] }),
        Effect.fnUntraced(function*(event) {
          if (event._tag === "Done") results += 1
          if (event._tag === "Progress") progress.push(event.content)
          if (event._tag !== "Stdout") return
          if (seen === 0) {
            // Nothing is read until the script has come to a halt.
            let last = -1
            while (last !== written()) {
              last = written()
              yield* Effect.sleep("500 millis")
            }
            // The window, what the executor and the pipe hold, and one piece of each.
            assert.isAtMost(last * pieceBytes, window + mebibyte)
          }
          seen += event.data.byteLength
          rest += Buffer.from(event.data).toString()
          const whole = rest.split("\n")
          rest = whole.pop() ?? ""
          lines.push(...whole.map(Number))
        })
      )
      const numbers = Array.from({ length: pieces }, (_, index) => index + 1)
      assert.deepStrictEqual(lines, numbers)
      assert.deepStrictEqual(progress, numbers.map(String))
      assert.deepStrictEqual([seen, rest, results], [pieces * pieceBytes, "", 1])
    })
  )

  test(
    "whose output is lost on its way goes on with it while it runs",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { client: { window: 128 * 1024 } })
      const losses = new Set<unknown>([0, 3, 4, 5, 6, 20, 21])
      let deaf = 2
      at.wire.rule = ({ message, way }) => {
        if (way === "in") return losses.delete(message["seq"]) ? 0 : 1
        return message["kind"] === "read" && message["next"] !== undefined && deaf-- > 0 ? 0 : 1
      }
      const progress: Array<string> = []
      let output = ""
      let missing: ReadonlyArray<string> | undefined
      yield* Stream.runForEach(
        at.client.stream({ skill: "flow", topic, args: [at.directory] }),
        (event) =>
          Effect.sync(() => {
            if (event._tag === "Stdout") output += Buffer.from(event.data).toString()
            if (event._tag === "Progress") progress.push(event.content)
            if (event._tag === "Done") missing = event.missing
          })
      )
      const numbers = Array.from({ length: pieces }, (_, index) => index + 1)
      assert.deepStrictEqual(output.trim().split("\n").map(Number), numbers)
      // The final answer has none of it.
      assert.deepStrictEqual(progress, numbers.map(String))
      assert.deepStrictEqual(missing, [])
      assert.strictEqual(losses.size, 0)
      assert.isBelow(deaf, 0)
    })
  )

  test(
    "of one caller is not held up by another that floods",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { server: { workers: 1, queue: 8 } })
      const flood = yield* at.connect
      const floods = Array.from({ length: 60 }, (_, index) => `flood-${index}`)
      const flooding = yield* Effect.forkScoped(
        Effect.forEach(floods, (name) => at.call(name, { by: flood }), { concurrency: "unbounded" })
      )
      yield* at.begun("flood-0")
      const place = (name: string) =>
        linesOf(Path.join(at.directory, "runs")).findIndex((line) => line.startsWith(`${name} `))
      for (const name of ["one", "two", "three"]) {
        const before = linesOf(Path.join(at.directory, "runs")).length
        yield* at.call(name)
        // The call that ran, and one whose turn it was; a refusal costs the time of a few.
        assert.isBelow(place(name) - before, 15)
      }
      const left = floods.length -
        linesOf(Path.join(at.directory, "runs")).filter((line) => line.startsWith("flood")).length
      assert.isAbove(left, 0, "the flood was over")
      assert.lengthOf(yield* Fiber.join(flooding), floods.length)
    })
  )
}
