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
import { execFile } from "node:child_process"
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
 * `idleReapers` stay warm between runs, and at most `maxReapers` run at the same time; further runs wait their turn. At most
 * `prestart` of them have a process started ahead for their next run.
 *
 * @category models
 * @since 0.1.0
 */
export interface SupervisorOptions {
  readonly reaperPath: string
  /** The folder in which every reaper gets a control group of its own; empty for none. */
  readonly controlGroups: string
  /** Where runs that are prepared for live: 0 among the host's processes, 1 in a cell, 2 in a cell with the host's network. */
  readonly kind: number
  /**
   * `readable` paths that confined runs may read, then `skills` folders with skills, each followed by NUL. The last `open` of the
   * folders keep their owners, and runs can be given folders below them to write.
   */
  readonly paths: string
  readonly readable: number
  readonly skills: number
  readonly open: number
  /** Whom confined runs of root become. */
  readonly uid: number
  readonly gid: number
  /** As in `SpawnOptions`. */
  readonly epoch: number
  readonly minReapers: number
  readonly idleReapers: number
  readonly maxReapers: number
  readonly prestart: number
}

/**
 * The bits of `flags`: under Landlock and a system call filter; that filter as a list of what is allowed; with whatever
 * network there is; its warm start is a process that was started ahead; the inputs of its overlay are there for later runs, too;
 * its view is the skill's folder itself, to be written; the filter refuses what makes files set-user-ID or set-group-ID.
 *
 * @category models
 * @since 0.1.0
 */
export const flags = {
  confined: 1,
  allowList: 2,
  connected: 4,
  ahead: 16,
  lasting: 32,
  direct: 64,
  plainModes: 128
} as const

/**
 * One program to start. `strings` holds the working directory, the file, the view (its path, the skill's folder, the folder
 * of inputs; empty for none), `writec` writable and `readc` readable paths, `warmc` strings of a warm start (a key,
 * then the command of a fork server or of a process that is started ahead), `argc` arguments (the first is the program's name)
 * and `envc` environment entries, each followed by NUL. `kind` is where it runs, as in `SupervisorOptions`; runs of the same `affinity`, where it is not 0, best share a reaper;
 * another `epoch` than before replaces the cells. `windowBytes` is 0 to collect the output; otherwise the
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
  readonly interruptGraceMs: number
  readonly stdoutBytes: number
  readonly stderrBytes: number
  readonly failOnOverflow: boolean
  readonly windowBytes: number
  readonly cpuSeconds: number | null
  readonly memoryBytes: number | null
  readonly fileBytes: number | null
  readonly openFiles: number | null
  readonly processes: number | null
  readonly treeBytes: number | null
  readonly treeTasks: number | null
  readonly diskBytes: number | null
  readonly writec: number
  readonly readc: number
  readonly warmc: number
  readonly affinity: number
  readonly epoch: number
  readonly kind: number
  readonly flags: number
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
 * its tree is left, `closed` last of all. `signal` is 0 after an exit. `mapped` tells of which folders the files belong to whom
 * runs are, one bit for each of the first 32. `changes` is a descriptor of the folder with what the run wrote over its skill, to be closed by whoever
 * gets it, or -1. `warm` tells that a fork server started the run.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | readonly [type: "ready", mapped: number]
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
    stderr: Uint8Array,
    treeLimit: "" | "memory" | "processes" | "disk" | "cpu",
    changes: number,
    warm: boolean
  ]
  | readonly [type: "idle", processes: number, bytes: number]
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
  /**
   * Ends a run: SIGTERM to its tree, SIGKILL after `interruptGraceMs`, or after `graceMs` when that is over first. Does nothing
   * when the run is over.
   */
  readonly terminate: (supervisor: Supervisor, id: number) => void
  /** Says that one piece of `bytes` of a run's output was consumed. */
  readonly acknowledge: (supervisor: Supervisor, id: number, bytes: number) => void
  /** Ends all runs, then the thread. Later runs are answered with `closing`. */
  readonly close: (supervisor: Supervisor) => void
}

/**
 * What the kernel says of one mechanism: `errno` is 0 when it works, else `syscall` failed with it. `version` is that of
 * Landlock's interface, 0 elsewhere.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mechanism {
  readonly name: string
  readonly errno: number
  readonly syscall: string
  readonly version: number
}

/**
 * Tries every mechanism that confines runs, in a process of its own. Rejects when the helper cannot be run.
 *
 * @category probing
 * @since 0.1.0
 */
export const probe = (
  reaperPath: string,
  { gid, uid }: { readonly uid: number; readonly gid: number }
): Promise<ReadonlyArray<Mechanism>> =>
  new Promise((resolve, reject) => {
    execFile(reaperPath, ["--probe", String(uid), String(gid)], { timeout: 30_000 }, (error, stdout) => {
      if (error !== null) return reject(error)
      const lines = stdout.trimEnd().split("\n").map((line) => line.split("\t"))
      resolve(lines.map(([name = "", errno, syscall = "", version]) => ({
        name,
        errno: Number(errno),
        syscall,
        version: Number(version)
      })))
    })
  })

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
 * What warm starts are made of: the program of the Python fork server, what it does, and what it looks at a skill with; what Node loads before the script of a run that is
 * started ahead, and the library of each. Runs in cells have to see them.
 *
 * @category loading
 * @since 0.1.0
 */
export const warm = () => {
  const folder = Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..", "zygote")
  return {
    forkServer: Path.join(folder, "zygote.py"),
    forkServerServing: Path.join(folder, "serving.py"),
    forkServerTrial: Path.join(folder, "trial.py"),
    forkServerLibrary: Path.join(directory(), "skillscale-zygote.node"),
    prestart: Path.join(folder, "prestart.cjs"),
    prestartLibrary: Path.join(directory(), "skillscale-prestart.node")
  } as const
}

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
