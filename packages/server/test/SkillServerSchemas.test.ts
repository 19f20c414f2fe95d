import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Serving from "./fixtures/serving.ts"
import * as Support from "./fixtures/support.ts"

const person = JSON.stringify({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
  required: ["name"],
  additionalProperties: false
})

/** Leaves a mark when it starts; its first argument says where, and is none of a call without arguments. */
const marking = (folder: string) => `touch "${folder}/started"; cat\n`

const isStarted = (folder: string) => Fs.existsSync(Path.join(folder, "started"))

const intent = (skill: string, data: unknown) => ({
  v: 1,
  intent: JSON.stringify({ skill, data })
})

describe("SkillServer checks what an entry point reads", () => {
  it.live("before it starts anything", () =>
    Effect.gen(function*() {
      const folder = yield* Support.folder
      const at = yield* Serving.serve({
        skills: { greet: { "in.json": person, "scripts/run.sh": marking(folder) } },
        metadata: { greet: { "skillscale.input": "in.json" } }
      })
      const wrong = yield* at.call({ skill: "greet", ...intent("greet", { name: 5, size: 1 }), v: 2 })
      assert.deepInclude(wrong, { status: "error", code: "InvalidInput", retryable: false, content: "" })
      assert.deepStrictEqual(wrong.issues, [
        { path: "/name", message: "expected string, got integer 5" },
        { path: "/size", message: "is not allowed" }
      ])
      assert.strictEqual(
        wrong.error,
        "skill greet was not started, since its input does not fit its schema: " +
          "/name: expected string, got integer 5; /size: is not allowed"
      )
      const refused = [
        { skill: "greet" },
        { skill: "greet", intent: "greet things for me" },
        { skill: "greet", stdin: Buffer.from("[]").toString("base64") },
        { skill: "greet", stdin: Buffer.from([0xff]).toString("base64") },
        { intent: JSON.stringify({ skill: "greet", data: "{\"name\":" }) },
        { skill: "greet", ...intent("greet", { name: "Ada" }), v: 2, stdin: Buffer.from("{}").toString("base64") },
        intent("greet", { age: 1 }),
        { v: 1, intent: "Does greet things." }
      ]
      for (const request of refused) {
        const response = yield* at.call(request)
        assert.deepInclude(response, { status: "error", code: "InvalidInput" }, JSON.stringify(request))
      }
      assert.isFalse(isStarted(folder))
      const data = { name: "Ada", age: 36 }
      for (const given of [data, JSON.stringify(data)]) {
        const fitting = yield* at.call(intent("greet", given))
        assert.deepInclude(fitting, { status: "success", content: JSON.stringify(data) })
      }
      assert.isTrue(isStarted(folder))
    }))

  it.live("while all workers are busy, and takes none", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        workers: 1,
        queue: 1,
        skills: { gate: { "scripts/run.sh": Serving.gate }, greet: { "in.json": person, "scripts/run.sh": "cat" } },
        metadata: { greet: { "skillscale.input": "in.json" } }
      })
      const gates = [at.gate("one"), at.gate("two")]
      const running = yield* Effect.forEach(gates, ({ path }) =>
        Effect.forkChild(at.call({ skill: "gate", args: [path] })))
      yield* gates[0]?.begun ?? Effect.void
      const full = { running: 1, queued: 1 }
      yield* at.server.load.pipe(
        Effect.repeat({
          until: ({ queued }) =>
            queued === 1,
          schedule: Schedule.spaced("2 millis")
        }),
        Effect.timeout("10 seconds")
      )
      assert.strictEqual((yield* at.call({ skill: "greet" })).code, "InvalidInput")
      assert.strictEqual((yield* at.call(intent("greet", { name: "Ada" }))).code, "Overloaded")
      assert.deepStrictEqual(yield* at.server.load, full)
      yield* Effect.forEach(gates, ({ open }) => open)
      yield* Effect.forEach(running, Fiber.join)
    }))

  it.live("of calls that name no script", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        skills: {
          greet: { "in.json": person, "out.json": person, "scripts/run.sh": "echo [", "scripts/other.sh": "echo {" },
          guide: { "in.json": person }
        },
        metadata: {
          greet: { "skillscale.input": "in.json", "skillscale.output": "out.json" },
          guide: { "skillscale.input": "in.json" }
        }
      })
      for (const script of ["scripts/run.sh", "scripts/other.sh"]) {
        assert.strictEqual((yield* at.call({ skill: "greet", script })).status, "success")
      }
      // It has none.
      assert.strictEqual((yield* at.call({ skill: "guide" })).content, "Do as guide says.\n")
    }))

  it.live("with the schema that is there now", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        skills: { greet: { "in.json": "{\"type\":\"null\"}", "scripts/run.sh": "cat" } },
        metadata: { greet: { "skillscale.input": "in.json" } }
      })
      assert.strictEqual((yield* at.call(intent("greet", "[]"))).code, "InvalidInput")
      const write = (text: string) => Fs.writeFileSync(Path.join(at.directory, "testing/greet/in.json"), text)
      write("{\"type\":\"array\"}")
      yield* at.discovery.refresh
      assert.strictEqual((yield* at.call(intent("greet", "[]"))).status, "success")
      write("{\"type\":\"array\"")
      yield* at.discovery.refresh
      const broken = yield* at.call(intent("greet", "[]"))
      assert.deepInclude(broken, { status: "error", code: "Rejected", retryable: false })
      assert.match(
        broken.error,
        /^skill greet cannot be called before its author mends it: skillscale.input names "in.json"/
      )
      assert.strictEqual((yield* at.call({ skill: "greet", script: "scripts/run.sh" })).status, "success")
    }))

  it.live("without holding up others, however long that takes", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        skills: {
          bomb: { "in.json": JSON.stringify({ pattern: "^(a+)+$" }), "scripts/run.sh": "cat" },
          greet: { "in.json": person, "scripts/run.sh": "cat" }
        },
        metadata: { bomb: { "skillscale.input": "in.json" }, greet: { "skillscale.input": "in.json" } }
      })
      const calls = 10
      const delay = monitorEventLoopDelay({ resolution: 5 })
      delay.enable()
      const flood = yield* Effect.forkChild(Effect.forEach(
        Array.from({ length: calls }),
        () => at.call(intent("bomb", JSON.stringify(`${"a".repeat(50)}!`))),
        { concurrency: "unbounded" }
      ))
      const started = performance.now()
      assert.strictEqual((yield* at.call(intent("greet", {}))).code, "InvalidInput")
      const took = performance.now() - started
      assert.strictEqual((yield* at.call(intent("greet", { name: "Ada" }))).status, "success")
      const answers = yield* Fiber.join(flood)
      delay.disable()
      const total = performance.now() - started
      // One after the other they take 100 ms each.
      assert.isAbove(total, calls * 100 * 0.9)
      assert.isBelow(took, total / 2)
      assert.isBelow(delay.max / 1e6, total / 4)
      for (const answer of answers) {
        assert.deepInclude(answer, { status: "error", code: "InvalidInput" })
        assert.deepStrictEqual(answer.issues?.map(({ message }) => message), [
          "takes longer than 100 ms to check, so it may not fit; make it smaller"
        ])
      }
    }), 60_000)
})

describe("SkillServer checks what an entry point wrote", () => {
  const output = JSON.stringify({ type: "array", items: { type: "number" } })
  const serve = Serving.serve({
    skills: {
      print: {
        "out.json": output,
        "scripts/run.sh": "echo odd >&2; echo x > made.txt; cat",
        "scripts/other.sh": "cat"
      },
      fails: { "out.json": output, "scripts/run.sh": "cat; exit 3" }
    },
    metadata: { print: { "skillscale.output": "out.json" }, fails: { "skillscale.output": "out.json" } }
  })

  it.live("when it exited with 0", () =>
    Effect.gen(function*() {
      const at = yield* serve
      const fitting = yield* at.call(intent("print", " [1, 2.5]\n"))
      assert.deepInclude(fitting, { status: "success", content: " [1, 2.5]\n", exitCode: 0 })
      const wrong = yield* at.call(intent("print", "[1, \"2\"]"))
      assert.deepInclude(wrong, {
        status: "error",
        code: "InvalidOutput",
        retryable: false,
        content: "[1, \"2\"]",
        stderr: "odd\n",
        exitCode: 0,
        error: "skill print ended well, but its output does not fit its schema: /1: expected number, got string \"2\""
      })
      assert.deepStrictEqual(wrong.issues, [{ path: "/1", message: "expected number, got string \"2\"" }])
      assert.deepStrictEqual(wrong.artifacts?.map(({ path }) => path), ["made.txt"])
      assert.isDefined(wrong.usage)
      for (const data of ["", "text", "{}"]) {
        assert.strictEqual((yield* at.call(intent("print", data))).code, "InvalidOutput", data)
      }
      const bytes = yield* at.call({ skill: "print", stdin: Buffer.from([0xff]).toString("base64") })
      assert.deepInclude(bytes, { code: "InvalidOutput" })
      assert.deepStrictEqual([...bytes.stdout ?? []], [0xff])
      assert.strictEqual((yield* at.call(intent("fails", "[\"x\"]"))).code, "SkillFailed")
      assert.isTrue((yield* at.metrics).some((line) => /requests_total\{.*"InvalidOutput".*\} 5$/.test(line)))
    }))

  it.live("after it was passed on as it came", () =>
    Effect.gen(function*() {
      const at = yield* serve
      const wrong = yield* at.call({ ...intent("print", "no JSON"), v: 2, accept: ["chunk"] })
      assert.deepInclude(wrong, { status: "error", code: "InvalidOutput", content: "no JSON" })
      assert.deepInclude(wrong.streamed, { stdout: 7 })
      const chunks = at.replies.filter(({ event, stream }) => event === "chunk" && stream === "stdout")
      assert.strictEqual(Buffer.concat(chunks.map(({ data }) => data ?? Buffer.of())).toString(), "no JSON")
    }))
})
