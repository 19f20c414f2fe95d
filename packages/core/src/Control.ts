/**
 * Control messages, which travel on topics that begin with `@`: cancelling, asking for and granting calls, and asking servers and the proxy
 * what there is. A question is answered by a `Response` whose `content` is one of the replies below as JSON.
 *
 * Like that of calls, the codec never throws: what cannot be read becomes a `ProtocolError`.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as MessageCodec from "./internal/messageCodec.ts"
import * as Protocol from "./Protocol.ts"

/**
 * A control message, sent on a topic that begins with `@`. `cancel`, `grant`, `read`, `received` and `waiting` have no answer;
 * `read` tells how much of a call's output was read since its beginning, in the bytes of `Protocol.chargeOf`, with `next` also that
 * the event of this number did not come, `received` how many parts of its final response came in a row, and `waiting` that the
 * caller is there. `renew` asks a replica for a
 * call: it is answered as a request that is sent again, or by the event `unknown`. `ping` is answered by an empty response,
 * the others by a response whose `content` is the JSON of `CatalogReply`, `TopologyReply`, `SkillReply` or `ResourceReply`.
 *
 * @category models
 * @since 0.1.0
 */
export const Control = Schema.Union([
  Schema.Struct({
    kind: Schema.Literal("cancel"),
    ...MessageCodec.address,
    /** What came with a later `attempt` is not meant. */
    attempt: Schema.optionalKey(Schema.Natural)
  }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({ kind: Schema.Literal("renew"), ...MessageCodec.address }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({ kind: Schema.Literal("grant"), ...MessageCodec.address, offer: Schema.Natural }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({
    kind: Schema.Literal("read"),
    ...MessageCodec.address,
    bytes: Schema.Natural,
    /** The number of the event that the caller waits for, when it stands still: it is sent again, and what came behind it. */
    next: Schema.optionalKey(Schema.Natural)
  }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({
    kind: Schema.Literal("received"),
    ...MessageCodec.address,
    attempt: Schema.Natural,
    parts: Schema.Natural
  }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({ kind: Schema.Literal("waiting"), ...MessageCodec.address }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({ kind: Schema.Literal("ping"), ...MessageCodec.address }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({ kind: Schema.Literal("catalog"), ...MessageCodec.address }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({ kind: Schema.Literal("topology"), ...MessageCodec.address }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({
    kind: Schema.Literal("describe"),
    ...MessageCodec.address,
    skill: Schema.String,
    /** Which skill of that name is meant; of another one the answer is `SkillChanged`. */
    digest: Schema.optionalKey(MessageCodec.Digest)
  }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
  ),
  Schema.Struct({
    kind: Schema.Literal("resource"),
    ...MessageCodec.address,
    skill: Schema.String,
    path: Schema.String,
    /** As with `describe`. */
    digest: Schema.optionalKey(MessageCodec.Digest)
  }).pipe(
    Schema.encodeKeys(MessageCodec.addressKeys)
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
 * Whether a skill is ready to run: what it depends on is there, is being installed, or cannot be. `detail` says what is
 * being done, or why it failed.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillState = Schema.Struct({
  status: Schema.Literals(["ready", "preparing", "failed"]),
  detail: Schema.optionalKey(Schema.String)
})

/**
 * The type of `SkillState`.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillState = typeof SkillState.Type

/**
 * What a caller may expect of a run, in the sense of MCP's tool annotations: whether it changes nothing around it, whether it may
 * destroy something there, whether running it twice does no more than once, and whether it deals with the world outside.
 *
 * @category models
 * @since 0.1.0
 */
export const Hints = Schema.Struct({
  readOnly: Schema.Boolean,
  destructive: Schema.Boolean,
  idempotent: Schema.Boolean,
  openWorld: Schema.Boolean
})

/**
 * The type of `Hints`.
 *
 * @category models
 * @since 0.1.0
 */
export type Hints = typeof Hints.Type

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
  env: Schema.Array(Schema.String),
  /** Absent when the server does not prepare skills. */
  state: Schema.optionalKey(SkillState),
  /** The JSON Schema of what the entry point reads on standard input, where the skill has one. The server checks it. */
  input: Schema.optionalKey(Schema.JsonObject),
  /** The JSON Schema of what the entry point writes to standard output, where the skill has one. The server checks it. */
  output: Schema.optionalKey(Schema.JsonObject),
  /** Absent from servers that do not tell. */
  hints: Schema.optionalKey(Hints)
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
  /** What the server announces for this catalog; absent when it announces nothing. */
  revision: Schema.optionalKey(Schema.String),
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
 * The answer to `describe`: the skill, its instructions and the list of its other files. Servers that know it tell all fields of its
 * front matter, as YAML means them, and of `SKILL.md` itself what they tell of other files.
 *
 * @category models
 * @since 0.1.0
 */
export const SkillReply = Schema.Struct({
  skill: SkillInfo,
  instructions: Schema.String,
  resources: Schema.Array(ResourceInfo),
  frontMatter: Schema.optionalKey(Schema.JsonObject),
  document: Schema.optionalKey(ResourceInfo)
})

/**
 * The type of `SkillReply`.
 *
 * @category models
 * @since 0.1.0
 */
export type SkillReply = typeof SkillReply.Type

/**
 * The answer to `resource`: one file of a skill, which `SKILL.md` is, too. A question with a digest is answered with it, by servers
 * that know it: then the file is as it was when that was computed.
 *
 * @category models
 * @since 0.1.0
 */
export const ResourceReply = Schema.Struct({
  path: Schema.String,
  data: Protocol.Base64,
  digest: Schema.optionalKey(Schema.String)
})

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
 * Whether nothing is ever sent in answer to it.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isUnanswered = ({ kind }: Control): boolean =>
  kind === "cancel" || kind === "grant" || kind === "read" || kind === "received" || kind === "waiting"

const orError = Result.mapError((fault: MessageCodec.Fault) => new Protocol.ProtocolError(fault))

const read = MessageCodec.decoder(Control)
const write = MessageCodec.encoder(Control)

/**
 * Reads a control message from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (frames: ReadonlyArray<Uint8Array>): Result.Result<Control, Protocol.ProtocolError> =>
  orError(Result.flatMap(MessageCodec.parse(frames), read))

/**
 * Writes a control message as the payload frame. Fails with `Invalid` or `TooLarge`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (control: Control): Result.Result<Uint8Array, Protocol.ProtocolError> => orError(write(control))
