/**
 * Loads the addon and gives its functions types.
 *
 * The functions are those of `module.cc`, with the same names in the same order. They are mechanism without policy: every
 * field is present and `null` stands for absent; a value of a wrong type or range throws a TypeError or RangeError that
 * names it. What happens to a run arrives in the `onEvent` callback, on the event loop; an exception of the callback becomes
 * an uncaught one.
 *
 * @since 0.1.0
 */
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/**
 * An opaque reference to one supervisor thread. When it is collected the supervisor stops without answering its runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Supervisor {
  readonly Supervisor: unique symbol
}

/**
 * The executable that owns process trees, and how many of them to keep: `minReapers` are always there, up to
 * `idleReapers` stay warm between runs, and at most `maxReapers` run at the same time; further runs wait their turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface SupervisorOptions {
  readonly reaperPath: string
  readonly minReapers: number
  readonly idleReapers: number
  readonly maxReapers: number
}

/**
 * One program to start. `strings` holds the working directory, the file, `argc` arguments (the first is the program's
 * name) and `envc` environment entries, each followed by NUL. `windowBytes` is 0 to collect the output; otherwise the
 * output arrives in pieces, each charged with its bytes and 1 KiB, and no more is read while the charge of pieces without an
 * `acknowledge` is at the window.
 *
 * @category models
 * @since 0.1.0
 */
export interface SpawnOptions {
  readonly strings: string
  readonly argc: number
  readonly envc: number
  readonly timeoutMs: number | null
  readonly graceMs: number
  readonly stdoutBytes: number
  readonly stderrBytes: number
  readonly failOnOverflow: boolean
  readonly windowBytes: number
  readonly cpuSeconds: number | null
  readonly memoryBytes: number | null
  readonly fileBytes: number | null
  readonly openFiles: number | null
  readonly processes: number | null
}

/**
 * Why a run is over: `lost` says that its reaper died, `closing` that the supervisor was closed.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome =
  | "ended"
  | "spawnFailed"
  | "timedOut"
  | "stdoutLimit"
  | "stderrLimit"
  | "terminated"
  | "closing"
  | "lost"

/**
 * The arguments of `onEvent`. `ready` or `failed` comes once, `output` per piece, `done` once per run and when nothing of
 * its tree is left, `closed` last of all. `signal` is 0 after an exit.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | readonly [type: "ready"]
  | readonly [type: "failed", errno: number, syscall: string]
  | readonly [type: "output", id: number, stream: 1 | 2, data: Uint8Array]
  | readonly [
    type: "done",
    id: number,
    outcome: Outcome,
    exitCode: number,
    signal: number,
    errno: number,
    syscall: string,
    wallMs: number,
    userMs: number,
    systemMs: number,
    maxRssBytes: number,
    stdoutTruncated: boolean,
    stderrTruncated: boolean,
    stdout: Uint8Array,
    stderr: Uint8Array
  ]
  | readonly [type: "closed"]

/**
 * The functions of the addon.
 *
 * @category models
 * @since 0.1.0
 */
export interface Native {
  /** Starts a supervisor thread and its first reapers. Throws an error with `errno` and `syscall` when that fails. */
  readonly createSupervisor: (options: SupervisorOptions, onEvent: (...event: Event) => void) => Supervisor
  /**
   * Queues a run. `input` is read in place and must not be changed until the run is done. Throws after `closed`, and for an
   * `id` that belongs to a run which is not done.
   */
  readonly spawn: (supervisor: Supervisor, id: number, options: SpawnOptions, input: Uint8Array | null) => void
  /** Ends a run: SIGTERM to its tree, SIGKILL after its grace. Does nothing when the run is over. */
  readonly terminate: (supervisor: Supervisor, id: number) => void
  /** Says that one piece of `bytes` of a run's output was consumed. */
  readonly acknowledge: (supervisor: Supervisor, id: number, bytes: number) => void
  /** Ends all runs, then the thread. Later runs are answered with `closing`. */
  readonly close: (supervisor: Supervisor) => void
}

/**
 * The addon could not be loaded. `path` is what was tried last.
 *
 * @category errors
 * @since 0.1.0
 */
export class NativeLoadError extends Error {
  override readonly name = "NativeLoadError"
  readonly path: string
  constructor(path: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.path = path
  }
}

/**
 * Where the build left the addon and its helper: `SKILLSCALE_NATIVE_DIR`, or `build/Release` beside `src` and `dist`.
 *
 * @category loading
 * @since 0.1.0
 */
export const directory = (): string =>
  process.env["SKILLSCALE_NATIVE_DIR"] ??
    Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..", "build", "Release")

/**
 * Loads the addon and finds its helper executable. Throws `NativeLoadError`.
 *
 * @category loading
 * @since 0.1.0
 */
export const load = (): { readonly native: Native; readonly reaperPath: string } => {
  const folder = directory()
  const addonPath = Path.join(folder, "skillscale.node")
  const reaperPath = Path.join(folder, "skillscale-reaper")
  for (const path of [addonPath, reaperPath]) {
    try {
      Fs.statSync(path)
    } catch (cause) {
      throw new NativeLoadError(path, `${path} is missing or not accessible; build it with "npm run build:native"`, {
        cause
      })
    }
  }
  try {
    return { native: createRequire(import.meta.url)(addonPath) as Native, reaperPath }
  } catch (cause) {
    throw new NativeLoadError(addonPath, `${addonPath} could not be loaded: ${String(cause)}`, { cause })
  }
}
