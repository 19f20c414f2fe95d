/**
 * The executor on the addon `@skillscale/native`: one supervisor thread per layer, a pool of reaper processes that own
 * the trees.
 *
 * Policy lives here: defaults, validation, and what an ending means. Processes, pipes and timers live in the addon. The
 * layer's scope owns the thread; closing it ends all runs. `layerOrNode` falls back to `NodeExecutor` where the addon
 * does not work, and says so in the log.
 *
 * @since 0.1.0
 */
import * as Native from "@skillscale/native/native"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Fs from "node:fs"
import * as Executor from "./Executor.ts"
import { errnoCode, reasonOf, signalName } from "./internal/executorOutcome.ts"
import { type ResolvedSpec, resolveSpec } from "./internal/executorSpec.ts"
import { makeTail } from "./internal/executorTail.ts"
import * as NodeExecutor from "./NodeExecutor.ts"
import * as Sandbox from "./Sandbox.ts"

/**
 * How many processes the executor keeps and uses.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Runs at the same time; further ones wait their turn. Default: 64. */
  readonly concurrency?: number | undefined
  /** Reapers that are started ahead and kept, at least 1. Default: 2, at most `concurrency`. */
  readonly warm?: number | undefined
  /** Idle reapers that are kept for later runs. Default: 16, at most `concurrency`. */
  readonly idle?: number | undefined
  /** Node processes that are started ahead and wait for a run, about 45 MiB each; 0 for none. Default: 4, at most `concurrency`. */
  readonly prestart?: number | undefined
  /** Bytes of a streamed run that wait for their consumer before the program is held up. Default: 256 KiB. */
  readonly windowBytes?: number | undefined
  /** What confined runs find. */
  readonly sandbox?: SandboxOptions | undefined
}

/**
 * What the executor has to know ahead of confined runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface SandboxOptions {
  /** Files and folders that every confined run may read, absolute. Default: `Sandbox.readable`. */
  readonly readable?: ReadonlyArray<string> | undefined
  /**
   * Folders below which there are skills and inputs of runs, absolute and without links in them, which have to exist.
   * Default: none; no skill can have an overlay.
   */
  readonly folders?: ReadonlyArray<string> | undefined
  /** Whom confined runs of a server become that is root. Default: 65534 for both. */
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  /** Whether to use cells where the kernel has them. Default: true. */
  readonly cells?: boolean | undefined
}

/**
 * The addon is missing, does not load, or cannot work on this machine.
 *
 * @category errors
 * @since 0.1.0
 */
export class ExecutorUnavailable extends Schema.TaggedError<ExecutorUnavailable>()("ExecutorUnavailable", {
  detail: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `the native executor is not available: ${this.detail}`
  }
}

/**
 * What the addon enforces.
 *
 * @category models
 * @since 0.1.0
 */
export const capabilities: Executor.Capabilities = {
  name: "native",
  limits: true,
  wholeTree: true,
  outlivesNothing: true,
  usage: true,
  confines: true
}

const waitingProcesses = Metric.gauge("skillscale_waiting_processes", {
  description: "Fork servers, and processes that wait for the next run, told at most once a second"
})

const waitingMemory = Metric.gauge("skillscale_waiting_memory_bytes", {
  description: "Resident memory of the processes that wait for runs, in bytes; pages that they share count for each"
})

type Done = Extract<Native.Event, readonly ["done", ...ReadonlyArray<unknown>]>

interface Listener {
  readonly onOutput: (stream: 1 | 2, data: Uint8Array) => void
  readonly onDone: (event: Done) => void
}

interface Supervisor {
  readonly cells: boolean
  /** Of which folders overlays can be written, as bits. */
  readonly mapped: number
  readonly start: (spec: ResolvedSpec, windowBytes: number, listener: Listener) => number
  readonly terminate: (id: number) => void
  readonly acknowledge: (id: number, bytes: number) => void
}

const ignoreOutput = () => {}

const closeChanges = (event: Done): void => {
  if (event[16] >= 0) Fs.closeSync(event[16])
}

/** Lets the owner of a run look at what it wrote over its skill. */
const lookAtChanges = (event: Done, { overlay }: ResolvedSpec): Effect.Effect<void> =>
  event[16] < 0
    ? Effect.void
    : Effect.ensuring(
      overlay === null ? Effect.void : overlay.onWritten(`/proc/self/fd/${event[16]}`),
      Effect.sync(() => closeChanges(event))
    )

const closingDone = (id: number): Done => {
  const nothing = new Uint8Array()
  return ["done", id, "closing", -1, 0, 0, "", 0, 0, 0, 0, false, false, nothing, nothing, "", -1, false]
}

const unavailable = (detail: string, cause: unknown) => new ExecutorUnavailable({ detail, cause })

/** Where runs are: 0 among the processes of the host, 1 in a cell, 2 in a cell with the host's network. */
type Kind = 0 | 1 | 2

/** A cell shows nothing of the host that could be written. */
const kindOf = ({ confinement, overlay }: ResolvedSpec, cells: boolean): Kind =>
  confinement === null || !cells || overlay === null && confinement.writable.length > 0
    ? 0
    : confinement.network
    ? 2
    : 1

const flagsOf = ({ confinement, warm }: ResolvedSpec): number =>
  confinement === null
    ? 0
    : Native.flags.confined | (confinement.systemCalls === "allow" ? Native.flags.allowList : 0) |
      (confinement.network ? Native.flags.connected : 0) | (warm?.kind === "node" ? Native.flags.ahead : 0)

let places: ReturnType<typeof Native.warm> | undefined

/** What makes the run warm: a key, then the command of the fork server or of what is started ahead. */
const warmStrings = ({ args, file, warm }: ResolvedSpec): ReadonlyArray<string> => {
  const [script] = args
  if (warm === null || script === undefined) return []
  places ??= Native.warm()
  const key = `${file} ${script} ${warm.key}`
  return warm.kind === "python"
    ? [key, file, places.forkServer, places.forkServerLibrary, script, (warm.modules ?? []).join(",")]
    : [key, file, "--require", places.prestart, script, places.prestartLibrary]
}

/** Any number above 0 that the same key always has. */
const numberOf = (key: string): number => {
  let hash = 0
  for (let index = 0; index < key.length; index++) hash = (Math.imul(hash, 31) + key.charCodeAt(index)) | 0
  return (hash >>> 0) + 1
}

let probed: Promise<ReadonlyArray<Native.Mechanism>> | undefined

/** Names what a cell with an overlay would lack here. The kernel is asked once. */
const missingForCells = async ({ gid = nobody, uid = nobody }: SandboxOptions): Promise<string | undefined> => {
  try {
    probed ??= Native.probe(Native.load().reaperPath, { uid, gid })
    const lacking = (await probed).find(({ errno, name }) => errno !== 0 && (name === "cell" || name === "overlay"))
    return lacking === undefined
      ? undefined
      : `${lacking.name}: ${lacking.syscall} failed with ${errnoCode(lacking.errno)}`
  } catch {
    probed = undefined
    // Whoever starts the addon next tells why.
    return undefined
  }
}

const ownerOf = (path: string): string => {
  const about = Fs.statSync(path, { throwIfNoEntry: false })
  return about === undefined ? "" : `${about.uid}:${about.gid}`
}

const identityOf = (folder: string): string => {
  const about = Fs.statSync(folder, { throwIfNoEntry: false })
  return about === undefined ? "" : `${about.dev}:${about.ino}`
}

const cellWritable = ["/tmp", "/dev/shm", "/dev/pts"]

const spawnOptions = (
  spec: ResolvedSpec,
  windowBytes: number,
  cells: boolean,
  epoch: () => number
): Native.SpawnOptions => {
  const names = Object.keys(spec.env)
  const kind = kindOf(spec, cells)
  const { confinement, limits, overlay } = spec
  const writable = [
    ...confinement === null ? [] : confinement.writable,
    ...kind === 0 ? [] : cellWritable,
    ...overlay === null ? [] : [overlay.at]
  ]
  let strings = `${spec.cwd}\0${spec.file}\0`
  strings += overlay === null ? "\0\0\0" : `${overlay.at}\0${overlay.skill ?? overlay.at}\0${overlay.inputs ?? ""}\0`
  const readable = confinement?.readable ?? []
  const warm = kind === 0 ? [] : warmStrings(spec)
  for (const path of [...writable, ...readable, ...warm]) strings += `${path}\0`
  strings += `${spec.file}\0`
  for (const value of spec.args) strings += `${value}\0`
  for (const name of names) strings += `${name}=${spec.env[name]}\0`
  return {
    strings,
    writec: writable.length,
    readc: readable.length,
    warmc: warm.length,
    affinity: warm[0] === undefined ? 0 : numberOf(warm[0]),
    epoch: kind === 0 ? 0 : epoch(),
    argc: spec.args.length + 1,
    envc: names.length,
    timeoutMs: spec.timeoutMs,
    graceMs: spec.graceMs,
    stdoutBytes: spec.stdoutBytes,
    stderrBytes: spec.stderrBytes,
    failOnOverflow: spec.overflow === "fail",
    windowBytes,
    ...limits,
    kind,
    flags: flagsOf(spec)
  }
}

interface Sizes {
  readonly concurrency: number
  readonly warm: number
  readonly idle: number
  readonly prestart: number
  readonly windowBytes: number
}

const largestConcurrency = 4096
const nobody = 65_534

const resolveOptions = (options: Options): Effect.Effect<Sizes, ExecutorUnavailable> => {
  const concurrency = options.concurrency ?? 64
  const sizes = {
    concurrency,
    warm: Math.min(options.warm ?? 2, concurrency),
    idle: Math.min(options.idle ?? 16, concurrency),
    prestart: Math.min(options.prestart ?? 4, concurrency),
    windowBytes: options.windowBytes ?? 256 * 1024
  }
  for (const [name, value] of Object.entries(sizes)) {
    const minimum = name === "idle" || name === "prestart" ? 0 : 1
    const maximum = name === "windowBytes" ? Number.MAX_SAFE_INTEGER : largestConcurrency
    if (!Number.isSafeInteger(value) || value < minimum || value > maximum) {
      return Effect.fail(
        unavailable(`${name} must be a whole number from ${minimum} to ${maximum}, not ${value}`, null)
      )
    }
  }
  return Effect.succeed(sizes)
}

const loadAddon = Effect.try({
  try: Native.load,
  catch: (cause) => unavailable(cause instanceof Error ? cause.message : String(cause), cause)
})

interface Places extends SandboxOptions {
  readonly readable: ReadonlyArray<string>
  readonly folders: ReadonlyArray<string>
}

const makeSupervisor = Effect.fnUntraced(
  function*(
    sizes: Sizes,
    sandbox: Places,
    cells: boolean
  ): Effect.fn.Return<Supervisor, ExecutorUnavailable, Scope.Scope> {
    const { native, reaperPath } = yield* loadAddon
    const context = yield* Effect.context<never>()
    const listeners = new Map<number, Listener>()
    // A folder that was replaced is another one, though it has the same path; cells show the one that they were made with.
    const epoch = () => numberOf(sandbox.folders.map(identityOf).join())
    let nextId = 1
    let supervisor: Native.Supervisor | null = null
    let onReady: (exit: Exit.Exit<number, ExecutorUnavailable>) => void = () => {}
    let onClosed = () => {}

    const onEvent = (...event: Native.Event): void => {
      switch (event[0]) {
        case "ready":
          return onReady(Exit.succeed(event[1]))
        case "failed":
          return onReady(
            Exit.fail(unavailable(`its helper ${reaperPath} failed in ${event[2]} (${errnoCode(event[1])})`, null))
          )
        case "output":
          return listeners.get(event[1])?.onOutput(event[2], event[3])
        case "done": {
          const listener = listeners.get(event[1])
          listeners.delete(event[1])
          return listener === undefined ? closeChanges(event) : listener.onDone(event)
        }
        case "idle":
          waitingProcesses.updateUnsafe(event[1], context)
          return waitingMemory.updateUnsafe(event[2], context)
        case "closed":
          waitingProcesses.updateUnsafe(0, context)
          waitingMemory.updateUnsafe(0, context)
          supervisor = null
          return onClosed()
      }
    }

    const close = Effect.callback<void>((resume) => {
      if (supervisor === null) return resume(Effect.void)
      onClosed = () => resume(Effect.void)
      native.close(supervisor)
    })

    const mapped = yield* Effect.acquireRelease(
      Effect.callback<number, ExecutorUnavailable>((resume) => {
        onReady = resume
        try {
          supervisor = native.createSupervisor({
            reaperPath,
            kind: cells ? 1 : 0,
            paths: [...sandbox.readable, ...sandbox.folders].map((path) => `${path}\0`).join(""),
            readable: sandbox.readable.length,
            skills: sandbox.folders.length,
            uid: sandbox.uid ?? nobody,
            gid: sandbox.gid ?? nobody,
            epoch: epoch(),
            minReapers: sizes.warm,
            idleReapers: sizes.idle,
            maxReapers: sizes.concurrency,
            prestart: sizes.prestart
          }, onEvent)
        } catch (cause) {
          resume(Effect.fail(unavailable(String(cause), cause)))
        }
      }),
      () => close
    )

    return {
      cells,
      mapped,
      start: (spec, windowBytes, listener) => {
        const id = nextId++
        if (supervisor === null) {
          listener.onDone(closingDone(id))
          return id
        }
        listeners.set(id, listener)
        native.spawn(supervisor, id, spawnOptions(spec, windowBytes, cells, epoch), spec.stdin)
        return id
      },
      terminate: (id) => {
        if (supervisor !== null) native.terminate(supervisor, id)
      },
      acknowledge: (id, bytes) => {
        if (supervisor !== null) native.acknowledge(supervisor, id, bytes)
      }
    }
  }
)

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
      return reasonOf(exitCode, signal === 0 ? "" : signalName(signal), usageOf(event), spec.limits, stderr)
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

const endedOf = (event: Done): Executor.Ended => ({
  exitCode: event[3],
  signal: event[4] === 0 ? "" : signalName(event[4]),
  usage: usageOf(event),
  stdoutTruncated: event[11],
  stderrTruncated: event[12],
  warm: event[17]
})

const resultOf = (event: Done, spec: ResolvedSpec, stderr: Uint8Array): Exit.Exit<Done, Executor.ExecutorError> => {
  const reason = failureOf(event, spec, stderr)
  return reason === null
    ? Exit.succeed(event)
    : Exit.fail(new Executor.ExecutorError({ file: spec.file, reason, stderr }))
}

const rejected = (file: string, detail: string) =>
  new Executor.ExecutorError({ file, reason: new Executor.Rejected({ detail }), stderr: new Uint8Array() })

const runWith = (
  supervisor: Supervisor,
  spec: ResolvedSpec
): Effect.Effect<Executor.Execution, Executor.ExecutorError> =>
  Effect.callback<Executor.Execution, Executor.ExecutorError>((resume) => {
    let over: Done | undefined
    let onGone = () => {}
    let abandoned = false
    const id = supervisor.start(spec, 0, {
      onOutput: ignoreOutput,
      onDone: (event) => {
        over = event
        if (abandoned) {
          closeChanges(event)
          return onGone()
        }
        const result = Exit.map(
          resultOf(event, spec, event[14]),
          () => ({ ...endedOf(event), stdout: event[13], stderr: event[14] })
        )
        resume(event[16] < 0 ? result : Effect.andThen(lookAtChanges(event, spec), result))
      }
    })
    return Effect.callback<void>((resume) => {
      abandoned = true
      if (over !== undefined) {
        closeChanges(over)
        return resume(Effect.void)
      }
      onGone = () => resume(Effect.void)
      supervisor.terminate(id)
    })
  })

interface Piece {
  readonly event: Executor.ExecutorEvent
  readonly acknowledge: Effect.Effect<void>
}

const streamWith = (
  supervisor: Supervisor,
  spec: ResolvedSpec,
  windowBytes: number
): Stream.Stream<Executor.ExecutorEvent, Executor.ExecutorError> =>
  Stream.callback<Piece, Executor.ExecutorError>((queue) =>
    Effect.acquireRelease(
      Effect.sync(() => startPieces(supervisor, spec, windowBytes, queue)),
      (run) => run.end
    )
  ).pipe(
    Stream.tap((piece) => piece.acknowledge),
    Stream.map((piece) => piece.event)
  )

const startPieces = (
  supervisor: Supervisor,
  spec: ResolvedSpec,
  windowBytes: number,
  queue: Queue.Queue<Piece, Executor.ExecutorError | Cause.Done>
): { readonly end: Effect.Effect<void> } => {
  let over = false
  let onGone = () => {}
  let unseen: Done | undefined
  const stderr = makeTail()
  const id: number = supervisor.start(spec, windowBytes, {
    onOutput: (stream, data) => {
      const byteLength = data.byteLength
      if (stream === 2) stderr.push(data)
      Queue.offerUnsafe(queue, {
        event: stream === 1 ? { _tag: "Stdout", data } : { _tag: "Stderr", data },
        acknowledge: Effect.sync(() => supervisor.acknowledge(id, byteLength))
      })
    },
    onDone: (event) => {
      over = true
      onGone()
      const result = resultOf(event, spec, stderr.bytes())
      if (Exit.isFailure(result)) {
        closeChanges(event)
        Queue.failCauseUnsafe(queue, result.cause)
        return
      }
      unseen = event
      const acknowledge = Effect.suspend(() => {
        unseen = undefined
        return lookAtChanges(event, spec)
      })
      Queue.offerUnsafe(queue, { event: { _tag: "Exit", ended: endedOf(event) }, acknowledge })
      Queue.endUnsafe(queue)
    }
  })
  return {
    end: Effect.callback<void>((resume) => {
      if (unseen !== undefined) closeChanges(unseen)
      if (over) return resume(Effect.void)
      onGone = () => resume(Effect.void)
      supervisor.terminate(id)
    })
  }
}

/**
 * Makes an executor whose thread and reapers live as long as the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(
  function*(options: Options = {}): Effect.fn.Return<Executor.Executor["Service"], ExecutorUnavailable, Scope.Scope> {
    const sizes = yield* resolveOptions(options)
    const sandbox = {
      ...options.sandbox,
      readable: [...options.sandbox?.readable ?? (yield* Sandbox.readable()), ...Object.values(Native.warm())],
      folders: options.sandbox?.folders ?? []
    }
    const plain = makeSupervisor(sizes, sandbox, false)
    const missing = sandbox.cells === false ? undefined : yield* Effect.promise(() => missingForCells(sandbox))
    if (missing !== undefined) yield* Effect.logWarning("runs are not in namespaces of their own", missing)
    const supervisor = sandbox.cells === false || missing !== undefined
      ? yield* plain
      : yield* Effect.catch(
        makeSupervisor(sizes, sandbox, true),
        (error) => Effect.tap(plain, () => Effect.logWarning("runs are not in namespaces of their own", error.detail))
      )
    // Elsewhere the files would be somebody else's, whom a cell does not know.
    const isOwn = (skill: string, folder: string) =>
      ownerOf(skill) === (process.getuid?.() === 0 ? ownerOf(folder) : `${process.getuid?.()}:${process.getgid?.()}`)
    const canOverlay = (skill: string) =>
      supervisor.cells &&
      sandbox.folders.some((folder, index) =>
        (supervisor.mapped >>> index & 1) === 1 && (skill === folder || skill.startsWith(`${folder}/`)) &&
        isOwn(skill, folder)
      )
    return Executor.Executor.of({
      capabilities,
      canOverlay,
      run: (spec) =>
        Effect.suspend(() => {
          const resolved = resolveSpec(spec)
          return typeof resolved === "string"
            ? Effect.fail(rejected(spec.file, resolved))
            : runWith(supervisor, resolved)
        }).pipe(Effect.withSpan("Executor.run", { attributes: { file: spec.file } }, { captureStackTrace: false })),
      stream: (spec) =>
        Stream.suspend(() => {
          const resolved = resolveSpec(spec)
          return typeof resolved === "string"
            ? Stream.fail(rejected(spec.file, resolved))
            : streamWith(supervisor, resolved, sizes.windowBytes)
        }).pipe(Stream.withSpan("Executor.stream", { attributes: { file: spec.file } }))
    })
  }
)

/**
 * Provides the native executor, or fails when the addon does not work here.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<Executor.Executor, ExecutorUnavailable> =>
  Layer.effect(Executor.Executor, make(options))

/**
 * Provides the native executor; where it is not available, logs a warning with the reason and provides `NodeExecutor`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerOrNode = (
  options: Options = {}
): Layer.Layer<Executor.Executor, never, ChildProcessSpawner.ChildProcessSpawner> =>
  layer(options).pipe(
    Layer.catch((error) =>
      Layer.unwrap(
        Effect.as(
          Effect.logWarning("running without the native executor: limits are not enforced").pipe(
            Effect.annotateLogs({ reason: error.message })
          ),
          NodeExecutor.layer
        )
      )
    )
  )
