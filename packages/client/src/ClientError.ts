/**
 * The one error of the client and its reasons.
 *
 * A `ClientError` tells which operation on which skill failed; its `reason` tells why, so that a program acts on
 * `reason._tag` (`Effect.catchReason`) and a person reads `message`. A reason is retryable when the skill certainly did not
 * run, or the server says so itself, and the same request may succeed later.
 *
 * @since 0.1.0
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const maxText = 500

const clip = (text: string): string => text.length <= maxText ? text : `…${text.slice(-maxText)}`

const list = (names: ReadonlyArray<string>): string =>
  names.length <= 20 ? names.join(", ") : `${names.slice(0, 20).join(", ")} and ${names.length - 20} more`

/**
 * No final answer came in time, here or on the server. The skill may have run: retryable only when the server says that
 * it did not.
 *
 * @category errors
 * @since 0.1.0
 */
export class Timeout extends Schema.TaggedError<Timeout>()("Timeout", {
  /** The limit of the call; absent when it had none of its own and met the server's. */
  timeoutMs: Schema.optionalKey(Schema.Finite),
  /** What the server said; absent when the time ran out here. */
  detail: Schema.optionalKey(Schema.String),
  retryable: Schema.Boolean
}) {
  override get message() {
    return this.detail ?? `no answer within ${this.timeoutMs} ms; allow more time, or check that the server keeps up`
  }
  get isRetryable() {
    return this.retryable
  }
}

/**
 * Nobody serves the topic. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoServer extends Schema.TaggedError<NoServer>()("NoServer", {
  topic: Schema.String,
  detail: Schema.optionalKey(Schema.String)
}) {
  readonly isRetryable = true
  override get message() {
    return this.detail ?? `nobody serves ${this.topic}; start a skill server for it, or check the topic's name`
  }
}

/**
 * No server knows the skill. `available` lists what there is, `near` the names that resemble the one asked for.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillNotFound extends Schema.TaggedError<SkillNotFound>()("SkillNotFound", {
  skill: Schema.String,
  near: Schema.Array(Schema.String),
  available: Schema.Array(Schema.String),
  /** What the server said; absent when the catalog told it. */
  detail: Schema.optionalKey(Schema.String)
}) {
  readonly isRetryable = false
  override get message() {
    if (this.detail !== undefined) return this.detail
    const hint = this.near.length > 0 ? `; did you mean ${list(this.near)}?` : ""
    const known = this.available.length > 0 ? `; there are: ${list(this.available)}` : "; the catalog is empty"
    return `there is no skill ${JSON.stringify(this.skill)}${hint}${known}`
  }
}

/**
 * The skill has no such script, or no such file.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScriptNotFound extends Schema.TaggedError<ScriptNotFound>()("ScriptNotFound", {
  script: Schema.String,
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The skill is not the one whose digest the call pinned.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillChanged extends Schema.TaggedError<SkillChanged>()("SkillChanged", {
  digest: Schema.String,
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The script ran and failed. `exitCode` is absent when a signal ended it or when the server speaks version 1.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillFailed extends Schema.TaggedError<SkillFailed>()("SkillFailed", {
  exitCode: Schema.optionalKey(Schema.Int),
  signal: Schema.optionalKey(Schema.String),
  /** The last part of standard error. */
  stderr: Schema.String,
  /** What the script wrote to standard output before it failed. */
  content: Schema.String,
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    const how = this.exitCode !== undefined
      ? `the script exited with ${this.exitCode}`
      : this.signal !== undefined
      ? `the script was ended by ${this.signal}`
      : "the skill failed"
    const why = (this.stderr.trim() || this.detail.trim() || this.content.trim()).trim()
    return why === "" ? how : `${how}: ${clip(why)}`
  }
}

/**
 * There is no room for the call: on the server, or in this client's table of pending calls. Retryable, later.
 *
 * @category errors
 * @since 0.1.0
 */
export class Overloaded extends Schema.TaggedError<Overloaded>()("Overloaded", {
  where: Schema.Literals(["client", "server"]),
  detail: Schema.String
}) {
  readonly isRetryable = true
  override get message() {
    return this.detail
  }
}

/**
 * The proxy cannot be reached. Retryable.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  readonly isRetryable = true
  override get message() {
    return this.detail
  }
}

/**
 * The answer cannot be understood, or parts of it were lost.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProtocolError extends Schema.TaggedError<ProtocolError>()("ProtocolError", { detail: Schema.String }) {
  readonly isRetryable = false
  override get message() {
    return `the answer cannot be used: ${this.detail}`
  }
}

/**
 * The server speaks version 1 of the protocol, or is older than this client, and answered without regard to `fields`. Its answer
 * is withheld, because it answers another question.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unsupported extends Schema.TaggedError<Unsupported>()("Unsupported", {
  fields: Schema.Array(Schema.String)
}) {
  readonly isRetryable = false
  override get message() {
    return `the server is of an older version and ignored ${this.fields.join(", ")}; ` +
      "call it without them, or update the server"
  }
}

/**
 * The request is not valid.
 *
 * @category errors
 * @since 0.1.0
 */
export class BadRequest extends Schema.TaggedError<BadRequest>()("BadRequest", { detail: Schema.String }) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The data does not fit the JSON Schema of the skill's input, so that the skill was not started. `issues` tell where and why, 20 at
 * most; a JSON Pointer that is empty means the whole.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  issues: Schema.Array(Protocol.Issue),
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The script ran and exited with 0, but what it wrote to standard output does not fit the JSON Schema of the skill's output.
 * `issues` are as in `InvalidInput`. As JSON, as in logs, the files are without their bytes.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidOutput extends Schema.TaggedError<InvalidOutput>()("InvalidOutput", {
  issues: Schema.Array(Protocol.Issue),
  /** The last part of standard error. */
  stderr: Schema.String,
  /** What the script wrote to standard output. */
  content: Schema.String,
  /** The files that the run made. */
  artifacts: Schema.Array(Protocol.Artifact).pipe(Schema.withConstructorDefault(Effect.succeed([]))),
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
  override toJSON() {
    return { ...this, artifacts: this.artifacts.map(({ data: _, ...file }) => file) }
  }
}

/**
 * The request or the answer is larger than the protocol allows.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", { detail: Schema.String }) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The server refused to run the skill.
 *
 * @category errors
 * @since 0.1.0
 */
export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { detail: Schema.String }) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The script was ended at one of the server's limits.
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>()("LimitExceeded", {
  code: Schema.Literals(["OutputLimit", "MemoryLimit", "CpuLimit", "ProcessLimit", "OpenFilesLimit", "DiskLimit"]),
  stderr: Schema.String,
  content: Schema.String,
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The script was killed by something other than a limit or a cancellation.
 *
 * @category errors
 * @since 0.1.0
 */
export class Killed extends Schema.TaggedError<Killed>()("Killed", {
  signal: Schema.optionalKey(Schema.String),
  stderr: Schema.String,
  content: Schema.String,
  detail: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The server ended the call, and not at this client's word: it had heard nothing of it for longer than its lease, and the call
 * had started and must not run twice.
 *
 * @category errors
 * @since 0.1.0
 */
export class Cancelled extends Schema.TaggedError<Cancelled>()("Cancelled", { detail: Schema.String }) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * This client, or the bus below it, was closed.
 *
 * @category errors
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>()("Closed", {}) {
  readonly isRetryable = false
  override get message() {
    return "the client is closed; connect again"
  }
}

/**
 * The server failed in a way that has no reason of its own. `code` is the server's, also when it is one that this client
 * does not know.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerError extends Schema.TaggedError<ServerError>()("ServerError", {
  code: Schema.String,
  retryable: Schema.Boolean,
  detail: Schema.String
}) {
  override get message() {
    return `${this.code}: ${this.detail}`
  }
  get isRetryable() {
    return this.retryable
  }
}

/**
 * The replica that had the call is gone, or cut off. The skill may have run, and is not one that may run twice
 * (`skillscale.idempotent`), or a part of its output was passed on: so the call was not given to another replica.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReplicaLost extends Schema.TaggedError<ReplicaLost>()("ReplicaLost", {
  /** The replica. */
  server: Schema.String,
  topic: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return `replica ${this.server} of ${this.topic} fell silent while it had the call; the skill may have run`
  }
}

/**
 * The last calls to the topic reached no server that took them, so this one was not sent. Retryable, after `retryAfterMs`.
 * `circuit` of the client's options says when that is.
 *
 * @category errors
 * @since 0.1.0
 */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>()("CircuitOpen", {
  topic: Schema.String,
  /** When a call may be sent again, in milliseconds from now. */
  retryAfterMs: Schema.Finite
}) {
  readonly isRetryable = true
  override get message() {
    return `the last calls to ${this.topic} all failed, so this one was not sent; check that its servers and the proxy ` +
      `run and keep up, and try again in ${this.retryAfterMs} ms`
  }
}

/**
 * The schema of every reason.
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  Timeout,
  NoServer,
  SkillNotFound,
  ScriptNotFound,
  SkillChanged,
  SkillFailed,
  Overloaded,
  Unreachable,
  ProtocolError,
  Unsupported,
  BadRequest,
  InvalidInput,
  InvalidOutput,
  TooLarge,
  Rejected,
  LimitExceeded,
  Killed,
  Cancelled,
  Closed,
  ReplicaLost,
  CircuitOpen,
  ServerError
])

/**
 * The type of `Reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The only error of this package; `reason` says what happened to which operation.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClientError extends Schema.TaggedError<ClientError>()("ClientError", {
  operation: Schema.Literals([
    "connect",
    "invoke",
    "invokeSequential",
    "run",
    "stream",
    "catalog",
    "describe",
    "resource",
    "topology"
  ]),
  skill: Schema.optionalKey(Schema.String),
  /** Which request of `invokeSequential` failed, from 0. */
  index: Schema.optionalKey(Schema.Natural),
  reason: Reason
}) {
  override readonly cause = this.reason
  /** Tells whether the skill did not run and the same call may succeed later. */
  readonly isRetryable: boolean = this.reason.isRetryable
  override get message() {
    const what = this.skill === undefined ? this.operation : `${this.operation} ${JSON.stringify(this.skill)}`
    const which = this.index === undefined ? "" : ` (request ${this.index})`
    return `cannot ${what}${which}: ${this.reason.message}`
  }
}

/**
 * The operations that a `ClientError` names.
 *
 * @category models
 * @since 0.1.0
 */
export type Operation = ClientError["operation"]
