/**
 * A memory bus that records what the client publishes, and scripted servers on it.
 */
import * as Bus from "@skillscale/core/Bus"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

export type Json = Readonly<Record<string, unknown>>

export interface Published {
  readonly topic: string
  readonly body: Json
  /** When it expires, if it does. */
  readonly expiresInMs: number | undefined
}

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

export const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const parse = (payload: Uint8Array | undefined): Json => {
  try {
    const value: unknown = JSON.parse(Buffer.from(payload ?? []).toString())
    return isRecord(value) ? value : {}
  } catch {
    return {}
  }
}

export const text = (value: unknown): string => typeof value === "string" ? value : ""

/** What was published, and a switch that makes a topic's publishes hang. */
export class Wire extends Context.Service<Wire, {
  readonly published: Array<Published>
  readonly on: (topic: string) => ReadonlyArray<Published>
  readonly hanging: Set<string>
  /** Completes when a message to the topic was published. */
  readonly next: (topic: string) => Effect.Effect<Json>
}>()("test/Wire") {}

const wire = Layer.sync(Wire, () => {
  const published: Array<Published> = []
  const on = (topic: string) => published.filter((message) => message.topic === topic)
  return {
    published,
    on,
    hanging: new Set<string>(),
    next: (topic) =>
      Effect.gen(function*() {
        for (;;) {
          const found = on(topic)[0]
          if (found !== undefined) return found.body
          yield* Effect.yieldNow
        }
      })
  }
})

const recorded = Layer.effect(
  Bus.Bus,
  Effect.gen(function*() {
    const bus = yield* Bus.Bus
    const { hanging, published } = yield* Wire
    return Bus.make({
      subscription: bus.subscription,
      publish: (topic, payload, options) =>
        Effect.suspend(() => {
          published.push({ topic, body: parse(payload), expiresInMs: options?.expiresInMs })
          return hanging.has(topic) ? Effect.never : bus.publish(topic, payload, options)
        })
    })
  })
)

export const busLayer: Layer.Layer<Bus.Bus | Wire> = recorded.pipe(
  Layer.provide(Bus.layerMemory),
  Layer.provideMerge(wire)
)

export const send = (topic: string, body: unknown) =>
  Effect.flatMap(Bus.Bus, (bus) => bus.publish(topic, utf8(typeof body === "string" ? body : JSON.stringify(body))))

export const answerTo = (request: Json, body: Json) =>
  Effect.orDie(send(text(request["reply_to"]), {
    request_id: request["request_id"],
    status: "success",
    content: "",
    error: "",
    timestamp: 1,
    ...body
  }))

/** Runs `handle` for each message on the topics, one at a time; it is subscribed when the effect returns. */
export const serve = (
  topics: ReadonlyArray<string>,
  handle: (request: Json, topic: string) => Effect.Effect<unknown, never, Bus.Bus>
): Effect.Effect<void, never, Bus.Bus | Scope.Scope> =>
  Effect.gen(function*() {
    const bus = yield* Bus.Bus
    const messages = yield* bus.subscription(topics)
    yield* Stream.runForEach(messages, (message) => handle(parse(message.frames[0]), message.topic)).pipe(
      Effect.forkScoped({ startImmediately: true })
    )
  }).pipe(Effect.orDie)

/** A server of version 1 that answers with its intent's data. */
export const echo = (request: Json) => {
  const intent: unknown = JSON.parse(text(request["intent"]))
  return answerTo(request, { content: `echo: ${isRecord(intent) ? text(intent["data"]) : ""}` })
}

export const skill = (name: string, topic: string, digest = `sha256:${"0".repeat(64)}`): Json => ({
  name,
  description: `does ${name}`,
  category: "test",
  topic,
  digest,
  entry: "scripts/run.py",
  scripts: ["scripts/run.py"],
  env: []
})

export const catalogReply = (server: string, topic: string, ...skills: ReadonlyArray<Json>): Json => ({
  server,
  content: JSON.stringify({ server, topic, skills })
})
