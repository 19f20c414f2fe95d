/**
 * Asks the servers of a topic whether they are there, and acknowledge requests. A question is lost as anything else is, so that it
 * is asked again until somebody answers; to hear it twice does no harm.
 */
import * as Topic from "@skillscale/core/Topic"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Connection from "./connection.ts"
import * as request from "./request.ts"

/** Who serves a topic: some that acknowledge requests, only others, or nobody. */
export type Found = "Acknowledging" | "Others" | "Nobody"

const patience = Duration.seconds(5)
/** After how much silence it is asked again, twice as long each time. In milliseconds. */
const firstPauseMs = 250
const longestPauseMs = 2000

/** Finds out who serves a topic. Nothing when nobody said it for 5 s. */
export const ask = (connection: Connection.Connection, topic: string): Effect.Effect<Option.Option<Found>> =>
  Effect.uninterruptibleMask((restore) => {
    const found = Deferred.makeUnsafe<Option.Option<Found>>()
    const lost = Latch.makeUnsafe(false)
    const send = request.command(Topic.control(topic), (address) => ({ kind: "ping", ...address }))
    const tell = (what: Option.Option<Found>) => Deferred.doneUnsafe(found, Effect.succeed(what))
    const opened = connection.open(send, {
      onAnswer: ({ content, event, replicas, settleMs }) => {
        if (event === undefined) return tell(Option.some("Acknowledging"))
        if (event !== "fanout" || content !== "0" || settleMs !== undefined) return false
        return tell(Option.some(replicas === 0 ? "Nobody" : "Others"))
      },
      onMalformed: () => false,
      onFailure: () => void tell(Option.none()),
      onRestored: () => void lost.openUnsafe()
    })
    if (Result.isFailure(opened)) return Effect.succeed(Option.none())
    const address = opened.success
    const asking = Effect.gen(function*() {
      for (let pauseMs = firstPauseMs;; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
        yield* Effect.ignore(connection.transmit(send, address, 0))
        yield* Effect.timeoutOption(lost.await, pauseMs)
        yield* lost.close
      }
    })
    const told = Effect.raceFirst(Deferred.await(found), asking)
    return restore(Effect.map(Effect.timeoutOption(told, patience), Option.flatten)).pipe(
      Effect.ensuring(connection.close(send, address, false))
    )
  })
