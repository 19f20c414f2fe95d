import type * as Duration from "effect/Duration"
import type * as Result from "effect/Result"
import * as Settings from "../Settings.ts"

type Metadata = Readonly<Record<string, string>>

export const envKey = "skillscale.env"
export const timeoutKey = "skillscale.timeout"

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
