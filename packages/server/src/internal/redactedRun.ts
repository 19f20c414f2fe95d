/**
 * Has a script run by the executor, and takes secrets out of its standard error, in results, events and errors.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Executor from "../Executor.ts"
import type { Output } from "../SkillRunner.ts"
import { defaultStderrBytes } from "./executorSpec.ts"
import type * as Redaction from "./redaction.ts"

type Run = Effect.Effect<Executor.Execution, Executor.ExecutorError>

export const collect = (
  executor: Executor.Executor["Service"],
  spec: Executor.Spec,
  redactor: Redaction.Redactor
): Run =>
  executor.run(spec).pipe(
    Effect.map((execution) => ({ ...execution, stderr: redactor.all(execution.stderr, execution.stderrTruncated) })),
    Effect.mapError((error) =>
      new Executor.ExecutorError({ file: error.file, reason: error.reason, stderr: redactor.all(error.stderr, true) })
    )
  )

/** How much of what is not kept is looked at: 32 MiB a second, so that a script that writes without end does not busy its server. */
const unkeptBytesPerMs = 32 * 1024 * 1024 / 1000

export interface Watchers {
  readonly onOutput: (output: Output) => Effect.Effect<void>
  /** Sees what is beyond the cap of standard error, which is kept nowhere. */
  readonly onUnkept: ((stderr: Uint8Array) => Effect.Effect<void>) | undefined
}

/** Hands the output on while it is produced, too. */
export const stream = (
  executor: Executor.Executor["Service"],
  spec: Executor.Spec,
  redactor: Redaction.Redactor,
  { onOutput, onUnkept }: Watchers
): Run => {
  const cap = onUnkept === undefined ? Number.POSITIVE_INFINITY : spec.stderrBytes ?? defaultStderrBytes
  const stdout: Array<Uint8Array> = []
  const stderr: Array<Uint8Array> = []
  const redact = redactor.pieces()
  let stderrBytes = 0
  let isCut = false
  let ended: Executor.Ended | undefined
  const pass = (unkept: Uint8Array) => {
    isCut ||= unkept.byteLength > 0
    return unkept.byteLength === 0 || onUnkept === undefined
      ? Effect.void
      : Effect.delay(onUnkept(unkept), unkept.byteLength / unkeptBytesPerMs)
  }
  const keepStderr = (bytes: Uint8Array | undefined) => {
    const all = redact(bytes)
    const data = all.subarray(0, cap - stderrBytes)
    const passed = pass(all.subarray(data.byteLength))
    if (data.byteLength === 0) return passed
    stderrBytes += data.byteLength
    stderr.push(data)
    return Effect.andThen(onOutput({ _tag: "Stderr", data }), passed)
  }
  const keep = (event: Executor.ExecutorEvent) => {
    switch (event._tag) {
      case "Stdout":
        stdout.push(event.data)
        return onOutput(event)
      case "Stderr":
        return keepStderr(event.data)
      case "Exit":
        ended = event.ended
        return keepStderr(undefined)
    }
  }
  const whole = onUnkept === undefined ? spec : { ...spec, stderrBytes: Number.MAX_SAFE_INTEGER }
  return Stream.runForEach(executor.stream(whole), keep).pipe(
    Effect.mapError(({ file, reason }) => new Executor.ExecutorError({ file, reason, stderr: Buffer.concat(stderr) })),
    Effect.flatMap(() =>
      ended === undefined
        ? Effect.die(new Error("the executor's stream ended without an Exit"))
        : Effect.succeed({
          ...ended,
          stderrTruncated: ended.stderrTruncated || isCut,
          stdout: Buffer.concat(stdout),
          stderr: Buffer.concat(stderr)
        })
    )
  )
}
