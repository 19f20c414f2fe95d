/**
 * A connection that subscribes to exact topics, and the messages that came and were not taken yet. While there are as
 * many as its capacity it is not read, so that the pressure reaches the proxy.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Bus from "../Bus.ts"
import * as Zmtp from "../Zmtp.ts"
import { Link } from "./zmtpLink.ts"

export interface Options {
  readonly endpoint: string
  readonly topics: ReadonlySet<string>
  readonly capacity: number
  readonly handshakeMs: number
  readonly onRefused: (detail: string) => void
  /** A connection that worked has ended. */
  readonly onBroken: () => void
}

export interface Subscriber {
  /** The next message. An interrupted take loses none. After the scope's end what came before is still taken. */
  readonly take: Effect.Effect<Bus.Message, Bus.BusError>
  /** Waits until the proxy was told of the topics. */
  readonly sent: Effect.Effect<void>
}

export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Subscriber, never, Scope.Scope> {
  const { capacity, topics } = options
  const queue = yield* Queue.unbounded<Bus.Message, Bus.BusError>()
  const sent = yield* Deferred.make<void>()
  let isPaused = false

  /** Takes in what follows the topic. ZeroMQ matches prefixes, so that others may come, too. */
  const take = (topic: string, rest: Buffer): void => {
    if (topics.has(topic)) {
      Queue.offerUnsafe(queue, { topic, frames: Zmtp.framesOf(rest) })
    }
  }

  yield* Effect.addFinalizer(() =>
    Queue.fail(queue, new Bus.BusError({ operation: "subscribe", reason: new Bus.Closed() }))
  )
  const link = yield* Effect.acquireRelease(
    Effect.sync(() =>
      new Link({ ...options, type: "SUB", maxMessageBytes: Bus.maxMessageBytes }, {
        ready: (socket, session) => {
          socket.write(
            Buffer.concat(Array.from(topics, (topic) => session.encodeSubscription(true, Buffer.from(topic, "utf8"))))
          )
          Deferred.doneUnsafe(sent, Effect.void)
        },
        message: (chunk, _start, end, topicStart, topicEnd) =>
          take(chunk.toString("utf8", topicStart, topicEnd), chunk.subarray(topicEnd, end)),
        large: (pieces, length, topicStart, topicEnd) => {
          const message = Buffer.concat(pieces, length)
          take(message.toString("utf8", topicStart, topicEnd), message.subarray(topicEnd))
        },
        drained: () => {
          // Wakes who waits now, instead of at the next turn of the scheduler.
          Queue.flushUnsafe(queue)
          if (!isPaused && Queue.sizeUnsafe(queue) >= capacity) {
            isPaused = true
            link.pause()
          }
        },
        lost: (wasReady) => {
          isPaused = false
          if (wasReady) options.onBroken()
        },
        refused: options.onRefused
      })
    ),
    (link) => Effect.sync(() => link.close())
  )
  return {
    sent: Deferred.await(sent),
    take: Effect.map(Queue.take(queue), (message) => {
      if (isPaused && Queue.sizeUnsafe(queue) <= capacity / 2) {
        isPaused = false
        link.resume()
      }
      return message
    })
  }
})
