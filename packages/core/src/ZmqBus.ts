/**
 * The bus over ZeroMQ: an XPUB socket to the proxy's XSUB port, and one SUB socket per subscription to its XPUB port.
 *
 * Building the layer proves nothing about the proxy, because ZeroMQ connects lazily and retries for ever (from 10 ms
 * to 1 s apart). The first publish waits until the proxy asked for messages, so that none is lost to a connection that
 * is still being made, and fails with `Unreachable` when that takes longer than `sendTimeout`. (Our proxy asks at once;
 * libzmq's own `zmq_proxy` asks when it has its first subscriber.) Later, messages published while the proxy is away
 * wait in the queue and go out when it is back, which may be before the subscribers are.
 *
 * Every subscription has a socket of its own: a consumer that does not keep up holds up no other, and its replica is
 * counted by the proxy. Its bound is `capacity` messages here, `receiveHighWaterMark` in ZeroMQ, the TCP buffers, and
 * the proxy's high-water mark; what comes after that is dropped by the proxy for this subscription alone.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import * as Bus from "./Bus.ts"
import * as Topic from "./Topic.ts"
import * as ZmqSocket from "./ZmqSocket.ts"

/**
 * Settings of the bus.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The proxy's address for publishers, as in `tcp://127.0.0.1:5444`. */
  readonly xsub: string
  /** The proxy's address for subscribers, as in `tcp://127.0.0.1:5555`. */
  readonly xpub: string
  /** How long a publish waits for the proxy, or for room. Default 5 seconds. */
  readonly sendTimeout?: Duration.Input | undefined
  /**
   * How long the close waits for the proxy to have every accepted message. Default 1 second; with a proxy that is there
   * it takes a few milliseconds.
   */
  readonly linger?: Duration.Input | undefined
  /** Messages that wait for the proxy. Default 1,000. */
  readonly sendHighWaterMark?: number | undefined
  /** Messages that ZeroMQ queues per subscription. Default 1,000. */
  readonly receiveHighWaterMark?: number | undefined
  /** Messages that a subscription keeps between two pulls. Default 256. */
  readonly capacity?: number | undefined
}

const toBusError =
  (operation: Bus.BusError["operation"], address: string) => (error: ZmqSocket.ZmqError): Bus.BusError => {
    const reason = error.reason
    switch (reason._tag) {
      case "Closed":
        return new Bus.BusError({ operation, reason: new Bus.Closed() })
      case "Backpressure":
        return new Bus.BusError({ operation, reason: new Bus.Backpressure({ timeoutMs: reason.timeoutMs }) })
      case "TooLarge":
        return new Bus.BusError({
          operation,
          reason: new Bus.TooLarge({ bytes: reason.bytes, maxBytes: reason.maxBytes })
        })
      case "AddressInUse":
      case "InvalidAddress":
      case "AccessDenied":
      case "Unreachable":
        return new Bus.BusError({ operation, reason: new Bus.Unreachable({ address, cause: error }) })
      case "TooManySockets":
      case "Unknown":
        return new Bus.BusError({ operation, reason: new Bus.Unknown({ cause: error }) })
    }
  }

/**
 * Connects to a proxy. Fails with `Unreachable` when an address is malformed; a proxy that is not there is no error.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Bus.Bus["Service"], Bus.BusError, Scope.Scope> {
  const scope = yield* Effect.scope
  let isOpen = true
  const wire = yield* ZmqSocket.xpublisher({
    connect: [options.xsub],
    heartbeat: "5 seconds",
    linger: options.linger,
    maxMessageBytes: Bus.maxMessageBytes,
    sendTimeout: options.sendTimeout,
    sendHighWaterMark: options.sendHighWaterMark
  }).pipe(Effect.mapError(toBusError("connect", options.xsub)))
  // Proves the other address before anyone subscribes.
  yield* Effect.scoped(ZmqSocket.subscriber({ connect: [options.xpub], linger: 0 })).pipe(
    Effect.mapError(toBusError("connect", options.xpub))
  )

  // ZeroMQ queues for a peer once it subscribed, through every reconnection after that.
  const asked = yield* Deferred.make<void, Bus.BusError>()
  yield* wire.take.pipe(
    Effect.flatMap((frames) => frames[0]?.[0] === 1 ? Deferred.succeed(asked, undefined) : Effect.void),
    Effect.forever,
    Effect.catch((error) => Deferred.fail(asked, toBusError("publish", options.xsub)(error))),
    Effect.forkScoped
  )
  let hasPublished = false
  // ZeroMQ lingers in a thread that `process.exit` kills, so the close waits until the proxy has everything: a last
  // message, sent after all the others, comes back.
  const delivered = Effect.gen(function*() {
    const topic = Topic.reply(`FLUSH_${randomUUID()}`)
    const echo = yield* ZmqSocket.subscriber({ connect: [options.xpub], linger: 0 })
    yield* echo.subscribe(topic)
    const mark = wire.send([Buffer.from(topic), Buffer.alloc(0)])
    yield* Effect.race(echo.take, Effect.andThen(Effect.repeat(mark, Schedule.spaced("5 millis")), Effect.never))
  }).pipe(
    Effect.scoped,
    Effect.interruptible,
    Effect.timeoutOption(Duration.fromInputUnsafe(options.linger ?? "1 second")),
    Effect.ignore
  )
  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      isOpen = false
      yield* Deferred.fail(asked, new Bus.BusError({ operation: "publish", reason: new Bus.Closed() }))
      if (hasPublished) {
        yield* delivered
      }
    })
  )
  const proxyAsked = Deferred.await(asked).pipe(
    Effect.timeoutOrElse({
      duration: options.sendTimeout ?? "5 seconds",
      orElse: () => {
        const cause = new Error(`no proxy answered at ${options.xsub}`)
        return Effect.fail(
          new Bus.BusError({ operation: "publish", reason: new Bus.Unreachable({ address: options.xsub, cause }) })
        )
      }
    })
  )

  const publish = Effect.fnUntraced(
    function*(topic: string, payload: Uint8Array): Effect.fn.Return<void, Bus.BusError> {
      if (!isOpen) {
        return yield* new Bus.BusError({ operation: "publish", reason: new Bus.Closed() })
      }
      if (!Deferred.isDoneUnsafe(asked)) {
        yield* proxyAsked
      }
      hasPublished = true
      yield* Effect.mapError(wire.send([Buffer.from(topic, "utf8"), payload]), toBusError("publish", options.xsub))
    }
  )

  const subscription = Effect.fnUntraced(function*(
    topics: ReadonlyArray<string>
  ): Effect.fn.Return<Stream.Stream<Bus.Message, Bus.BusError>, Bus.BusError, Scope.Scope> {
    if (!isOpen) {
      return yield* new Bus.BusError({ operation: "subscribe", reason: new Bus.Closed() })
    }
    const toError = toBusError("subscribe", options.xpub)
    // Ends with the caller's scope or with the bus, whichever comes first.
    const own = yield* Scope.fork(scope)
    yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
    const wanted = new Set(topics)
    const socket = yield* ZmqSocket.subscriber({
      connect: [options.xpub],
      linger: 0,
      capacity: options.capacity,
      maxMessageBytes: Bus.maxMessageBytes,
      receiveHighWaterMark: options.receiveHighWaterMark
    }).pipe(Scope.provide(own), Effect.mapError(toError))
    yield* Effect.forEach(wanted, (topic) => Effect.mapError(socket.subscribe(topic), toError), { discard: true })
    return Stream.fromEffectRepeat(Effect.mapError(socket.take, toError)).pipe(
      Stream.map(([first, ...frames]): Bus.Message => ({
        topic: first === undefined
          ? ""
          : Buffer.from(first.buffer, first.byteOffset, first.byteLength).toString("utf8"),
        frames
      })),
      // ZeroMQ matches prefixes.
      Stream.filter((message) => wanted.has(message.topic))
    )
  })

  return Bus.make({ publish, subscription })
})

/**
 * Provides `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Bus.Bus, Bus.BusError> => Layer.effect(Bus.Bus, make(options))
