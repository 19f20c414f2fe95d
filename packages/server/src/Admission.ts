/**
 * Bounds the work that a server takes on: so many calls run, so many wait, and every further one is refused at once.
 *
 * Calls run in the order in which they came. A place that becomes free is handed to the call that waited longest, so that
 * no newcomer overtakes it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Monotonic from "./internal/monotonic.ts"

/**
 * All workers are busy and the queue is full. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Overloaded extends Schema.TaggedError<Overloaded>()("Overloaded", {
  running: Schema.Natural,
  queued: Schema.Natural
}) {
  readonly isRetryable = true
  override get message() {
    return `the server is full: ${this.running} calls run and ${this.queued} wait; try again later`
  }
}

/**
 * A call waited for a worker until its patience was gone, and was not started. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Impatient extends Schema.TaggedError<Impatient>()("Impatient", { patienceMs: Schema.Finite }) {
  readonly isRetryable = true
  override get message() {
    return `no worker became free within ${this.patienceMs} ms; the call was not started`
  }
}

/**
 * How much work is in hand.
 *
 * @category models
 * @since 0.1.0
 */
export interface Load {
  readonly running: number
  readonly queued: number
}

/**
 * Bounds of the work in hand.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Calls that run at a time. Default: 4. */
  readonly workers?: number | undefined
  /** Calls that wait for a worker. Default: 64. */
  readonly queue?: number | undefined
}

/**
 * What belongs to one call besides its work.
 *
 * @category options
 * @since 0.1.0
 */
export interface Terms<E, R> {
  /** Runs once the call has its place, before it waits for a worker. */
  readonly onAccepted?: Effect.Effect<void, E, R> | undefined
  /** How long the call waits for a worker before it fails with `Impatient`, in milliseconds. Default: for ever. */
  readonly patienceMs?: number | undefined
}

/**
 * Admits work within its bounds, first come, first served.
 *
 * @category models
 * @since 0.1.0
 */
export interface Admission {
  /**
   * Runs the effect when a worker is free and tells it how long it waited, in milliseconds. Fails with `Overloaded`
   * at once when the queue is full. Interruption gives the place back, in the queue and at work.
   */
  readonly admit: <A, E, R, E2 = never, R2 = never>(
    work: (queueMs: number) => Effect.Effect<A, E, R>,
    terms?: Terms<E2, R2>
  ) => Effect.Effect<A, E | E2 | Overloaded | Impatient, R | R2>
  readonly load: Effect.Effect<Load>
  /** Calls that run at a time. */
  readonly workers: number
}

interface Ticket {
  granted: boolean
  onGranted: () => void
}

/**
 * Makes an admission control. `onLoad` is told the load whenever it changes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: Options, onLoad: (load: Load) => void = () => {}): Admission => {
  const workers = Math.max(1, options?.workers ?? 4)
  const queue = Math.max(0, options?.queue ?? 64)
  const waiting = new Set<Ticket>()
  let running = 0
  const load = (): Load => ({ running, queued: waiting.size })

  const take = (): Ticket | undefined => {
    if (running < workers) {
      running += 1
      onLoad(load())
      return { granted: true, onGranted: () => {} }
    }
    if (waiting.size >= queue) return undefined
    const ticket: Ticket = { granted: false, onGranted: () => {} }
    waiting.add(ticket)
    onLoad(load())
    return ticket
  }

  const giveBack = (ticket: Ticket) => {
    if (!ticket.granted) {
      waiting.delete(ticket)
      return onLoad(load())
    }
    const [next] = waiting
    if (next === undefined) {
      running -= 1
      return onLoad(load())
    }
    waiting.delete(next)
    onLoad(load())
    next.granted = true
    next.onGranted()
  }

  const granted = (ticket: Ticket) =>
    Effect.callback<void>((resume) => {
      if (ticket.granted) return resume(Effect.void)
      ticket.onGranted = () => resume(Effect.void)
    })

  const inTime = (ticket: Ticket, patienceMs: number | undefined) =>
    ticket.granted || patienceMs === undefined || !Number.isFinite(patienceMs)
      ? granted(ticket)
      : Effect.timeoutOrElse(granted(ticket), {
        duration: patienceMs,
        orElse: () => ticket.granted ? Effect.void : Effect.fail(new Impatient({ patienceMs }))
      })

  const admit: Admission["admit"] = <A, E, R, E2, R2>(
    work: (queueMs: number) => Effect.Effect<A, E, R>,
    terms?: Terms<E2, R2>
  ) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Monotonic.millis, (arrived): Effect.Effect<A, E | E2 | Overloaded | Impatient, R | R2> => {
        const ticket = take()
        if (ticket === undefined) return Effect.fail(new Overloaded({ running, queued: waiting.size }))
        return restore(
          Effect.andThen(
            terms?.onAccepted ?? Effect.void,
            Effect.suspend(() => inTime(ticket, terms?.patienceMs)).pipe(
              Effect.andThen(Monotonic.millis),
              Effect.flatMap((now) => work(now - arrived))
            )
          )
        ).pipe(Effect.ensuring(Effect.sync(() => giveBack(ticket))))
      })
    )

  return { admit, load: Effect.sync(load), workers }
}
