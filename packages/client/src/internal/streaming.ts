/**
 * A call whose output arrives while the skill runs.
 *
 * The first of the final answer, a failure and the end of the time decides how the stream ends. Until the final answer
 * came, the connection holds the call open, and whoever closes it there cancels the run: a failure, the end of the time,
 * or the end of the stream's scope.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import type * as Answer from "./answer.ts"
import * as Assembly from "./assembly.ts"
import type * as Connection from "./connection.ts"
import * as request from "./request.ts"

export interface Options {
  readonly asked: Answer.Asked
  readonly budget: request.Budget
  readonly send: Connection.Send
  readonly maxBuffered: number
  /** Told once how the call ended: without a reason when the final answer came. */
  readonly onEnd: (reason?: ClientError.Reason) => void
}

const overhead = 256

const sizeOf = (event: SkillClient.StreamEvent): number =>
  overhead + (event._tag === "Stdout" || event._tag === "Stderr" ? event.data.byteLength : 0)

export const make = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  { asked, budget, maxBuffered, onEnd, send }: Options
): Effect.fn.Return<Stream.Stream<SkillClient.StreamEvent, ClientError.Reason>, ClientError.Reason, Scope.Scope> {
  const queue = yield* Queue.unbounded<SkillClient.StreamEvent, ClientError.Reason | Cause.Done>()
  const broken = Deferred.makeUnsafe<void>()
  const assemble = Assembly.make(asked)
  let buffered = 0
  let isOver = false

  const finish = (reason?: ClientError.Reason): void => {
    if (isOver) return
    isOver = true
    onEnd(reason)
    Queue.failCauseUnsafe(queue, reason === undefined ? Cause.fail(Cause.Done()) : Cause.fail(reason))
  }
  const breakOff = (reason: ClientError.Reason): void => {
    finish(reason)
    Deferred.doneUnsafe(broken, Effect.void)
  }

  const onAnswer: Connection.Listener["onAnswer"] = (response) => {
    const isFinal = response.event === undefined
    if (isOver) return isFinal
    const taken = assemble(response)
    if (Result.isFailure(taken)) {
      if (isFinal) finish(taken.failure)
      else breakOff(taken.failure)
      return isFinal
    }
    for (const event of taken.success) {
      buffered += sizeOf(event)
      Queue.offerUnsafe(queue, event)
    }
    if (isFinal) {
      finish()
    } else if (buffered > maxBuffered) {
      const detail = `more than ${maxBuffered} bytes of output wait to be read; read the stream faster`
      breakOff(new ClientError.Overloaded({ where: "client", detail }))
    }
    return isFinal
  }

  const address = yield* Effect.acquireRelease(
    Effect.suspend(() =>
      Effect.fromResult(connection.open(send, {
        onAnswer,
        onMalformed: (detail) => {
          breakOff(new ClientError.ProtocolError({ detail }))
          return false
        },
        onFailure: finish
      }))
    ),
    (address) => connection.close(send, address, true)
  )
  yield* request.within(Deferred.await(broken), budget).pipe(
    Effect.catch((late) => Effect.sync(() => finish(late))),
    Effect.andThen(Effect.uninterruptible(connection.close(send, address, true))),
    Effect.forkScoped({ startImmediately: true })
  )
  yield* request.within(connection.transmit(send, address), budget)
  return Stream.map(Stream.fromQueue(queue), (event) => {
    buffered -= sizeOf(event)
    return event
  })
})
