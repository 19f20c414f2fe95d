/**
 * The connection to which messages are published. A publish is settled from the callbacks of its socket and of one
 * timer, so that what happened to its message is what it reports.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Bus from "../Bus.ts"
import { Link } from "./zmtpLink.ts"
import * as Outbox from "./zmtpOutbox.ts"

export interface Options {
  readonly endpoint: string
  readonly bounds: Outbox.Bounds
  readonly timeoutMs: number
  readonly handshakeMs: number
  readonly heartbeatMs: number
  readonly onRefused: (detail: string) => void
  /** A connection that worked has ended. */
  readonly onBroken: () => void
}

export interface Publisher {
  readonly publish: Bus.Bus["Service"]["publish"]
  /** Whether there was ever a message to send. */
  readonly hasAccepted: () => boolean
  /** Sends an empty message behind all others, if these are with the kernel. */
  readonly mark: (topic: string) => Effect.Effect<void>
  /** Fails what waits, and whatever is published from now on. What was accepted is still sent until the scope ends. */
  readonly close: Effect.Effect<void>
}

const fail = (reason: Bus.BusError["reason"]): Effect.Effect<never, Bus.BusError> =>
  Effect.fail(new Bus.BusError({ operation: "publish", reason }))

export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Publisher, never, Scope.Scope> {
  const outbox = new Outbox.Outbox(options.bounds)
  const link = yield* Effect.acquireRelease(
    Effect.sync(() =>
      new Link({ ...options, type: "XPUB", maxMessageBytes: Bus.maxMessageBytes }, {
        asked: (socket) => outbox.open(socket),
        lost: (wasReady) => {
          outbox.shut()
          if (wasReady) options.onBroken()
        },
        refused: options.onRefused
      })
    ),
    (link) => Effect.sync(() => link.close())
  )

  const late = (): Bus.BusError["reason"] => {
    if (outbox.wasOpen) {
      return new Bus.Backpressure({ timeoutMs: options.timeoutMs })
    }
    const { endpoint } = options
    const cause = new Error(`no proxy answered at ${endpoint}${link.trouble === undefined ? "" : `: ${link.trouble}`}`)
    return new Bus.Unreachable({ address: endpoint, cause })
  }

  const wait = (message: Outbox.Outgoing) =>
    Effect.callback<void, Bus.BusError>((resume) => {
      let { progress } = outbox
      const onTime = (): void => {
        if (outbox.progress !== progress) {
          // The proxy is slow, and not away.
          progress = outbox.progress
          timer = setTimeout(onTime, options.timeoutMs)
          return
        }
        outbox.leave(waiter)
        resume(fail(late()))
      }
      let timer = setTimeout(onTime, options.timeoutMs)
      const waiter: Outbox.Waiter = {
        message,
        settle: (outcome) => {
          clearTimeout(timer)
          resume(outcome === "accepted" ? Effect.void : fail(new Bus.Closed()))
        }
      }
      outbox.enter(waiter)
      return Effect.sync(() => {
        clearTimeout(timer)
        outbox.leave(waiter)
      })
    })

  const accept = (message: Outbox.Outgoing) => outbox.offer(message) ? Effect.void : wait(message)
  /** What was accepted is still sent then, but nobody has to wait for that. */
  const closed = Deferred.makeUnsafe<void>()

  return {
    publish: (topic, payload, options) =>
      Effect.suspend(() => {
        if (outbox.isClosed) {
          return fail(new Bus.Closed())
        }
        const message = Outbox.encode(topic, payload, options)
        if (message.bytes > Bus.maxMessageBytes) {
          return fail(new Bus.TooLarge({ bytes: message.bytes, maxBytes: Bus.maxMessageBytes }))
        }
        if (options?.waitsUntilSent !== true) return accept(message)
        const sent = Deferred.makeUnsafe<void>()
        message.onSent = () => Deferred.doneUnsafe(sent, Effect.void)
        return Effect.andThen(
          accept(message),
          Effect.suspend(() =>
            Deferred.isDoneUnsafe(sent) ? Effect.void : Effect.raceFirst(Deferred.await(sent), Deferred.await(closed))
          )
        )
      }),
    hasAccepted: () => outbox.hasAccepted,
    mark: (topic) => Effect.sync(() => outbox.mark(Outbox.encode(topic, new Uint8Array()))),
    close: Effect.sync(() => {
      outbox.close()
      Deferred.doneUnsafe(closed, Effect.void)
    })
  }
})
