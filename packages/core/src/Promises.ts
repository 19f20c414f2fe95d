/**
 * Effects and streams for programs that do not use Effect: promises and loops that an `AbortSignal` ends.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

/**
 * Runs an effect. Rejects with its error as it is, with the signal's reason when that ended it, and with the defect when there
 * was one. When the signal fires, the promise is settled once the effect has ended.
 *
 * @category running
 * @since 0.1.0
 */
export const run = async <A>(effect: Effect.Effect<A, unknown>, signal?: AbortSignal): Promise<A> => {
  const isAborted = () => signal?.aborted === true
  if (isAborted()) throw signal?.reason
  const settled = await Effect.runPromiseExit(effect, { signal })
  if (Exit.isSuccess(settled)) return settled.value
  const error = Cause.findErrorOption(settled.cause)
  if (Option.isSome(error)) throw error.value
  if (isAborted() && Cause.hasInterrupts(settled.cause)) throw signal?.reason
  throw Cause.squash(settled.cause)
}

const aborted = (signal: AbortSignal): Effect.Effect<never, unknown> =>
  Effect.callback((resume) => {
    const onAbort = () => resume(Effect.fail(signal.reason))
    if (signal.aborted) return onAbort()
    signal.addEventListener("abort", onAbort, { once: true })
    return Effect.sync(() => signal.removeEventListener("abort", onAbort))
  })

/**
 * Makes a loop of a stream. Leaving it, or the signal, ends the stream; with the signal it rejects with the signal's reason.
 *
 * @category running
 * @since 0.1.0
 */
export const iterable = <A>(stream: Stream.Stream<A, unknown>, signal?: AbortSignal): AsyncIterable<A> =>
  Stream.toAsyncIterable(signal === undefined ? stream : Stream.interruptWhen(stream, aborted(signal)))
