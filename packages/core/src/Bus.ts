/**
 * The port through which agents and skill servers exchange messages.
 *
 * A bus delivers every message published to a topic to every live subscription of exactly that topic, in the order in
 * which one publisher sent them. The subscriptions of a skill topic (`TOPIC_…`) are replicas: one of them gets each
 * message; which one is left to the implementation. A bus keeps nothing for subscribers that come later. What the bytes
 * mean is left to `Protocol`. `ZmqBus` implements it over ZMTP; `layerMemory` within one process. A subscriber that does
 * not keep up never stops the others: beyond the implementation's documented bound, messages are dropped for that
 * subscriber alone.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Topic from "./Topic.ts"

/**
 * One message. `frames` are what followed the topic frame: exactly one for every message that `publish` sends, any
 * number for what a foreign peer may send.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly topic: string
  readonly frames: ReadonlyArray<Uint8Array>
  /** Where several buses are joined: publishes through the one by which this came, where its sender listens. */
  readonly reply?: Publish | undefined
}

/**
 * What may be said of a message when it is published.
 *
 * @category models
 * @since 0.1.0
 */
export interface PublishOptions {
  /**
   * For how long somebody wants the message, in milliseconds from now. One that was not handed on by then, not even a part
   * of it, is dropped, and nobody is told. A bus that delivers at once ignores it. By default a message waits for as long
   * as it takes.
   */
  readonly expiresInMs?: number | undefined
  /**
   * Whether it goes ahead of what waits to be sent, for small messages that tell that somebody is there. A bus that delivers at
   * once ignores it.
   */
  readonly isUrgent?: boolean | undefined
  /**
   * Whether the publish goes on until the message has left this process, or has expired, instead of until it is accepted. One that is
   * interrupted meanwhile is sent all the same. A bus that delivers at once ignores it.
   */
  readonly waitsUntilSent?: boolean | undefined
}

/**
 * How messages are published.
 *
 * @category models
 * @since 0.1.0
 */
export type Publish = (
  topic: string,
  payload: Uint8Array,
  options?: PublishOptions
) => Effect.Effect<void, BusError>

/**
 * The peer cannot be reached, or the address cannot be used. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  address: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * The bus was closed while the operation was under way, or before it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>()("Closed", {}) {}

/**
 * The message was not accepted within `timeoutMs`, because the peers do not keep up. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Backpressure extends Schema.TaggedError<Backpressure>()("Backpressure", { timeoutMs: Schema.Finite }) {}

/**
 * The message is larger than the bus carries. Not retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", {
  bytes: Schema.Finite,
  maxBytes: Schema.Finite
}) {}

/**
 * The transport failed in a way that has no reason of its own.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unknown extends Schema.TaggedError<Unknown>()("Unknown", { cause: Schema.Defect() }) {}

/**
 * The only error of this module; `reason` says what happened to which operation.
 *
 * @category errors
 * @since 0.1.0
 */
export class BusError extends Schema.TaggedError<BusError>()("BusError", {
  operation: Schema.Literals(["connect", "publish", "subscribe"]),
  reason: Schema.Union([Unreachable, Closed, Backpressure, TooLarge, Unknown])
}) {
  override readonly cause = this.reason
  override get message() {
    switch (this.reason._tag) {
      case "Unreachable":
        return `cannot ${this.operation}: ${this.reason.address} cannot be reached`
      case "Closed":
        return `cannot ${this.operation}: the bus is closed`
      case "Backpressure":
        return `cannot ${this.operation}: no room for the message within ${this.reason.timeoutMs} ms`
      case "TooLarge":
        return `cannot ${this.operation}: ${this.reason.bytes} bytes are more than the limit of ${this.reason.maxBytes}`
      case "Unknown":
        return `cannot ${this.operation}: ${String(this.reason.cause)}`
    }
  }
}

/**
 * Publishes messages and subscribes to topics.
 *
 * @category services
 * @since 0.1.0
 */
export class Bus extends Context.Service<Bus, {
  /**
   * Accepts one message for delivery. Waits while the transport is full. An accepted message survives a clean close,
   * unless it expires.
   * The payload is not copied and must not be changed afterwards.
   */
  readonly publish: Publish
  /**
   * Opens a subscription to exact topics and returns its messages. The subscription is registered when the effect
   * returns (with a remote peer it takes effect shortly after; see `SkillClient`, which proves it) and ends with the
   * scope. Messages that arrive between two pulls are kept, up to the implementation's documented bound.
   */
  readonly subscription: (
    topics: ReadonlyArray<string>
  ) => Effect.Effect<Stream.Stream<Message, BusError>, BusError, Scope.Scope>
  /** Subscribes for as long as the stream runs. */
  readonly subscribe: (...topics: ReadonlyArray<string>) => Stream.Stream<Message, BusError>
  /**
   * Emits when subscriptions hear again after messages were lost on their way, as `FailoverBus` does when it changed its
   * proxy: what was published shortly before may have to be published again.
   */
  readonly restored: Stream.Stream<void>
  /**
   * Emits why a connection that worked has ended. It is made again; who has another bus need not wait for that. Only while it is
   * listened to.
   */
  readonly broken: Stream.Stream<string>
}>()("@skillscale/core/Bus") {}

/**
 * Derives the service from its primitives. Without `restored` and `broken` nothing is ever told there.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  primitive: Pick<Bus["Service"], "publish" | "subscription"> & Partial<Pick<Bus["Service"], "restored" | "broken">>
): Bus["Service"] =>
  Bus.of({
    restored: Stream.never,
    broken: Stream.never,
    ...primitive,
    subscribe: (...topics) => Stream.unwrap(primitive.subscription(topics))
  })

/**
 * What the buses of one process share: a message published by one of them reaches the subscriptions of all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hub {
  /** A bus of its own on this hub. Its scope closes it and ends its subscriptions. */
  readonly connect: Effect.Effect<Bus["Service"], never, Scope.Scope>
}

/**
 * The largest payload of every bus: 256 MiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxMessageBytes = 256 * 1024 * 1024

/** Topics whose turn a hub remembers. */
const maxTurns = 8192

const closed = (operation: BusError["operation"]): BusError => new BusError({ operation, reason: new Closed() })

/**
 * Creates a hub within this process. A subscription keeps up to `capacity` messages that were not pulled yet, 65,536 by
 * default; while it is full, further messages are dropped for that subscription.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeHub = (options?: { readonly capacity?: number | undefined }): Effect.Effect<Hub> =>
  Effect.sync(() => {
    const subscriptions = new Set<
      { readonly topics: ReadonlySet<string>; readonly queue: Queue.Queue<Message, BusError> }
    >()
    const turns = new Map<string, number>()
    const connect = Effect.gen(function*() {
      const scope = yield* Effect.scope
      let isOpen = true
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          isOpen = false
        })
      )
      return make({
        publish: (topic, payload) =>
          Effect.suspend(() => {
            if (!isOpen) {
              return Effect.fail(closed("publish"))
            }
            if (payload.byteLength > maxMessageBytes) {
              const reason = new TooLarge({ bytes: payload.byteLength, maxBytes: maxMessageBytes })
              return Effect.fail(new BusError({ operation: "publish", reason }))
            }
            const message = { topic, frames: [payload] }
            const receivers = [...subscriptions].filter((subscription) => subscription.topics.has(topic))
            if (Topic.isSkills(topic)) {
              const turn = turns.get(topic) ?? 0
              if (turns.size >= maxTurns) {
                turns.clear()
              }
              turns.set(topic, turn + 1)
              const inTurn = receivers.map((_, index) => receivers[(turn + index) % receivers.length])
              inTurn.find((replica) => replica !== undefined && Queue.offerUnsafe(replica.queue, message))
            } else {
              receivers.forEach(({ queue }) => Queue.offerUnsafe(queue, message))
            }
            return Effect.void
          }),
        subscription: Effect.fnUntraced(function*(topics) {
          if (!isOpen) {
            return yield* closed("subscribe")
          }
          const queue = yield* Queue.dropping<Message, BusError>(options?.capacity ?? 65_536)
          const subscription = { topics: new Set(topics), queue }
          const own = yield* Scope.fork(scope)
          yield* Scope.addFinalizer(
            own,
            Effect.suspend(() => {
              subscriptions.delete(subscription)
              return Queue.fail(queue, closed("subscribe"))
            })
          )
          yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
          subscriptions.add(subscription)
          // One at a time: what a stream pulled in bulk would be lost to the next run of it.
          return Stream.fromEffectRepeat(Queue.take(queue))
        })
      })
    })
    return { connect }
  })

/**
 * Provides a bus within this process, on a hub of its own.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Bus> = Layer.effect(Bus, Effect.flatMap(makeHub(), (hub) => hub.connect))
