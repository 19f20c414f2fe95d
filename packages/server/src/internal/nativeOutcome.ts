/**
 * What the end of a run stands for.
 */
import * as Exit from "effect/Exit"
import * as Executor from "../Executor.ts"
import { errnoCode, reasonOf, signalName } from "./executorOutcome.ts"
import type { ResolvedSpec } from "./executorSpec.ts"
import type { Done } from "./nativeSupervisor.ts"

const usageOf = (event: Done): Executor.Usage => ({
  wallMs: event[7],
  userMs: event[8],
  systemMs: event[9],
  maxRssBytes: event[10]
})

const treeReason = (limit: Exclude<Done[15], "">, { limits }: ResolvedSpec): Executor.Reason => {
  switch (limit) {
    case "memory":
      return new Executor.MemoryLimit({ limitBytes: limits.treeBytes ?? 0 })
    case "processes":
      return new Executor.ProcessLimit({ limit: limits.treeTasks ?? 0 })
    case "disk":
      return new Executor.DiskLimit({ limitBytes: limits.diskBytes ?? 0 })
    case "cpu":
      return new Executor.CpuLimit({ limitSeconds: limits.cpuSeconds ?? 0 })
  }
}

const failureOf = (event: Done, spec: ResolvedSpec, stderr: Uint8Array): Executor.Reason | null => {
  const [, , outcome, exitCode, signal, errno, syscall] = event
  switch (outcome) {
    case "ended":
      if (event[15] !== "") return treeReason(event[15], spec)
      return reasonOf(exitCode, signal === 0 ? "" : signalName(signal), usageOf(event), spec.limits, {
        file: spec.file,
        stderr
      })
    case "spawnFailed":
      return new Executor.SpawnFailed({ code: errnoCode(errno), errno, syscall })
    case "timedOut":
      return new Executor.TimedOut({ timeoutMs: spec.timeoutMs ?? 0 })
    case "stdoutLimit":
      return new Executor.OutputLimit({ stream: "stdout", limitBytes: spec.stdoutBytes })
    case "stderrLimit":
      return new Executor.OutputLimit({ stream: "stderr", limitBytes: spec.stderrBytes })
    case "lost":
      return new Executor.Killed({ signal: "SIGKILL" })
    case "closing":
    case "terminated":
      return new Executor.Rejected({ detail: "the executor is closing" })
  }
}

export const endedOf = (event: Done): Executor.Ended => ({
  exitCode: event[3],
  signal: event[4] === 0 ? "" : signalName(event[4]),
  usage: usageOf(event),
  stdoutTruncated: event[11],
  stderrTruncated: event[12],
  warm: event[17]
})

/** The event itself, or why there is no result. */
export const resultOf = (
  event: Done,
  spec: ResolvedSpec,
  stderr: Uint8Array
): Exit.Exit<Done, Executor.ExecutorError> => {
  const reason = failureOf(event, spec, stderr)
  return reason === null
    ? Exit.succeed(event)
    : Exit.fail(new Executor.ExecutorError({ file: spec.file, reason, stderr }))
}
