/**
 * The executor on Effect's own `ChildProcess`, for machines where the addon does not work.
 *
 * Each run is a process group of its own, ended with SIGTERM, grace and SIGKILL. What the platform cannot do is stated in
 * `capabilities`: limits are not set, a descendant that leaves the process group survives, nothing ends the tree when the
 * server dies of SIGKILL, and usage holds the wall time only. A working directory that exists but is not one is reported
 * as a failure of `execve`, because Node does not tell these apart.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Os from "node:os"
import * as Executor from "./Executor.ts"
import { reasonOf } from "./internal/executorOutcome.ts"
import { type ResolvedSpec, resolveSpec } from "./internal/executorSpec.ts"
import { makeTail } from "./internal/executorTail.ts"

/**
 * What this implementation can do.
 *
 * @category models
 * @since 0.1.0
 */
export const capabilities: Executor.Capabilities = {
  name: "node",
  limits: false,
  wholeTree: false,
  outlivesNothing: false,
  usage: false,
  confines: false
}

type Spawner = ChildProcessSpawner.ChildProcessSpawner["Service"]
type Handle = ChildProcessSpawner.ChildProcessHandle
type StreamName = "stdout" | "stderr"
type Emit = (stream: StreamName, data: Uint8Array) => Effect.Effect<void>

/** How long an output stream may stay silent and open after the process group is gone. */
const lingerMs = 1_000
const streamedPieces = 4

const commandOf = (spec: ResolvedSpec) =>
  ChildProcess.make(spec.file, [...spec.args], {
    cwd: spec.cwd,
    env: { ...spec.env },
    extendEnv: false,
    detached: true,
    stdin: spec.stdin === null ? "ignore" : Stream.make(spec.stdin),
    killSignal: "SIGTERM",
    forceKillAfter: Duration.millis(spec.interruptGraceMs)
  })

const causeOf = (error: PlatformError.PlatformError): unknown =>
  "cause" in error.reason ? error.reason.cause : undefined

const isErrno = (error: unknown): error is NodeJS.ErrnoException & { readonly code: string } =>
  error instanceof Error && "code" in error && typeof error.code === "string"

const spawnFailed = (cause: unknown, syscall: string): Executor.Reason =>
  isErrno(cause)
    ? new Executor.SpawnFailed({
      code: cause.code,
      errno: Object.entries(Os.constants.errno).find(([name]) => name === cause.code)?.[1] ?? 0,
      syscall
    })
    : new Executor.SpawnFailed({ code: "UNKNOWN", errno: 0, syscall })

// Node reports some failures of execve by throwing from `spawn`.
const spawn = (spawner: Spawner, spec: ResolvedSpec): Effect.Effect<Handle, Executor.Reason, Scope.Scope> =>
  spawner.spawn(commandOf(spec)).pipe(
    Effect.mapError((error) => spawnFailed(causeOf(error), error.reason.method === "access" ? "chdir" : "execve")),
    Effect.catchDefect((defect) => isErrno(defect) ? Effect.fail(spawnFailed(defect, "execve")) : Effect.die(defect))
  )

interface Status {
  readonly exitCode: number
  readonly signal: string
}

// The handle tells a signal only in the message of an error.
const statusOf = (handle: Handle): Effect.Effect<Status, Executor.Reason> =>
  handle.exitCode.pipe(
    Effect.map((exitCode): Status => ({ exitCode, signal: "" })),
    Effect.catch((error) => {
      const signal = /'(SIG[A-Z0-9]+)'/.exec(String(causeOf(error)))?.[1]
      return signal === undefined
        ? Effect.fail(spawnFailed(causeOf(error), "waitpid"))
        : Effect.succeed({ exitCode: -1, signal })
    })
  )

interface PumpState {
  truncated: boolean
  /** When the last piece was done with; 0 while a piece waits for its consumer. */
  silentSince: number
}

interface Pump {
  readonly stream: StreamName
  readonly from: Stream.Stream<Uint8Array, PlatformError.PlatformError>
  readonly cap: number
  readonly state: PumpState
  readonly emit: Emit
  readonly onOverflow: Effect.Effect<unknown>
  /** Completed when nobody wants the output any more; the stream is read on all the same. */
  readonly released: Deferred.Deferred<void>
}

const pump = ({ cap, emit, from, onOverflow, released, state, stream }: Pump): Effect.Effect<void> => {
  let taken = 0
  return from.pipe(
    Stream.runForEach((data) => {
      if (Deferred.isDoneUnsafe(released)) return Effect.void
      const kept = data.subarray(0, cap - taken)
      taken += kept.byteLength
      const first = kept.byteLength < data.byteLength && !state.truncated
      if (first) state.truncated = true
      state.silentSince = 0
      return Effect.gen(function*() {
        if (kept.byteLength > 0) yield* Effect.raceFirst(emit(stream, kept), Deferred.await(released))
        if (first) yield* onOverflow
        state.silentSince = performance.now()
      })
    }),
    Effect.ignore
  )
}

// The streams of a handle close their descriptors only when they are read to the end. So the pumps outlive the fiber of
// the run: first they are told to discard, then the tree is ended, then they are awaited.
const startPumps = (
  pumps: Array<Fiber.Fiber<void>>,
  handle: Handle,
  spec: ResolvedSpec,
  emit: Emit,
  states: Readonly<Record<StreamName, PumpState>>,
  overflow: Deferred.Deferred<never, Executor.Reason>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const released = yield* Deferred.make<void>()
    yield* Effect.addFinalizer(() => Deferred.succeed(released, undefined))
    for (const stream of ["stdout", "stderr"] as const) {
      const cap = stream === "stdout" ? spec.stdoutBytes : spec.stderrBytes
      const onOverflow = spec.overflow === "fail"
        ? Deferred.fail(overflow, new Executor.OutputLimit({ stream, limitBytes: cap }))
        : Effect.void
      pumps.push(
        yield* pump({ stream, from: handle[stream], cap, state: states[stream], emit, onOverflow, released }).pipe(
          Effect.forkDetach({ startImmediately: true })
        )
      )
    }
  }).pipe(Effect.uninterruptible)

const awaitPumps = (pumps: ReadonlyArray<Fiber.Fiber<void>>): Effect.Effect<void> =>
  Fiber.awaitAll(pumps).pipe(
    Effect.timeoutOrElse({ duration: Duration.millis(lingerMs), orElse: () => Fiber.interruptAll(pumps) }),
    Effect.asVoid,
    Effect.interruptible
  )

const awaitEnd = Effect.fnUntraced(
  function*(
    handle: Handle,
    pumps: ReadonlyArray<Fiber.Fiber<void>>,
    states: Readonly<Record<StreamName, PumpState>>
  ): Effect.fn.Return<Status & { readonly endedAt: number }, Executor.Reason> {
    const status = yield* statusOf(handle)
    const endedAt = yield* Clock.currentTimeMillis
    yield* Effect.ignore(handle.kill({ killSignal: "SIGKILL", forceKillAfter: Duration.millis(lingerMs) }))
    const groupGone = performance.now()
    const isSilent = () =>
      Object.values(states).every(({ silentSince }) =>
        silentSince !== 0 && performance.now() - Math.max(silentSince, groupGone) > lingerMs
      )
    const silence = Effect.gen(function*() {
      while (!isSilent()) yield* Effect.sleep(lingerMs / 4)
    })
    yield* Effect.raceFirst(Effect.asVoid(Fiber.awaitAll(pumps)), silence)
    return { ...status, endedAt }
  }
)

/** Leaves a run that has failed the whole of its grace, unless it is interrupted then. What is left the spawner ends. */
const endUnlessInterrupted = (handle: Handle, { graceMs }: ResolvedSpec) => (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isSuccess(exit) || Cause.hasInterrupts(exit.cause)
    ? Effect.void
    : Effect.interruptible(Effect.ignore(handle.kill({ forceKillAfter: Duration.millis(graceMs) })))

const supervise = Effect.fnUntraced(
  function*(
    spawner: Spawner,
    spec: ResolvedSpec,
    emit: Emit
  ): Effect.fn.Return<Executor.Ended, Executor.Reason, Scope.Scope> {
    const started = yield* Clock.currentTimeMillis
    const pumps: Array<Fiber.Fiber<void>> = []
    yield* Effect.addFinalizer(() => awaitPumps(pumps))
    const overflow = yield* Deferred.make<never, Executor.Reason>()
    const states = {
      stdout: { truncated: false, silentSince: performance.now() },
      stderr: { truncated: false, silentSince: performance.now() }
    }
    const handle = yield* Effect.uninterruptible(
      spawn(spawner, spec).pipe(
        Effect.tap((handle) => Effect.addFinalizer(endUnlessInterrupted(handle, spec))),
        Effect.tap((handle) => startPumps(pumps, handle, spec, emit, states, overflow))
      )
    )
    const { endedAt, exitCode, signal } = yield* Effect.raceFirst(
      awaitEnd(handle, pumps, states),
      Deferred.await(overflow)
    ).pipe(
      spec.timeoutMs === null ? (self) => self : Effect.timeoutOrElse({
        duration: Duration.millis(spec.timeoutMs),
        orElse: () => Effect.fail(new Executor.TimedOut({ timeoutMs: spec.timeoutMs ?? 0 }))
      })
    )
    // The last piece may have passed the cap after the race was decided.
    if (yield* Deferred.isDone(overflow)) return yield* Deferred.await(overflow)
    const usage = { wallMs: endedAt - started, userMs: 0, systemMs: 0, maxRssBytes: 0 }
    const reason = reasonOf(exitCode, signal, usage, spec.limits, null)
    if (reason !== null) return yield* reason
    return {
      exitCode,
      signal,
      usage,
      stdoutTruncated: states.stdout.truncated,
      stderrTruncated: states.stderr.truncated,
      warm: false
    }
  }
)

const concat = (pieces: ReadonlyArray<Uint8Array>): Uint8Array => new Uint8Array(Buffer.concat(pieces))

const errorOf = (file: string, stderr: Uint8Array) => (reason: Executor.Reason) =>
  new Executor.ExecutorError({ file, reason, stderr })

const runWith = (spawner: Spawner, spec: ResolvedSpec): Effect.Effect<Executor.Execution, Executor.ExecutorError> =>
  Effect.suspend(() => {
    const pieces: Record<StreamName, Array<Uint8Array>> = { stdout: [], stderr: [] }
    const keep: Emit = (stream, data) =>
      Effect.sync(() => {
        pieces[stream].push(data)
      })
    return Effect.scoped(supervise(spawner, spec, keep)).pipe(
      Effect.map((ended) => ({ ...ended, stdout: concat(pieces.stdout), stderr: concat(pieces.stderr) })),
      Effect.mapError((reason) => errorOf(spec.file, concat(pieces.stderr))(reason))
    )
  })

const streamWith = (
  spawner: Spawner,
  spec: ResolvedSpec
): Stream.Stream<Executor.ExecutorEvent, Executor.ExecutorError> =>
  Stream.callback<Executor.ExecutorEvent, Executor.ExecutorError>((queue) => {
    const stderr = makeTail()
    return Effect.scoped(
      supervise(spawner, spec, (stream, data) => {
        if (stream === "stderr") stderr.push(data)
        return Queue.offer(queue, stream === "stdout" ? { _tag: "Stdout", data } : { _tag: "Stderr", data })
      })
    ).pipe(
      Effect.mapError((reason) => errorOf(spec.file, stderr.bytes())(reason)),
      Effect.andThen((ended) => Queue.offer(queue, { _tag: "Exit", ended })),
      Effect.andThen(Queue.end(queue))
    )
  }, { bufferSize: streamedPieces, strategy: "suspend" })

/**
 * Makes the executor on a `ChildProcessSpawner`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<
  Executor.Executor["Service"],
  never,
  ChildProcessSpawner.ChildProcessSpawner | Scope.Scope
> = Effect.gen(function*() {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const scope = yield* Effect.scope
  const resolve = (spec: Executor.Spec): ResolvedSpec | Executor.ExecutorError => {
    const resolved = scope.state._tag === "Closed"
      ? "the executor is closing"
      : spec.confinement !== undefined
      ? "this executor cannot confine a run"
      : resolveSpec(spec)
    return typeof resolved === "string"
      ? errorOf(spec.file, new Uint8Array())(new Executor.Rejected({ detail: resolved }))
      : resolved
  }
  return Executor.Executor.of({
    capabilities,
    canOverlay: () => false,
    canShow: () => false,
    run: (spec) =>
      Effect.suspend(() => {
        const resolved = resolve(spec)
        return "reason" in resolved ? Effect.fail(resolved) : runWith(spawner, resolved)
      }).pipe(Effect.withSpan("Executor.run", { attributes: { file: spec.file } }, { captureStackTrace: false })),
    stream: (spec) =>
      Stream.suspend(() => {
        const resolved = resolve(spec)
        return "reason" in resolved ? Stream.fail(resolved) : streamWith(spawner, resolved)
      }).pipe(Stream.withSpan("Executor.stream", { attributes: { file: spec.file }, captureStackTrace: false }))
  })
})

/**
 * Provides the executor on Effect's `ChildProcess`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Executor.Executor, never, ChildProcessSpawner.ChildProcessSpawner> = Layer.effect(
  Executor.Executor,
  make
)
