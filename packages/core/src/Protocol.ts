/**
 * The wire codec: requests, responses and control messages as JSON in the frame after the topic.
 *
 * Version 1 is what every peer understands; version 2 adds optional fields that older peers ignore. Decoding never
 * throws: what cannot be read becomes a `ProtocolError` that carries the reply address when one could be read.
 * `docs/protocol.md` is the description for implementers in other languages.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Topic from "./Topic.ts"

/**
 * The largest payload that is decoded or encoded: 64 MiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes = 64 * 1024 * 1024

/**
 * The largest `SKILLSCALE_INTENT`, in bytes: 96 KiB. The kernel limits one environment string to 128 KiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxIntentBytes = 96 * 1024

/**
 * Bytes as standard base64 with padding.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Base64 = Schema.String.check(
  Schema.makeFilter((text) =>
    text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text) || "expected base64 with padding"
  )
).pipe(Schema.decodeTo(
  Schema.Uint8Array,
  SchemaTransformation.transform({
    decode: (text): Uint8Array => Buffer.from(text, "base64"),
    encode: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
  })
))

const RequestId = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(256))

/**
 * A path inside a working directory: relative, `/` between its parts, no `.` or `..`, no NUL, at most 1,024 characters.
 *
 * @category schemas
 * @since 0.1.0
 */
export const RelativePath = Schema.String.check(
  Schema.isPattern(/^[^/\\\u0000]+(\/[^/\\\u0000]+)*$/, { expected: "a relative path" }),
  Schema.isMaxLength(1024),
  Schema.makeFilter((path) =>
    path.split("/").every((part) => part !== "." && part !== "..") || "expected a relative path without . or .. in it"
  )
)

const isRelativePath = Schema.is(RelativePath)

const Files = Schema.Record(Schema.String, Base64).check(
  Schema.makeFilter((files) => {
    const bad = Object.keys(files).find((path) => !isRelativePath(path))
    return bad === undefined || `expected relative paths without . or .. in them, got ${JSON.stringify(bad)}`
  })
)

const Digest = Schema.String.check(Schema.isPattern(/^sha256:[0-9a-f]{64}$/))

/**
 * The events that a caller may ask for with `accept`, sent before the final response.
 *
 * @category models
 * @since 0.1.0
 */
export const Event = Schema.Literals(["accepted", "progress", "chunk"])

/**
 * The type of `Event`.
 *
 * @category models
 * @since 0.1.0
 */
export type Event = typeof Event.Type

/**
 * The stable, machine-readable codes of a response with `status: "error"`.
 *
 * @category models
 * @since 0.1.0
 */
export const Code = Schema.Literals([
  "BadRequest",
  "NoServer",
  "SkillNotFound",
  "ScriptNotFound",
  "SkillChanged",
  "SkillFailed",
  "Overloaded",
  "TimedOut",
  "Cancelled",
  "ShuttingDown",
  "OutputLimit",
  "MemoryLimit",
  "CpuLimit",
  "Killed",
  "SpawnFailed",
  "Rejected",
  "TooLarge",
  "Internal"
])

/**
 * The type of `Code`.
 *
 * @category models
 * @since 0.1.0
 */
export type Code = typeof Code.Type

const fieldsV1 = {
  requestId: RequestId,
  replyTo: Topic.ReplyTopic,
  intent: Schema.String,
  timestamp: Schema.optionalKey(Schema.Finite)
}

const keysV1 = { requestId: "request_id", replyTo: "reply_to" } as const

const RequestV1 = Schema.Struct(fieldsV1).pipe(Schema.encodeKeys(keysV1))

/**
 * A call. The fields below `timestamp` are read only when `v` is 2 or more.
 *
 * @category models
 * @since 0.1.0
 */
export const Request = Schema.Struct({
  ...fieldsV1,
  /** The protocol version that the caller speaks. */
  v: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(2))),
  /** The skill to call; overrides the one in `intent`. */
  skill: Schema.optionalKey(Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(256))),
  /** A file of the skill to run instead of its entry point. */
  script: Schema.optionalKey(RelativePath),
  args: Schema.optionalKey(Schema.Array(Schema.String)),
  /** Standard input as bytes; overrides the data in `intent`. */
  stdin: Schema.optionalKey(Base64),
  env: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** Input files by their path in the working directory. */
  files: Schema.optionalKey(Files),
  digest: Schema.optionalKey(Digest),
  /** What is left of the caller's time when the request is sent, in milliseconds. */
  timeoutMs: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))),
  accept: Schema.optionalKey(Schema.Array(Schema.String)),
  /** How often this request was sent before, from 0. */
  attempt: Schema.optionalKey(Schema.Natural),
  /** W3C trace context. */
  traceparent: Schema.optionalKey(Schema.String)
}).pipe(Schema.encodeKeys({ ...keysV1, timeoutMs: "timeout_ms" }))

/**
 * The type of `Request`.
 *
 * @category models
 * @since 0.1.0
 */
export type Request = typeof Request.Type

/**
 * What a call used: wall, CPU, queue and execution time in milliseconds, memory in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export const Usage = Schema.Struct({
  wallMs: Schema.Finite,
  cpuMs: Schema.Finite,
  maxRssBytes: Schema.Finite,
  queueMs: Schema.Finite,
  execMs: Schema.Finite
}).pipe(Schema.encodeKeys({
  wallMs: "wall_ms",
  cpuMs: "cpu_ms",
  maxRssBytes: "max_rss_bytes",
  queueMs: "queue_ms",
  execMs: "exec_ms"
}))

/**
 * The type of `Usage`.
 *
 * @category models
 * @since 0.1.0
 */
export type Usage = typeof Usage.Type

/**
 * A file that a run created or changed.
 *
 * @category models
 * @since 0.1.0
 */
export const Artifact = Schema.Struct({
  path: RelativePath,
  /** In bytes. */
  size: Schema.Natural,
  sha256: Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)),
  mime: Schema.String,
  data: Base64
})

/**
 * The type of `Artifact`.
 *
 * @category models
 * @since 0.1.0
 */
export type Artifact = typeof Artifact.Type

const Text = Schema.NullOr(Schema.String).pipe(
  Schema.decodeTo(
    Schema.String,
    SchemaTransformation.transform({ decode: (text) => text ?? "", encode: (text): string | null => text })
  ),
  Schema.withDecodingDefaultKey(Effect.succeed(""))
)

/**
 * An answer. A response with `event` is not final; every other one is.
 *
 * @category models
 * @since 0.1.0
 */
export const Response = Schema.Struct({
  requestId: RequestId,
  status: Schema.Literals(["success", "error"]),
  content: Text,
  error: Text,
  timestamp: Schema.optionalKey(Schema.Finite),
  v: Schema.optionalKey(Schema.Int),
  code: Schema.optionalKey(Schema.String),
  retryable: Schema.optionalKey(Schema.Boolean),
  /** The replica that answered. */
  server: Schema.optionalKey(Schema.String),
  usage: Schema.optionalKey(Usage),
  exitCode: Schema.optionalKey(Schema.Int),
  signal: Schema.optionalKey(Schema.String),
  /** Standard output as bytes, present when it is not UTF-8 and `content` therefore not exact. */
  stdout: Schema.optionalKey(Base64),
  /** The last part of standard error. */
  stderr: Schema.optionalKey(Schema.String),
  /** What was cut at its limit. */
  truncated: Schema.optionalKey(Schema.Array(Schema.Literals(["stdout", "stderr", "artifacts"]))),
  artifacts: Schema.optionalKey(Schema.Array(Artifact)),
  /** Set on what precedes the final response, for callers that asked for it. */
  event: Schema.optionalKey(Schema.String),
  /** For `event: "chunk"`: which stream `data` belongs to. */
  stream: Schema.optionalKey(Schema.Literals(["stdout", "stderr"])),
  data: Schema.optionalKey(Base64),
  /** Counts the events of one request, from 0. */
  seq: Schema.optionalKey(Schema.Natural)
}).pipe(Schema.encodeKeys({ requestId: "request_id", exitCode: "exit_code" }))

/**
 * The type of `Response`.
 *
 * @category models
 * @since 0.1.0
 */
export type Response = typeof Response.Type

const address = { requestId: RequestId, replyTo: Topic.ReplyTopic }

/**
 * A control message, sent on a topic that begins with `@`. `cancel` has no answer; the others are answered by a
 * response whose `content` is the JSON of `CatalogReply`, `TopologyReply`, `SkillReply` or `ResourceReply`.
 *
 * @category models
 * @since 0.1.0
 */
export const Control = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("cancel"), ...address }).pipe(Schema.encodeKeys(keysV1)),
  Schema.Struct({ kind: Schema.Literal("catalog"), ...address }).pipe(Schema.encodeKeys(keysV1)),
  Schema.Struct({ kind: Schema.Literal("topology"), ...address }).pipe(Schema.encodeKeys(keysV1)),
  Schema.Struct({ kind: Schema.Literal("describe"), ...address, skill: Schema.String }).pipe(Schema.encodeKeys(keysV1)),
  Schema.Struct({ kind: Schema.Literal("resource"), ...address, skill: Schema.String, path: Schema.String }).pipe(
    Schema.encodeKeys(keysV1)
  )
])

/**
 * The type of `Control`.
 *
 * @category models
 * @since 0.1.0
 */
export type Control = typeof Control.Type

/**
 * A file of a skill: its path from the skill's root, its size in bytes, its SHA-256 in hexadecimal.
 *
 * @category models
 * @since 0.1.0
 */
export const ResourceInfo = Schema.Struct({ path: Schema.String, size: Schema.Natural, sha256: Schema.String })

/**
 * The type of `ResourceInfo`.
 *
 * @category models
 * @since 0.1.0
 */
export type ResourceInfo = typeof ResourceInfo.Type

/**
 * What the catalog tells of one skill.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillInfo = Schema.Struct({
  name: Schema.String,
  description: Schema.String,
  category: Schema.String,
  topic: Schema.String,
  digest: Schema.String,
  /** The script that runs when a call names none; null when the skill has instructions only. */
  entry: Schema.NullOr(Schema.String),
  scripts: Schema.Array(Schema.String),
  /** The names of the secrets that the skill declares. Never their values. */
  env: Schema.Array(Schema.String)
})

/**
 * The type of `SkillInfo`.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillInfo = typeof SkillInfo.Type

/**
 * One server's answer to `catalog`.
 *
 * @category models
 * @since 0.1.0
 */
export const CatalogReply = Schema.Struct({
  server: Schema.String,
  topic: Schema.String,
  skills: Schema.Array(SkillInfo)
})

/**
 * The type of `CatalogReply`.
 *
 * @category models
 * @since 0.1.0
 */
export type CatalogReply = typeof CatalogReply.Type

/**
 * The answer to `describe`: the skill, its instructions and the list of its files.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillReply = Schema.Struct({
  skill: SkillInfo,
  instructions: Schema.String,
  resources: Schema.Array(ResourceInfo)
})

/**
 * The type of `SkillReply`.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillReply = typeof SkillReply.Type

/**
 * The answer to `resource`: one file of a skill.
 *
 * @category models
 * @since 0.1.0
 */
export const ResourceReply = Schema.Struct({ path: Schema.String, data: Base64 })

/**
 * The type of `ResourceReply`.
 *
 * @category models
 * @since 0.1.0
 */
export type ResourceReply = typeof ResourceReply.Type

/**
 * The live topics as the proxy sees them.
 *
 * @category models
 * @since 0.1.0
 */
export const TopologyReply = Schema.Struct({
  topics: Schema.Array(Schema.Struct({ topic: Schema.String, replicas: Schema.Natural }))
})

/**
 * The type of `TopologyReply`.
 *
 * @category models
 * @since 0.1.0
 */
export type TopologyReply = typeof TopologyReply.Type

/**
 * Why a message could not be read. `requestId` and `replyTo` are present when they could be read all the same, so that
 * the sender can be told.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProtocolError extends Schema.TaggedError<ProtocolError>()("ProtocolError", {
  reason: Schema.Literals(["FrameCount", "TooLarge", "NotUtf8", "NotJson", "Invalid"]),
  detail: Schema.String,
  requestId: Schema.optionalKey(Schema.String),
  replyTo: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    return this.detail
  }
}

/**
 * What an intent asks for: a skill by name with its data, or plain text for the server to match.
 *
 * @category models
 * @since 0.1.0
 */
export interface Intent {
  readonly skill: string | undefined
  readonly data: string
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const maxDetail = 500

const isReplyTopic = Schema.is(Topic.ReplyTopic)
const isRequestId = Schema.is(RequestId)
const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const sender = (value: Readonly<Record<string, unknown>>): { requestId?: string; replyTo?: string } => ({
  ...(isRequestId(value["request_id"]) ? { requestId: value["request_id"] } : {}),
  ...(isReplyTopic(value["reply_to"]) ? { replyTo: value["reply_to"] } : {})
})

const parse = (
  frames: ReadonlyArray<Uint8Array>
): Result.Result<Readonly<Record<string, unknown>>, ProtocolError> => {
  const payload = frames[0]
  if (payload === undefined || frames.length !== 1) {
    // A peer that sends one frame too many put its JSON in one of them; it is told when its address is there.
    const address = frames.length > 1 && frames.length <= 4 ? salvage(frames) : {}
    const detail = `expected 2 frames, a topic and JSON, but the message has ${frames.length + 1}`
    return Result.fail(new ProtocolError({ reason: "FrameCount", detail, ...address }))
  }
  if (payload.byteLength > maxBytes) {
    const detail = `the message has ${payload.byteLength} bytes, more than the limit of ${maxBytes}`
    return Result.fail(new ProtocolError({ reason: "TooLarge", detail }))
  }
  let text: string
  try {
    text = utf8.decode(payload)
  } catch {
    const lossy = payload.byteLength <= maxSalvageBytes ? salvage(frames) : {}
    return Result.fail(new ProtocolError({ reason: "NotUtf8", detail: "the message is not valid UTF-8", ...lossy }))
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const detail = `the message is not valid JSON: ${clip(cause instanceof Error ? cause.message : String(cause))}`
    return Result.fail(new ProtocolError({ reason: "NotJson", detail }))
  }
  return isRecord(value)
    ? Result.succeed(value)
    : Result.fail(new ProtocolError({ reason: "Invalid", detail: "expected a JSON object" }))
}

const maxSalvageBytes = 1024 * 1024

const salvage = (frames: ReadonlyArray<Uint8Array>): { requestId?: string; replyTo?: string } => {
  for (const frame of frames) {
    if (frame.byteLength > maxSalvageBytes) continue
    try {
      const value: unknown = JSON.parse(Buffer.from(frame).toString("utf8"))
      if (isRecord(value)) return sender(value)
    } catch {
      continue
    }
  }
  return {}
}

const clip = (text: string): string => text.length <= maxDetail ? text : `${text.slice(0, maxDetail)}…`

const formatIssue = SchemaIssue.makeFormatterDefault()

const invalid = (value: Readonly<Record<string, unknown>>, issue: SchemaIssue.Issue): ProtocolError =>
  new ProtocolError({
    reason: "Invalid",
    detail: clip(formatIssue(issue).replaceAll(/\s*\n\s*/g, " ")),
    ...sender(value)
  })

const decodeV1 = SchemaParser.decodeUnknownResult(RequestV1)
const decodeV2 = SchemaParser.decodeUnknownResult(Request)
const decodeAnswer = SchemaParser.decodeUnknownResult(Response)
const decodeCommand = SchemaParser.decodeUnknownResult(Control)

/**
 * Reads a request from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeRequest = (frames: ReadonlyArray<Uint8Array>): Result.Result<Request, ProtocolError> =>
  Result.flatMap(parse(frames), (value) => {
    const version = value["v"]
    const decode = version === undefined || version === null || version === 1 ? decodeV1 : decodeV2
    return Result.mapError(decode(value), (issue) => invalid(value, issue))
  })

/**
 * Reads a response from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeResponse = (frames: ReadonlyArray<Uint8Array>): Result.Result<Response, ProtocolError> =>
  Result.flatMap(parse(frames), (value) => Result.mapError(decodeAnswer(value), (issue) => invalid(value, issue)))

/**
 * Reads a control message from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeControl = (frames: ReadonlyArray<Uint8Array>): Result.Result<Control, ProtocolError> =>
  Result.flatMap(parse(frames), (value) => Result.mapError(decodeCommand(value), (issue) => invalid(value, issue)))

const encode = <S extends Schema.Codec<unknown, unknown>>(
  schema: S
): (value: S["Type"]) => Result.Result<Uint8Array, ProtocolError> => {
  const toWire = SchemaParser.encodeUnknownResult(schema)
  return (value) =>
    Result.flatMap(
      Result.mapError(toWire(value), (issue) => invalid({}, issue)),
      (wire) => {
        const payload = Buffer.from(JSON.stringify(wire), "utf8")
        if (payload.byteLength <= maxBytes) return Result.succeed(payload)
        const detail = `the message has ${payload.byteLength} bytes, more than the limit of ${maxBytes}`
        return Result.fail(new ProtocolError({ reason: "TooLarge", detail }))
      }
    )
}

/**
 * Writes a request as the payload frame. Fails with `Invalid` or `TooLarge`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRequest: (request: Request) => Result.Result<Uint8Array, ProtocolError> = encode(Request)

/**
 * Writes a response as the payload frame. Fails with `Invalid` or `TooLarge`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResponse: (response: Response) => Result.Result<Uint8Array, ProtocolError> = encode(Response)

/**
 * Writes a control message as the payload frame. Fails with `Invalid` or `TooLarge`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeControl: (control: Control) => Result.Result<Uint8Array, ProtocolError> = encode(Control)

/**
 * Reads an intent. JSON with a string `skill` names the skill, and its `data` is the input (data that is not a string
 * is passed on as JSON); anything else is plain text. Fails with `Invalid` when the data is nested too deeply.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseIntent = (intent: string): Result.Result<Intent, ProtocolError> => {
  const named = /^\s*\{/.test(intent) ? Option.getOrUndefined(parseJson(intent)) : undefined
  const skill = isRecord(named) ? named["skill"] : undefined
  if (!isRecord(named) || typeof skill !== "string" || skill === "") {
    return Result.succeed({ skill: undefined, data: intent })
  }
  const data = named["data"]
  if (data === undefined || data === null) return Result.succeed({ skill, data: "" })
  if (typeof data === "string") return Result.succeed({ skill, data })
  try {
    return Result.succeed({ skill, data: JSON.stringify(data) })
  } catch {
    return Result.fail(new ProtocolError({ reason: "Invalid", detail: "the data of the intent is nested too deeply" }))
  }
}

const parseJson = (text: string): Option.Option<unknown> => {
  try {
    return Option.some(JSON.parse(text))
  } catch {
    return Option.none()
  }
}

/**
 * Writes an intent that every version understands.
 *
 * @category encoding
 * @since 0.1.0
 */
export const makeIntent = (skill: string, data: string): string => JSON.stringify({ skill, data })
