import { assert, describe, it } from "@effect/vitest"
import * as Bus from "@skillscale/core/Bus"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as ClientError from "@skillscale/client/ClientError"
import * as PromiseClient from "@skillscale/client/PromiseClient"
import { answerTo, busLayer, catalogReply, echo, type Json, serve, skill, Wire } from "./support/fakes.ts"

const topic = "TOPIC_TEST"

/** A client on a memory bus, and what the test needs to play the server. */
const setup = async () => {
  const scope = Scope.makeUnsafe()
  const context = await Effect.runPromise(Scope.provide(Layer.build(busLayer), scope))
  const client = await PromiseClient.fromBus(Layer.succeed(Bus.Bus, Context.get(context, Bus.Bus)))
  const wire = Context.get(context, Wire)
  return {
    client,
    wire,
    play: (topics: ReadonlyArray<string>, handle: (request: Json) => Effect.Effect<unknown, never, Bus.Bus>) =>
      Effect.runPromise(serve(topics, handle).pipe(Effect.provide(context), Scope.provide(scope))),
    cancels: () => wire.on(`@${topic}`).length,
    requested: () => Effect.runPromise(wire.next(topic)),
    [Symbol.asyncDispose]: async () => {
      await client.close()
      await Effect.runPromise(Scope.close(scope, Effect.runSync(Effect.exit(Effect.void))))
    }
  }
}

const rejected = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error("expected a rejection")
}

const drained = async (events: AsyncIterable<unknown>): Promise<void> => {
  for await (const event of events) assert.isObject(event)
}

const reason = async (promise: Promise<unknown>): Promise<string> => {
  const error = await rejected(promise)
  assert.instanceOf(error, ClientError.ClientError)
  return error.reason._tag
}

const read = async (events: AsyncIterable<unknown>) => {
  for await (const event of events) assert.fail(String(event))
}

describe("PromiseClient", () => {
  it("has the same operations", async () => {
    await using test = await setup()
    const { client, play } = test
    await play([topic], echo)
    await play(["TOPIC_BAD"], (request) => answerTo(request, { status: "error", error: "no" }))
    await play(["@SERVERS"], (request) =>
      Effect.andThen(
        answerTo(request, { event: "fanout", content: "1" }),
        answerTo(request, catalogReply("s", topic, skill("a", topic)))
      ))
    await play([`@${topic}`], (request) =>
      answerTo(request, {
        content: JSON.stringify(
          request["kind"] === "describe"
            ? { skill: skill("a", topic), instructions: "# A", resources: [] }
            : { path: "x", data: "aGk=" }
        )
      }))
    await play(["@PROXY"], (request) => answerTo(request, { content: JSON.stringify({ topics: [] }) }))

    assert.strictEqual((await client.invoke({ skill: "a", data: "x" })).content, "echo: x")
    assert.strictEqual((await client.run({ skill: "a", stdin: "x" })).exitCode, 0)
    const bad = { skill: "a", topic: "TOPIC_BAD" }
    const results = await client.invokeAll([{ skill: "a", data: "1" }, bad], { concurrency: 1 })
    assert.deepStrictEqual(results.map(({ status }) => status), ["fulfilled", "rejected"])
    const error = await rejected(client.invokeSequential([{ skill: "a" }, bad]))
    assert.instanceOf(error, ClientError.ClientError)
    assert.strictEqual(error.index, 1)
    assert.strictEqual((await client.catalog())[0]?.name, "a")
    assert.strictEqual((await client.survey()).servers, 1)
    assert.strictEqual((await client.describe("a")).instructions, "# A")
    assert.strictEqual(Buffer.from(await client.resource("a", "x")).toString(), "hi")
    assert.deepStrictEqual(await client.topology(), { topics: [] })
    const events: Array<string> = []
    for await (const event of client.stream({ skill: "a", stdin: "x" })) events.push(event._tag)
    assert.deepStrictEqual(events, ["Stdout", "Done"])
    assert.strictEqual(await reason(client.invoke(bad)), "SkillFailed")
  })

  it("aborting rejects with the signal's reason and cancels on the server", async () => {
    await using test = await setup()
    const { cancels, client, requested } = test
    const controller = new AbortController()
    const stop = new Error("stop")
    const call = rejected(client.invoke({ skill: "a", topic }, { signal: controller.signal }))
    await requested()
    controller.abort(stop)
    assert.strictEqual(await call, stop)
    assert.strictEqual(cancels(), 1)
    assert.strictEqual(await rejected(client.invoke({ skill: "a", topic }, { signal: controller.signal })), stop)
    assert.lengthOf(test.wire.on(topic), 1)
  })

  it("aborting a stream rejects with the signal's reason and cancels on the server", async () => {
    await using test = await setup()
    const { cancels, client, play } = test
    await play(
      [topic],
      (request) => answerTo(request, { v: 2, event: "chunk", seq: 0, stream: "stdout", data: "aGk=" })
    )
    const controller = new AbortController()
    const stop = new Error("stop")
    const seen: Array<string> = []
    const error = await rejected((async () => {
      for await (const event of client.stream({ skill: "a", topic }, { signal: controller.signal })) {
        seen.push(event._tag)
        controller.abort(stop)
      }
    })())
    assert.strictEqual(error, stop)
    assert.deepStrictEqual(seen, ["Stdout"])
    assert.strictEqual(cancels(), 1)
    const again = client.stream({ skill: "a", topic }, { signal: controller.signal })
    assert.strictEqual(await rejected(drained(again)), stop)
  })

  it("leaving the loop of a stream cancels", async () => {
    await using test = await setup()
    const { cancels, client, play } = test
    await play(
      [topic],
      (request) => answerTo(request, { v: 2, event: "chunk", seq: 0, stream: "stdout", data: "aGk=" })
    )
    for await (const event of client.stream({ skill: "a", topic })) {
      assert.strictEqual(event._tag, "Stdout")
      break
    }
    assert.strictEqual(cancels(), 1)
  })

  it("closing rejects what waits, cancels it, and refuses what comes later", async () => {
    await using test = await setup()
    const { cancels, client, requested } = test
    const call = reason(client.invoke({ skill: "a", topic }))
    await requested()
    await client.close()
    assert.strictEqual(await call, "Closed")
    assert.strictEqual(cancels(), 1)
    for (const late of [client.invoke({ skill: "a", topic }), client.invoke({ skill: "a" }), client.catalog()]) {
      assert.strictEqual(await reason(late), "Closed")
    }
    assert.strictEqual(await reason(drained(client.stream({ skill: "a", topic }))), "Closed")
    await client.close()
  })

  it("says what is wrong with an address, a value and a proxy that is not there", async () => {
    const wrong = await rejected(PromiseClient.connect({ xsub: "nonsense" }))
    assert.instanceOf(wrong, ClientError.ClientError)
    assert.include(wrong.message, "nonsense")
    // @ts-expect-error a word is what a program without types may pass
    assert.strictEqual(await reason(PromiseClient.connect({ connectTimeout: "soon" })), "BadRequest")
    const nobody = { xsub: "tcp://127.0.0.1:1", xpub: "tcp://127.0.0.1:1", connectTimeout: 100 }
    assert.strictEqual(await reason(PromiseClient.connect(nobody)), "Unreachable")
    const controller = new AbortController()
    const connecting = rejected(PromiseClient.connect({ ...nobody, connectTimeout: 10_000, signal: controller.signal }))
    controller.abort("enough")
    assert.strictEqual(await connecting, "enough")
    await using test = await setup()
    // @ts-expect-error a number is what a program without types may pass
    assert.strictEqual(await reason(test.client.invoke({ skill: "a", topic, data: 7 })), "BadRequest")
    const wrongs: ReadonlyArray<unknown> = [
      { topic },
      { topic, skill: 7 },
      { skill: "a", topic: 7 },
      { skill: "a", topic: "" },
      null,
      "a"
    ]
    for (const request of wrongs) {
      // @ts-expect-error as above
      assert.strictEqual(await reason(test.client.invoke(request)), "BadRequest")
      // @ts-expect-error as above
      assert.strictEqual(await reason(test.client.run(request)), "BadRequest")
      // @ts-expect-error as above
      assert.strictEqual(await reason(read(test.client.stream(request))), "BadRequest")
    }
    // @ts-expect-error as above
    assert.strictEqual(await reason(test.client.describe(7)), "BadRequest")
    // @ts-expect-error as above
    assert.strictEqual(await reason(test.client.resource("a", "x", { topic: 7 })), "BadRequest")
    // @ts-expect-error as above
    assert.strictEqual(await reason(PromiseClient.connect({ xsub: 5 })), "BadRequest")
    const uneven = { xsub: "tcp://127.0.0.1:1,tcp://127.0.0.1:2", xpub: "tcp://127.0.0.1:3" }
    assert.strictEqual(await reason(PromiseClient.connect(uneven)), "BadRequest")
  })
})
