import { assert, describe, it } from "@effect/vitest"
import * as Load from "@skillscale/core/Load"
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as SkillRunner from "../src/SkillRunner.ts"
import { carrying, marker } from "./executorSuite.ts"
import * as Serving from "./fixtures/serving.ts"
import * as Support from "./fixtures/support.ts"

const intent = (skill: string, data: unknown) => JSON.stringify({ skill, data })

/** Waits for the answer to a call that was sent last: by then, all before it had their turn. */
const settle = (at: Effect.Success<ReturnType<typeof Serving.serve>>) => at.call({ skill: "echo" })

describe("SkillServer answers", () => {
  it.live("a version 1 request with exactly one response of version 1", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const response = yield* at.call({
        v: undefined,
        accept: ["accepted", "chunk"],
        intent: intent("echo", "some data ü")
      })
      assert.deepInclude(response, { status: "success", content: "some data ü", error: "", server: "srv", exitCode: 0 })
      yield* settle(at)
      assert.lengthOf(at.replies, 2)
      for (const key of ["request_id", "status", "content", "error", "timestamp"]) assert.property(at.wire[0], key)
      assert.isBelow(Math.abs((response.timestamp ?? 0) - Date.now() / 1000), 60)
      const { usage } = response
      assert.isTrue(
        usage !== undefined && usage.execMs >= usage.wallMs - 2 && usage.queueMs >= 0,
        JSON.stringify(usage)
      )
    }))

  it.live("data that is not a string as JSON, and stdin before data", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      assert.strictEqual((yield* at.call({ intent: intent("echo", { a: [1] }) })).content, "{\"a\":[1]}")
      const stdin = Buffer.from([0xff, 0]).toString("base64")
      const response = yield* at.call({ intent: intent("echo", "data"), stdin })
      assert.deepStrictEqual([...response.stdout ?? []], [0xff, 0])
    }))

  it.live("a script that fails with its code, output, and standard error without secrets", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const response = yield* at.call({ skill: "fail" })
      assert.deepInclude(response, {
        status: "error",
        code: "SkillFailed",
        retryable: false,
        exitCode: 7,
        content: "partial\n",
        stderr: "bad [redacted]\n",
        error: "skill fail failed with exit code 7: bad [redacted]"
      })
      assert.notInclude(JSON.stringify([at.wire, at.logs.lines, yield* at.metrics]), Serving.secret)
    }))

  it.live("scripts, arguments, files and artifacts of version 2", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ skills: { io: { "scripts/x.sh": "cat in.txt; echo \"$1\" > out.txt" } } })
      const response = yield* at.call({
        skill: "io",
        script: "scripts/x.sh",
        args: ["a b"],
        files: { "in.txt": "aGk=" }
      })
      assert.strictEqual(response.content, "hi")
      assert.deepStrictEqual(response.artifacts?.map(({ data, path }) => [path, Support.text(data)]), [[
        "out.txt",
        "a b\n"
      ]])
      const missing = yield* at.call({ skill: "io", script: "scripts/y.sh" })
      assert.deepInclude(missing, { code: "ScriptNotFound", retryable: false })
      assert.include(missing.error, "scripts/x.sh")
      assert.strictEqual((yield* at.call({ skill: "io" })).code, "ScriptNotFound")
      assert.strictEqual((yield* at.call({ skill: "io", script: "../echo/scripts/run.sh" })).code, "BadRequest")
      assert.strictEqual(
        (yield* at.call({ skill: "io", script: "scripts/x.sh", env: { PATH: "/" } })).code,
        "BadRequest"
      )
      assert.strictEqual(
        (yield* at.call({ skill: "io", script: "scripts/x.sh", files: { "SKILL.md": "" } })).code,
        "BadRequest"
      )
    }))

  it.live("a skill without scripts with its instructions", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      assert.deepInclude(yield* at.call({ skill: "guide" }), { status: "success", content: "Do as guide says.\n" })
    }))

  it.live("an unknown skill with the skills of the topic, and a plain text with the one that it clearly means", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const unknown = yield* at.call({ intent: intent("nope", "") })
      assert.deepInclude(unknown, { status: "error", code: "SkillNotFound" })
      assert.match(unknown.error, /no skill "nope": TOPIC_TESTING has echo, fail, gate, guide, tools/)
      assert.include((yield* at.call({ v: undefined, intent: "please echo this" })).content, "please echo this")
      const vague = yield* at.call({ v: undefined, intent: "do things" })
      assert.strictEqual(vague.code, "SkillNotFound")
      assert.match(vague.error, /no skill clearly matches the request; name one: .* echo, fail/)
    }))

  it.live("an unknown skill with 50 of them at most", () =>
    Effect.gen(function*() {
      const names = Array.from({ length: 51 }, (_, index) => `skill-${index}`)
      const at = yield* Serving.serve({
        skills: Object.fromEntries(names.map((name) => [name, { "scripts/run.sh": "" }]))
      })
      const { error } = yield* at.call({ skill: "nope" })
      assert.lengthOf(error.match(/skill-\d+/g) ?? [], 50)
      assert.match(error, / and 1 more$/)
    }))

  it.live(
    "as much output as a run may have, also when text would be six times as large in JSON",
    () =>
      Effect.gen(function*() {
        const at = yield* Serving.serve({ skills: { zeros: { "scripts/run.sh": "head -c 16777216 /dev/zero" } } })
        const response = yield* at.call({ skill: "zeros", timeout_ms: 30_000 })
        assert.deepStrictEqual([response.status, response.error], ["success", ""])
        assert.isTrue(response.content === "?".repeat(16_777_216))
        assert.isTrue(Buffer.alloc(16_777_216).equals(response.stdout ?? new Uint8Array()))
      }),
    60_000
  )

  it.live("a failure with the last 16 KiB of standard error", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        skills: {
          loud: {
            "scripts/run.py": "import sys\nsys.stderr.write('x' * 100 + '\\n' + 'y' * 16383 + '\\n')\nsys.exit(1)\n"
          },
          long: { "scripts/run.py": "import sys\nsys.stderr.write('z' * 20000 + '\\n')\nsys.exit(1)\n" }
        }
      })
      const response = yield* at.call({ skill: "loud" })
      assert.isTrue(response.stderr === `${"y".repeat(16_383)}\n`, response.stderr?.slice(0, 200))
      assert.deepStrictEqual(response.truncated, ["stderr"])
      // One line that is longer than that.
      const { stderr } = yield* at.call({ skill: "long" })
      assert.isTrue(stderr === `${"z".repeat(16_383)}\n`, stderr?.slice(0, 200))
    }))

  it.live("a pinned digest only while the skill is the same, and edits as they are on disk", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const digest = (yield* at.server.skills).find(({ name }) => name === "echo")?.digest
      assert.strictEqual((yield* at.call({ skill: "echo", digest })).status, "success")
      Fs.writeFileSync(Path.join(at.directory, "testing/echo/scripts/run.sh"), "echo edited")
      assert.strictEqual((yield* at.call({ skill: "echo", digest })).code, "SkillChanged")
      assert.strictEqual((yield* at.call({ skill: "echo" })).content, "edited\n")
      Support.writeSkill(at.directory, "testing/later", { "scripts/run.sh": "echo later" })
      yield* at.discovery.refresh
      assert.strictEqual((yield* at.call({ skill: "later" })).content, "later\n")
      Fs.rmSync(Path.join(at.directory, "testing/later"), { recursive: true })
      yield* at.discovery.refresh
      assert.strictEqual((yield* at.call({ skill: "later" })).code, "SkillNotFound")
    }))

  it.live("a request that is sent again while it is in hand once, and anew afterwards", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const gate = at.gate("twice")
      const request = { request_id: "same", skill: "gate", args: [gate.path] }
      yield* at.send(request)
      yield* gate.begun
      yield* at.send({ ...request, attempt: 1 })
      const other = yield* at.send({ ...request, request_id: "other", accept: ["accepted"] })
      // Requests are looked at in turn, so the one before it was by then.
      yield* Support.eventually("the next request", () => at.replies.some(({ requestId }) => requestId === other))
      yield* gate.open
      yield* at.final("same")
      yield* at.final(other)
      assert.lengthOf(at.finals("same"), 1)
      assert.isTrue(
        (yield* at.metrics).some((line) => /dropped_messages_total\{.*reason="duplicate".*\} 1$/.test(line))
      )
      yield* at.send(request)
      yield* Support.eventually("the second answer", () => at.finals("same").length === 2)
    }))
})

describe("SkillServer refuses", () => {
  it.live("a name that cannot be a part of its topics", () =>
    Effect.gen(function*() {
      for (const id of ["", "a/b", "a b", "a".repeat(65)]) {
        const error = yield* Effect.flip(Serving.serve({ id }))
        assert.deepInclude(error, { _tag: "BadServerId", id })
      }
    }))

  const address = { request_id: "bad", reply_to: "AGENT_REPLY_test" }
  for (
    const [what, message, error] of [
      ["a missing intent", { ...address }, /intent/],
      ["wrong types", { ...address, intent: 5 }, /intent/],
      ["a wrong type in version 2", { ...address, intent: "", v: 2, args: "x" }, /args/],
      ["a version that is none", { ...address, intent: "", v: "two" }, /v/],
      ["a bad path", { ...address, intent: "", v: 2, skill: "echo", files: { "../x": "" } }, /\.\.\/x/],
      ["a bad digest", { ...address, intent: "", v: 2, skill: "echo", digest: "x" }, /digest/]
    ] as const
  ) {
    it.live(`${what}, and answers the next request`, () =>
      Effect.gen(function*() {
        const at = yield* Serving.serve()
        yield* at.publish(Serving.topic, message)
        const response = yield* at.final("bad")
        assert.deepInclude(response, { status: "error", code: "BadRequest", retryable: false })
        assert.match(response.error, error)
        assert.strictEqual((yield* settle(at)).status, "success")
        assert.lengthOf(at.finals("bad"), 1)
      }))
  }

  it.live("frames that are no request: answered where the address is known, else counted and logged", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const good = Buffer.from(
        JSON.stringify({ request_id: "f", reply_to: "AGENT_REPLY_test", intent: "", v: 2, skill: "echo" })
      )
      const dropped: ReadonlyArray<ReadonlyArray<Uint8Array>> = [
        [],
        [Buffer.from("")],
        [Buffer.from("{")],
        [Buffer.from("null")],
        [Buffer.from("[1]")],
        [Buffer.from("{}")],
        [Buffer.from([0xff, 0xfe])],
        [Buffer.from(""), Buffer.from("")],
        [Buffer.alloc(1024 * 1024, "x")],
        [Buffer.alloc(16 * 1024 * 1024)],
        [Buffer.from(JSON.stringify({ request_id: "x", reply_to: "TOPIC_TESTING", intent: "" }))],
        [Buffer.from(JSON.stringify({ request_id: "x", reply_to: 7, intent: "" }))]
      ]
      for (const frames of dropped) yield* at.raw(frames)
      yield* at.raw([good, Buffer.from("extra")])
      assert.match((yield* at.final("f")).error, /expected 2 frames/)
      yield* at.raw([Buffer.concat([good.subarray(0, -1), Buffer.from(",\"x\":\"\xff\"}", "latin1")])])
      yield* Support.eventually("the second", () => at.finals("f").length === 2)
      assert.match(at.finals("f")[1]?.error ?? "", /not valid UTF-8/)
      assert.strictEqual((yield* settle(at)).status, "success")
      assert.lengthOf(at.replies, 3)
      const counted = (yield* at.metrics).filter((line) => line.startsWith("skillscale_dropped_messages_total"))
      assert.strictEqual(
        counted.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0),
        dropped.length,
        counted.join("\n")
      )
      assert.lengthOf(at.logs.lines.filter((line) => line.includes("refused a message")), dropped.length + 2)
    }))

  it.live("nothing for its size alone: 16 MiB go in and come back", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const data = "0123456789abcdef".repeat(1024 * 1024)
      assert.isTrue((yield* at.call({ intent: intent("echo", data) })).content === data)
    }))

  it.live("calls beyond its bounds at once, as retryable", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 1, queue: 1 })
      const gate = at.gate("full")
      const request = { skill: "gate", args: [gate.path], accept: ["accepted"] }
      const running = yield* at.send(request)
      yield* gate.begun
      const queued = yield* at.send(request)
      const refused = yield* at.call(request)
      assert.deepInclude(refused, { status: "error", code: "Overloaded", retryable: true })
      assert.deepStrictEqual(yield* at.server.load, { running: 1, queued: 1 })
      assert.lengthOf(at.replies.filter(({ requestId }) => requestId === refused.requestId), 1)
      const gauges = (yield* at.metrics).filter((line) => /^skillscale_(queue_depth|running)/.test(line))
      assert.isTrue(gauges.length === 2 && gauges.every((line) => line.endsWith(" 1")), gauges.join("\n"))
      yield* gate.open
      assert.strictEqual((yield* at.final(running)).status, "success")
      const late = yield* at.final(queued)
      assert.isAbove(late.usage?.queueMs ?? 0, 0)
    }))

  it.live("a result that is larger than a message", () =>
    Effect.gen(function*() {
      const skills = {
        big: { "scripts/run.sh": "for i in 1 2 3; do head -c 10M /dev/zero > $i; done; head -c 16M /dev/zero" }
      }
      const at = yield* Serving.serve({ skills })
      const response = yield* at.call({ skill: "big" })
      assert.deepInclude(response, { status: "error", code: "TooLarge", retryable: false, content: "", server: "srv" })
      assert.match(response.error, /too large to send.*67108864/)
    }))

  it.live("to die of a defect", () =>
    Effect.gen(function*() {
      let calls = 0
      const runner = Layer.succeed(SkillRunner.SkillRunner, {
        run: () => calls++ === 0 ? Effect.die(new Error("a bug")) : Effect.interrupt,
        hints: () => ({ readOnly: true, destructive: false, idempotent: true, openWorld: false }),
        isIdempotent: () => true
      })
      const at = yield* Serving.serve({
        runner,
        serves: (skill) =>
          skill.name === "gate" || ((): never => {
            throw new Error("broken")
          })(),
        skills: { gate: {}, zecho: {} }
      })
      for (const request of [{ skill: "gate" }, { skill: "x" }]) {
        const response = yield* at.call(request)
        assert.deepInclude(response, { status: "error", code: "Internal" })
        assert.match(response.error, /the server failed: broken/)
      }
      assert.match((yield* at.ask({ kind: "catalog" })).error, /broken/)
      const other = yield* Serving.serve({ runner })
      assert.match((yield* other.call({ skill: "echo" })).error, /a bug/)
      assert.strictEqual((yield* other.call({ skill: "echo" })).code, "ShuttingDown")
      assert.strictEqual((yield* other.call({ skill: "guide" })).status, "success")
    }))
})

describe("SkillServer ends calls", () => {
  for (
    const [what, options, request, given] of [
      ["its own timeout", { timeout: 300 }, {}, 300],
      ["the skill's timeout", { metadata: { gate: { "skillscale.timeout": "300ms" } } }, { timeout_ms: 10_000 }, 300],
      ["the caller's budget", { metadata: { gate: { "skillscale.timeout": "20s" } } }, { timeout_ms: 350.5 }, 350]
    ] as const
  ) {
    it.live(`at ${what}`, () =>
      Effect.gen(function*() {
        const at = yield* Serving.serve(options)
        const mark = marker()
        const began = performance.now()
        const response = yield* at.call({ skill: "gate", args: [at.gate("t").path], env: { MARK: mark }, ...request })
        assert.isBelow(performance.now() - began, 4_000)
        assert.deepInclude(response, { status: "error", code: "TimedOut", retryable: false })
        const [, ms] = /within ([\d.]+) ms/.exec(response.error) ?? []
        assert.isTrue(Number(ms) <= given + 1 && Number(ms) > given - 50, response.error)
        assert.deepStrictEqual(carrying(mark), [])
      }))
  }

  it.live("whose budget is gone in the queue when it is gone, without starting them", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 1, queue: 1 })
      const first = at.gate("first")
      const second = at.gate("second")
      const running = yield* at.send({ skill: "gate", args: [first.path] })
      yield* first.begun
      const response = yield* at.call({ skill: "gate", args: [second.path], timeout_ms: 100 })
      assert.deepInclude(response, { code: "TimedOut", retryable: true })
      assert.match(response.error, /waited longer than its 100 ms and was not started/)
      assert.deepStrictEqual(yield* at.server.load, { running: 1, queued: 0 })
      yield* first.open
      yield* at.final(running)
      assert.strictEqual((yield* at.call({ skill: "echo", timeout_ms: 0 })).code, "TimedOut")
      assert.isFalse(second.hasBegun())
    }))

  it.live("that are cancelled, in the queue and while they run, and no others", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 1, queue: 5 })
      const mark = marker()
      const [a, b, c] = [at.gate("a"), at.gate("b"), at.gate("c")]
      const request = (gate: { readonly path: string }, id: string) => ({
        request_id: id,
        skill: "gate",
        args: [gate.path],
        env: { MARK: mark }
      })
      yield* at.send(request(a, "a"))
      yield* a.begun
      yield* at.send(request(b, "b"))
      yield* at.send(request(c, "c"))
      yield* at.control({ kind: "cancel", request_id: "nobody" })
      yield* at.control({ kind: "cancel", request_id: "a", reply_to: "AGENT_REPLY_someone_else" })
      yield* at.control({ kind: "cancel", request_id: "b" })
      yield* at.control({ kind: "cancel", request_id: "a" })
      yield* c.begun
      assert.isFalse(b.hasBegun())
      yield* c.open
      assert.strictEqual((yield* at.final("c")).status, "success")
      yield* settle(at)
      assert.deepStrictEqual(carrying(mark), [])
      assert.deepStrictEqual([at.finals("a"), at.finals("b")], [[], []])
      assert.deepStrictEqual(yield* at.server.load, { running: 0, queued: 0 })
      const metrics = yield* at.metrics
      assert.isTrue(
        metrics.some((line) => /requests_total\{.*outcome="Cancelled".*\} 2$/.test(line)),
        metrics.join("\n")
      )
      // The same id may be used again, and is answered.
      yield* a.open
      assert.strictEqual((yield* at.call(request(a, "a"))).status, "success")
    }))

  it.live("exactly once when a cancellation comes while the response is sent", () =>
    Effect.gen(function*() {
      const sending = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const at = yield* Serving.serve({
        publish: (publish) => (to, payload) =>
          Buffer.from(payload).includes("\"slow\"")
            ? Effect.andThen(
              Deferred.succeed(sending, undefined),
              Effect.andThen(Deferred.await(release), publish(to, payload))
            )
            : publish(to, payload)
      })
      yield* at.send({ request_id: "slow", skill: "echo" })
      yield* Deferred.await(sending)
      yield* at.control({ kind: "cancel", request_id: "slow" })
      yield* settle(at)
      const closing = yield* Effect.forkChild(at.close)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(closing)
      assert.lengthOf(at.finals("slow"), 1)
      assert.strictEqual(at.finals("slow")[0]?.status, "success")
    }))
})

describe("SkillServer sends events", () => {
  it.live("in order, to a caller that asked, before one final response", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        skills: {
          talk: { "scripts/run.sh": "for i in 1 2 3; do echo out$i; sleep 0.02; echo \"err$i\" >&2; sleep 0.02; done" }
        }
      })
      const id = yield* at.send({ skill: "talk", accept: ["accepted", "chunk"] })
      yield* at.final(id)
      const events = at.replies.slice(0, -1).filter(({ event }) => event !== "alive")
      assert.strictEqual(events[0]?.event, "accepted")
      const chunks = events.slice(1)
      assert.isTrue(
        chunks.length >= 6 && chunks.every(({ event, status }) => event === "chunk" && status === "success")
      )
      assert.deepStrictEqual(chunks.map(({ seq }) => seq), chunks.map((_, index) => index))
      const joined = (stream: string) =>
        chunks.filter((chunk) => chunk.stream === stream).map(({ data }) => Support.text(data ?? new Uint8Array()))
          .join("")
      assert.strictEqual(joined("stdout"), "out1\nout2\nout3\n")
      assert.strictEqual(joined("stderr"), "err1\nerr2\nerr3\n")
      const final = at.replies.at(-1)
      assert.deepInclude(final, { status: "success", content: "out1\nout2\nout3\n" })
      assert.isUndefined(final?.event)
      for (const accept of [undefined, [], ["progress"]]) {
        const before = at.replies.length
        yield* at.call({ skill: "talk", accept })
        assert.lengthOf(at.replies, before + 1)
      }
    }))
})

describe("SkillServer holds a script up", () => {
  const kib = 1024
  const window = 128 * kib
  const lines = 64
  /** Writes 64 KiB at a time, and tells in a file how often. */
  const flood = `import sys, os
for count in range(int(sys.argv[2])):
    os.write(1, b"x" * 65536)
    with open(sys.argv[1], "a") as file: file.write("x")
`
  const start = Effect.fnUntraced(function*(options: Serving.Options = {}, count = lines) {
    const at = yield* Serving.serve({ ...options, skills: { flood: { "scripts/run.py": flood } } })
    const counter = `${at.directory}/count`
    const id = yield* at.send({ skill: "flood", args: [counter, `${count}`], accept: ["accepted", "chunk"], window })
    /** Each once, in their order, however often they were sent. */
    const events = () => [...new Map(at.replies.flatMap(({ data, seq }) =>
      data === undefined ? [] : [[seq, data]]
    )).values()]
    const received = () => events().reduce((sum, data) => sum + data.byteLength, 0)
    const charged = () => events().reduce((sum, data) => sum + Protocol.chargeOf(data.byteLength), 0)
    const sent = () => at.replies.filter(({ event }) => event === "chunk").map(({ seq }) => seq)
    const written = () => Fs.existsSync(counter) ? Fs.statSync(counter).size : 0
    const read = (bytes: number, of = id, more: object = {}) =>
      at.control({ kind: "read", request_id: of, bytes, ...more }, Topic.worker(Serving.topic, "srv"))
    return { at, id, received, charged, written, read, sent }
  })

  it.live("whose caller does not read, and lets it go on as far as that reads", () =>
    Effect.gen(function*() {
      const { at, charged, id, read, received, written } = yield* start()
      const settled = (least: number) =>
        Effect.gen(function*() {
          yield* Support.eventually("output", () => charged() >= least)
          // The window of the caller, that of the executor and the pipe are full; a script that goes on would be done by then.
          yield* Effect.sleep(500)
          return charged()
        })
      const first = yield* settled(window / 2)
      assert.isAtMost(first, window)
      assert.isBelow(written(), 16)
      yield* read(first, "another")
      yield* read(0)
      assert.strictEqual(yield* settled(first), first)
      yield* read(first)
      const second = yield* settled(first + window / 2)
      assert.isAtMost(second, first + window)
      yield* Effect.repeat(Effect.andThen(Effect.suspend(() => read(charged())), Effect.sleep(5)), {
        until: () => at.finals(id).length > 0
      })
      const [final] = at.finals(id)
      assert.deepStrictEqual([final?.status, final?.content.length], ["success", lines * 64 * kib])
      // What came right before its end is in the answer alone.
      assert.isAtLeast(received(), (lines - 1) * 64 * kib)
      assert.isAtMost(received(), lines * 64 * kib)
    }), 20_000)

  it.live("whose caller says what did not come, and sends that again", () =>
    Effect.gen(function*() {
      const { charged, id, read, sent } = yield* start({ drain: 0 })
      yield* Support.eventually("a window", () => charged() >= window / 2)
      yield* Effect.sleep(500)
      const first = sent()
      yield* read(0, id, { next: first.at(-1) })
      yield* Support.eventually("the last event again", () => sent().length === first.length + 1)
      assert.deepStrictEqual(sent().slice(first.length), [first.at(-1)])
      yield* read(charged(), id, { next: first.length })
      yield* Support.eventually("the next ones", () => sent().length > first.length + 1)
      assert.strictEqual(sent()[first.length + 1], first.length)
    }), 20_000)

  it.live("for no longer than a run may last", () =>
    Effect.gen(function*() {
      const { at, id, received } = yield* start({ timeout: "2 seconds" })
      const final = yield* at.final(id)
      assert.strictEqual(final.code, "TimedOut")
      assert.isAtMost(received(), window)
    }), 20_000)

  it.live("but not the answer: what was not sent by then comes with that", () =>
    Effect.gen(function*() {
      const { at, id, received } = yield* start({ timeout: "2 seconds" }, 3)
      const final = yield* at.final(id)
      assert.deepStrictEqual([final.status, final.content.length], ["success", 3 * 64 * kib])
      assert.isAtMost(received(), window)
    }), 20_000)
})

describe("SkillServer tells progress", () => {
  it.live("of lines on standard error, and leaves them there", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({
        skills: {
          work: {
            "scripts/run.sh": "echo '::progress:: half' >&2; echo no '::progress:: x' >&2; echo '::progress::done' >&2"
          }
        }
      })
      const id = yield* at.send({ skill: "work", accept: ["progress"] })
      const final = yield* at.final(id)
      const events = at.replies.filter(({ event, requestId }) => event === "progress" && requestId === id)
      assert.deepStrictEqual(events.map(({ content, seq }) => [content, seq]), [["half", 0], ["done", 1]])
      assert.strictEqual(final.stderr, "::progress:: half\nno ::progress:: x\n::progress::done\n")
    }))

  it.live("also behind the cap of standard error, and of a line that is longer than that", () =>
    Effect.gen(function*() {
      const loud = `import sys
sys.stderr.write("::progress:: one\\n" + "e" * 999999 + "\\n::progress::" + "l" * 20000000 + "\\n::progress:: two\\n")
`
      const at = yield* Serving.serve({ skills: { loud: { "scripts/run.py": loud } } })
      const id = yield* at.send({ skill: "loud", accept: ["progress", "chunk"] })
      const final = yield* at.final(id)
      const events = at.replies.filter(({ event, requestId }) => event !== undefined && requestId === id)
      const said = events.filter(({ event }) => event === "progress").map(({ content }) => content)
      assert.deepStrictEqual(said, ["one", "l".repeat(1024), "two"])
      const written = events.reduce((sum, { data }) => sum + (data?.byteLength ?? 0), 0)
      assert.strictEqual(written, 1024 * 1024)
      assert.deepStrictEqual(final.truncated, ["stderr"])
      assert.deepStrictEqual(final.streamed, { stdout: 0, stderr: 1024 * 1024, progress: 3 })
    }))
})

describe("SkillServer as one replica", () => {
  const reporting = () => {
    const loads: Array<Load.Load> = []
    const publish: Serving.Options["publish"] = (publish) => (to, payload) =>
      Effect.suspend(() => {
        if (to === Topic.load(Serving.topic, "srv")) {
          const load = Result.getOrThrow(Load.decode([payload]))
          // It is told again now and then.
          if (JSON.stringify(load) !== JSON.stringify(loads.at(-1))) loads.push(load)
        }
        return publish(to, payload)
      })
    const until = (load: Load.Load) =>
      Support.eventually(JSON.stringify(load), () => JSON.stringify(loads.at(-1)) === JSON.stringify(load))
    return { loads, publish, until }
  }

  it.live("tells how much it has in hand, from when it begins until it drains", () =>
    Effect.gen(function*() {
      const { loads, publish, until } = reporting()
      const at = yield* Serving.serve({ workers: 2, queue: 1, publish })
      yield* until({ running: 0, queued: 0, workers: 2, received: 0 })
      assert.lengthOf(loads, 1)
      const gate = at.gate("busy")
      const ids = yield* Effect.forEach([1, 2, 3, 4], () => at.send({ skill: "gate", args: [gate.path] }))
      yield* until({ running: 2, queued: 1, workers: 2, received: 4 })
      // A message that is no request has been received as well.
      yield* at.publish(Serving.topic, "{")
      yield* until({ running: 2, queued: 1, workers: 2, received: 5 })
      const closing = yield* Effect.forkChild(at.close, { startImmediately: true })
      yield* until({ running: 2, queued: 1, workers: 0, received: 5 })
      yield* gate.open
      yield* Fiber.join(closing)
      for (const id of ids) yield* at.final(id)
      assert.strictEqual(at.replies.filter(({ code }) => code === "Overloaded").length, 1)
    }))

  it.live("tells that it is done", () =>
    Effect.gen(function*() {
      const { publish, until } = reporting()
      const at = yield* Serving.serve({ workers: 2, publish })
      for (const skill of ["echo", "fail", "nope"]) yield* at.call({ skill })
      yield* until({ running: 0, queued: 0, workers: 2, received: 3 })
    }))

  it.live("takes control messages that are for it alone", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const own = Topic.worker(Serving.topic, "srv")
      assert.strictEqual(JSON.parse((yield* at.ask({ kind: "catalog" }, own)).content).server, "srv")
      assert.strictEqual((yield* at.ask({ kind: "what" }, own)).code, "BadRequest")
      const gate = at.gate("cancelled")
      const id = yield* at.send({ skill: "gate", args: [gate.path] })
      yield* gate.begun
      yield* at.control({ kind: "cancel", request_id: id }, own)
      yield* Support.eventually("the cancellation", () => Effect.runSync(at.server.load).running === 0)
      yield* settle(at)
      assert.lengthOf(at.finals(id), 0)
    }))
})

describe("SkillServer drains", () => {
  it.live("answers what it has, refuses what comes, and ends", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 1, queue: 2 })
      const gate = at.gate("drain")
      const running = yield* at.send({ skill: "gate", args: [gate.path] })
      yield* gate.begun
      const queued = yield* at.send({ skill: "echo", intent: intent("echo", "queued") })
      const asked = yield* at.control({ kind: "catalog" })
      yield* at.final(asked)
      assert.deepStrictEqual(yield* at.server.load, { running: 1, queued: 1 })
      const closing = yield* Effect.forkChild(at.close, { startImmediately: true })
      const late = yield* at.call({ skill: "echo" })
      assert.deepInclude(late, { status: "error", code: "ShuttingDown", retryable: true })
      yield* gate.open
      yield* Fiber.join(closing)
      assert.strictEqual((yield* at.final(running)).content, "passed\n")
      assert.strictEqual((yield* at.final(queued)).content, "queued")
      assert.lengthOf(at.replies, 4)
    }))

  it.live("refuses what was still unread when it closed, and is quick when there is nothing", () =>
    Effect.gen(function*() {
      const reading = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const at = yield* Serving.serve({
        publish: (publish) => (to, payload) =>
          Buffer.from(payload).includes("\"held\"")
            ? Effect.andThen(
              Deferred.succeed(reading, undefined),
              Effect.andThen(Deferred.await(release), publish(to, payload))
            )
            : publish(to, payload)
      })
      // The refusal of this one holds the reader up; the others stay unread behind it.
      yield* at.publish(Serving.topic, { request_id: "held", reply_to: "AGENT_REPLY_test", intent: 5 })
      yield* Deferred.await(reading)
      const ids = yield* Effect.forEach([1, 2, 3, 4, 5], () => at.send({ skill: "echo" }))
      const closing = yield* Effect.forkChild(at.close, { startImmediately: true })
      yield* Effect.yieldNow
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(closing)
      assert.strictEqual((yield* at.final("held")).code, "BadRequest")
      for (const id of ids) assert.strictEqual((yield* at.final(id)).code, "ShuttingDown")
      const idle = yield* Serving.serve()
      const began = performance.now()
      yield* idle.close
      assert.isBelow(performance.now() - began, 800)
    }))

  it.live("after the drain period ends the rest, and answers it", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 1, queue: 2, drain: 200 })
      const mark = marker()
      const gate = at.gate("stuck")
      const request = { skill: "gate", args: [gate.path], env: { MARK: mark } }
      const running = yield* at.send(request)
      yield* gate.begun
      const queued = yield* at.send(request)
      yield* at.close
      // What runs unconfined may have done something, and is not to be called again without a thought.
      for (const [id, retryable] of [[running, false], [queued, true]] as const) {
        assert.deepInclude(yield* at.final(id), { status: "error", code: "ShuttingDown", retryable })
        assert.lengthOf(at.finals(id), 1)
      }
      assert.deepStrictEqual(carrying(mark), [])
      const gauges = (yield* at.metrics).filter((line) =>
        /^skillscale_(queue_depth|running_processes|skills)\{/.test(line)
      )
      assert.isTrue(gauges.length === 3 && gauges.every((line) => line.endsWith(" 0")), gauges.join("\n"))
      assert.isFalse((yield* at.metrics).some((line) => line.startsWith("skillscale_server_info")))
    }))

  it.live("answers every request that was sent before it was gone, exactly once", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ workers: 2, queue: 1000, drain: 2_000 })
      const ids: Array<string> = []
      const sending = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 300 }), () =>
        Effect.tap(at.send({ skill: "guide" }), (id) =>
          Effect.andThen(
            Effect.sync(() => ids.push(id)),
            Effect.yieldNow
          ))))
      yield* Support.eventually("some are answered", () =>
        at.replies.length > 20)
      for (let index = 0; index < 200; index++) ids.push(yield* at.send({ skill: "guide" }))
      const closing = yield* Effect.forkChild(at.close, { startImmediately: true })
      const before = [...ids]
      yield* Fiber.join(closing)
      yield* Fiber.join(sending)
      for (const id of before) yield* at.final(id)
      for (const id of ids) assert.isAtMost(at.finals(id).length, 1)
    }))
})

describe("SkillServer tells", () => {
  it.live("its catalog, its skills and their files, and nothing else", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const parse = (response: Protocol.Response) => {
        assert.strictEqual(response.status, "success", response.error)
        return JSON.parse(response.content)
      }
      for (const to of [undefined, Topic.everyServer]) {
        const catalog = parse(yield* at.ask({ kind: "catalog" }, to))
        assert.deepInclude(catalog, { server: "srv", topic: Serving.topic })
        assert.deepStrictEqual(catalog.skills.map(({ name }: { readonly name: string }) => name), [
          "echo",
          "fail",
          "gate",
          "guide",
          "tools"
        ])
        assert.deepStrictEqual(catalog.skills[1].env, ["API_KEY"])
      }
      const described = parse(yield* at.ask({ kind: "describe", skill: "guide" }))
      assert.strictEqual(described.instructions, "Do as guide says.\n")
      assert.deepStrictEqual(described.resources.map(({ path }: { readonly path: string }) => path), [
        "references/a.md"
      ])
      const resource = parse(yield* at.ask({ kind: "resource", skill: "guide", path: "references/a.md" }))
      assert.strictEqual(Buffer.from(resource.data, "base64").toString("utf8"), "reference")
      Fs.symlinkSync("/etc/passwd", Path.join(at.directory, "testing/guide/link"))
      for (
        const path of [
          "../echo/SKILL.md",
          "/etc/passwd",
          "references/../../echo/SKILL.md",
          "link",
          "references",
          "",
          "none",
          "a\0b"
        ]
      ) {
        const refused = yield* at.ask({ kind: "resource", skill: "guide", path })
        assert.deepInclude(refused, { status: "error", content: "" }, path)
        assert.notInclude(refused.error, "root:")
        assert.notInclude(refused.error, at.directory)
        assert.include(refused.error, `cannot read ${JSON.stringify(path)}: `)
      }
      const text = Fs.readFileSync(Path.join(at.directory, "testing/guide/SKILL.md"))
      const sha256 = createHash("sha256").update(text).digest("hex")
      assert.deepStrictEqual(described.document, { path: "SKILL.md", size: text.byteLength, sha256 })
      assert.deepInclude(described.frontMatter, { name: "guide", description: "Does guide things." })
      const whole = parse(yield* at.ask({ kind: "resource", skill: "guide", path: "SKILL.md" }))
      assert.isTrue(text.equals(Buffer.from(whole.data, "base64")))
      assert.isUndefined(whole.digest)
      assert.strictEqual((yield* at.ask({ kind: "describe", skill: "nope" })).code, "SkillNotFound")
      assert.strictEqual((yield* at.ask({ kind: "topology" })).code, "BadRequest")
      assert.strictEqual((yield* at.ask({ kind: "what" })).code, "BadRequest")
      assert.strictEqual((yield* at.ask({ kind: "describe", skill: 7 })).code, "BadRequest")
      yield* at.raw([Buffer.from("{")], Topic.control(Serving.topic))
      assert.strictEqual((yield* settle(at)).status, "success")
      assert.isTrue((yield* at.metrics).some((line) => /dropped_messages_total\{.*reason="control".*\} 1$/.test(line)))
    }))

  it.live("only of the skill with the digest that is asked for, and only as it was then", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve({ metadata: { echo: { version: "2" } } })
      const skill = yield* Effect.flatMap(at.discovery.find("guide"), Effect.fromOption)
      const other = `sha256:${"0".repeat(64)}`
      for (
        const question of [{ kind: "describe", skill: "guide" }, { kind: "resource", skill: "guide", path: "SKILL.md" }]
      ) {
        const pinned = yield* at.ask({ ...question, digest: skill.digest })
        assert.strictEqual(pinned.status, "success", pinned.error)
        const changed = yield* at.ask({ ...question, digest: other })
        assert.deepInclude(changed, { status: "error", code: "SkillChanged", retryable: false, content: "" })
        assert.include(changed.error, skill.digest)
        assert.strictEqual((yield* at.ask({ ...question, digest: "latest" })).code, "BadRequest")
      }
      const resource = yield* at.ask({
        kind: "resource",
        skill: "guide",
        path: "references/a.md",
        digest: skill.digest
      })
      assert.strictEqual(JSON.parse(resource.content).digest, skill.digest)
    }))

  it.live("of no file that is not what the digest was computed of", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      const echo = yield* Effect.flatMap(at.discovery.find("echo"), Effect.fromOption)
      const folder = Path.join(at.directory, "testing/echo")
      // A scan may come in between: then it is another skill, which is told by the same code.
      Fs.writeFileSync(Path.join(folder, "scripts/run.sh"), "cat -")
      const script = yield* at.ask({ kind: "resource", skill: "echo", path: "scripts/run.sh", digest: echo.digest })
      assert.deepInclude(script, { status: "error", code: "SkillChanged", content: "" })
      Fs.writeFileSync(Path.join(folder, "late.txt"), "late")
      const late = yield* at.ask({ kind: "resource", skill: "echo", path: "late.txt", digest: echo.digest })
      assert.deepInclude(late, { status: "error", code: "SkillChanged", content: "" })
      Fs.appendFileSync(Path.join(folder, "SKILL.md"), "More.\n")
      const described = yield* at.ask({ kind: "describe", skill: "echo", digest: echo.digest })
      assert.deepInclude(described, { status: "error", code: "SkillChanged", content: "" })
      assert.include((yield* at.ask({ kind: "describe", skill: "echo" })).content, "More.")
    }))

  it.live("the schemas of a skill, as far as they can be used", () =>
    Effect.gen(function*() {
      const input = "{\"type\":\"object\",\"properties\":{\"__proto__\":{\"type\":\"null\"}}}"
      const at = yield* Serving.serve({
        skills: {
          both: { "in.json": input, "out.json": "{}", "scripts/run.sh": "cat" },
          neither: { "in.json": "7", "scripts/run.sh": "cat" }
        },
        metadata: {
          both: { "skillscale.input": "in.json", "skillscale.output": "out.json" },
          neither: { "skillscale.input": "in.json" }
        }
      })
      const [both, neither] = JSON.parse((yield* at.ask({ kind: "catalog" })).content).skills
      assert.strictEqual(JSON.stringify(both.input), input)
      assert.deepStrictEqual(both.output, {})
      assert.notProperty(neither, "input")
      const described = JSON.parse((yield* at.ask({ kind: "describe", skill: "both" })).content)
      assert.strictEqual(JSON.stringify(described.skill.input), input)
    }))

  it.live("what may be expected of a run, as it decides whether it may repeat one", () =>
    Effect.gen(function*() {
      const skills = { plain: { "scripts/run.sh": "true" }, twice: { "scripts/run.sh": "true" } }
      const at = yield* Serving.serve({ skills, metadata: { twice: { "skillscale.idempotent": "true" } } })
      const catalog = JSON.parse((yield* at.ask({ kind: "catalog" })).content)
      // The server of this test confines nothing.
      const open = { readOnly: false, destructive: true, openWorld: true }
      assert.deepStrictEqual(catalog.skills.map(({ hints }: { readonly hints: unknown }) => hints), [
        { ...open, idempotent: false },
        { ...open, idempotent: true }
      ])
    }))

  it.live("refuses more than 64 questions at a time", () =>
    Effect.gen(function*() {
      const release = yield* Deferred.make<void>()
      const at = yield* Serving.serve({
        publish: (publish) => (to, payload) =>
          Buffer.from(payload).includes("Overloaded")
            ? publish(to, payload)
            : Effect.andThen(Deferred.await(release), publish(to, payload))
      })
      const ids = yield* Effect.forEach(Array.from({ length: 70 }), () => at.control({ kind: "catalog" }))
      yield* Support.eventually("six are refused", () => at.replies.length === 6)
      assert.isTrue(at.replies.every(({ code, retryable }) => code === "Overloaded" && retryable === true))
      yield* Deferred.succeed(release, undefined)
      for (const id of ids) yield* at.final(id)
      assert.lengthOf(at.replies, 70)
    }))

  it.live("exact numbers after known traffic, with a bound on labels", () =>
    Effect.gen(function*() {
      const at = yield* Serving.serve()
      for (const skill of ["echo", "echo", "fail", "guide", "nope"]) yield* at.call({ skill })
      yield* at.publish(Serving.topic, "{")
      yield* settle(at)
      const metrics = yield* at.metrics
      const value = (name: string, ...labels: ReadonlyArray<string>) => {
        const lines = metrics.filter((line) =>
          line.startsWith(`${name}{`) && labels.every((label) => line.includes(label))
        )
        return lines.length === 1
          ? Number(lines[0]?.split(" ").at(-1))
          : assert.fail(`${name} ${labels}: ${lines.join("\n")}`)
      }
      const total = "skillscale_requests_total"
      assert.strictEqual(value(total, "skill=\"echo\"", "outcome=\"success\""), 3)
      assert.strictEqual(value(total, "skill=\"fail\"", "outcome=\"SkillFailed\""), 1)
      assert.strictEqual(value(total, "skill=\"guide\"", "outcome=\"success\""), 1)
      assert.strictEqual(value(total, "skill=\"(unknown)\"", "outcome=\"SkillNotFound\""), 1)
      assert.strictEqual(value("skillscale_dropped_messages_total", "reason=\"NotJson\""), 1)
      assert.strictEqual(value("skillscale_execution_seconds_count", "skill=\"echo\""), 3)
      assert.strictEqual(value("skillscale_queue_seconds_count"), 5)
      assert.strictEqual(value("skillscale_skills"), 5)
      assert.strictEqual(value("skillscale_server_info", "server=\"srv\"", "executor="), 1)
      assert.strictEqual(value("skillscale_running_processes"), 0)
      assert.strictEqual(value("skillscale_queue_depth"), 0)
      const sent = at.wire.reduce((sum, message) => sum + Buffer.byteLength(JSON.stringify(message)), 0)
      assert.strictEqual(value("skillscale_sent_bytes_total"), sent)
    }))

  it.live("300 skills with 256 labels and one for the others", () =>
    Effect.gen(function*() {
      const skills = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`s${index}`, {}]))
      const at = yield* Serving.serve({ skills })
      const ids = yield* Effect.forEach(Object.keys(skills), (skill) => at.send({ skill, timeout_ms: 60_000 }), {
        concurrency: 1
      })
      for (const id of ids) yield* at.final(id)
      const lines = (yield* at.metrics).filter((line) => line.startsWith("skillscale_requests_total"))
      const labels = new Set(lines.map((line) => /skill="([^"]*)"/.exec(line)?.[1]))
      assert.isTrue(labels.has("(other)"))
      assert.strictEqual(labels.size, 257)
    }))
})
