/**
 * The port through which a server runs programs.
 *
 * An executor starts one process tree per run, feeds its standard input, reads its output within bounds, enforces
 * limits, and is gone from the machine when the effect ends, however it ends. It knows nothing of skills, topics or
 * replies. `NativeExecutor` and `NodeExecutor` implement it; both pass the same conformance suite.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"

/**
 * What the kernel and the supervisor hold a run to. A limit that is absent is not set.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** CPU time of each process of the run, in whole seconds (`RLIMIT_CPU`). */
  readonly cpuSeconds?: number | undefined
  /** Private writable memory of each process of the run, in bytes (`RLIMIT_DATA`). */
  readonly memoryBytes?: number | undefined
  /** Size of each file that the run writes, in bytes (`RLIMIT_FSIZE`). */
  readonly fileBytes?: number | undefined
  /** Open descriptors of each process (`RLIMIT_NOFILE`). */
  readonly openFiles?: number | undefined
  /** Processes and threads of the run's user, all runs together (`RLIMIT_NPROC`; the kernel does not hold root to it). */
  readonly processes?: number | undefined
  /** Processes and threads of the run's tree; more end it with `ProcessLimit`. In a cell the kernel does not let them start. */
  readonly treeTasks?: number | undefined
  /** Memory of all processes of the run together, in bytes, looked at every few milliseconds. More ends it with `MemoryLimit`. */
  readonly treeBytes?: number | undefined
  /** All that a run in a cell writes to files, in bytes. When it is used up the run ends with `DiskLimit`. */
  readonly diskBytes?: number | undefined
}

/**
 * What keeps a run from the host and from others, besides its limits.
 *
 * @category models
 * @since 0.1.0
 */
export interface Confinement {
  /** Whether the run may use the network of the host. */
  readonly network: boolean
  readonly systemCalls: "deny" | "allow"
  /** Files and folders that the run may write, absolute, besides the private `/tmp` and `/dev/shm` of a cell. */
  readonly writable: ReadonlyArray<string>
  /** Files and folders that the run may read besides those that every run may. Default: none. */
  readonly readable?: ReadonlyArray<string> | undefined
  /** Whether nothing gets a mode set-user-ID or set-group-ID, as far as a filter of system calls can see it. Default: `false`. */
  readonly plainModes?: boolean | undefined
}

/**
 * How a run may start without the start of an interpreter. It is a wish; a run for which nothing is ready yet starts cold,
 * with the same result. `file` is the interpreter, and the first of `args` a script.
 *
 * `python`: the run is a child of a fork server that has the interpreter up and the modules imported. `node`: the run is a
 * process that was started ahead and waits; the executor's budget says how many there may be.
 *
 * @category models
 * @since 0.1.0
 */
export interface Warm {
  readonly kind: "python" | "node"
  /** Whatever changes this makes what is ready useless, such as the digest of the skill. */
  readonly key: string
}

/**
 * A skill's folder as a run in a cell finds it: at its own path, writable, the skill unchanged.
 *
 * @category models
 * @since 0.1.0
 */
export interface Overlay {
  /** Absolute; one of the skill's own folder's paths that the executor was told of, or a folder below. */
  readonly at: string
  /** The folder with the skill's files. Default: `at`. */
  readonly skill?: string | undefined
  /** A folder whose files lie over those of the skill. */
  readonly inputs?: string | undefined
  /** Whether that folder is there, unchanged, for later runs, too. Default: `false`. */
  readonly lasting?: boolean | undefined
  /**
   * Whether the run has the folder `skill` itself at the path, as it is, and writes there; only where `canShow` says so of both, with
   * no `inputs`. Default: `false`.
   */
  readonly direct?: boolean | undefined
  /** Looks at what the run wrote, in a folder that is there until it returns. Not called when it wrote nothing. */
  readonly onWritten: (folder: string) => Effect.Effect<void>
}

/**
 * What to do when an output stream passes its cap: `truncate` keeps the first bytes, reads on and discards the rest;
 * `fail` ends the process tree with `OutputLimit`.
 *
 * @category models
 * @since 0.1.0
 */
export type Overflow = "truncate" | "fail"

/**
 * One program to run. Strings reach it as UTF-8; a surrogate without its other half becomes U+FFFD.
 *
 * @category models
 * @since 0.1.0
 */
export interface Spec {
  /** Absolute path of the executable. There is no search in `PATH` and no shell. */
  readonly file: string
  /** The arguments after the program's name. */
  readonly args?: ReadonlyArray<string> | undefined
  /** Absolute path of the working directory. */
  readonly cwd: string
  /** The whole environment; nothing is inherited from the server. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** What the program reads on standard input; empty and closed when absent. */
  readonly stdin?: Uint8Array | undefined
  /** Wall time after which the tree is ended with `TimedOut`. Default: none. */
  readonly timeout?: Duration.Input | undefined
  /** Time between SIGTERM and SIGKILL when the tree is ended. Default: 2 seconds. */
  readonly grace?: Duration.Input | undefined
  /** The same for a run that is interrupted, when it is less. Default: `grace`. */
  readonly interruptGrace?: Duration.Input | undefined
  /** Cap of standard output, in bytes. Default: 16 MiB. */
  readonly stdoutBytes?: number | undefined
  /** Cap of standard error, in bytes. Default: 1 MiB. */
  readonly stderrBytes?: number | undefined
  /** Default: `truncate`. */
  readonly overflow?: Overflow | undefined
  readonly limits?: Limits | undefined
  /** Default: none; the run can do what the server can. */
  readonly confinement?: Confinement | undefined
  /** Only for a confined run, where `canOverlay` says that the folder can have one. */
  readonly overlay?: Overlay | undefined
  /** Default: a cold start. */
  readonly warm?: Warm | undefined
}

/**
 * What a run used, measured by the kernel over the program and all descendants that it waited for (`wait4`). The native executor adds the
 * CPU time of all others that it knows of to that in user mode.
 *
 * @category models
 * @since 0.1.0
 */
export interface Usage {
  /** From the start of the program to its exit, in milliseconds. */
  readonly wallMs: number
  /** CPU time in user mode, in milliseconds. */
  readonly userMs: number
  /** CPU time in the kernel, in milliseconds. */
  readonly systemMs: number
  /** Largest resident set of any one process of the run, in bytes; 0 where the platform does not tell. */
  readonly maxRssBytes: number
}

/**
 * How a program ended by itself: an exit code, or the signal of its own crash, one of SIGSEGV, SIGABRT, SIGBUS, SIGFPE,
 * SIGILL, SIGTRAP, SIGSYS, SIGPIPE and SIGQUIT. A signal of a limit or from outside is an `ExecutorError`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  /** 0–255, or -1 when it crashed. */
  readonly exitCode: number
  /** Name of the signal that it crashed with, such as `SIGSEGV`; empty after an exit. */
  readonly signal: string
  readonly usage: Usage
  readonly stdoutTruncated: boolean
  readonly stderrTruncated: boolean
  /** Whether it was a fork server's child, or started ahead. */
  readonly warm: boolean
}

/**
 * The collected result of a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Execution extends Ended {
  readonly stdout: Uint8Array
  readonly stderr: Uint8Array
}

/**
 * What `stream` emits: output as it is produced, then exactly one `Exit`.
 *
 * @category models
 * @since 0.1.0
 */
export type ExecutorEvent =
  | { readonly _tag: "Stdout"; readonly data: Uint8Array }
  | { readonly _tag: "Stderr"; readonly data: Uint8Array }
  | { readonly _tag: "Exit"; readonly ended: Ended }

/**
 * What an implementation can enforce. The conformance suite runs what applies.
 *
 * @category models
 * @since 0.1.0
 */
export interface Capabilities {
  readonly name: string
  /** Sets and reports `Limits`. */
  readonly limits: boolean
  /** Ends descendants that left the process group and the session. */
  readonly wholeTree: boolean
  /** Ends the tree even when the server dies of SIGKILL. */
  readonly outlivesNothing: boolean
  /** Fills `Usage` from the kernel. */
  readonly usage: boolean
  /** Confines runs that ask for it, with at least a filter of system calls. */
  readonly confines: boolean
}

/**
 * The program could not be started, or its streams could not be served and it was ended. Not retryable unless the cause was a passing shortage (`EAGAIN`, `ENOMEM`, `EMFILE`).
 *
 * @category errors
 * @since 0.1.0
 */
export class SpawnFailed extends Schema.TaggedError<SpawnFailed>()("SpawnFailed", {
  /** The kernel's code, such as `ENOENT`. */
  code: Schema.String,
  errno: Schema.Int,
  /** The call that failed, such as `execve` or `chdir`. */
  syscall: Schema.String
}) {}

/**
 * The program ran longer than `timeout` and was ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimedOut extends Schema.TaggedError<TimedOut>()("TimedOut", { timeoutMs: Schema.Finite }) {}

/**
 * An output stream passed its cap under `overflow: "fail"`, or a file passed `fileBytes`: SIGXFSZ ended the program, a shell
 * exited with 153, or the program failed and said so with the system's own words (`[Errno 27]`, `EFBIG`, `SIGXFSZ`) at the end
 * of standard error.
 *
 * @category errors
 * @since 0.1.0
 */
export class OutputLimit extends Schema.TaggedError<OutputLimit>()("OutputLimit", {
  stream: Schema.Literals(["stdout", "stderr", "file"]),
  limitBytes: Schema.Finite
}) {}

/**
 * The memory of the tree passed `treeBytes`, or the program failed while its memory stood at `memoryBytes`, or said at the end
 * of standard error that it was refused memory and had used half of what it may have.
 *
 * @category errors
 * @since 0.1.0
 */
export class MemoryLimit extends Schema.TaggedError<MemoryLimit>()("MemoryLimit", { limitBytes: Schema.Finite }) {}

/**
 * The program, or all of its processes together, used more CPU time than `cpuSeconds`.
 *
 * @category errors
 * @since 0.1.0
 */
export class CpuLimit extends Schema.TaggedError<CpuLimit>()("CpuLimit", { limitSeconds: Schema.Finite }) {}

/**
 * The processes and threads of the program were more than `treeTasks`.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProcessLimit extends Schema.TaggedError<ProcessLimit>()("ProcessLimit", { limit: Schema.Finite }) {}

/**
 * The program failed and said that it had as many files open as `openFiles` lets it: with the system's own words for that,
 * `Too many open files` or `EMFILE`, at the end of standard error. The kernel tells nobody else.
 *
 * @category errors
 * @since 0.1.0
 */
export class OpenFilesLimit extends Schema.TaggedError<OpenFilesLimit>()("OpenFilesLimit", { limit: Schema.Finite }) {}

/**
 * The program used up the `diskBytes` that it may write.
 *
 * @category errors
 * @since 0.1.0
 */
export class DiskLimit extends Schema.TaggedError<DiskLimit>()("DiskLimit", { limitBytes: Schema.Finite }) {}

/**
 * A signal from outside ended the program: SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGUSR1 and every other one that neither the
 * executor nor a limit sent and that is no crash (see `Ended`).
 *
 * @category errors
 * @since 0.1.0
 */
export class Killed extends Schema.TaggedError<Killed>()("Killed", { signal: Schema.String }) {}

/**
 * The executor did not accept the run: the specification is not valid, or the executor is closing.
 *
 * @category errors
 * @since 0.1.0
 */
export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { detail: Schema.String }) {}

/**
 * The closed set of reasons for which a run has no result.
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  SpawnFailed,
  TimedOut,
  OutputLimit,
  MemoryLimit,
  CpuLimit,
  ProcessLimit,
  OpenFilesLimit,
  DiskLimit,
  Killed,
  Rejected
])

/**
 * The type of `Reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

const describe = (reason: Reason): string => {
  switch (reason._tag) {
    case "SpawnFailed":
      return `${reason.syscall} failed with ${reason.code}`
    case "TimedOut":
      return `did not end within ${reason.timeoutMs} ms and was ended`
    case "OutputLimit":
      return `${reason.stream} passed its limit of ${reason.limitBytes} bytes`
    case "MemoryLimit":
      return `ran out of its ${reason.limitBytes} bytes of memory`
    case "CpuLimit":
      return `used up its ${reason.limitSeconds} s of CPU time`
    case "ProcessLimit":
      return `started more than its ${reason.limit} processes and threads`
    case "OpenFilesLimit":
      return `had all of the ${reason.limit} files open that it may have open`
    case "DiskLimit":
      return `wrote all of the ${reason.limitBytes} bytes that it may write`
    case "Killed":
      return `was ended by ${reason.signal}`
    case "Rejected":
      return `was not started: ${reason.detail}`
  }
}

/**
 * The only error of this module; `reason` says why there is no result. `stderr` is what the program had written to
 * standard error until then, as far as it was kept: up to `stderrBytes` from `run`, the last 16 KiB from `stream`.
 *
 * @category errors
 * @since 0.1.0
 */
export class ExecutorError extends Schema.TaggedError<ExecutorError>()("ExecutorError", {
  file: Schema.String,
  reason: Reason,
  stderr: Schema.Uint8Array
}) {
  override readonly cause = this.reason
  override get message() {
    return `${this.file} ${describe(this.reason)}`
  }
}

/**
 * Runs programs. Interrupting `run` or closing the stream ends the whole process tree (SIGTERM, grace, SIGKILL) and
 * returns only when it is gone.
 *
 * @category services
 * @since 0.1.0
 */
export class Executor extends Context.Service<Executor, {
  readonly capabilities: Capabilities
  /** Whether the folder of a skill can have an `Overlay`. */
  readonly canOverlay: (skill: string) => boolean
  /** Whether a run can be given the folder itself, or another one at its path, with `Overlay.direct`. */
  readonly canShow: (folder: string) => boolean
  /** Runs a program and collects its output. A program that exits non-zero or crashes is a result, not an error. */
  readonly run: (spec: Spec) => Effect.Effect<Execution, ExecutorError>
  /** Runs a program and emits its output as it is produced, then one `Exit`. A slow consumer slows the program. */
  readonly stream: (spec: Spec) => Stream.Stream<ExecutorEvent, ExecutorError>
}>()("@skillscale/server/Executor") {}
