/**
 * Bounds the work that a server takes on: so many calls run, so many wait, and every further one is refused at once.
 *
 * Callers take turns: a worker that becomes free goes to the next caller that waits, and of its calls to the one that waited
 * longest. When the queue is full, a call of a caller that has fewer in it takes the place of the latest call of the one that has
 * most, so that a caller that floods gets in nobody's way but its own.
 *
 * @since 0.1.0
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

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
  /** Whether a caller's calls may get workers now. While they may not, they wait, and others take their turns. Default: always. */
  readonly mayWork?: ((caller: string) => boolean) | undefined
}

/**
 * What belongs to one call besides its work.
 *
 * @category options
 * @since 0.1.0
 */
export interface Terms<E, R> {
  /** Whose call it is. Calls without a caller are one caller's. */
  readonly caller?: string | undefined
  /** Runs once the call has its place, before it waits for a worker. */
  readonly onAccepted?: Effect.Effect<void, E, R> | undefined
  /** How long the call waits for a worker before it fails with `Impatient`, in milliseconds. Default: for ever. */
  readonly patienceMs?: number | undefined
}

/**
 * Admits work within its bounds, callers in turn.
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
  /** To be called when `mayWork` may have come true for somebody. */
  readonly reconsider: () => void
}

interface Ticket {
  readonly caller: string
  state: "waiting" | "granted" | "displaced"
  /** Hears when it waits no longer. */
  onSettled: () => void
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
  const mayWork = options?.mayWork ?? (() => true)
  /** The calls that wait, by caller; the caller whose turn it is comes first. */
  const lines = new Map<string, Set<Ticket>>()
  let queued = 0
  let running = 0
  const load = (): Load => ({ running, queued })

  const enter = (ticket: Ticket): void => {
    const line = lines.get(ticket.caller) ?? new Set()
    lines.set(ticket.caller, line.add(ticket))
    queued += 1
  }
  const leave = (ticket: Ticket): void => {
    const line = lines.get(ticket.caller)
    if (line?.delete(ticket) !== true) return
    queued -= 1
    if (line.size === 0) lines.delete(ticket.caller)
  }
  const settle = (ticket: Ticket, state: Ticket["state"]): void => {
    leave(ticket)
    ticket.state = state
    ticket.onSettled()
  }

  /** The latest call of the caller that has most in the queue, when another caller has at least two fewer. */
  const displaceable = (caller: string): Ticket | undefined => {
    const [longest] = [...lines.values()].sort((one, other) => other.size - one.size)
    const own = lines.get(caller)?.size ?? 0
    return longest === undefined || longest.size <= own + 1 ? undefined : [...longest].at(-1)
  }

  const take = (caller: string): Ticket | undefined => {
    const ticket: Ticket = { caller, state: "waiting", onSettled: () => {} }
    if (running < workers && mayWork(caller)) {
      running += 1
      ticket.state = "granted"
    } else if (queued < queue) {
      enter(ticket)
    } else {
      const displaced = displaceable(caller)
      if (displaced === undefined) return undefined
      leave(displaced)
      enter(ticket)
      settle(displaced, "displaced")
    }
    onLoad(load())
    return ticket
  }

  const next = (): Ticket | undefined => {
    const first = Array.from(lines).find(([caller]) => mayWork(caller))
    if (first === undefined) return undefined
    const [caller, line] = first
    const [ticket] = line
    // The others come before it gets another turn.
    lines.delete(caller)
    lines.set(caller, line)
    return ticket
  }

  const giveBack = (ticket: Ticket): void => {
    if (ticket.state === "granted") {
      const following = next()
      if (following === undefined) running -= 1
      else settle(following, "granted")
    } else {
      leave(ticket)
    }
    onLoad(load())
  }

  const overloaded = () => new Overloaded({ running, queued })

  const settled = (ticket: Ticket): Effect.Effect<void, Overloaded> =>
    Effect.andThen(
      Effect.callback<void>((resume) => {
        if (ticket.state !== "waiting") return resume(Effect.void)
        ticket.onSettled = () => resume(Effect.void)
      }),
      Effect.suspend(() => ticket.state === "displaced" ? Effect.fail(overloaded()) : Effect.void)
    )

  const inTime = (ticket: Ticket, patienceMs: number | undefined): Effect.Effect<void, Overloaded | Impatient> =>
    ticket.state !== "waiting" || patienceMs === undefined || !Number.isFinite(patienceMs)
      ? settled(ticket)
      : Effect.timeoutOrElse(settled(ticket), {
        duration: patienceMs,
        orElse: () => ticket.state === "granted" ? Effect.void : Effect.fail(new Impatient({ patienceMs }))
      })

  const admit: Admission["admit"] = <A, E, R, E2, R2>(
    work: (queueMs: number) => Effect.Effect<A, E, R>,
    terms?: Terms<E2, R2>
  ) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Monotonic.millis, (arrived): Effect.Effect<A, E | E2 | Overloaded | Impatient, R | R2> => {
        const ticket = take(terms?.caller ?? "")
        if (ticket === undefined) return Effect.fail(overloaded())
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

  const reconsider = (): void => {
    if (queued === 0) return
    while (running < workers) {
      const following = next()
      if (following === undefined) break
      running += 1
      settle(following, "granted")
    }
    onLoad(load())
  }

  return { admit, load: Effect.sync(load), workers, reconsider }
}
