/**
 * Checks a `Spec` and fills in its defaults, for both implementations.
 *
 * What the kernel would misread or cut short is refused here with a sentence that names the field. Whether a file
 * exists or may be run is left to the kernel.
 */
import * as Duration from "effect/Duration"
import * as Path from "node:path"
import type * as Executor from "../Executor.ts"

const defaultGraceMs = 2_000
const defaultStdoutBytes = 16 * 1024 * 1024
export const defaultStderrBytes = 1024 * 1024

export interface ResolvedLimits {
  readonly cpuSeconds: number | null
  readonly memoryBytes: number | null
  readonly fileBytes: number | null
  readonly openFiles: number | null
  readonly processes: number | null
  readonly treeBytes: number | null
  readonly treeTasks: number | null
  readonly diskBytes: number | null
}

export interface ResolvedSpec {
  readonly file: string
  readonly args: ReadonlyArray<string>
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly stdin: Uint8Array | null
  readonly timeoutMs: number | null
  readonly graceMs: number
  /** At most `graceMs`. */
  readonly interruptGraceMs: number
  readonly stdoutBytes: number
  readonly stderrBytes: number
  readonly overflow: Executor.Overflow
  readonly limits: ResolvedLimits
  readonly confinement: Executor.Confinement | null
  readonly overlay: Executor.Overlay | null
  readonly warm: Executor.Warm | null
}

/** Thrown inside `resolveSpec` only. */
class Invalid extends Error {}

const text = (name: string, value: unknown): string => {
  if (typeof value !== "string") throw new Invalid(`${name} must be a string`)
  if (value.includes("\0")) throw new Invalid(`${name} contains a NUL character`)
  return value
}

const absolute = (name: string, value: unknown): string => {
  const path = text(name, value)
  if (!Path.isAbsolute(path)) throw new Invalid(`${name} must be an absolute path, not "${path}"`)
  return path
}

const whole = (name: string, value: number | undefined, minimum: number): number | null => {
  if (value === undefined) return null
  if (!Number.isSafeInteger(value) || value < minimum) {
    throw new Invalid(`${name} must be a whole number of at least ${minimum}, not ${value}`)
  }
  return value
}

const milliseconds = (name: string, value: Duration.Input | undefined): number | null => {
  if (value === undefined) return null
  const duration = Duration.fromInput(value)
  if (duration._tag === "None" || Duration.toMillis(duration.value) < 0) {
    throw new Invalid(`${name} must be a duration that is not negative`)
  }
  const millis = Duration.toMillis(duration.value)
  return millis <= Number.MAX_SAFE_INTEGER ? Math.ceil(millis) : null
}

const environment = (env: Readonly<Record<string, string>>): Readonly<Record<string, string>> => {
  for (const name of Object.keys(env)) {
    if (name === "" || name.includes("=")) throw new Invalid(`"${name}" is not a name for an environment variable`)
    text(`the name "${name.replaceAll("\0", "\\0")}" in env`, name)
    text(`env.${name}`, env[name])
  }
  return env
}

const confinement = (wanted: Executor.Confinement | undefined): Executor.Confinement | null => {
  if (wanted === undefined) return null
  wanted.writable.forEach((path, index) => absolute(`confinement.writable[${index}]`, path))
  wanted.readable?.forEach((path, index) => absolute(`confinement.readable[${index}]`, path))
  return wanted
}

const overlay = ({ confinement, overlay }: Executor.Spec): Executor.Overlay | null => {
  if (overlay === undefined) return null
  if (confinement === undefined) throw new Invalid("overlay needs confinement")
  absolute("overlay.at", overlay.at)
  if (overlay.skill !== undefined) absolute("overlay.skill", overlay.skill)
  if (overlay.inputs !== undefined) absolute("overlay.inputs", overlay.inputs)
  return overlay
}

const warm = ({ args = [], warm }: Executor.Spec): Executor.Warm | null => {
  if (warm === undefined) return null
  absolute("args[0] of a warm start", args[0])
  text("warm.key", warm.key)
  return warm
}

const grace = (name: string, value: Duration.Input | undefined, absent: number): number =>
  value === undefined ? absent : milliseconds(name, value) ?? Number.MAX_SAFE_INTEGER

const check = (spec: Executor.Spec): ResolvedSpec => {
  const graceMs = grace("grace", spec.grace, defaultGraceMs)
  const overflow = spec.overflow ?? "truncate"
  if (overflow !== "truncate" && overflow !== "fail") throw new Invalid(`overflow must be "truncate" or "fail"`)
  if (spec.stdin !== undefined && !(spec.stdin instanceof Uint8Array)) throw new Invalid("stdin must be a Uint8Array")
  return {
    file: absolute("file", spec.file),
    args: (spec.args ?? []).map((value, index) => text(`args[${index}]`, value)),
    cwd: absolute("cwd", spec.cwd),
    env: environment(spec.env ?? {}),
    stdin: spec.stdin === undefined || spec.stdin.byteLength === 0 ? null : spec.stdin,
    timeoutMs: milliseconds("timeout", spec.timeout),
    graceMs,
    interruptGraceMs: Math.min(graceMs, grace("interruptGrace", spec.interruptGrace, graceMs)),
    stdoutBytes: whole("stdoutBytes", spec.stdoutBytes, 0) ?? defaultStdoutBytes,
    stderrBytes: whole("stderrBytes", spec.stderrBytes, 0) ?? defaultStderrBytes,
    overflow,
    limits: {
      cpuSeconds: whole("limits.cpuSeconds", spec.limits?.cpuSeconds, 1),
      memoryBytes: whole("limits.memoryBytes", spec.limits?.memoryBytes, 1),
      fileBytes: whole("limits.fileBytes", spec.limits?.fileBytes, 0),
      openFiles: whole("limits.openFiles", spec.limits?.openFiles, 1),
      processes: whole("limits.processes", spec.limits?.processes, 1),
      treeTasks: whole("limits.treeTasks", spec.limits?.treeTasks, 1),
      treeBytes: whole("limits.treeBytes", spec.limits?.treeBytes, 1),
      diskBytes: whole("limits.diskBytes", spec.limits?.diskBytes, 1)
    },
    confinement: confinement(spec.confinement),
    overlay: overlay(spec),
    warm: warm(spec)
  }
}

/** Returns the complete specification, or the sentence that says what is wrong with it. */
export const resolveSpec = (spec: Executor.Spec): ResolvedSpec | string => {
  try {
    return check(spec)
  } catch (error) {
    if (error instanceof Invalid) return error.message
    throw error
  }
}
