/**
 * The bus over ZeroMQ's wire protocol: one connection to the proxy's XSUB port, which publishes, and one per subscription
 * to its XPUB port. It speaks ZMTP itself over TCP or Unix sockets, so that a message costs no other thread a wake-up;
 * the peer may be our proxy or anything built on libzmq.
 *
 * Building the layer proves nothing about the proxy: connections are made, and made again, in the background, 10 ms to
 * 1 s apart, for as long as the bus lives. The first publish waits until the proxy asked for messages, so that none is
 * lost to a connection that is still being made, and fails with `Unreachable` when that takes longer than `sendTimeout`.
 * (Our proxy asks at once; libzmq's own `zmq_proxy` asks when it has its first subscriber.) Later, messages published
 * while the proxy is away are kept, and go out when it is back and asks again, which may be before the subscribers are;
 * not those that have expired by then (`expiresInMs`).
 *
 * When a connection breaks, what the kernel has of it may be lost, as with ZeroMQ, and is not sent again: a request
 * must not run twice. What the kernel has not, a message that it has in part included, is sent on the next connection.
 * The publishing connection has heartbeats, so that a proxy that no longer reads is noticed.
 *
 * Every subscription has a connection of its own: a consumer that does not keep up holds up no other, and its replica
 * is counted by the proxy. Its bound is `capacity` messages here, what one read brings (64 KiB), the TCP buffers, and
 * the proxy's high-water mark; what comes after that is dropped by the proxy for this subscription alone.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import * as Bus from "./Bus.ts"
import * as FailoverBus from "./FailoverBus.ts"
import * as Publisher from "./internal/zmtpPublisher.ts"
import * as Subscriber from "./internal/zmtpSubscriber.ts"
import * as JoinedBus from "./JoinedBus.ts"
import * as Settings from "./Settings.ts"
import * as Topic from "./Topic.ts"

/**
 * Settings of the bus. Addresses have the forms of `Settings.parseEndpoint`; as in libzmq, `ipc://@name` is in the
 * abstract namespace of Linux.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The proxy's address for publishers, as in `tcp://127.0.0.1:5444`. */
  readonly xsub: string
  /** The proxy's address for subscribers, as in `tcp://127.0.0.1:5555`. */
  readonly xpub: string
  /** How long a publish waits for the proxy, or for room while the proxy takes nothing at all. Default 5 seconds. */
  readonly sendTimeout?: Duration.Input | undefined
  /**
   * How long the close waits for the proxy to have every accepted message. Default 1 second; with a proxy that is there
   * it takes a few milliseconds.
   */
  readonly linger?: Duration.Input | undefined
  /** Messages that wait for the proxy; as many urgent ones besides. Default 1,000. */
  readonly sendHighWaterMark?: number | undefined
  /** Bytes that wait for the proxy: while there are as many, further messages wait. Default 64 MiB. */
  readonly sendHighWaterMarkBytes?: number | undefined
  /** Messages that a subscription keeps between two pulls; while there are as many, it does not read. Default 1,000. */
  readonly capacity?: number | undefined
  /** How often the proxy is asked for a sign of life; silent for four times as long it is left. Default 5 seconds. */
  readonly heartbeat?: Duration.Input | undefined
  /** How long a connection may take until its ZMTP handshake is complete. Default 10 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

const longestTimerMs = 2 ** 31 - 1

const millis = (duration: Duration.Input): number => Math.min(Duration.toMillis(duration), longestTimerMs)

const endpointOf = (address: string): Effect.Effect<string, Bus.BusError> =>
  Effect.mapError(Effect.fromResult(Settings.parseEndpoint(address)), (message) => {
    const reason = new Bus.Unreachable({ address, cause: new Error(message) })
    return new Bus.BusError({ operation: "connect", reason })
  })

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
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const xsub = yield* endpointOf(options.xsub)
  const xpub = yield* endpointOf(options.xpub)
  const handshakeMs = millis(options.handshakeTimeout ?? "10 seconds")
  const onRefused = (address: string) => (detail: string): void => {
    run(Effect.annotateLogs(Effect.logWarning("connection ended, and will be made again"), { address, detail }))
  }
  const broken = new Set<(detail: string) => void>()
  const onBroken = (address: string) => (): void => broken.forEach((tell) => tell(`the connection to ${address} ended`))
  let isOpen = true

  const publisher = yield* Publisher.make({
    endpoint: xsub,
    bounds: {
      messages: options.sendHighWaterMark ?? 1000,
      bytes: options.sendHighWaterMarkBytes ?? 64 * 1024 * 1024
    },
    timeoutMs: millis(options.sendTimeout ?? "5 seconds"),
    handshakeMs,
    heartbeatMs: millis(options.heartbeat ?? "5 seconds"),
    onRefused: onRefused(xsub),
    onBroken: onBroken(xsub)
  })
  const subscriber = (topics: ReadonlyArray<string>) =>
    Subscriber.make({
      endpoint: xpub,
      topics: new Set(topics),
      capacity: options.capacity ?? 1000,
      handshakeMs,
      onRefused: onRefused(xpub),
      onBroken: onBroken(xpub)
    })

  // What the kernel took need not arrive, so the close waits for the proxy: a last message, sent behind all the others,
  // comes back.
  const delivered = Effect.gen(function*() {
    const topic = Topic.reply(`FLUSH_${randomUUID()}`)
    const echo = yield* subscriber([topic])
    yield* echo.sent
    yield* Effect.race(echo.take, Effect.repeat(publisher.mark(topic), Schedule.spaced("5 millis")))
  }).pipe(
    Effect.scoped,
    Effect.interruptible,
    Effect.timeoutOption(Duration.fromInputUnsafe(options.linger ?? "1 second")),
    Effect.ignore
  )
  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      isOpen = false
      yield* publisher.close
      if (publisher.hasAccepted()) {
        yield* delivered
      }
    })
  )

  const subscription = Effect.fnUntraced(function*(
    topics: ReadonlyArray<string>
  ): Effect.fn.Return<Stream.Stream<Bus.Message, Bus.BusError>, Bus.BusError, Scope.Scope> {
    if (!isOpen) {
      return yield* new Bus.BusError({ operation: "subscribe", reason: new Bus.Closed() })
    }
    // Ends with the caller's scope or with the bus, whichever comes first.
    const own = yield* Scope.fork(scope)
    yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
    const { take } = yield* Scope.provide(subscriber(topics), own)
    // One at a time: what a stream pulled in bulk would be lost to the next run of it.
    return Stream.fromEffectRepeat(take)
  })

  return Bus.make({
    publish: publisher.publish,
    subscription,
    broken: Stream.callback<string>((queue) => {
      const tell = (detail: string) => void Queue.offerUnsafe(queue, detail)
      return Effect.acquireRelease(Effect.sync(() => broken.add(tell)), () => Effect.sync(() => broken.delete(tell)))
    }, { bufferSize: 16, strategy: "sliding" })
  })
})

const membersOf = (options: Options) =>
  Effect.mapError(Effect.fromResult(Settings.proxies(options)), (message) => {
    const reason = new Bus.Unreachable({ address: options.xsub, cause: new Error(message) })
    return new Bus.BusError({ operation: "connect", reason })
  })

/**
 * Connects to every proxy of two lists of addresses (`Settings.Endpoints`), as `JoinedBus` does: what servers use. With one
 * proxy it is `make`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeJoined = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Bus.Bus["Service"], Bus.BusError, Scope.Scope> {
  const [first, ...others] = yield* membersOf(options)
  const more = yield* Effect.forEach(others, (address) => make({ ...options, ...address }))
  return yield* JoinedBus.make(yield* make({ ...options, ...first }), ...more)
})

/**
 * Connects to one proxy of two lists of addresses (`Settings.Endpoints`), and to another one when that falls silent, as
 * `FailoverBus` does: what clients use. With one proxy it is `make`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeFailover = Effect.fnUntraced(function*(
  options: Options & FailoverBus.Options
): Effect.fn.Return<Bus.Bus["Service"], Bus.BusError, Scope.Scope> {
  const member = (address: Settings.ProxyAddress): FailoverBus.Member => ({
    name: address.xsub,
    connect: make({ ...options, ...address })
  })
  const [first, ...others] = yield* membersOf(options)
  return yield* FailoverBus.make([member(first), ...others.map(member)], options)
})

/**
 * Provides `makeJoined`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerJoined = (options: Options): Layer.Layer<Bus.Bus, Bus.BusError> =>
  Layer.effect(Bus.Bus, makeJoined(options))

/**
 * Provides `makeFailover`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFailover = (options: Options & FailoverBus.Options): Layer.Layer<Bus.Bus, Bus.BusError> =>
  Layer.effect(Bus.Bus, makeFailover(options))

/**
 * Provides `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Bus.Bus, Bus.BusError> => Layer.effect(Bus.Bus, make(options))
