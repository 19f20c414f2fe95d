/**
 * One of several buses, and another one when that falls silent.
 *
 * It is for clients that several proxies serve. Every subscription has a topic of its own besides the others, and while there
 * is traffic, what it publishes there has to come back: that is a sign of life of the whole way through the proxy, whatever is
 * wrong with it. Without one for five times `silence`, without any message for `silence`, or when it tells that its connection
 * ended, the bus is left for the next in turn, all subscriptions are opened there, and `restored` tells when they hear. A
 * message that a bus refuses (`Unreachable`, `Backpressure`) is published to the next.
 *
 * Which bus comes first is random, so that many clients share the proxies.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import * as Bus from "./Bus.ts"
import * as Monotonic from "./Monotonic.ts"
import * as Topic from "./Topic.ts"

/**
 * A bus to choose.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  /** What logs call it, such as its address. */
  readonly name: string
  readonly connect: Effect.Effect<Bus.Bus["Service"], Bus.BusError, Scope.Scope>
}

/**
 * When a bus is left.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** How long a bus may be without a sign of life. Default: 1 second; at least 300 ms. */
  readonly silence?: Duration.Input | undefined
}

const tickMs = 100
/** After so much silence a sign of life is asked for. */
const quietMs = 200
/** So long after the last message no sign of life is needed. */
const idleMs = 10_000
/** A tick that comes so late tells that this process did not run, and so did not listen. */
const latestTickMs = 300
/** Messages that were taken from a bus and not by the consumer. Further ones wait where they came from. */
const capacity = 16
const maxPatience = 5
/** A message that a bus refused counts for so many that waited in one when it was left. */
const refusalTries = 2

interface Current {
  readonly index: number
  readonly bus: Bus.Bus["Service"]
  readonly scope: Scope.Closeable
  readonly left: Deferred.Deferred<void>
  isProven: boolean
}

/**
 * Connects to one of the buses at a time, until the scope closes. Fails when the first one cannot be made.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  members: readonly [Member, ...ReadonlyArray<Member>],
  options?: Options
): Effect.fn.Return<Bus.Bus["Service"], Bus.BusError, Scope.Scope> {
  if (members.length === 1) return yield* members[0].connect
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const now = () => Monotonic.millisOf(clock)
  const silenceMs = Math.max(300, Duration.toMillis(options?.silence ?? "1 second"))
  const moves = Semaphore.makeUnsafe(1)
  const restored = yield* PubSub.sliding<void>(1)
  const busy = Latch.makeUnsafe(true)
  let isOpen = true
  yield* Effect.addFinalizer(() => Effect.sync(() => isOpen = false))
  let usedAt = now()
  /** How many buses in a row gave no sign of life at all. */
  let dead = 0

  const use = (): void => {
    usedAt = now()
    busy.openUnsafe()
  }

  const nameOf = (index: number): string => members[index]?.name ?? ""

  const unreachable = ({ index }: Current, cause: Bus.BusError) =>
    new Bus.BusError({ operation: "publish", reason: new Bus.Unreachable({ address: nameOf(index), cause }) })

  const enter = Effect.fnUntraced(function*(index: number) {
    const own = yield* Scope.fork(scope)
    const { connect } = members[index] ?? members[0]
    const bus = yield* Scope.provide(connect, own).pipe(Effect.onError(() => Scope.close(own, Exit.void)))
    const entered: Current = { index, bus, scope: own, left: Deferred.makeUnsafe(), isProven: false }
    return entered
  })

  let current = yield* enter(yield* Random.nextIntBetween(0, members.length, { halfOpen: true }))

  /** Leaves a bus for the next one that can be made, unless that is done already. */
  const leave = (from: Current, why: string): Effect.Effect<void, Bus.BusError> =>
    Effect.uninterruptible(
      moves.withPermits(1)(Effect.suspend(() => {
        if (current !== from) return Effect.void
        dead = from.isProven ? 0 : dead + 1
        const index = (from.index + 1) % members.length
        return Effect.logWarning("changing the proxy").pipe(
          Effect.annotateLogs({ from: nameOf(from.index), to: nameOf(index), why }),
          Effect.andThen(enter(index)),
          Effect.tap((next) =>
            Effect.sync(() => {
              current = next
              Deferred.doneUnsafe(from.left, Effect.void)
            })
          ),
          // What it still has to say takes its time.
          Effect.andThen(Effect.forkIn(Scope.close(from.scope, Exit.void), scope)),
          Effect.asVoid
        )
      }))
    )

  const publishWithin = (
    tries: number,
    topic: string,
    payload: Uint8Array,
    terms: Bus.PublishOptions,
    expiresAt: number | undefined
  ): Effect.Effect<void, Bus.BusError> =>
    Effect.suspend(() => {
      const at = current
      const options = expiresAt === undefined ? terms : { ...terms, expiresInMs: Math.max(0, expiresAt - now()) }
      return Effect.catch(at.bus.publish(topic, payload, options), (error) => {
        const { _tag } = error.reason
        const wasLeft = _tag === "Closed" && isOpen && current !== at
        if (!(wasLeft || _tag === "Unreachable" || _tag === "Backpressure")) return Effect.fail(error)
        const left = tries - (wasLeft ? 1 : refusalTries)
        if (left <= 0) return Effect.fail(wasLeft ? unreachable(at, error) : error)
        return Effect.andThen(leave(at, error.message), publishWithin(left, topic, payload, terms, expiresAt))
      })
    })

  const publish: Bus.Publish = (topic, payload, terms = {}) =>
    Effect.suspend(() => {
      use()
      // What a bus waits for until it refuses is time of the message, too.
      const expiresAt = terms.expiresInMs === undefined ? undefined : now() + terms.expiresInMs
      return publishWithin(members.length * refusalTries, topic, payload, terms, expiresAt)
    })

  /** Listens on one bus until that has to be left. */
  const listen = Effect.fnUntraced(function*(
    at: Current,
    topics: ReadonlyArray<string>,
    queue: Queue.Queue<Bus.Message, Bus.BusError>,
    onProof: Effect.Effect<unknown>
  ) {
    const echo = Topic.reply(`ECHO_${randomUUID()}`)
    const messages = yield* at.bus.subscription([...topics, echo])
    const patienceMs = silenceMs * Math.min(maxPatience, 1 + dead)
    let heardAt = now()
    /** When something came back that was published here. */
    let echoedAt = heardAt
    let isProven = false
    let isHeldUp = false

    const read = Stream.runForEach(messages, (message) =>
      Effect.suspend(() => {
        heardAt = now()
        if (message.topic === echo) {
          echoedAt = heardAt
          if (isProven) return Effect.void
          isProven = at.isProven = true
          return onProof
        }
        use()
        isHeldUp = true
        return Effect.ensuring(Queue.offer(queue, message), Effect.sync(() => isHeldUp = false))
      }))

    const ask = Effect.ignore(Effect.timeoutOption(at.bus.publish(echo, new Uint8Array(), { isUrgent: true }), tickMs))

    const watch = Effect.gen(function*() {
      yield* ask
      for (let tickedAt = now();;) {
        yield* Effect.sleep(tickMs)
        const isLate = now() - tickedAt > latestTickMs
        tickedAt = now()
        // Who does not take messages hears nothing.
        if (isLate || isHeldUp) heardAt = echoedAt = tickedAt
        if (isProven && tickedAt - usedAt > idleMs) {
          busy.closeUnsafe()
          yield* busy.await
          heardAt = echoedAt = tickedAt = now()
          yield* ask
        } else if (tickedAt - heardAt >= (isProven ? silenceMs : patienceMs)) {
          return `no sign of life for ${Math.round(tickedAt - heardAt)} ms`
        } else if (isProven && tickedAt - echoedAt >= silenceMs * maxPatience) {
          return `nothing that was published came back for ${Math.round(tickedAt - echoedAt)} ms`
        } else if (!isProven || tickedAt - heardAt >= quietMs || tickedAt - echoedAt >= silenceMs) {
          yield* ask
        }
      }
    })

    const broken = at.bus.broken.pipe(
      // One that never worked has no more to say than the next one may have.
      Stream.filter(() => isProven),
      Stream.runHead,
      Effect.flatMap(Option.match({ onNone: () => Effect.never, onSome: Effect.succeed }))
    )

    const why = yield* Effect.raceAllFirst([
      Effect.matchEffect(read, { onSuccess: () => Effect.never, onFailure: ({ message }) => Effect.succeed(message) }),
      watch,
      broken,
      Effect.as(Deferred.await(at.left), "")
    ])
    yield* leave(at, why)
  }, Effect.scoped)

  const subscription: Bus.Bus["Service"]["subscription"] = Effect.fnUntraced(function*(topics) {
    const closed = new Bus.BusError({ operation: "subscribe", reason: new Bus.Closed() })
    if (!isOpen) return yield* closed
    const own = yield* Scope.fork(scope)
    yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
    const queue = yield* Queue.bounded<Bus.Message, Bus.BusError>(capacity)
    const end = (error: Bus.BusError) => Queue.fail(queue, error)
    yield* Scope.addFinalizer(own, end(closed))
    let isFirst = true
    const onProof = Effect.suspend(() => {
      if (!isFirst) return PubSub.publish(restored, undefined)
      isFirst = false
      return Effect.void
    })
    yield* Effect.suspend(() => listen(current, topics, queue, onProof)).pipe(
      Effect.forever,
      Effect.catch(end),
      Effect.forkIn(own, { startImmediately: true })
    )
    return Stream.fromEffectRepeat(Queue.take(queue))
  })

  return Bus.make({ publish, subscription, restored: Stream.fromPubSub(restored) })
})
