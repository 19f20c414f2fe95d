import * as SkillClient from "@skillscale/client/SkillClient"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Zmq from "zeromq"
import { skipUnless } from "./support/mustRun.ts"
import * as Peers from "./support/peers.ts"
import * as Stack from "./support/stack.ts"

const count = { category: "testing", name: "count", files: { "scripts/run.sh": "wc -c | tr -d ' '\n" } }
const fail: Stack.Fixture = {
  category: "testing",
  name: "fail",
  files: { "scripts/run.sh": "echo partly; echo 'that went wrong' >&2; exit 7\n" }
}

const topic = "TOPIC_TESTING"
const intent = (skill: string, data: string) => JSON.stringify({ skill, data })

const addresses = Effect.map(Proxy.Proxy, ({ xpub, xsub }) => ["--xsub", xsub, "--xpub", xpub])

for (const language of Peers.languages) {
  const skip = skipUnless(language.available, language.name)
  describe.skipIf(skip)(`version 1 peers on ${language.name}`, () => {
    layer(Stack.stack([Stack.echo, count, fail]), { excludeTestServices: true, timeout: 60_000 })((it) => {
      const call = (text: string) =>
        Effect.flatMap(addresses, (at) => Peers.runClient(language, [...at, "--topic", topic, "--intent", text]))

      it.effect("an old client calls our server through our proxy", () =>
        Effect.gen(function*() {
          const { code, reply } = yield* call(intent("echo", "hello ✓"))
          assert.strictEqual(code, 0)
          assert.strictEqual(reply["status"], "success")
          assert.strictEqual(reply["content"], "echo: hello ✓")
          assert.strictEqual(reply["error"], "")
          assert.isNumber(reply["timestamp"])
        }))

      it.effect("an old client's plain text goes to the skill that it clearly names, and else to none", () =>
        Effect.gen(function*() {
          const matched = yield* call("please echo this")
          assert.strictEqual(matched.reply["content"], "echo: please echo this")
          const unmatched = yield* call("make me a sandwich")
          assert.strictEqual(unmatched.code, 1)
          assert.include(String(unmatched.reply["error"]), "count, echo, fail")
        }))

      it.effect("an old client is told of a skill that failed", () =>
        Effect.gen(function*() {
          const { code, reply } = yield* call(intent("fail", ""))
          assert.strictEqual(code, 1)
          assert.strictEqual(reply["status"], "error")
          assert.include(String(reply["error"]), "that went wrong")
          assert.include(String(reply["error"]), "exit code 7")
        }))

      it.effect("an old client is told of an unknown skill, with those of the topic", () =>
        Effect.gen(function*() {
          const { code, reply } = yield* call(intent("nothing", ""))
          assert.strictEqual(code, 1)
          assert.include(String(reply["error"]), "count, echo, fail")
        }))

      it.effect("an old client is told at once that nobody serves a topic", () =>
        Effect.gen(function*() {
          const at = yield* addresses
          const started = performance.now()
          const { code, reply } = yield* Peers.runClient(language, [...at, "--topic", "TOPIC_NOWHERE", "--intent", "x"])
          assert.strictEqual(code, 1)
          assert.include(String(reply["error"]), "TOPIC_NOWHERE")
          assert.isBelow(performance.now() - started, 5000)
        }))

      for (const mebibytes of [1, 16]) {
        it.effect(`an old client sends ${mebibytes} MiB`, () =>
          Effect.gen(function*() {
            const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-test-"))
            yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true })))
            const file = Path.join(folder, "intent")
            Fs.writeFileSync(file, intent("count", "x".repeat(mebibytes * 1024 * 1024)))
            const { code, reply } = yield* call(`@${file}`)
            assert.strictEqual(code, 0)
            assert.strictEqual(String(reply["content"]).trim(), String(mebibytes * 1024 * 1024))
          }).pipe(Effect.scoped))
      }

      it.effect("our client calls an old server through our proxy", () =>
        Effect.gen(function*() {
          const at = yield* addresses
          yield* Peers.startServer(language, [...at, "--topic", "TOPIC_OLD"])
          const client = yield* SkillClient.SkillClient
          const reply = yield* client.invoke({ skill: "anything", topic: "TOPIC_OLD", data: "hello ✓" })
          assert.strictEqual(reply.content, "echo: hello ✓")
          const result = yield* client.run({ skill: "anything", topic: "TOPIC_OLD", stdin: "again" })
          assert.strictEqual(Buffer.from(result.stdout).toString(), "echo: again")
        }).pipe(Effect.scoped, Effect.provide(Layer.provide(SkillClient.layer(), Stack.bus))))

      it.effect("our client understands the error of an old server", () =>
        Effect.gen(function*() {
          const at = yield* addresses
          yield* Peers.startServer(language, [...at, "--topic", "TOPIC_OLD", "--fail", "no such thing"])
          const client = yield* SkillClient.SkillClient
          const error = yield* Effect.flip(client.invoke({ skill: "anything", topic: "TOPIC_OLD", data: "x" }))
          assert.include(error.message, "no such thing")
        }).pipe(Effect.scoped, Effect.provide(Layer.provide(SkillClient.layer(), Stack.bus))))
    })
  })
}

const utf8 = (text: string) => Buffer.from(text)

/** A version 1 connection in this process, that has heard itself. */
const rawConnection = Effect.gen(function*() {
  const { xpub, xsub } = yield* Proxy.Proxy
  const replyTo = `AGENT_REPLY_${process.pid}${performance.now()}`
  const publisher = yield* Effect.acquireRelease(
    Effect.sync(() => new Zmq.Publisher({ linger: 0 })),
    (socket) => Effect.sync(() => socket.close())
  )
  const subscriber = yield* Effect.acquireRelease(
    Effect.sync(() => new Zmq.Subscriber({ linger: 0, receiveTimeout: 100 })),
    (socket) => Effect.sync(() => socket.close())
  )
  publisher.connect(xsub)
  subscriber.connect(xpub)
  subscriber.subscribe(replyTo)
  yield* Effect.promise(async () => {
    for (let i = 0; i < 100; i++) {
      await publisher.send([replyTo, "probe"])
      const heard = await subscriber.receive().catch(() => undefined)
      if (heard !== undefined) break
    }
    while (await subscriber.receive().catch(() => undefined) !== undefined);
    subscriber.receiveTimeout = 20_000
  })
  const next = Effect.promise(async () => {
    const frames = await subscriber.receive()
    assert.lengthOf(frames, 2)
    const reply: Readonly<Record<string, unknown>> = JSON.parse(String(frames[1]))
    return reply
  })
  return {
    replyTo,
    next,
    send: (...frames: ReadonlyArray<Buffer>) => Effect.promise(() => publisher.send([...frames]))
  }
})

const droppedMessages = Effect.map(
  Metric.snapshot,
  (metrics) =>
    metrics.filter((metric) => metric.id === "skillscale_dropped_messages_total" && metric.type === "Counter")
      .reduce((sum, metric) => sum + (metric.type === "Counter" ? Number(metric.state.count) : 0), 0)
)

describe("malformed messages", () => {
  layer(Stack.stack([Stack.echo]), { excludeTestServices: true, timeout: 60_000 })((it) => {
    const request = (replyTo: string, id: string) => ({
      request_id: id,
      reply_to: replyTo,
      intent: intent("echo", "x")
    })
    const toBuffer = (value: unknown) => utf8(JSON.stringify(value))
    const invalidUtf8 = (replyTo: string) =>
      Buffer.concat([utf8(`{"request_id":"bad","reply_to":"${replyTo}","intent":"`), Buffer.from([0xff]), utf8("\"}")])

    const answered: Readonly<Record<string, (replyTo: string) => ReadonlyArray<Buffer>>> = {
      "a missing intent": (replyTo) => [toBuffer({ request_id: "bad", reply_to: replyTo })],
      "a missing request_id": (replyTo) => [toBuffer({ reply_to: replyTo, intent: "x" })],
      "an intent of the wrong type": (replyTo) => [toBuffer({ ...request(replyTo, "bad"), intent: 7 })],
      "a timestamp of the wrong type": (replyTo) => [toBuffer({ ...request(replyTo, "bad"), timestamp: "now" })],
      "version 2 fields of the wrong type": (replyTo) => [toBuffer({ ...request(replyTo, "bad"), v: 2, args: "x" })],
      "a third frame": (replyTo) => [toBuffer(request(replyTo, "bad")), utf8("extra")],
      "an empty frame in between": (replyTo) => [utf8(""), toBuffer(request(replyTo, "bad"))],
      "malformed JSON": (replyTo) => [utf8(`{"reply_to":"${replyTo}",`)],
      "invalid UTF-8": (replyTo) => [invalidUtf8(replyTo)],
      "2 MiB of invalid UTF-8": (replyTo) => [Buffer.concat([invalidUtf8(replyTo), Buffer.alloc(2 ** 21, 0xff)])],
      "a third frame after 2 MiB": (replyTo) => [
        toBuffer({ ...request(replyTo, "bad"), x: "x".repeat(2 ** 21) }),
        utf8("extra")
      ],
      "a message of 65 MiB": (replyTo) => [toBuffer({ ...request(replyTo, "bad"), x: "x".repeat(65 * 2 ** 20) })]
    }
    for (const [what, frames] of Object.entries(answered)) {
      it.effect(`${what} is answered, and the next request works`, () =>
        Effect.gen(function*() {
          const { next, replyTo, send } = yield* rawConnection
          yield* send(utf8(topic), ...frames(replyTo))
          const refused = yield* next
          assert.strictEqual(refused["status"], "error")
          assert.strictEqual(refused["code"], what.includes("65 MiB") ? "TooLarge" : "BadRequest")
          assert.isAbove(String(refused["error"]).length, 20)
          yield* send(utf8(topic), toBuffer(request(replyTo, "good")))
          const reply = yield* next
          assert.strictEqual(reply["request_id"], "good")
          assert.strictEqual(reply["content"], "echo: x")
        }).pipe(Effect.scoped))
    }

    const dropped: Readonly<Record<string, (replyTo: string) => ReadonlyArray<Buffer>>> = {
      "malformed JSON without an address": () => [utf8("{\"intent\":\"x\",")],
      "no payload": () => [],
      "an empty payload": () => [utf8("")],
      "JSON that is no object": () => [utf8("[1,2]")],
      "no reply address": () => [toBuffer({ request_id: "bad", intent: "x" })],
      "a reply address of the wrong type": () => [toBuffer({ request_id: "bad", reply_to: 7, intent: "x" })],
      "a reply address that is a skill topic": () => [toBuffer(request(topic, "bad"))],
      "random bytes": () => [Buffer.from([0, 159, 146, 150, 255])]
    }
    for (const [what, frames] of Object.entries(dropped)) {
      it.effect(`${what} is dropped and counted, and the next request works`, () =>
        Effect.gen(function*() {
          const { next, replyTo, send } = yield* rawConnection
          const before = yield* droppedMessages
          yield* send(utf8(topic), ...frames(replyTo))
          yield* send(utf8(topic), toBuffer(request(replyTo, "good")))
          const reply = yield* next
          assert.strictEqual(reply["request_id"], "good")
          assert.strictEqual(reply["status"], "success")
          assert.strictEqual((yield* droppedMessages) - before, 1)
        }).pipe(Effect.scoped))
    }
  })
})

it("the version 1 peers share no code with the packages", () => {
  const folder = Path.join(import.meta.dirname, "v1")
  for (const name of Fs.readdirSync(folder).filter((name) => /\.(mjs|py)$/.test(name))) {
    assert.notInclude(
      Fs.readFileSync(Path.join(folder, name), "utf8").replaceAll(/^(\/\/|#|""").*$/gm, ""),
      "skillscale"
    )
  }
})
