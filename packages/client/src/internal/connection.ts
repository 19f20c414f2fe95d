/**
 * One reply topic on the bus: proves that it hears itself, hands every reply to the call that waits for it, and ends
 * what it began.
 *
 * A call is in `pending` from before its request is published until its final answer, its failure or its interruption.
 * Whoever removes it there decides how it ends; everybody else finds it gone and does nothing.
 */
import * as Bus from "@skillscale/core/Bus"
import * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import * as ClientError from "../ClientError.ts"
import * as metrics from "./metrics.ts"
import * as Settling from "./settling.ts"

/** The address that an answer must carry. */
export interface Address {
  readonly requestId: string
  readonly replyTo: string
}

/** What waits for answers. Its functions run on the reader's fiber and must not throw. */
export interface Listener {
  /** Takes one answer and tells whether it was the last one. */
  readonly onAnswer: (response: Protocol.Response) => boolean
  /** Takes an answer that cannot be read and tells whether it was the last one. */
  readonly onMalformed: (detail: string) => boolean
  readonly onFailure: (reason: ClientError.Reason) => void
  /** Hears when messages may have been lost. */
  readonly onRestored?: (() => void) | undefined
}

export interface Send {
  readonly topic: string
  /** Whose control topic is told when the call is abandoned; absent when there is nothing to cancel. */
  readonly cancelOn?: string | undefined
  /** How often it was sent before its first time here. */
  readonly firstAttempt?: number | undefined
  /** When nobody waits for the answer any more, in milliseconds of the monotonic clock: then it is not sent any more. */
  readonly deadline?: number | undefined
  /** Writes the message; `attempt` counts how often it was sent before. */
  readonly encode: (
    address: Address,
    attempt: number
  ) => Effect.Effect<Result.Result<Uint8Array, Protocol.ProtocolError>>
}

interface Pending {
  readonly send: Send
  readonly listener: Listener
  /** When the server that has it heard of this client last, at the earliest. In milliseconds of the monotonic clock. */
  toldAt: number
}

/** What everybody is told, or that some of that may have been lost. */
export type Told = Bus.Message | "restored"

export interface Connection {
  readonly replyTo: string
  readonly pendingCount: () => number
  /** Enters a listener. It stays until its last answer, or until `close`. */
  readonly open: (send: Send, listener: Listener) => Result.Result<Address, ClientError.Reason>
  /** Publishes the request of an open listener, and tells how many bytes it has. */
  readonly transmit: (
    send: Send,
    address: Address,
    attempt: number,
    options?: Pick<Bus.PublishOptions, "waitsUntilSent">
  ) => Effect.Effect<number, ClientError.Reason>
  /** Publishes a control message, which is lost when that takes more than a second or fails. */
  readonly command: (topic: string, control: Control.Control) => Effect.Effect<void>
  /** Removes a listener; when it was still open and `abandon` is set, tells the server. Takes at most a second. */
  readonly close: (send: Send, address: Address, abandon: boolean) => Effect.Effect<void>
  /** Hears what everybody is told on a topic. */
  readonly listen: (
    topic: string
  ) => Effect.Effect<Stream.Stream<Told, ClientError.Reason>, ClientError.Reason, Scope.Scope>
  /** Sends a request and waits for its final answer. */
  readonly exchange: (send: Send) => Effect.Effect<Protocol.Response, ClientError.Reason>
}

export interface Options {
  readonly connectTimeout: Duration.Duration
  readonly maxPending: number
  /** After how much silence of this client its calls may be ended, in milliseconds. */
  readonly leaseMs: number
}

const probeId = "probe"
const commandTimeout = Duration.seconds(1)
const signsPerLease = 6
const firstProbe = 2
const lastProbe = 100

/** Classifies what the bus reports. */
export const fromBusError = (error: Bus.BusError): ClientError.Reason => {
  switch (error.reason._tag) {
    case "Closed":
      return new ClientError.Closed()
    case "TooLarge":
      return new ClientError.TooLarge({ detail: error.message })
    case "Unreachable":
    case "Backpressure":
    case "Unknown":
      return new ClientError.Unreachable({ detail: `${error.message}; check that the proxy runs`, cause: error })
  }
}

const fromEncoding = (error: Protocol.ProtocolError): ClientError.Reason =>
  error.reason === "TooLarge"
    ? new ClientError.TooLarge({ detail: error.detail })
    : new ClientError.BadRequest({ detail: error.detail })

export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Connection, ClientError.Reason, Bus.Bus | Scope.Scope> {
  const bus = yield* Bus.Bus
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const replyTo = Topic.reply(randomBytes(16).toString("hex"))
  const prefix = randomBytes(4).toString("hex")
  const pending = new Map<string, Pending>()
  const commands = yield* FiberSet.make<void>()
  const run = yield* FiberSet.runtime(commands)<never>()
  const heard = Deferred.makeUnsafe<void, ClientError.Reason>()
  const ended = Deferred.makeUnsafe<never, ClientError.Reason>()
  let counter = 0
  let isOpen = true

  const remove = (requestId: string): boolean => {
    const removed = pending.delete(requestId)
    if (removed) metrics.addPending(-1, context)
    return removed
  }

  const end = (reason: ClientError.Reason): void => {
    isOpen = false
    Deferred.doneUnsafe(ended, Effect.fail(reason))
    Deferred.doneUnsafe(heard, Effect.fail(reason))
    for (const [requestId, { listener }] of pending) {
      remove(requestId)
      listener.onFailure(reason)
    }
  }

  /** A server has these calls in hand: those that wait hear it, and it hears of the others that nobody waits, and of this client. */
  const onAlive = (response: Protocol.Response): void => {
    const { calls = [], server, topic } = response
    const at = Monotonic.millisOf(clock)
    const worker = server === undefined || topic === undefined ? undefined : Topic.worker(topic, server)
    const tell = (kind: "cancel" | "waiting", requestId: string) => {
      if (worker !== undefined) run(command(worker, { kind, requestId, replyTo }))
    }
    let isDue = false
    for (const requestId of calls) {
      const entry = pending.get(requestId)
      if (entry === undefined) {
        // Its cancellation was lost.
        tell("cancel", requestId)
        continue
      }
      isDue ||= at - entry.toldAt >= options.leaseMs / signsPerLease
      if (entry.listener.onAnswer(response)) remove(requestId)
    }
    if (!isDue) return
    for (const requestId of calls) {
      const entry = pending.get(requestId)
      if (entry !== undefined) entry.toldAt = at
    }
    tell("waiting", response.requestId)
  }

  const dispatch = (message: Bus.Message): void => {
    const decoded = Protocol.decodeResponse(message.frames)
    if (Result.isFailure(decoded)) {
      metrics.countIgnored("malformed", context)
      const { detail, requestId = "" } = decoded.failure
      const entry = pending.get(requestId)
      if (entry?.listener.onMalformed(detail) === true) remove(requestId)
      return
    }
    const response = decoded.success
    if (response.requestId === probeId) {
      Deferred.doneUnsafe(heard, Effect.void)
      return
    }
    if (response.event === "alive") return onAlive(response)
    const entry = pending.get(response.requestId)
    if (entry === undefined) {
      metrics.countIgnored(response.requestId.startsWith(prefix) ? "late" : "foreign", context)
      return
    }
    if (entry.listener.onAnswer(response)) remove(response.requestId)
  }

  const publish = (topic: string, payload: Uint8Array, options?: Bus.PublishOptions) =>
    Effect.mapError(bus.publish(topic, payload, options), fromBusError)

  const command: Connection["command"] = Effect.fnUntraced(function*(topic, control) {
    const payload = Control.encode(control)
    if (Result.isFailure(payload)) return
    // A cancellation must not overtake the request that it ends.
    yield* bus.publish(topic, payload.success, { isUrgent: control.kind !== "cancel" }).pipe(
      Effect.timeoutOption(commandTimeout),
      Effect.ignore
    )
  })

  const cancel = (topic: string, requestId: string) =>
    command(Topic.control(topic), { kind: "cancel", requestId, replyTo })

  const close: Connection["close"] = (send, { requestId }, abandon) =>
    Effect.suspend(() =>
      remove(requestId) && abandon && send.cancelOn !== undefined ? cancel(send.cancelOn, requestId) : Effect.void
    )

  const open: Connection["open"] = (send, listener) => {
    if (!isOpen) return Result.fail(new ClientError.Closed())
    if (pending.size >= options.maxPending) {
      const detail = `${pending.size} calls are pending in this client, which is its limit; send fewer at a time`
      return Result.fail(new ClientError.Overloaded({ where: "client", detail }))
    }
    const requestId = `${prefix}${(counter++).toString(16).padStart(8, "0")}`
    pending.set(requestId, { send, listener, toldAt: Monotonic.millisOf(clock) })
    metrics.addPending(1, context)
    return Result.succeed({ requestId, replyTo })
  }

  const transmit: Connection["transmit"] = Effect.fnUntraced(function*(send, address, attempt, options) {
    yield* Effect.annotateCurrentSpan("request_id", address.requestId)
    const payload = yield* Effect.mapError(Effect.fromResult(yield* send.encode(address, attempt)), fromEncoding)
    const { deadline = Infinity, topic } = send
    const expiry = deadline === Infinity
      ? {}
      : { expiresInMs: Math.max(0, deadline - Monotonic.millisOf(clock)) }
    yield* publish(topic, payload, { ...expiry, ...options })
    return payload.byteLength
  })

  const exchange: Connection["exchange"] = (send) =>
    Effect.uninterruptibleMask((restore) => {
      const answer = Deferred.makeUnsafe<Protocol.Response, ClientError.Reason>()
      const unheard = Latch.makeUnsafe(false)
      let pauseMs = 0
      let asked = 0
      const opened = open(send, {
        onAnswer: (response) => {
          // The proxy tells how many servers heard a question on a control topic; from nobody comes no answer.
          if (response.event === "fanout" && response.content === "0") {
            if (response.settleMs !== undefined) {
              pauseMs = Settling.pauseMs(response.settleMs, asked++)
              unheard.openUnsafe()
              return false
            }
            return Deferred.doneUnsafe(answer, Effect.fail(new ClientError.NoServer({ topic: send.topic })))
          }
          if (response.event !== undefined) return false
          Deferred.doneUnsafe(answer, Effect.succeed(response))
          return true
        },
        onMalformed: (detail) => Deferred.doneUnsafe(answer, Effect.fail(new ClientError.ProtocolError({ detail }))),
        onFailure: (reason) => void Deferred.doneUnsafe(answer, Effect.fail(reason)),
        onRestored: () => {
          pauseMs = 0
          unheard.openUnsafe()
        }
      })
      if (Result.isFailure(opened)) return Effect.fail(opened.failure)
      const address = opened.success
      // To ask twice does no harm.
      const again = Effect.forever(
        unheard.await.pipe(
          Effect.andThen(Effect.suspend(() => pauseMs === 0 ? Effect.void : Effect.sleep(pauseMs))),
          Effect.andThen(unheard.close),
          Effect.andThen(transmit(send, address, 0))
        )
      )
      const answered = Effect.raceFirst(Deferred.await(answer), again)
      return restore(Effect.andThen(transmit(send, address, 0), answered)).pipe(
        Effect.onExit((exit) => close(send, address, Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)))
      )
    })

  const listen: Connection["listen"] = (topic) =>
    bus.subscription([topic]).pipe(
      Effect.map((messages) =>
        Stream.merge(messages, Stream.map(bus.restored, (): Told => "restored"), { haltStrategy: "left" }).pipe(
          Stream.mapError(fromBusError),
          Stream.interruptWhen(Deferred.await(ended))
        )
      ),
      Effect.mapError(fromBusError)
    )

  yield* bus.restored.pipe(
    Stream.runForEach(() => Effect.sync(() => pending.forEach(({ listener }) => listener.onRestored?.()))),
    Effect.forkScoped({ startImmediately: true })
  )
  const messages = yield* Effect.mapError(bus.subscription([replyTo]), fromBusError)
  yield* messages.pipe(
    Stream.runForEachArray((batch) => Effect.sync(() => batch.forEach(dispatch))),
    Effect.onExit((exit) =>
      Effect.sync(() => {
        const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
        end(failure?._tag === "Some" ? fromBusError(failure.value) : new ClientError.Closed())
      })
    ),
    Effect.ignoreCause,
    Effect.forkScoped({ startImmediately: true })
  )
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      const abandoned = Array.from(pending, ([requestId, { send }]) => ({ requestId, topic: send.cancelOn }))
      end(new ClientError.Closed())
      return Effect.forEach(
        abandoned,
        ({ requestId, topic }) => topic === undefined ? Effect.void : cancel(topic, requestId),
        { concurrency: "unbounded", discard: true }
      )
    })
  )

  yield* prove(options.connectTimeout, publish, replyTo, heard)
  return { replyTo, pendingCount: () => pending.size, open, transmit, command, close, listen, exchange }
})

/** Publishes probes on the reply topic, more and more slowly, until one of them comes back. */
const prove = (
  timeout: Duration.Duration,
  publish: (topic: string, payload: Uint8Array) => Effect.Effect<void, ClientError.Reason>,
  replyTo: string,
  heard: Deferred.Deferred<void, ClientError.Reason>
): Effect.Effect<void, ClientError.Reason> => {
  let last: ClientError.Unreachable | undefined
  const late = Effect.suspend(() => {
    const detail = last?.message ?? `no message came back through the proxy within ${Duration.toMillis(timeout)} ms; ` +
        "check that the proxy runs and that SKILLSCALE_PROXY_XSUB (publish, port 5444) and " +
        "SKILLSCALE_PROXY_XPUB (subscribe, port 5555) name its two addresses"
    return Effect.fail(new ClientError.Unreachable({ detail, ...(last === undefined ? {} : { cause: last }) }))
  })
  return Effect.gen(function*() {
    const probe = Protocol.encodeResponse({ requestId: probeId, status: "success", content: "", error: "" })
    const payload = yield* Effect.mapError(Effect.fromResult(probe), fromEncoding)
    for (let delay = firstProbe;; delay = Math.min(delay * 1.5, lastProbe)) {
      last = undefined
      yield* publish(replyTo, payload).pipe(Effect.catchTag("Unreachable", (error) =>
        Effect.sync(() => {
          last = error
        })))
      const answered = yield* Effect.timeoutOption(Deferred.await(heard), delay)
      if (Option.isSome(answered)) return
    }
  }).pipe(Effect.timeoutOrElse({ duration: timeout, orElse: () => late }))
}
