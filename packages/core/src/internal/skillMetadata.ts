import type * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Settings from "../Settings.ts"

type Metadata = Readonly<Record<string, string>>

export const envKey = "skillscale.env"
export const timeoutKey = "skillscale.timeout"
export const inputKey = "skillscale.input"
export const outputKey = "skillscale.output"

const reservedEnv = new Set([
  ...["PATH", "HOME", "SHELL", "IFS", "ENV", "PS4", "PWD", "OLDPWD", "CDPATH", "TMPDIR", "SHELLOPTS", "BASHOPTS"],
  ...["GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "NODE_OPTIONS", "NODE_PATH", "PERL5OPT", "PERL5LIB", "PERLLIB"],
  ...["RUBYOPT", "RUBYLIB", "JAVA_TOOL_OPTIONS", "SKILL_DIR", "CLAUDE_SKILL_DIR", "TRACEPARENT", "TRACESTATE"]
])

export const isReservedEnv = (name: string): boolean =>
  reservedEnv.has(name) || /^(?:LD_|DYLD_|BASH_|PYTHON|SKILLSCALE_)/.test(name)

export const isEnvName = (name: string): boolean => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name)

export const envNames = (metadata: Metadata): ReadonlyArray<string> =>
  Array.from(new Set((metadata[envKey] ?? "").split(/[\s,]+/))).filter((name) => name !== "")

export const readTimeout = (metadata: Metadata): Result.Result<Duration.Duration, string> | undefined => {
  const text = metadata[timeoutKey]
  return text === undefined ? undefined : Settings.parseDuration(text, "millis")
}

export const asks = {
  network: Settings.YesNo,
  memory: Settings.Bytes,
  disk: Settings.Bytes,
  processes: Settings.Processes,
  cpu: Settings.CpuSeconds,
  warm: Settings.YesNo,
  idempotent: Settings.YesNo
} as const

const prefix = "skillscale."

const keys = [envKey, timeoutKey, inputKey, outputKey, ...Object.keys(asks).map((name) => prefix + name)]

/** Finds keys below `skillscale.` that do not exist, and what cannot be read of `asks`. */
export const unusable = (metadata: Metadata): ReadonlyArray<readonly [key: string, problem: string]> => [
  ...Object.keys(metadata).filter((key) => key.startsWith(prefix) && !keys.includes(key)).map((key) =>
    [key, `there is no such key, only ${keys.join(", ")}`] as const
  ),
  ...Object.entries<Schema.Codec<unknown, string>>(asks).flatMap(([name, schema]) => {
    const text = metadata[prefix + name]
    const read = text === undefined ? undefined : Schema.decodeResult(schema)(text)
    return read === undefined || Result.isSuccess(read)
      ? []
      : [[prefix + name, `${read.failure.message}, got ${JSON.stringify(text)}`] as const]
  })
]

export const readIdempotent = (metadata: Metadata): Result.Result<boolean, unknown> | undefined => {
  const text = metadata[`${prefix}idempotent`]
  return text === undefined ? undefined : Schema.decodeResult(asks.idempotent)(text)
}
