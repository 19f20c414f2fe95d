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

const memorySignals: ReadonlySet<string> = new Set(["SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGTRAP"])

/** How the C library, Python, Node, Ruby and the shells call EMFILE. */
const tooManyFiles = /too many open files|\bEMFILE\b/i

/**
 * How Python, Node, Ruby, Go, Java, the shells and the C library say that no thread or process could be started. EAGAIN alone may be
 * of anything else that has to be tried again.
 */
const tooManyProcesses = new RegExp(
  [
    "^RuntimeError: can't start new thread",
    "\\b(?:os\\.fork|_fork_exec)\\([^]*\\bBlockingIOError: \\[Errno 11\\]",
    "\\bspawn\\S* (?:\\S+ )?EAGAIN\\b",
    "\\bfork: (?:retry: )?Resource temporarily unavailable",
    "\\b[Cc]an(?:no|')t fork\\b",
    "\\bcan't create Thread\\b",
    "\\bfailed to create new OS thread\\b",
    "\\bunable to create (?:new )?native thread\\b",
    "\\b(?:pthread|uv_thread)_create\\b.*(?:failed|EAGAIN|temporarily unavailable)"
  ].join("|"),
  "m"
)

/**
 * How Python and Node, which ignore SIGXFSZ, call EFBIG, and how bash and whoever else waits for a child call its death of that
 * signal. `File too large` alone may be a script's own word for its input.
 */
const tooLargeFile =
  /\[Errno 27\] |\bEFBIG\b|\bSIGXFSZ\b|\bwrit(?:e|ing)\b.*: File too large$|: line \d+: +\d+ File size limit exceeded/m

/** Shells, which turn the death of a child into an exit code. */
const shell = /(?:^|\/)(?:ba|da|a|z|k|mk|fi)?sh$/
const shellsFileSignal = 128 + Os.constants.signals.SIGXFSZ

/** How Python, Node and bash say that they were refused memory. V8 has other words for limits of its own. */
const refusedMemory =
  /^[\w.]*MemoryError(?::|$)|\bArray buffer allocation failed\b|\bERR_MEMORY_ALLOCATION_FAILED\b|\bCommitting semi space failed\b|\bFatal process out of memory\b|: x(?:m|re)alloc: .*cannot allocate \d+ bytes/m

const toldBytes = 4096

/** The share of `memoryBytes` that must have been resident for a failure to count as lack of memory. */
const memoryShare = 0.9

/** The same of what the tree may have, where the program says so: who asks for too much at once lacks nothing that it used. */
const toldMemoryShare = 0.5

/** What the caller knows as the memory of the run: a process may reserve more than its tree may use. */
const memoryOf = ({ memoryBytes, treeBytes }: ResolvedLimits): number =>
  Math.min(memoryBytes ?? Number.POSITIVE_INFINITY, treeBytes ?? Number.POSITIVE_INFINITY)

const lacksMemory = (limits: ResolvedLimits, { maxRssBytes }: Executor.Usage, told: string): boolean =>
  limits.memoryBytes !== null && (
    maxRssBytes >= limits.memoryBytes * memoryShare ||
    maxRssBytes >= memoryOf(limits) * toldMemoryShare && refusedMemory.test(told)
  )

/** A program that was held to its limits, and what it said. */
export interface Held {
  readonly file: string
  readonly stderr: Uint8Array
}

/** Returns why a program that ended by itself has no result, or `null` when it has one. */
export const reasonOf = (
  exitCode: number,
  signal: string,
  usage: Executor.Usage,
  limits: ResolvedLimits,
  held: Held | null
): Executor.Reason | null => {
  const { cpuSeconds, fileBytes, openFiles, treeTasks } = limits
  const cpuMs = usage.userMs + usage.systemMs
  if (cpuSeconds !== null && (signal === "SIGXCPU" || (signal === "SIGKILL" && cpuMs >= cpuSeconds * 1000))) {
    return new Executor.CpuLimit({ limitSeconds: cpuSeconds })
  }
  const failed = signal === "" ? exitCode !== 0 : memorySignals.has(signal)
  const told = failed && held !== null ? Buffer.from(held.stderr.subarray(-toldBytes)).toString("latin1") : ""
  const passedFileSize = signal === "SIGXFSZ" ||
    exitCode === shellsFileSignal && held !== null && shell.test(held.file) ||
    exitCode > 0 && tooLargeFile.test(told)
  if (fileBytes !== null && passedFileSize) {
    return new Executor.OutputLimit({ stream: "file", limitBytes: fileBytes })
  }
  if (failed && lacksMemory(limits, usage, told)) {
    return new Executor.MemoryLimit({ limitBytes: memoryOf(limits) })
  }
  if (treeTasks !== null && exitCode > 0 && tooManyProcesses.test(told)) {
    return new Executor.ProcessLimit({ limit: treeTasks })
  }
  if (openFiles !== null && exitCode > 0 && tooManyFiles.test(told)) {
    return new Executor.OpenFilesLimit({ limit: openFiles })
  }
  return signal === "" || crashSignals.has(signal) ? null : new Executor.Killed({ signal })
}
