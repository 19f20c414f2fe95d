/**
 * Delivers calls: gives each its state machine (`delivery.ts`), does what that says, and lets it see the time while it waits.
 */
import type * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberHandle from "effect/FiberHandle"
import * as FiberMap from "effect/FiberMap"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as ClientError from "../ClientError.ts"
import * as Circuit from "./circuit.ts"
import type * as Connection from "./connection.ts"
import * as Delivery from "./delivery.ts"
import * as metrics from "./metrics.ts"
import * as Pace from "./pace.ts"
import * as Ping from "./ping.ts"

export interface Options {
  /** Without a sign of the call for so long it is sent again, in milliseconds. */
  readonly ackMs: number
  /** When calls to a topic are refused; without it none is. */
  readonly circuit: Circuit.Settings | undefined
}

export interface Deliveries {
  /**
   * Sends a request, as often as it takes, and waits for its final answer. `onEvent` hears what comes before that, on the
   * reader's fiber; it must not throw. What fails or is interrupted is cancelled on the server.
   */
  readonly deliver: (
    send: Connection.Send,
    deadline: number,
    onEvent?: (response: Protocol.Response) => void
  ) => Effect.Effect<Protocol.Response, ClientError.Reason>
  /** Tells who sent this event how much of the call's output was read since its beginning, and which event did not come. */
  readonly tellRead: (topic: string, event: Protocol.Response, bytes: number, next?: number) => void
}

/** The events that a caller has to understand to be delivered. */
export const events: ReadonlyArray<Protocol.Event> = ["accepted", "offer", "part"]

const tickMs = 100
/** How long a topic whose servers do not acknowledge is not asked again. */
const silentMs = 2000
const maxTopics = 1024
/** A timer may fire so much too early, in milliseconds. */
const timerSlackMs = 2

interface Known extends Delivery.Habits {
  readonly pace: Pace.Pace
  readonly circuit: Circuit.Circuit | undefined
  silentUntil: number
}

/** Servers of which it is known when they sent output or a part. */
const maxBulky = 1024

/** A replica says that it has the call. */
const isTaking = ({ event, server }: Protocol.Response): boolean =>
  event !== undefined && event !== "unknown" && server !== undefined

export const make = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  { ackMs, circuit: settings }: Options
): Effect.fn.Return<Deliveries, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const random = yield* Random.Random
  const context = yield* Effect.context<never>()
  const now = () => Monotonic.millisOf(clock)
  const topics = new Map<string, Known>()
  const waiting = new Set<() => void>()
  /** When output or parts of final responses came last, by server, the latest last. */
  const bulk = new Map<string, number>()
  let lastBulkAt = Number.NEGATIVE_INFINITY
  const bulkAt = (server?: string): number =>
    server === undefined ? lastBulkAt : bulk.get(server) ?? Number.NEGATIVE_INFINITY
  const onBulk = (server: string): void => {
    lastBulkAt = now()
    bulk.delete(server)
    bulk.set(server, lastBulkAt)
    if (bulk.size <= maxBulky) return
    const [oldest] = bulk.keys()
    if (oldest !== undefined) bulk.delete(oldest)
  }
  const ticking = yield* FiberHandle.make<void>()
  const pings = yield* FiberMap.make<string, void>()
  const sending = yield* FiberSet.make<void>()
  const ping = yield* FiberMap.runtime(pings)<never>()
  const run = yield* FiberSet.runtime(sending)<never>()

  yield* Effect.addFinalizer(() => Effect.sync(() => topics.forEach(({ circuit }) => circuit?.forget())))

  const makeCircuit = (topic: string): Circuit.Circuit | undefined =>
    settings && Circuit.make({
      ...settings,
      random: () => random.nextDoubleUnsafe(),
      onChange: (from, to) => metrics.circuitChanged(topic, from, to, context)
    })

  const forgetOldest = (): void => {
    for (const [topic, { circuit }] of topics) {
      circuit?.forget()
      topics.delete(topic)
      return
    }
  }

  /** What was not so a while ago may be so by now. */
  const reconsider = (known: Known): void => {
    if (known.acknowledges === false && now() >= known.silentUntil) known.acknowledges = undefined
  }

  const habitsOf = (topic: string): Known => {
    const known = topics.get(topic)
    if (known !== undefined) {
      reconsider(known)
      return known
    }
    if (topics.size >= maxTopics) forgetOldest()
    const made: Known = {
      acknowledges: undefined,
      clearAt: Number.NEGATIVE_INFINITY,
      circuit: makeCircuit(topic),
      pace: Pace.make(() => made.acknowledges === true),
      silentUntil: 0
    }
    topics.set(topic, made)
    return made
  }

  /** One question for all calls that want to know. */
  const askWhoServes = (topic: string, habits: Known) =>
    Effect.map(Ping.ask(connection, topic), (found) => {
      if (Option.isNone(found)) return
      if (found.value === "Others") {
        habits.acknowledges = false
        habits.silentUntil = now() + silentMs
        return
      }
      if (found.value === "Acknowledging") habits.acknowledges = true
      habits.clearAt = now()
      waiting.forEach((onTick) => onTick())
    })

  const tick = Effect.sleep(tickMs).pipe(
    Effect.andThen(Effect.sync(() => {
      topics.forEach(reconsider)
      waiting.forEach((onTick) => onTick())
      topics.forEach(({ pace }) => pace.onTick(now()))
    })),
    Effect.repeat({ while: () => waiting.size > 0 }),
    Effect.asVoid
  )

  const deliver: Deliveries["deliver"] = (send, deadline, onEvent = () => {}) =>
    Effect.uninterruptibleMask((restore) => {
      const { firstAttempt = 0, topic } = send
      const habits = habitsOf(topic)
      const { circuit } = habits
      const refused = Effect.suspend(() =>
        Effect.fail(new ClientError.CircuitOpen({ topic, retryAfterMs: circuit?.retryAfterMs(now()) ?? 0 }))
      )
      if (circuit?.refuses(now())) return refused
      const delivery = Delivery.make({
        topic,
        deadline,
        ackMs,
        habits,
        bulkAt,
        random: () => random.nextDoubleUnsafe()
      })
      const { pace } = habits
      const place = pace.place()
      const done = Deferred.makeUnsafe<Protocol.Response, ClientError.Reason>()
      const fibers = new Set<Fiber.Fiber<void>>()
      let isSent = false
      let begunAt = 0
      let isTaken = false
      let pass: Circuit.Pass | undefined
      /** The request is on its way out of this process. */
      let isLeaving = false

      const opened = connection.open(send, {
        onAnswer: (response) => {
          if (response.event === "accepted" || response.event === "offer") place.onTaken()
          if (!isTaken && isTaking(response)) {
            isTaken = true
            if (pass !== undefined) circuit?.onTaken(pass)
          }
          const { attempt, event, server } = response
          if ((event === "part" || event === "chunk") && server !== undefined) onBulk(server)
          const own = attempt === undefined ? response : { ...response, attempt: attempt - firstAttempt }
          return perform(delivery.onResponse(own, now()))
        },
        onMalformed: (detail) => {
          Deferred.doneUnsafe(done, Effect.fail(new ClientError.ProtocolError({ detail })))
          return false
        },
        onFailure: (reason) => void Deferred.doneUnsafe(done, Effect.fail(reason)),
        onRestored: () => void perform(delivery.onRestored(now()))
      })
      if (Result.isFailure(opened)) return Effect.fail(opened.failure)
      const address = opened.success

      const start = (effect: Effect.Effect<void>): void => {
        const fiber = run(effect)
        fibers.add(fiber)
        fiber.addObserver(() => fibers.delete(fiber))
      }
      const transmit = (attempt: number) =>
        Effect.suspend(() => {
          isLeaving = true
          return connection.transmit(send, address, attempt, { waitsUntilSent: true })
        }).pipe(
          Effect.map((bytes) => delivery.onSent(bytes, now())),
          Effect.ensuring(Effect.sync(() => isLeaving = false))
        )
      // The end of the call does not stop them.
      const command = (server: string, control: Control.Control) =>
        void run(connection.command(Topic.worker(topic, server), control))

      /** Tells whether the call is over. */
      const perform = (steps: ReadonlyArray<Delivery.Step>): boolean => {
        let isOver = false
        for (const step of steps) {
          switch (step._tag) {
            case "Send":
              // One that is still on its way out is as good.
              if (!isLeaving) start(Effect.ignore(transmit(step.attempt)))
              break
            case "Ping":
              ping(topic, askWhoServes(topic, habits), { onlyIfMissing: true })
              break
            case "Renew":
              command(step.server, { kind: "renew", ...address })
              break
            case "Received":
              command(step.server, {
                kind: "received",
                ...address,
                attempt: firstAttempt + step.attempt,
                parts: step.parts
              })
              break
            case "Cancel":
              command(step.server, { kind: "cancel", ...address, attempt: firstAttempt + step.attempt })
              break
            case "Recall":
              void run(connection.command(Topic.control(topic), { kind: "cancel", ...address }))
              break
            case "Grant":
              command(step.server, { kind: "grant", ...address, offer: step.offer })
              break
            case "Wait":
              if (step.isFull) place.onRefused(now())
              place.leave()
              start(
                Effect.sleep(step.ms).pipe(
                  Effect.andThen(place.enter),
                  Effect.andThen(Effect.sync(() => perform(delivery.onTurn(now()))))
                )
              )
              break
            case "Event":
              // One sign of life may be for many calls.
              onEvent({ ...step.response, requestId: address.requestId })
              break
            case "Finish":
              if (step.response.code === "Overloaded") place.onRefused(now())
              else pace.onAnswered()
              isOver = Deferred.doneUnsafe(done, Effect.succeed(step.response))
              break
            case "Fail":
              Deferred.doneUnsafe(done, Effect.fail(step.reason))
              break
          }
        }
        return isOver
      }
      const onTick = () => void perform(delivery.onTick(now()))

      return restore(Effect.gen(function*() {
        yield* place.enter
        // It may have opened meanwhile.
        pass = circuit?.enter(now())
        if (circuit !== undefined && pass === undefined) return yield* refused
        waiting.add(onTick)
        begunAt = now()
        delivery.begin(begunAt)
        yield* transmit(0)
        isSent = true
        yield* FiberHandle.run(ticking, tick, { onlyIfMissing: true })
        return yield* Deferred.await(done)
      })).pipe(
        Effect.onExit((exit) =>
          Effect.suspend(() => {
            waiting.delete(onTick)
            place.leave()
            for (const fiber of fibers) fiber.interruptUnsafe()
            if (pass !== undefined) {
              const endedAt = now()
              // One that had less time than an acknowledgement may take tells nothing.
              const isLate = endedAt >= deadline - timerSlackMs && endedAt - begunAt >= ackMs
              circuit?.onEnd(pass, Circuit.outcomeOf(exit, { isLate, isTaken }), endedAt)
            }
            // Somebody may be at work on what was sent, or is on its way.
            const isAbandoned = Exit.isFailure(exit) && (isSent || Cause.hasInterrupts(exit.cause))
            const closed = connection.close(send, address, isAbandoned)
            return waiting.size === 0 ? Effect.andThen(FiberMap.clear(pings), closed) : closed
          })
        )
      )
    })

  const tellRead: Deliveries["tellRead"] = (topic, { requestId, server }, bytes, next) => {
    if (server === undefined) return
    run(connection.command(Topic.worker(topic, server), {
      kind: "read",
      requestId,
      replyTo: connection.replyTo,
      bytes,
      ...next === undefined ? {} : { next }
    }))
  }

  return { deliver, tellRead }
})
