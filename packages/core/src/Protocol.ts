/**
 * The wire codec of calls: requests and responses as JSON in the frame after the topic. `Control` has that of control
 * messages.
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
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as MessageCodec from "./internal/messageCodec.ts"
import * as MessageShortcut from "./internal/messageShortcut.ts"

/**
 * The largest payload that is decoded or encoded: 64 MiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes: number = MessageCodec.maxBytes

/**
 * The `request_id` of an answer to a request whose own could not be read.
 *
 * @category models
 * @since 0.1.0
 */
export const unknownId = "unknown"

/**
 * The largest `SKILLSCALE_INTENT`, in bytes: 96 KiB. The kernel limits one environment string to 128 KiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxIntentBytes = 96 * 1024

/**
 * Whether a text is standard base64 with padding. Decoded and counted, since what is not base64 is skipped or ends it there: a
 * pattern takes ten times as long, and whoever encodes or decodes megabytes does nothing else meanwhile.
 */
const isBase64 = (text: string): boolean => {
  if (text.length % 4 !== 0 || text.includes("-") || text.includes("_")) return false
  // Of a character beyond ASCII only the low byte would count.
  if (Buffer.byteLength(text, "utf8") !== text.length) return false
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0
  return Buffer.from(text, "base64").byteLength === text.length / 4 * 3 - padding
}

/**
 * Bytes as standard base64 with padding.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Base64 = Schema.String.check(
  Schema.makeFilter((text) => isBase64(text) || "expected base64 with padding")
).pipe(Schema.decodeTo(
  Schema.Uint8Array,
  SchemaTransformation.transform({
    decode: (text): Uint8Array => Buffer.from(text, "base64"),
    encode: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
  })
))

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

/**
 * The events that a caller may ask for with `accept`, sent before the final response.
 *
 * @category models
 * @since 0.1.0
 */
export const Event = Schema.Literals(["accepted", "offer", "progress", "chunk", "part"])

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
  "InvalidInput",
  "InvalidOutput",
  "NoServer",
  "SkillNotFound",
  "ScriptNotFound",
  "SkillChanged",
  "SkillFailed",
  "Overloaded",
  "TimedOut",
  "Cancelled",
  "ShuttingDown",
  "NotGranted",
  "OutputLimit",
  "MemoryLimit",
  "CpuLimit",
  "ProcessLimit",
  "OpenFilesLimit",
  "DiskLimit",
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
  ...MessageCodec.address,
  intent: Schema.String,
  timestamp: Schema.optionalKey(Schema.Finite)
}

const requestFields = {
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
  digest: Schema.optionalKey(MessageCodec.Digest),
  /** What is left of the caller's time when the request is sent, in milliseconds. */
  timeoutMs: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))),
  accept: Schema.optionalKey(Schema.Array(Schema.String)),
  /** How many bytes of output (`chargeOf`) may be on their way before the caller tells that it has read some. */
  window: Schema.optionalKey(Schema.Natural),
  /** After how much silence of the caller the call may be ended, in milliseconds. */
  leaseMs: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThan(0))),
  /** How often this request was sent before, from 0. */
  attempt: Schema.optionalKey(Schema.Natural),
  /** W3C trace context. */
  traceparent: Schema.optionalKey(Schema.String)
}

/**
 * What an event with output counts towards `window`: its bytes, and 256 for what carries them.
 *
 * @category models
 * @since 0.1.0
 */
export const chargeOf = (bytes: number): number => bytes + 256

const requestKeys = { ...MessageCodec.addressKeys, timeoutMs: "timeout_ms", leaseMs: "lease_ms" } as const

/**
 * A call. The fields below `timestamp` are read only when `v` is 2 or more.
 *
 * @category models
 * @since 0.1.0
 */
export const Request = Schema.Struct(requestFields).pipe(Schema.encodeKeys(requestKeys))

/**
 * The type of `Request`.
 *
 * @category models
 * @since 0.1.0
 */
export type Request = typeof Request.Type

const usageFields = {
  wallMs: Schema.Finite,
  cpuMs: Schema.Finite,
  maxRssBytes: Schema.Finite,
  queueMs: Schema.Finite,
  execMs: Schema.Finite
}

const usageKeys = {
  wallMs: "wall_ms",
  cpuMs: "cpu_ms",
  maxRssBytes: "max_rss_bytes",
  queueMs: "queue_ms",
  execMs: "exec_ms"
} as const

/**
 * What a call used: wall, CPU, queue and execution time in milliseconds, memory in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export const Usage = Schema.Struct(usageFields).pipe(Schema.encodeKeys(usageKeys))

/**
 * The type of `Usage`.
 *
 * @category models
 * @since 0.1.0
 */
export type Usage = typeof Usage.Type

const streamedFields = { stdout: Schema.Natural, stderr: Schema.Natural, progress: Schema.Natural }

/**
 * How much output a run had: the bytes of its streams, and how often it told of its progress.
 *
 * @category models
 * @since 0.1.0
 */
export const Streamed = Schema.Struct(streamedFields)

/**
 * The type of `Streamed`.
 *
 * @category models
 * @since 0.1.0
 */
export type Streamed = typeof Streamed.Type

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

/**
 * One place where data does not fit a skill's JSON Schema: its JSON Pointer, empty for the whole, and what is wrong there.
 *
 * @category models
 * @since 0.1.0
 */
export const Issue = Schema.Struct({ path: Schema.String, message: Schema.String })

/**
 * The type of `Issue`.
 *
 * @category models
 * @since 0.1.0
 */
export type Issue = typeof Issue.Type

const Text = Schema.NullOr(Schema.String).pipe(
  Schema.decodeTo(
    Schema.String,
    SchemaTransformation.transform({ decode: (text) => text ?? "", encode: (text): string | null => text })
  ),
  Schema.withDecodingDefaultKey(Effect.succeed(""))
)

const responseFieldsV1 = {
  requestId: MessageCodec.RequestId,
  status: Schema.Literals(["success", "error"]),
  content: Text,
  error: Text,
  timestamp: Schema.optionalKey(Schema.Finite)
}

const responseFields = {
  ...responseFieldsV1,
  v: Schema.optionalKey(Schema.Int),
  code: Schema.optionalKey(Schema.String),
  retryable: Schema.optionalKey(Schema.Boolean),
  /** For the codes `InvalidInput` and `InvalidOutput`: where the data does not fit, 20 places at most. */
  issues: Schema.optionalKey(Schema.Array(Issue)),
  /** The replica that answered. */
  server: Schema.optionalKey(Schema.String),
  usage: Schema.optionalKey(Usage),
  exitCode: Schema.optionalKey(Schema.Int),
  signal: Schema.optionalKey(Schema.String),
  /** Standard output as bytes, present when `content` is not exact: it is not UTF-8, or large and full of control characters. */
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
  seq: Schema.optionalKey(Schema.Natural),
  /** In the final response to a caller that listed `chunk` or `progress`: how much its events had, also those that were not sent. */
  streamed: Schema.optionalKey(Streamed),
  /** For `accepted`, `alive` and `offer`, and in the final response of a call that listed `accepted`: after how much silence of the replica the call may be taken for lost, in milliseconds. */
  leaseMs: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThan(0))),
  /** For `event: "alive"`: the requests of this caller that the replica has in hand. */
  calls: Schema.optionalKey(Schema.Array(MessageCodec.RequestId)),
  /** For `event: "fanout"` about the control topic of a skill topic: how many serve that, whether they hear control messages or not. */
  replicas: Schema.optionalKey(Schema.Natural),
  /**
   * For `event: "fanout"` and `code: "NoServer"`, from a proxy that began lately: for how long servers that had lost the one before may
   * still be on their way back, in milliseconds.
   */
  settleMs: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThan(0))),
  /** For `event: "alive"`: which of its topics the replica has them from. */
  topic: Schema.optionalKey(Schema.String),
  /**
   * For `event: "offer"`: the number that a grant repeats. For `unknown`, and for a refusal that is retryable: that of the
   * next offer, so that what was said before an offer is told from what was said after it.
   */
  offer: Schema.optionalKey(Schema.Natural),
  /** For `event: "part"`: which part of the final response `content` is, from 0, and of how many. */
  part: Schema.optionalKey(Schema.Natural),
  parts: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  /** For a caller that listed `accepted`: the `attempt` of the request of which this is said, so that two runs are told apart. */
  attempt: Schema.optionalKey(Schema.Natural)
}

const responseKeys = {
  requestId: "request_id",
  exitCode: "exit_code",
  leaseMs: "lease_ms",
  settleMs: "settle_ms"
} as const

/**
 * An answer. A response with `event` is not final; every other one is.
 *
 * @category models
 * @since 0.1.0
 */
export const Response = Schema.Struct(responseFields).pipe(Schema.encodeKeys(responseKeys))

/**
 * The type of `Response`.
 *
 * @category models
 * @since 0.1.0
 */
export type Response = typeof Response.Type

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

const orError = Result.mapError((fault: MessageCodec.Fault) => new ProtocolError(fault))

const requestsV1 = MessageCodec.codec(
  Schema.Struct(fieldsV1).pipe(Schema.encodeKeys(MessageCodec.addressKeys)),
  MessageShortcut.make(fieldsV1, MessageCodec.addressKeys)
)
const requests = MessageCodec.codec(Request, MessageShortcut.make(requestFields, requestKeys))
const text = MessageShortcut.same((value) => typeof value === "string")
const usage = MessageShortcut.make(usageFields, usageKeys)
const knownEvents: ReadonlySet<unknown> = new Set([...Event.literals, "alive", "unknown", "fanout"])

/** What is left of a response whose server, of version 1, means other things by the names of version 2. */
const responsesV1 = MessageCodec.codec(
  Schema.Struct(responseFieldsV1).pipe(Schema.encodeKeys({ requestId: "request_id" })),
  MessageShortcut.make(responseFieldsV1, { requestId: "request_id" }, { content: text, error: text })
)
const responses = MessageCodec.codec(
  Response,
  MessageShortcut.make(responseFields, responseKeys, { content: text, error: text, usage })
)

/**
 * Reads a request from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeRequest = (frames: ReadonlyArray<Uint8Array>): Result.Result<Request, ProtocolError> =>
  orError(Result.flatMap(MessageCodec.parse(frames), (value) => {
    const version = value["v"]
    const { decode } = version === undefined || version === null || version === 1 ? requestsV1 : requests
    return decode(value)
  }))

/**
 * Reads a response from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeResponse = (frames: ReadonlyArray<Uint8Array>): Result.Result<Response, ProtocolError> =>
  orError(Result.flatMap(MessageCodec.parse(frames), (value) => {
    const response = responses.decode(value)
    if (typeof value["v"] === "number" && value["v"] >= 2 || knownEvents.has(value["event"])) return response
    const isForeign = Result.isFailure(response) || response.success.event !== undefined
    return isForeign ? responsesV1.decode(value) : response
  }))

/**
 * Reads a response of version 2 from its parts, in their order.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeParts = (parts: ReadonlyArray<string>): Result.Result<Response, ProtocolError> =>
  orError(Result.flatMap(MessageCodec.parseText(parts.join("")), responses.decode))

/**
 * Writes a request as the payload frame. Fails with `Invalid` or `TooLarge`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRequest = (request: Request): Result.Result<Uint8Array, ProtocolError> =>
  orError(requests.encode(request))

/**
 * Writes a response as the payload frame. Fails with `Invalid` or `TooLarge`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResponse = (response: Response): Result.Result<Uint8Array, ProtocolError> =>
  orError(responses.encode(response))

const empty = new Uint8Array()

const bulky: ReadonlySet<string> = new Set(["artifacts", "stdout", "content"])

function* piecesOf(wire: MessageCodec.Json, { artifacts, content, stdout }: Response): Generator<string> {
  yield JSON.stringify(Object.fromEntries(Object.entries(wire).filter(([key]) => !bulky.has(key)))).slice(0, -1)
  if (artifacts !== undefined) {
    yield ",\"artifacts\":["
    for (const [index, { data, ...about }] of artifacts.entries()) {
      yield `${index === 0 ? "" : ","}${JSON.stringify(about).slice(0, -1)},"data":"`
      yield* MessageCodec.base64Pieces(data)
      yield "\"}"
    }
    yield "]"
  }
  if (stdout !== undefined) {
    yield ",\"stdout\":\""
    yield* MessageCodec.base64Pieces(stdout)
    yield "\""
  }
  yield ",\"content\":\""
  yield* MessageCodec.textPieces(content)
  yield "\"}"
}

/**
 * Writes a response as pieces of JSON that are made one by one, since all of a large one at once would keep a process from
 * everything else. A piece is up to 64 KiB of base64, or what JSON makes of 64 Ki of text. Fails with `Invalid`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResponsePieces = (response: Response): Result.Result<Iterable<string>, ProtocolError> => {
  const { artifacts = [] } = response
  const light = {
    ...response,
    content: "",
    stdout: empty,
    artifacts: artifacts.map((artifact) => ({ ...artifact, data: empty }))
  }
  return orError(Result.flatMap(responses.toWire(light), (wire) =>
    MessageCodec.isRecord(wire)
      ? Result.succeed(piecesOf(wire, response))
      : Result.fail({ reason: "Invalid", detail: "expected a JSON object" } as const)))
}

/**
 * Reads an intent. JSON with a string `skill` names the skill, and its `data` is the input (data that is not a string
 * is passed on as JSON); anything else is plain text. Fails with `Invalid` when the data is nested too deeply.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseIntent = (intent: string): Result.Result<Intent, ProtocolError> => {
  const named = /^\s*\{/.test(intent) ? Option.getOrUndefined(parseJson(intent)) : undefined
  const skill = MessageCodec.isRecord(named) ? named["skill"] : undefined
  if (!MessageCodec.isRecord(named) || typeof skill !== "string" || skill === "") {
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
