import * as JsonSchema from "@skillscale/core/JsonSchema"
import type * as Protocol from "@skillscale/core/Protocol"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import { isAscii, isUtf8 } from "node:buffer"
import type * as SkillRunner from "../SkillRunner.ts"

/** A call that is not answered with a result: its code, the sentence for the caller, and whether to try again. */
export interface Refusal {
  readonly code: Protocol.Code
  readonly error: string
  readonly retryable: boolean
  readonly stderr?: string
  readonly issues?: Issues
}

/** Where data does not fit. */
export type Issues = ReadonlyArray<Protocol.Issue>

const refused = (code: Protocol.Code, error: string, retryable = false): Refusal => ({ code, error, retryable })

export const badRequest = (error: { readonly reason: string; readonly message: string }): Refusal =>
  refused(error.reason === "TooLarge" ? "TooLarge" : "BadRequest", `bad request: ${error.message}`)

export const topologyElsewhere: Refusal = refused(
  "BadRequest",
  "bad request: the proxy tells the topology, not a server"
)

/** `mayRepeat` tells whether the call did not start, or may run again. */
export const shuttingDown = (server: string, mayRepeat = true): Refusal =>
  refused(
    "ShuttingDown",
    mayRepeat
      ? `server ${server} is shutting down; try again`
      : `server ${server} is shutting down and ended the call, which had started`,
    mayRepeat
  )

/** `mayRepeat` tells whether the call did not start, or may run again. */
export const abandoned = (mayRepeat: boolean): Refusal =>
  refused("Cancelled", "the call was ended, since its caller was silent for longer than its lease", mayRepeat)

export const overloaded = (message: string): Refusal => refused("Overloaded", message, true)

export const notGranted = (server: string, leaseMs: number): Refusal =>
  refused(
    "NotGranted",
    `the caller did not grant the start to server ${server} within ${leaseMs} ms; it was not started`,
    true
  )

export const internal = (defect: unknown): Refusal =>
  refused("Internal", `the server failed: ${defect instanceof Error ? defect.message : String(defect)}`)

/** Where the skill lies on the server is not the caller's to know. */
export const unreadable = (path: string) => (error: SkillDiscovery.SkillDiscoveryError): Refusal =>
  refused(error.reason._tag === "Unreadable" ? "Internal" : "BadRequest", error.messageOf(JSON.stringify(path)))

export const budgetGone = (timeoutMs: number): Refusal =>
  refused("TimedOut", `the call waited longer than its ${timeoutMs} ms and was not started`, true)

export const skillChanged = (skill: SkillDiscovery.Skill, expected: string): Refusal =>
  refused("SkillChanged", `skill ${skill.name} is now ${skill.digest}, not ${expected}; look at it again`)

export const changing = (skill: SkillDiscovery.Skill, path: string): Refusal =>
  refused("SkillChanged", `skill ${skill.name} is being changed, ${JSON.stringify(path)} in it; look at it again`, true)

export const notCallable = (skill: SkillDiscovery.Skill, why: string): Refusal =>
  refused("Rejected", `skill ${skill.name} cannot be called before its author mends it: ${why}`)

export const invalidInput = (skill: SkillDiscovery.Skill, issues: Issues): Refusal => ({
  ...refused(
    "InvalidInput",
    `skill ${skill.name} was not started, since its input does not fit its schema: ${JsonSchema.explain(issues)}`
  ),
  issues
})

const maxListed = 50

const listed = (skills: ReadonlyArray<SkillDiscovery.Skill>) => {
  const names = skills.slice(0, maxListed).map((skill) => skill.name)
  return skills.length > maxListed ? `${names.join(", ")} and ${skills.length - maxListed} more` : names.join(", ")
}

export const skillNotFound = (
  name: string | undefined,
  topic: string,
  skills: ReadonlyArray<SkillDiscovery.Skill>
): Refusal => {
  const has = skills.length === 0 ? `${topic} has no skills` : `${topic} has ${listed(skills)}`
  return refused(
    "SkillNotFound",
    name === undefined
      ? `no skill clearly matches the request; name one: ${has}`
      : `no skill ${JSON.stringify(name)}: ${has}`
  )
}

/** The part of standard error that a response carries, in bytes. */
const maxStderr = 16 * 1024

/** Puts what ended a run into the closed set of codes. */
export const fromRunError = (error: SkillRunner.SkillRunError): Refusal => {
  const { reason } = error
  switch (reason._tag) {
    case "ScriptNotFound":
    case "SkillChanged":
      return refused(reason._tag, error.message)
    case "BadCall":
      return refused("BadRequest", error.message)
    case "Unavailable":
      return refused("Internal", error.message, reason.mayRepeat)
    case "InterpreterError":
      return refused("Rejected", error.message)
    case "WorkingViewError":
      switch (reason.reason._tag) {
        case "FileRefused":
          return refused("BadRequest", error.message)
        case "SkillUnreadable":
          return refused("SkillChanged", error.message, true)
        case "Storage":
          return refused("Internal", error.message, true)
      }
      break
    case "ExecutorError":
      return { ...refused(reason.reason._tag, error.message), stderr: tail(reason.stderr, maxStderr) }
  }
}

const common = (requestId: string) => ({ requestId, content: "", error: "" })

export const refusal = (requestId: string, { code, error, issues, retryable, stderr }: Refusal): Protocol.Response => ({
  ...common(requestId),
  status: "error",
  error,
  code,
  retryable,
  ...(issues === undefined ? {} : { issues }),
  ...(stderr === undefined || stderr === "" ? {} : { stderr })
})

export const instructions = (requestId: string, content: string): Protocol.Response => ({
  ...common(requestId),
  status: "success",
  content
})

const event = (requestId: string, server: string, name: string) => ({
  ...common(requestId),
  status: "success" as const,
  v: 2,
  event: name,
  server
})

/** Tells of which sending of its request a caller hears this. */
export const ofAttempt = (
  { attempt = 0 }: { readonly attempt?: number | undefined },
  response: Protocol.Response
): Protocol.Response => ({ ...response, attempt })

export const accepted = (requestId: string, server: string, leaseMs: number): Protocol.Response => ({
  ...event(requestId, server, "accepted"),
  leaseMs
})

/** Tells of all these calls, under the name of the first. */
export const alive = (
  server: string,
  topic: string,
  leaseMs: number,
  calls: ReadonlyArray<string>
): Protocol.Response => ({
  ...event(calls[0] ?? "", server, "alive"),
  topic,
  leaseMs,
  calls
})

export const offer = (
  requestId: string,
  server: string,
  leaseMs: number,
  offer: number,
  mayRepeat: boolean
): Protocol.Response => ({
  ...event(requestId, server, "offer"),
  leaseMs,
  offer,
  ...(mayRepeat ? { retryable: true } : {})
})

/** Says that nothing is known here of a call. `offer` is the number of the next offer. */
export const unknown = (requestId: string, server: string, offer: number): Protocol.Response => ({
  ...event(requestId, server, "unknown"),
  offer
})

export const chunk = (
  requestId: string,
  server: string,
  seq: number,
  output: SkillRunner.Output
): Protocol.Response => ({
  ...event(requestId, server, "chunk"),
  seq,
  stream: output._tag === "Stdout" ? "stdout" : "stderr",
  data: output.data
})

export const progress = (requestId: string, server: string, seq: number, content: string): Protocol.Response => ({
  ...event(requestId, server, "progress"),
  content,
  seq
})

/** One of the parts of a final response. */
export const part = (
  requestId: string,
  server: string,
  content: string,
  part: number,
  parts: number
): Protocol.Response => ({ ...event(requestId, server, "part"), content, part, parts })

/** From here on it matters that JSON writes most control characters with six bytes. */
const largeOutput = 1024 * 1024
/** One for each byte that is such a character. */
const isControl = Uint8Array.from(
  { length: 256 },
  (_, byte) => byte < 0x20 && (byte < 0x08 || byte === 0x0b || byte > 0x0d) ? 1 : 0
)

/** Whether it is as large as text as it is twice as bytes. Counted by index: an iterator takes twenty times as long. */
const isDense = (bytes: Uint8Array): boolean => {
  const { byteLength } = bytes
  if (byteLength < largeOutput) return false
  let count = 0
  for (let index = 0; index < byteLength; index++) count += isControl[bytes[index] ?? 0] ?? 0
  return count * 4 > byteLength
}

/** The text with a question mark for each such character; all of them are one byte in UTF-8. */
const withoutControls = (bytes: Uint8Array): string => {
  const copy = Buffer.from(bytes)
  for (let index = 0; index < copy.byteLength; index++) if (isControl[copy[index] ?? 0] === 1) copy[index] = 0x3f
  return copy.toString("utf8")
}

const text = (bytes: Uint8Array): { content: string; stdout?: Uint8Array } => {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isDense(all)) return { content: withoutControls(all), stdout: bytes }
  if (isAscii(all)) return { content: all.toString("latin1") }
  const content = all.toString("utf8")
  return isUtf8(all) ? { content } : { content, stdout: bytes }
}

/** The last `limit` bytes as text, from the beginning of a line where there is one. */
export const tail = (bytes: Uint8Array, limit: number): string => {
  const all = Buffer.from(bytes)
  if (all.byteLength <= limit) return all.toString("utf8")
  const from = all.byteLength - limit
  const newline = all.indexOf(10, from - 1)
  // A line that is longer than all of it begins where it may.
  return all.subarray(newline === -1 || newline === all.byteLength - 1 ? from : newline + 1).toString("utf8")
}

const failure = (skill: string, result: SkillRunner.RunResult, stderr: string): string => {
  const ended = result.signal === "" ? `exit code ${result.exitCode}` : result.signal
  const said = stderr.trim()
  return said === ""
    ? `skill ${skill} failed with ${ended}`
    : `skill ${skill} failed with ${ended}: ${said.slice(-2000)}`
}

export const fromResult = (
  requestId: string,
  skill: string,
  result: SkillRunner.RunResult,
  times: { readonly queueMs: number; readonly execMs: number }
): Protocol.Response => {
  const done = result.exitCode === 0 && result.signal === ""
  const stderr = tail(result.stderr, maxStderr)
  const truncated = [
    ...(result.stdoutTruncated ? ["stdout" as const] : []),
    ...(result.stderrTruncated || result.stderr.byteLength > maxStderr ? ["stderr" as const] : []),
    ...(result.artifactsTruncated ? ["artifacts" as const] : [])
  ]
  return {
    ...common(requestId),
    status: done ? "success" : "error",
    ...text(result.stdout),
    ...(done ? {} : { error: failure(skill, result, stderr), code: "SkillFailed", retryable: false }),
    exitCode: result.exitCode,
    ...(result.signal === "" ? {} : { signal: result.signal }),
    ...(stderr === "" ? {} : { stderr }),
    ...(truncated.length === 0 ? {} : { truncated }),
    ...(result.artifacts.length === 0 ? {} : { artifacts: result.artifacts }),
    usage: {
      wallMs: result.usage.wallMs,
      cpuMs: result.usage.userMs + result.usage.systemMs,
      maxRssBytes: result.usage.maxRssBytes,
      ...times
    }
  }
}

/** What a run becomes that ended well with an output that it must not have. */
export const invalidOutput = (response: Protocol.Response, skill: string, issues: Issues): Protocol.Response => ({
  ...response,
  status: "error",
  code: "InvalidOutput",
  retryable: false,
  error: `skill ${skill} ended well, but its output does not fit its schema: ${JsonSchema.explain(issues)}`,
  issues
})

/** What the caller gets in place of a response that cannot be sent. */
export const unsendable = (response: Protocol.Response, error: Protocol.ProtocolError): Protocol.Response => ({
  ...refusal(
    response.requestId,
    error.reason === "TooLarge"
      ? refused(
        "TooLarge",
        `the result is too large to send: ${error.detail}; write less to standard output and to files`
      )
      : refused("Internal", `the result cannot be sent: ${error.detail}`)
  ),
  v: 2,
  ...(response.timestamp === undefined ? {} : { timestamp: response.timestamp }),
  ...(response.server === undefined ? {} : { server: response.server })
})
