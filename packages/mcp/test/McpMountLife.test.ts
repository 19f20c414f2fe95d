/** How mounts begin, go on when their servers do not, and end. */
import { assert, describe, it } from "@effect/vitest"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Stack from "../../../test/support/stack.ts"
import * as McpMount from "../src/McpMount.ts"
import { executor, failure, http, invoke, library, odd, ofCommand, ofUrl, until, urlOf } from "./mountStack.ts"

const isAlive = (pid: number) => Fs.existsSync(`/proc/${pid}/stat`)

const names = Effect.gen(function*() {
  const client = yield* SkillClient.SkillClient
  return (yield* client.catalog).map(({ name }) => name)
})

const pidOf = Effect.map(invoke("pid", ""), ({ content }) => Number(content))

/** Why there is no mount. */
const refusal = <A, R>(layer: Layer.Layer<A, McpMount.McpMountError, R>) =>
  Effect.flip(Effect.scoped(Layer.build(layer)))

describe("a program", () => {
  it.live("that ends during a call is started again, and its caller told whether to try again", () =>
    Effect.gen(function*() {
      const pid = yield* pidOf
      const lost = yield* Effect.flip(invoke("crashing", ""))
      assert.deepInclude(lost.reason, { _tag: "ServerError", code: "Internal", retryable: false })
      assert.include(lost.message, "was lost during the call, which may have been done")
      const safely = yield* Effect.flip(invoke("crashing-safely", ""))
      assert.deepInclude(safely.reason, { _tag: "ServerError", code: "Internal", retryable: true })
      assert.notStrictEqual(yield* pidOf, pid)
      assert.include(yield* names, "echo")
    }).pipe(Effect.provide(ofCommand(library("both")))))

  it.live("that ends at a question of today is asked as one of 2025", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* invoke("empty-description", "")).content, "called empty-description")
    }).pipe(Effect.provide(ofCommand(odd("strict")))))

  it.live("may write other things to standard output, too", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* invoke("empty-description", "")).content, "called empty-description")
    }).pipe(Effect.provide(ofCommand(odd("garbage")))))

  it.live("whose answer is too large goes on with other calls", () =>
    Effect.gen(function*() {
      const enormous = yield* Effect.forkChild(Effect.flip(invoke("same-name-c10465", "")))
      assert.strictEqual((yield* invoke("empty-description", "")).content, "called empty-description")
      const error = yield* Fiber.join(enormous)
      assert.deepInclude(error.reason, failure)
      assert.include(error.message, "the MCP server failed: ")
      assert.include(error.message, "the answer is larger than 67108864 bytes")
      assert.strictEqual((yield* invoke("empty-description", "")).content, "called empty-description")
    }).pipe(Effect.provide(ofCommand(odd("enormous")))), 60_000)

  it.live("that writes without end what is no message is started again", () =>
    Effect.gen(function*() {
      const pid = (yield* invoke("same-name-0f0c17", "")).content
      const lost = yield* Effect.flip(invoke("same-name-c10465", ""))
      assert.deepInclude(lost.reason, failure)
      assert.include(lost.message, "was lost during the call")
      const next = (yield* invoke("same-name-0f0c17", "")).content
      assert.notStrictEqual(next, pid)
      assert.isFalse(isAlive(Number(pid)))
    }).pipe(Effect.provide(ofCommand(odd("flood"), { grace: "200 millis" }))), 30_000)

  it.live("that does not end by itself is ended with its mount", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { discovery, runner } = yield* Scope.provide(
        McpMount.makeCommand({ name: "external", server: odd("stubborn"), grace: "200 millis" }),
        scope
      )
      const skill = Option.getOrThrow(yield* discovery.find("same-name-0f0c17"))
      const { stdout } = yield* runner.run(skill, {})
      const pid = Number(Buffer.from(stdout).toString())
      assert.isTrue(isAlive(pid))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(isAlive(pid))
    }).pipe(Effect.provide(executor)))

  it.live("that is not there, or speaks something else, is no mount", () =>
    Effect.gen(function*() {
      const mountOf = (server: McpMount.Command) =>
        McpMount.layerCommand({ name: "external", server, startTimeout: "2 seconds" }).pipe(Layer.provide(executor))
      const missing = yield* refusal(mountOf({ ...odd(""), command: "/nowhere" }))
      assert.strictEqual(missing.reason._tag, "NotStarted")
      const ended = yield* refusal(mountOf({ ...odd(""), args: ["--eval", "process.exit(3)"] }))
      assert.include(ended.message, "the program ended with exit code 3 before the handshake of MCP was done")
      const mute = yield* refusal(mountOf(odd("mute")))
      assert.include(mute.message, "it did not finish the handshake of MCP within 2s")
      assert.strictEqual(mute.reason._tag, "Unreachable")
    }))
})

describe("a list of tools", () => {
  const listed = Effect.fnUntraced(function*(mode: string) {
    const said: Array<string> = []
    const logger = Logger.make(({ message }) => void said.push(String(message)))
    const { discovery } = yield* McpMount.makeCommand({ name: "external", server: odd(mode), refresh: "50 millis" })
      .pipe(
        Effect.provide(Logger.layer([logger]))
      )
    const { skills } = yield* discovery.catalog
    // It is listed several times.
    yield* Effect.sleep("500 millis")
    return { count: skills.length, said: said.filter((line) => line.startsWith("the external server")) }
  }, Effect.scoped)

  it.live("that is too long, or without end, is cut with one warning", () =>
    Effect.gen(function*() {
      const tooMany = "the external server has more tools than are taken"
      assert.deepEqual(yield* listed("many"), { count: 1000, said: [tooMany] })
      assert.deepEqual(yield* listed("exact"), { count: 1000, said: [] })
      const { said } = yield* listed("circle")
      assert.deepEqual(said, ["the external server lists its tools without end"])
    }).pipe(Effect.provide(executor)))
})

describe("a URL", () => {
  it.live("that is away for too long has no skills until it is back", () =>
    Effect.gen(function*() {
      const first = yield* Scope.make()
      const { port } = yield* Scope.provide(http("both"), first)
      yield* Effect.gen(function*() {
        assert.include(yield* names, "echo")
        yield* Scope.close(first, Exit.void)
        yield* until(Effect.map(names, (found) => found.length === 0 || undefined))
        yield* http("both", port)
        yield* until(Effect.map(names, (found) => found.includes("echo") || undefined))
        assert.strictEqual((yield* invoke("echo", { text: "back" })).content, "echo: back")
      }).pipe(Effect.provide(ofUrl({ url: urlOf(port) }, { keep: "300 millis", refresh: "200 millis" })))
    }))

  it.live("that comes back in time answers calls that waited for it", () =>
    Effect.gen(function*() {
      const first = yield* Scope.make()
      const { port } = yield* Scope.provide(http("legacy"), first)
      yield* Effect.gen(function*() {
        yield* Scope.close(first, Exit.void)
        const waiting = yield* Effect.forkChild(invoke("echo", { text: "waited" }))
        yield* http("legacy", port)
        assert.strictEqual((yield* Fiber.join(waiting)).content, "echo: waited")
      }).pipe(Effect.provide(ofUrl({ url: urlOf(port) })))
    }))

  it.live("is told that a session is over", () =>
    Effect.gen(function*() {
      const { child, port } = yield* http("legacy")
      let said = ""
      child.stdout?.on("data", (data) => said += String(data))
      yield* Effect.provide(invoke("echo", { text: "x" }), ofUrl({ url: urlOf(port) }))
      yield* until(Effect.sync(() => said.includes("session ended") || undefined))
    }))

  it.live("that leads elsewhere, or nowhere, is no mount", () =>
    Effect.gen(function*() {
      const { port } = yield* http("both")
      const away = yield* refusal(McpMount.layerUrl({ name: "external", server: { url: urlOf(port, "/elsewhere") } }))
      assert.include(away.message, "redirect")
      yield* Effect.void
    }))
})

describe("a caller of version 1", () => {
  it.live("gives the arguments as text, as an object, or none", () =>
    Effect.gen(function*() {
      const bus = Context.get(yield* Layer.build(Layer.fresh(Stack.bus)), Bus.Bus)
      const replies = yield* bus.subscription(["AGENT_REPLY_old"])
      const send = (id: string, data: unknown) =>
        bus.publish(
          "TOPIC_EXTERNAL",
          Buffer.from(JSON.stringify({
            request_id: id,
            reply_to: "AGENT_REPLY_old",
            intent: JSON.stringify({ skill: id === "none" ? "image" : "echo", data })
          }))
        )
      yield* send("object", { text: "a" })
      yield* send("text", `{"text":"b"}`)
      yield* send("none", undefined)
      const answers = yield* Stream.runCollect(Stream.take(replies, 3))
      const contents = answers.map(({ frames }) => JSON.parse(Buffer.from(frames[0] ?? "").toString()))
      assert.sameDeepMembers(contents.map(({ content, request_id, status }) => [request_id, status, content]), [
        ["object", "success", "echo: a"],
        ["text", "success", "echo: b"],
        ["none", "success", "a pixel"]
      ])
    }).pipe(Effect.scoped, Effect.provide(ofCommand(library("both")))))
})
