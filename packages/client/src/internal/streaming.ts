/**
 * A call whose output arrives while the skill runs.
 *
 * The first of the final answer, a failure and the end of the time decides how the stream ends. Until the final answer
 * came, a failure, the end of the time and the end of the stream's scope interrupt the delivery, which cancels the run.
 */
import type * as Protocol from "@skillscale/core/Protocol"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import type * as Answer from "./answer.ts"
import * as Assembly from "./assembly.ts"
import type * as Connection from "./connection.ts"
import type * as Deliveries from "./deliveries.ts"
import * as request from "./request.ts"

export interface Options {
  readonly asked: Answer.Asked
  readonly budget: request.Budget
  readonly send: Connection.Send
  readonly maxBuffered: number
  readonly window: number
  /** Told once how the call ended: without a reason when the final answer came. */
  readonly onEnd: (reason?: ClientError.Reason) => void
}

/** For so long an event may be late when later ones came before it. Then it is asked for, and again after each. */
const lateMs = 250
/** After so many of these without anything it is asked for as well: what was told may have been lost, and so may all that was sent. */
const silentRounds = 4

export const make = Effect.fnUntraced(function*(
  deliveries: Deliveries.Deliveries,
  { asked, budget, maxBuffered, onEnd, send, window }: Options
): Effect.fn.Return<Stream.Stream<SkillClient.StreamEvent, ClientError.Reason>, never, Scope.Scope> {
  const queue = yield* Queue.unbounded<SkillClient.StreamEvent, ClientError.Reason | Cause.Done>()
  const broken = Deferred.makeUnsafe<never, ClientError.Reason>()
  const assembly = Assembly.make({ asked, window })
  let buffered = 0
  let last: Protocol.Response | undefined
  /** For how many rounds nothing came that could be passed on. */
  let stillRounds = 0
  let read = 0
  let told = 0
  let isOver = false

  const take = (response: Protocol.Response): void => {
    const taken = assembly.take(response)
    if (Result.isFailure(taken)) {
      Deferred.doneUnsafe(broken, Effect.fail(taken.failure))
      return
    }
    for (const event of taken.success) {
      buffered += Assembly.chargeOf(event)
      Queue.offerUnsafe(queue, event)
    }
  }
  const onEvent = (response: Protocol.Response): void => {
    const before = assembly.next()
    last = response
    take(response)
    if (response.seq === undefined || assembly.next() > before) stillRounds = -1
    if (buffered > maxBuffered) {
      const detail = `more than ${maxBuffered} bytes of output wait to be read; read the stream faster`
      Deferred.doneUnsafe(broken, Effect.fail(new ClientError.Overloaded({ where: "client", detail })))
    }
  }
  const finish = (exit: Exit.Exit<unknown, ClientError.Reason>) =>
    Effect.sync(() => {
      const reason = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
      if (Exit.isSuccess(exit) || reason !== undefined) onEnd(reason)
      Queue.failCauseUnsafe(queue, reason === undefined ? Cause.fail(Cause.Done()) : Cause.fail(reason))
    })

  const delivered = Effect.raceFirst(deliveries.deliver(send, budget.deadline, onEvent), Deferred.await(broken))
  yield* request.within(delivered, budget).pipe(
    Effect.tap((response) =>
      Effect.sync(() => {
        isOver = true
        take(response)
      })
    ),
    // What the final answer told last may have failed as well.
    Effect.andThen(Effect.flatMap(Deferred.poll(broken), (failure) => Option.getOrElse(failure, () => Effect.void))),
    Effect.onExit(finish),
    Effect.ignoreCause,
    Effect.forkScoped({ startImmediately: true })
  )
  const tell = (next?: number): void => {
    if (last === undefined) return
    told = read
    deliveries.tellRead(asked.topic, last, read, next)
  }
  const isStill = (): boolean =>
    assembly.hasGap() ? stillRounds > 0 : buffered === 0 && stillRounds > 0 && stillRounds % silentRounds === 0
  yield* Effect.sleep(lateMs).pipe(
    Effect.andThen(Effect.sync(() => {
      stillRounds += 1
      if (isStill() && !isOver) tell(assembly.next())
    })),
    Effect.forever,
    Effect.forkScoped
  )
  return Stream.map(Stream.fromQueue(queue), (event) => {
    const charge = Assembly.chargeOf(event)
    buffered -= charge
    read += charge
    // What came with the final answer nobody waits for.
    if (read - told >= window / 2 && !isOver) tell()
    return event
  })
})
