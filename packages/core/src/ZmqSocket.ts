/**
 * ZeroMQ sockets with a scope, typed errors, and sends and receives that may be interrupted.
 *
 * Connecting is lazy: it succeeds without a peer, and ZeroMQ retries for as long as the socket lives. Frames that are
 * sent are not copied and must not be changed afterwards. What the messages mean is left to others. `ZmqBus` does
 * without these sockets: it speaks the protocol itself, and so spares each message the way through ZeroMQ's thread.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Zmq from "zeromq"
import * as Driver from "./internal/zmqDriver.ts"

/**
 * Something else is bound to the address.
 *
 * @category errors
 * @since 0.1.0
 */
export class AddressInUse extends Schema.TaggedError<AddressInUse>()("AddressInUse", {}) {}

/**
 * The address is malformed, has a transport that does not exist here, or is not an address of this machine.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidAddress extends Schema.TaggedError<InvalidAddress>()("InvalidAddress", {}) {}

/**
 * The operating system refuses the address to this user.
 *
 * @category errors
 * @since 0.1.0
 */
export class AccessDenied extends Schema.TaggedError<AccessDenied>()("AccessDenied", {}) {}

/**
 * No peer can be reached. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {}) {}

/**
 * The socket was closed before the operation, or while it was under way.
 *
 * @category errors
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>()("Closed", {}) {}

/**
 * The peers do not keep up, and the send timeout is over. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Backpressure extends Schema.TaggedError<Backpressure>()("Backpressure", { timeoutMs: Schema.Finite }) {}

/**
 * The message is larger than the socket's `maxMessageBytes`.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", {
  bytes: Schema.Finite,
  maxBytes: Schema.Finite
}) {}

/**
 * The process has as many sockets or descriptors as it may have.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManySockets extends Schema.TaggedError<TooManySockets>()("TooManySockets", {}) {}

/**
 * ZeroMQ failed in a way that has no reason of its own.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unknown extends Schema.TaggedError<Unknown>()("Unknown", { cause: Schema.Defect() }) {}

/**
 * The reasons of a `ZmqError`.
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  AddressInUse,
  InvalidAddress,
  AccessDenied,
  Unreachable,
  Closed,
  Backpressure,
  TooLarge,
  TooManySockets,
  Unknown
])

/**
 * The type of `Reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The only error of this module; `reason` says what happened to which operation.
 *
 * @category errors
 * @since 0.1.0
 */
export class ZmqError extends Schema.TaggedError<ZmqError>()("ZmqError", {
  operation: Schema.Literals(["open", "bind", "connect", "send", "receive"]),
  /** The address, where the operation has one. */
  address: Schema.optionalKey(Schema.String),
  reason: Reason
}) {
  override readonly cause = this.reason
  override get message() {
    const detail = this.reason._tag === "Unknown" ? `: ${String(this.reason.cause)}` : ""
    return `cannot ${this.operation}${
      this.address === undefined ? "" : ` ${this.address}`
    }: ${this.reason._tag}${detail}`
  }
}

/**
 * Settings of a socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Addresses to bind, as in `tcp://127.0.0.1:0`, where port 0 takes a free one. */
  readonly bind?: ReadonlyArray<string> | undefined
  /** Addresses to connect to. */
  readonly connect?: ReadonlyArray<string> | undefined
  /** How long messages that were sent may take to leave after the socket is closed. Default 1 second. */
  readonly linger?: Duration.Input | undefined
  /** How long a send waits for room. Default 5 seconds. */
  readonly sendTimeout?: Duration.Input | undefined
  /** Outgoing messages that ZeroMQ queues per peer. Default 1,000. */
  readonly sendHighWaterMark?: number | undefined
  /** Incoming messages that ZeroMQ queues per peer. Default 1,000. */
  readonly receiveHighWaterMark?: number | undefined
  /** Received messages that wait here to be taken; ZeroMQ's own queue fills when they are not. Default 256. */
  readonly capacity?: number | undefined
  /** The largest message, in bytes. A peer that sends a larger one is disconnected. Default 256 MiB. */
  readonly maxMessageBytes?: number | undefined
  /**
   * How often a ZMTP heartbeat is sent; a peer silent for four times as long is reconnected. Off by default: a socket
   * whose messages are not taken stops reading, and would lose its connection. TCP keepalive is always on.
   */
  readonly heartbeat?: Duration.Input | undefined
}

/**
 * One message: its frames, the first of which is the topic of a publication.
 *
 * @category models
 * @since 0.1.0
 */
export type Frames = ReadonlyArray<Uint8Array>

/**
 * What every socket has.
 *
 * @category models
 * @since 0.1.0
 */
export interface ZmqSocket {
  /** The address that was bound or connected last, with the actual port. */
  readonly endpoint: string
}

/**
 * A socket that sends. Sends happen one at a time, in the order in which they were asked for. An interrupted send is
 * either complete or did not happen; a message that was accepted survives a close within `linger`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Sender extends ZmqSocket {
  readonly send: (frames: Frames) => Effect.Effect<void, ZmqError>
}

/**
 * A socket that receives. An interrupted `take` loses no message. After the close `take` fails with `Closed`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Receiver extends ZmqSocket {
  readonly take: Effect.Effect<Frames, ZmqError>
}

/**
 * A receiver with prefix subscriptions. Both take effect at the peer shortly after.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscriber extends Receiver {
  readonly subscribe: (prefix: string | Uint8Array) => Effect.Effect<void, ZmqError>
  readonly unsubscribe: (prefix: string | Uint8Array) => Effect.Effect<void, ZmqError>
}

/**
 * Classifies an error of zeromq.js by its code and the operation that failed.
 *
 * @category errors
 * @since 0.1.0
 */
export const classify = (operation: ZmqError["operation"], cause: unknown, timeoutMs = 0): Reason => {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  switch (code) {
    case "EADDRINUSE":
      return new AddressInUse()
    case "EADDRNOTAVAIL":
    case "ENODEV":
    case "ENOENT":
    case "EPROTONOSUPPORT":
    case "ENOCOMPATPROTO":
      return new InvalidAddress()
    case "EINVAL":
    case "ENAMETOOLONG":
      return operation === "bind" || operation === "connect" ? new InvalidAddress() : new Unknown({ cause })
    case "EACCES":
    case "EPERM":
      return new AccessDenied()
    case "ECONNREFUSED":
    case "ECONNRESET":
    case "EHOSTUNREACH":
    case "ENETDOWN":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return new Unreachable()
    case "EBADF":
    case "ENOTSOCK":
    case "ETERM":
    case "ECANCELED":
      return new Closed()
    case "EAGAIN":
      return operation === "receive" ? new Closed() : new Backpressure({ timeoutMs })
    case "EMFILE":
    case "ENFILE":
      return new TooManySockets()
    default:
      return new Unknown({ cause })
  }
}

const fail = (operation: ZmqError["operation"], cause: unknown, address?: string): ZmqError =>
  new ZmqError({ operation, reason: classify(operation, cause), ...(address === undefined ? {} : { address }) })

const open = Effect.fnUntraced(function*<S extends Zmq.Socket>(
  create: (options: Driver.CommonOptions) => S,
  options: Options
): Effect.fn.Return<S, ZmqError, Scope.Scope> {
  const socket = yield* Effect.acquireRelease(
    Effect.try({ try: () => create(Driver.commonOptions(options)), catch: (cause) => fail("open", cause) }),
    (socket) => Effect.sync(() => Driver.close(socket))
  )
  for (const address of options.bind ?? []) {
    yield* Effect.tryPromise({ try: () => socket.bind(address), catch: (cause) => fail("bind", cause, address) }).pipe(
      Effect.uninterruptible
    )
  }
  for (const address of options.connect ?? []) {
    yield* Effect.try({ try: () => socket.connect(address), catch: (cause) => fail("connect", cause, address) })
  }
  return socket
})

const sender = Effect.fnUntraced(function*(
  socket: Zmq.Publisher | Zmq.XPublisher | Zmq.XSubscriber,
  options: Options
): Effect.fn.Return<Sender> {
  const turn = yield* Semaphore.make(1)
  const timeoutMs = Duration.toMillis(options.sendTimeout ?? "5 seconds")
  const maxBytes = options.maxMessageBytes ?? Driver.maxMessageBytes
  const sendOne = (frames: Frames) =>
    Effect.callback<void, ZmqError>((resume) => {
      const attempt = Driver.send(socket, frames, timeoutMs)
      attempt.done.then(
        () => resume(Effect.void),
        (cause: unknown) =>
          resume(Effect.fail(new ZmqError({ operation: "send", reason: classify("send", cause, timeoutMs) })))
      )
      return Effect.promise(() => attempt.cancel())
    })
  return {
    endpoint: socket.lastEndpoint ?? "",
    send: (frames) => {
      const bytes = frames.reduce((sum, frame) => sum + frame.byteLength, 0)
      return bytes > maxBytes
        ? Effect.fail(new ZmqError({ operation: "send", reason: new TooLarge({ bytes, maxBytes }) }))
        : turn.withPermit(sendOne(frames))
    }
  }
})

const receiver = Effect.fnUntraced(function*(
  socket: Zmq.Subscriber | Zmq.XPublisher | Zmq.XSubscriber,
  options: Options
): Effect.fn.Return<Receiver, never, Scope.Scope> {
  const queue = yield* Queue.bounded<Frames, ZmqError>(options.capacity ?? 256)
  yield* Effect.addFinalizer(() => Queue.fail(queue, new ZmqError({ operation: "receive", reason: new Closed() })))
  yield* Effect.tryPromise({ try: () => socket.receive(), catch: (cause) => fail("receive", cause) }).pipe(
    Effect.flatMap((frames) => Queue.offer(queue, frames)),
    Effect.forever,
    Effect.catch((error) => Queue.fail(queue, error)),
    Effect.forkScoped
  )
  return { endpoint: socket.lastEndpoint ?? "", take: Queue.take(queue) }
})

/**
 * Opens a PUB socket. A full queue is backpressure, not loss. Before a subscriber is connected nothing is queued.
 *
 * @category constructors
 * @since 0.1.0
 */
export const publisher = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Sender, ZmqError, Scope.Scope> {
  return yield* sender(yield* open(Driver.publisher(options), options), options)
})

/**
 * Opens an XPUB socket, which receives the subscriptions of its peers: byte 1 (subscribe) or 0, then the prefix. A
 * full queue is backpressure, not loss.
 *
 * @category constructors
 * @since 0.1.0
 */
export const xpublisher = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Sender & Receiver, ZmqError, Scope.Scope> {
  const socket = yield* open(Driver.xpublisher(options), options)
  return { ...yield* sender(socket, options), ...yield* receiver(socket, options) }
})

/**
 * Opens an XSUB socket, which subscribes by sending byte 1 (subscribe) or 0, then the prefix.
 *
 * @category constructors
 * @since 0.1.0
 */
export const xsubscriber = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Sender & Receiver, ZmqError, Scope.Scope> {
  const socket = yield* open(Driver.xsubscriber(options), options)
  return { ...yield* sender(socket, options), ...yield* receiver(socket, options) }
})

/**
 * Opens a SUB socket without subscriptions.
 *
 * @category constructors
 * @since 0.1.0
 */
export const subscriber = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Subscriber, ZmqError, Scope.Scope> {
  const socket = yield* open(Driver.subscriber(options), options)
  const change = (apply: (prefix: Buffer) => void) => (prefix: string | Uint8Array) =>
    Effect.try({ try: () => apply(Buffer.from(prefix)), catch: (cause) => fail("receive", cause) })
  return {
    ...yield* receiver(socket, options),
    subscribe: change((prefix) => socket.subscribe(prefix)),
    unsubscribe: change((prefix) => socket.unsubscribe(prefix))
  }
})
