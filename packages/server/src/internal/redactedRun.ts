/**
 * Has a script run by the executor, and takes secrets out of its standard error, in results, events and errors.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Executor from "../Executor.ts"
import type { Output } from "../SkillRunner.ts"
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

/** Hands the output on while it is produced, too. */
export const stream = (
  executor: Executor.Executor["Service"],
  spec: Executor.Spec,
  redactor: Redaction.Redactor,
  onOutput: (output: Output) => Effect.Effect<void>
): Run => {
  const stdout: Array<Uint8Array> = []
  const stderr: Array<Uint8Array> = []
  const redact = redactor.pieces()
  let ended: Executor.Ended | undefined
  const keepStderr = (bytes: Uint8Array | undefined) => {
    const data = redact(bytes)
    if (data.byteLength === 0) return Effect.void
    stderr.push(data)
    return onOutput({ _tag: "Stderr", data })
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
  return Stream.runForEach(executor.stream(spec), keep).pipe(
    Effect.mapError(({ file, reason }) => new Executor.ExecutorError({ file, reason, stderr: Buffer.concat(stderr) })),
    Effect.flatMap(() =>
      ended === undefined
        ? Effect.die(new Error("the executor's stream ended without an Exit"))
        : Effect.succeed({ ...ended, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) })
    )
  )
}
