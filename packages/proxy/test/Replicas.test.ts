import * as Control from "@skillscale/core/Control"
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { childSubscriber, eventually, publisher, replicas, start, subscriber } from "./support.ts"

const topic = "TOPIC_SHARED"
const replyTo = "AGENT_REPLY_control"

const heardBy = (...subscribers: ReadonlyArray<{ readonly heard: ReadonlyArray<ReadonlyArray<Buffer>> }>) =>
  subscribers.map(({ heard }) => heard.filter((frames) => String(frames[0]) === topic).length)

describe("replicas of a topic", () => {
  it.live("take turns, while taps hear everything", () =>
    Effect.gen(function*() {
      const proxy = yield* start()
      const [one, two, three, tap] = yield* Effect.forEach([topic, topic, topic, "TOPIC_"], (name) =>
        subscriber(proxy, [name]))
      assert.isDefined(one && two && three && tap)
      if (!one || !two || !three || !tap) {
        return
      }
      yield* replicas(proxy, topic, 3)
      const { send } = yield* publisher(proxy)
      for (let index = 0; index < 30; index += 1) {
        yield* send(topic, `message ${index}`)
      }
      yield* eventually(
        "30 messages",
        Effect.sync(() =>
          heardBy(tap)[0] === 30
        )
      )
      yield* eventually("a third each", Effect.sync(() => heardBy(one, two, three).every((count) => count === 10)))
      const texts = new Set([one, two, three].flatMap(({ heard }) => heard.map((frames) => String(frames[1]))))
      assert.strictEqual(texts.size, 30)
    }))

  it.live("get what another replica has no room for", () =>
    Effect.gen(function*() {
      const proxy = yield* start({ highWaterMarkBytes: 1024 * 1024 })
      const stuck = yield* childSubscriber(proxy, topic, "stop")
      yield* replicas(proxy, topic, 1)
      const live = yield* subscriber(proxy, [topic])
      yield* replicas(proxy, topic, 2)
      stuck.kill("SIGSTOP")
      const { send } = yield* publisher(proxy)
      const body = Buffer.alloc(1024 * 1024)
      const total = 120
      for (let index = 0; index < total; index += 1) {
        yield* send(topic, body)
      }
      // What a stopped replica holds is bounded by the kernel's buffers and the high-water mark; the live one gets the rest.
      yield* eventually("most messages", Effect.sync(() => (heardBy(live)[0] ?? 0) > total - 40))
    }))
})

describe("control messages", () => {
  const ask = Effect.fnUntraced(function*(to: string, control: Control.Control, servers: number) {
    const proxy = yield* start()
    for (let index = 0; index < servers; index += 1) {
      yield* subscriber(proxy, [to, topic])
    }
    const asker = yield* subscriber(proxy, [replyTo])
    const { send } = yield* publisher(proxy)
    yield* send(to, Result.getOrThrow(Control.encode(control)))
    yield* send(replyTo, "end")
    yield* eventually("the end", Effect.sync(() => asker.heard.some((frames) => String(frames[1]) === "end")))
    return asker.heard.filter((frames) => String(frames[1]) !== "end")
      .map((frames) => Result.getOrThrow(Protocol.decodeResponse(frames.slice(1))))
  })

  for (const servers of [0, 2]) {
    it.live(`a question is answered with how many got it: ${servers}`, () =>
      Effect.gen(function*() {
        const [fanout, ...others] = yield* ask(Topic.everyServer, { kind: "catalog", requestId: "q", replyTo }, servers)
        assert.lengthOf(others, 0)
        assert.deepInclude(fanout, { requestId: "q", status: "success", event: "fanout", content: String(servers) })
      }))
  }

  it.live("the live topics are answered on the proxy's topic", () =>
    Effect.gen(function*() {
      const [reply] = yield* ask(Topic.proxy, { kind: "topology", requestId: "q", replyTo }, 2)
      assert.deepInclude(reply, { requestId: "q", status: "success" })
      assert.deepStrictEqual(JSON.parse(reply?.content ?? ""), { topics: [{ topic, replicas: 2 }] })
    }))

  it.live("a cancellation has no answer", () =>
    Effect.gen(function*() {
      assert.lengthOf(yield* ask(Topic.control(topic), { kind: "cancel", requestId: "q", replyTo }, 0), 0)
    }))
})
