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
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Fs from "node:fs"
import * as Executor from "./Executor.ts"
import { errnoCode } from "./internal/executorOutcome.ts"
import { type ResolvedSpec, resolveSpec } from "./internal/executorSpec.ts"
import { makeTail } from "./internal/executorTail.ts"
import { endedOf, resultOf } from "./internal/nativeOutcome.ts"
import {
  closeChanges,
  type Done,
  makeSupervisor,
  type Sizes as PoolSizes,
  type Supervisor
} from "./internal/nativeSupervisor.ts"
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
  /** Node processes that are started ahead and wait for a run, about 50 MiB each; 0 for none. Default: 4, at most `concurrency`. */
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
  /** Folders below which there are such that a run may be given to write, in the same form. Default: none. */
  readonly open?: ReadonlyArray<string> | undefined
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

const ignoreOutput = () => {}

/** Lets the owner of a run look at what it wrote over its skill. */
const lookAtChanges = (event: Done, { overlay }: ResolvedSpec): Effect.Effect<void> =>
  event[16] < 0
    ? Effect.void
    : Effect.ensuring(
      overlay === null ? Effect.void : overlay.onWritten(`/proc/self/fd/${event[16]}`),
      Effect.sync(() => closeChanges(event))
    )

const unavailable = (detail: string, cause: unknown) => new ExecutorUnavailable({ detail, cause })

let probed: Promise<ReadonlyArray<Native.Mechanism>> | undefined

/** Names what a cell with an overlay would lack here. The kernel is asked once. */
const missingForCells = async (
  { gid, uid }: { readonly uid: number; readonly gid: number }
): Promise<string | undefined> => {
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

const outermost = (folders: ReadonlyArray<string>): ReadonlyArray<string> =>
  folders.filter((folder) => !folders.some((other) => folder.startsWith(`${other}/`)))

const ownerOf = (path: string): string => {
  const about = Fs.statSync(path, { throwIfNoEntry: false })
  return about === undefined ? "" : `${about.uid}:${about.gid}`
}

interface Sizes extends PoolSizes {
  readonly windowBytes: number
}

const largestConcurrency = 4096

/**
 * The user and the group that confined runs of a server become that is root.
 *
 * @category constants
 * @since 0.1.0
 */
export const nobody = 65_534

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

/** What the supervisor charges for a piece besides its bytes (`kPieceBytes`), and takes off itself for one of those acknowledged. */
const pieceBytes = 1024

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
  let consumed = 0
  /** The supervisor is told by half a window: it stops at a whole one, and telling it costs a turn of its thread. */
  const consume = (bytes: number): void => {
    consumed += bytes + pieceBytes
    if (consumed < windowBytes / 2) return
    supervisor.acknowledge(id, consumed - pieceBytes)
    consumed = 0
  }
  const id: number = supervisor.start(spec, windowBytes, {
    onOutput: (stream, data) => {
      const byteLength = data.byteLength
      if (stream === 2) stderr.push(data)
      Queue.offerUnsafe(queue, {
        event: stream === 1 ? { _tag: "Stdout", data } : { _tag: "Stderr", data },
        acknowledge: Effect.sync(() => consume(byteLength))
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
      uid: options.sandbox?.uid ?? nobody,
      gid: options.sandbox?.gid ?? nobody,
      readable: [...options.sandbox?.readable ?? (yield* Sandbox.readable()), ...Object.values(Native.warm())],
      // One below another would be mapped twice.
      folders: outermost(options.sandbox?.folders ?? []),
      open: outermost(options.sandbox?.open ?? [])
    }
    const withCells = options.sandbox?.cells !== false
    const plain = Effect.mapError(
      makeSupervisor(sizes, sandbox, false),
      ({ cause, detail }) => unavailable(detail, cause)
    )
    const missing = !withCells ? undefined : yield* Effect.promise(() => missingForCells(sandbox))
    if (missing !== undefined) yield* Effect.logWarning("runs are not in namespaces of their own", missing)
    const supervisor = !withCells || missing !== undefined
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
      canShow: (path) => supervisor.cells && sandbox.open.some((folder) => path.startsWith(`${folder}/`)),
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
        }).pipe(Stream.withSpan("Executor.stream", { attributes: { file: spec.file }, captureStackTrace: false }))
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
