/**
 * What a run may do: the defaults, what a skill asks for, and what the operator grants.
 *
 * A skill asks in its metadata (`skillscale.network`, `skillscale.memory` and so on) and gets what it asks for as far as it is
 * granted; it may always ask for less. This module decides; `Executor` enforces, with what the kernel has. `docs/sandbox.md`
 * describes every key and every setting.
 *
 * @since 0.1.0
 */
import * as SkillManifest from "@skillscale/core/SkillManifest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Readable from "./internal/readable.ts"

/**
 * What a run may do and use. Memory, disk and processes are those of the whole process tree.
 *
 * @category models
 * @since 0.1.0
 */
export const Policy = Schema.Struct({
  /** Whether the network of the host can be reached. Without it there is at most a loopback of the run's own. */
  network: Schema.Boolean,
  /** Memory of all processes together, in bytes. */
  memoryBytes: Schema.Natural,
  /** All that is written to files, together, in bytes. */
  diskBytes: Schema.Natural,
  /** Processes and threads at a time. */
  processes: Schema.Natural,
  /** CPU time of each process, in seconds; none when absent. */
  cpuSeconds: Schema.optionalKey(Schema.Natural),
  /** `deny` refuses what reaches beyond a run; `allow` lets only through what interpreters and common tools need. */
  systemCalls: Schema.Literals(["deny", "allow"])
})

/**
 * The type of `Policy`.
 *
 * @category models
 * @since 0.1.0
 */
export type Policy = typeof Policy.Type

/**
 * What a run may do when nobody says anything: no network, 4 GiB of memory, 1 GiB of files, 512 processes and threads.
 *
 * @category models
 * @since 0.1.0
 */
export const defaults: Policy = {
  network: false,
  memoryBytes: 4 * 1024 ** 3,
  diskBytes: 1024 ** 3,
  processes: 512,
  systemCalls: "deny"
}

/**
 * What the operator lets skills have. What is absent is as in `defaults`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Grants {
  /** Names of the skills that may use the network, or all of them. Default: none. */
  readonly network?: ReadonlyArray<string> | "all" | undefined
  /** The most memory that a skill may have, in bytes. Default: 4 GiB. */
  readonly memoryBytes?: number | undefined
  /** The most that a skill may write, in bytes. Default: 1 GiB. */
  readonly diskBytes?: number | undefined
  /** The most processes and threads that a skill may have. Default: 512. */
  readonly processes?: number | undefined
  /** The longest CPU time of each process, in seconds. Default: none. */
  readonly cpuSeconds?: number | undefined
  /** Which system calls are let through. Default: `deny`. */
  readonly systemCalls?: Policy["systemCalls"] | undefined
}

/**
 * A policy, and the keys of what the skill asks for and does not get, or that cannot be read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolved {
  readonly policy: Policy
  readonly refused: ReadonlyArray<string>
}

const prefix = "skillscale."

type Asked = keyof typeof SkillManifest.asks

/**
 * Reads what a skill asks for. What is malformed is left out and named in `invalid`.
 *
 * @category getters
 * @since 0.1.0
 */
export const asked = (manifest: Pick<SkillManifest.SkillManifest, "metadata">) => {
  const invalid: Array<string> = []
  const read = <A>(key: Asked, schema: Schema.Codec<A, string>): A | undefined => {
    const text = manifest.metadata[prefix + key]
    if (text === undefined) return undefined
    const value = Schema.decodeResult(schema)(text)
    if (Result.isSuccess(value)) return value.success
    invalid.push(prefix + key)
    return undefined
  }
  return {
    network: read("network", SkillManifest.asks.network),
    memoryBytes: read("memory", SkillManifest.asks.memory),
    diskBytes: read("disk", SkillManifest.asks.disk),
    processes: read("processes", SkillManifest.asks.processes),
    cpuSeconds: read("cpu", SkillManifest.asks.cpu),
    invalid
  }
}

/**
 * Decides what a skill may do.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolve = (
  skill: Pick<SkillManifest.SkillManifest, "name" | "metadata">,
  grants: Grants = {}
): Resolved => {
  const wanted = asked(skill)
  const refused = [...wanted.invalid]
  const mayConnect = grants.network === "all" || grants.network?.includes(skill.name) === true
  if (wanted.network === true && !mayConnect) refused.push(`${prefix}network`)
  const least = (key: Asked, want: number | undefined, granted: number): number => {
    if (want !== undefined && want > granted) refused.push(prefix + key)
    return Math.min(want ?? granted, granted)
  }
  const cpu = least("cpu", wanted.cpuSeconds, grants.cpuSeconds ?? Number.POSITIVE_INFINITY)
  return {
    policy: {
      network: wanted.network === true && mayConnect,
      memoryBytes: least("memory", wanted.memoryBytes, grants.memoryBytes ?? defaults.memoryBytes),
      diskBytes: least("disk", wanted.diskBytes, grants.diskBytes ?? defaults.diskBytes),
      processes: least("processes", wanted.processes, grants.processes ?? defaults.processes),
      systemCalls: grants.systemCalls ?? defaults.systemCalls,
      ...(Number.isFinite(cpu) ? { cpuSeconds: cpu } : {})
    },
    refused
  }
}

/**
 * Lists the files and folders of this machine that every confined run may read: programs, libraries and what they look for
 * in `/etc`, the folders of `path` (by default the server's `PATH`) and of its `python3`, and `extra`.
 *
 * @category getters
 * @since 0.1.0
 */
export const readable = (options?: {
  readonly path?: string | undefined
  readonly extra?: ReadonlyArray<string> | undefined
}): Effect.Effect<ReadonlyArray<string>> =>
  Effect.promise(() => Readable.readable(options?.path ?? process.env["PATH"] ?? "/usr/bin:/bin", options?.extra ?? []))
