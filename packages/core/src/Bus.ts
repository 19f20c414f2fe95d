/**
 * The port through which agents and skill servers exchange messages.
 *
 * A bus delivers every message published to a topic to every live subscription of exactly that topic, in the order in
 * which one publisher sent them. It keeps nothing for subscribers that come later. What the bytes mean is left to
 * `Protocol`. `ZmqBus` implements it over ZeroMQ; `layerMemory` within one process.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

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
}

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
  reason: Schema.Union([Unreachable, Closed, Backpressure, Unknown])
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
  /** Accepts one message for delivery. Waits while the transport is full. An accepted message survives a clean close. */
  readonly publish: (topic: string, payload: Uint8Array) => Effect.Effect<void, BusError>
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
}>()("@skillscale/core/Bus") {}

/**
 * Derives the service from its two primitives.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (primitive: Pick<Bus["Service"], "publish" | "subscription">): Bus["Service"] =>
  Bus.of({
    ...primitive,
    subscribe: (...topics) => Stream.unwrap(primitive.subscription(topics))
  })
