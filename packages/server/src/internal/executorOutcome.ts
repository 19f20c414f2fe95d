/**
 * Tells results from failures: names signals and error numbers, and decides which `Reason` an ended program stands for.
 */
import * as Os from "node:os"
import * as Util from "node:util"
import * as Executor from "../Executor.ts"
import type { ResolvedLimits } from "./executorSpec.ts"

const signalNames = new Map<number, string>(
  Object.entries(Os.constants.signals).toReversed().map(([name, number]) => [number, name])
)

/** `SIGKILL` for 9; `SIG34` for a number that has no name. */
export const signalName = (signal: number): string => signalNames.get(signal) ?? `SIG${signal}`

/** `ENOENT` for 2. */
export const errnoCode = (errno: number): string => errno > 0 ? Util.getSystemErrorName(-errno) : "UNKNOWN"

/** Signals by which a program ends itself: a fault, an abort, a refused system call, a reader that went away. */
const crashSignals: ReadonlySet<string> = new Set([
  "SIGSEGV",
  "SIGABRT",
  "SIGBUS",
  "SIGFPE",
  "SIGILL",
  "SIGTRAP",
  "SIGSYS",
  "SIGPIPE",
  "SIGQUIT"
])

const memorySignals: ReadonlySet<string> = new Set(["SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS"])

/** How the C library, Python, Node, Ruby and the shells call EMFILE. */
const tooManyFiles = /too many open files|\bEMFILE\b/i

const toldBytes = 4096

/** The share of `memoryBytes` that must have been resident for a failure to count as lack of memory. */
const memoryShare = 0.9

/** Returns why a program that ended by itself has no result, or `null` when it has one. */
export const reasonOf = (
  exitCode: number,
  signal: string,
  usage: Executor.Usage,
  limits: ResolvedLimits,
  stderr: Uint8Array
): Executor.Reason | null => {
  const { cpuSeconds, fileBytes, memoryBytes, openFiles } = limits
  const cpuMs = usage.userMs + usage.systemMs
  if (cpuSeconds !== null && (signal === "SIGXCPU" || (signal === "SIGKILL" && cpuMs >= cpuSeconds * 1000))) {
    return new Executor.CpuLimit({ limitSeconds: cpuSeconds })
  }
  if (fileBytes !== null && signal === "SIGXFSZ") {
    return new Executor.OutputLimit({ stream: "file", limitBytes: fileBytes })
  }
  const failed = signal === "" ? exitCode !== 0 : memorySignals.has(signal)
  if (memoryBytes !== null && failed && usage.maxRssBytes >= memoryBytes * memoryShare) {
    return new Executor.MemoryLimit({ limitBytes: memoryBytes })
  }
  if (
    openFiles !== null && exitCode > 0 &&
    tooManyFiles.test(Buffer.from(stderr.subarray(-toldBytes)).toString("latin1"))
  ) {
    return new Executor.OpenFilesLimit({ limit: openFiles })
  }
  return signal === "" || crashSignals.has(signal) ? null : new Executor.Killed({ signal })
}
