/**
 * One supervisor of the addon as an effect: what it is told of a run, and who hears of its events.
 */
import * as Native from "@skillscale/native/native"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ControlGroups from "./controlGroups.ts"
import { errnoCode } from "./executorOutcome.ts"
import type { ResolvedSpec } from "./executorSpec.ts"

/** How many processes it keeps and uses; see the options of `NativeExecutor`. */
export interface Sizes {
  readonly concurrency: number
  readonly warm: number
  readonly idle: number
  readonly prestart: number
}

const waitingProcesses = Metric.gauge("skillscale_waiting_processes", {
  description: "Fork servers, and processes that wait for the next run, told at most once a second"
})

const waitingMemory = Metric.gauge("skillscale_waiting_memory_bytes", {
  description: "Resident memory of the processes that wait for runs, in bytes; pages that they share count for each"
})

export type Done = Extract<Native.Event, readonly ["done", ...ReadonlyArray<unknown>]>

export interface Listener {
  readonly onOutput: (stream: 1 | 2, data: Uint8Array) => void
  readonly onDone: (event: Done) => void
}

export interface Supervisor {
  readonly cells: boolean
  /** Of which folders overlays can be written, as bits. */
  readonly mapped: number
  readonly start: (spec: ResolvedSpec, windowBytes: number, listener: Listener) => number
  readonly terminate: (id: number) => void
  readonly acknowledge: (id: number, bytes: number) => void
}

export const closeChanges = (event: Done): void => {
  if (event[16] >= 0) Fs.closeSync(event[16])
}

/** Why there is no supervisor. */
export interface Unavailable {
  readonly detail: string
  readonly cause: unknown
}

const unavailable = (detail: string, cause: unknown): Unavailable => ({ detail, cause })

const closingDone = (id: number): Done => {
  const nothing = new Uint8Array()
  return ["done", id, "closing", -1, 0, 0, "", 0, 0, 0, 0, false, false, nothing, nothing, "", -1, false]
}

/** Where runs are: 0 among the processes of the host, 1 in a cell, 2 in a cell with the host's network. */
type Kind = 0 | 1 | 2

/** A cell shows nothing of the host that could be written. */
const kindOf = ({ confinement, overlay }: ResolvedSpec, cells: boolean): Kind =>
  confinement === null || !cells || overlay === null && confinement.writable.length > 0
    ? 0
    : confinement.network
    ? 2
    : 1

const flagsOf = ({ confinement, overlay, warm }: ResolvedSpec): number =>
  confinement === null
    ? 0
    : Native.flags.confined | (confinement.systemCalls === "allow" ? Native.flags.allowList : 0) |
      (confinement.network ? Native.flags.connected : 0) | (warm?.kind === "node" ? Native.flags.ahead : 0) |
      (overlay?.lasting === true ? Native.flags.lasting : 0) | (overlay?.direct === true ? Native.flags.direct : 0) |
      (confinement.plainModes === true ? Native.flags.plainModes : 0)

let places: ReturnType<typeof Native.warm> | undefined

/** What makes the run warm: a key, then the command of the fork server or of what is started ahead. */
const warmStrings = ({ args, file, overlay, warm }: ResolvedSpec): ReadonlyArray<string> => {
  const [script] = args
  if (warm === null || script === undefined) return []
  places ??= Native.warm()
  const key = `${file} ${script} ${warm.key}`
  return warm.kind === "python"
    ? [key, file, places.forkServer, places.forkServerLibrary, script, overlay?.at ?? Path.dirname(script)]
    : [key, file, "--require", places.prestart, script, places.prestartLibrary]
}

/** Any number above 0 that the same key always has. */
const numberOf = (key: string): number => {
  let hash = 0
  for (let index = 0; index < key.length; index++) hash = (Math.imul(hash, 31) + key.charCodeAt(index)) | 0
  return (hash >>> 0) + 1
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
    interruptGraceMs: spec.interruptGraceMs,
    stdoutBytes: spec.stdoutBytes,
    stderrBytes: spec.stderrBytes,
    failOnOverflow: spec.overflow === "fail",
    windowBytes,
    ...limits,
    kind,
    flags: flagsOf(spec)
  }
}

const loadAddon = Effect.try({
  try: Native.load,
  catch: (cause) => unavailable(cause instanceof Error ? cause.message : String(cause), cause)
})

/** What every reaper is told of the host. */
export interface Places {
  readonly uid: number
  readonly gid: number
  readonly readable: ReadonlyArray<string>
  readonly folders: ReadonlyArray<string>
  readonly open: ReadonlyArray<string>
}

/** Starts it, and closes it with the scope. */
export const makeSupervisor = Effect.fnUntraced(
  function*(
    sizes: Sizes,
    sandbox: Places,
    cells: boolean
  ): Effect.fn.Return<Supervisor, Unavailable, Scope.Scope> {
    const { native, reaperPath } = yield* loadAddon
    const groups = yield* ControlGroups.make()
    const context = yield* Effect.context<never>()
    const listeners = new Map<number, Listener>()
    // A folder that was replaced is another one, though it has the same path; cells show the one that they were made with.
    const epoch = () => numberOf([...sandbox.folders, ...sandbox.open].map(identityOf).join())
    let nextId = 1
    let supervisor: Native.Supervisor | null = null
    let onReady: (exit: Exit.Exit<number, Unavailable>) => void = () => {}
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
      Effect.callback<number, Unavailable>((resume) => {
        onReady = resume
        try {
          supervisor = native.createSupervisor({
            reaperPath,
            controlGroups: groups.folder,
            kind: cells ? 1 : 0,
            paths: [...sandbox.readable, ...sandbox.folders, ...sandbox.open].map((path) => `${path}\0`).join(""),
            readable: sandbox.readable.length,
            skills: sandbox.folders.length + sandbox.open.length,
            open: sandbox.open.length,
            uid: sandbox.uid,
            gid: sandbox.gid,
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
