/**
 * Reads and writes the frame after the topic: JSON in UTF-8 that matches a schema.
 *
 * What cannot be read becomes a fault that carries the sender's address when one could be read.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as Topic from "../Topic.ts"
import * as Shortcut from "./messageShortcut.ts"

/** What a message that cannot be read or written is called by; the fields of a `ProtocolError`. */
export interface Fault {
  readonly reason: "FrameCount" | "TooLarge" | "NotUtf8" | "NotJson" | "Invalid"
  readonly detail: string
  readonly requestId?: string
  readonly replyTo?: string
}

export type Json = Readonly<Record<string, unknown>>

export const maxBytes = 64 * 1024 * 1024

export const RequestId = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(256))

/** Whom every message is from. */
export const address = { requestId: RequestId, replyTo: Topic.ReplyTopic }

/** What a skill's files are called together: see `SkillDiscovery.digest`. */
export const Digest = Schema.String.check(Schema.isPattern(/^sha256:[0-9a-f]{64}$/))

/** What the fields of `address` are called on the wire. */
export const addressKeys = { requestId: "request_id", replyTo: "reply_to" } as const

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const maxDetail = 500
const maxSalvageFrames = 16
const salvagedEndBytes = 64 * 1024

const isReplyTopic = Schema.is(Topic.ReplyTopic)
const isRequestId = Schema.is(RequestId)

export const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const sender = (value: Json): { requestId?: string; replyTo?: string } => ({
  ...(isRequestId(value["request_id"]) ? { requestId: value["request_id"] } : {}),
  ...(isReplyTopic(value["reply_to"]) ? { replyTo: value["reply_to"] } : {})
})

/** In a text that is too large to be read, or is not JSON; quotes within strings are escaped there. */
const senderIn = (text: string): { requestId?: string; replyTo?: string } => {
  const field = (name: string) => new RegExp(`"${name}"\\s*:\\s*"([^"\\\\]*)"`).exec(text)?.[1]
  return sender({ request_id: field("request_id"), reply_to: field("reply_to") })
}

const lossy = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8", from, to)

/** Finds the address of a message that is not valid. */
const salvage = (frames: ReadonlyArray<Uint8Array>): { requestId?: string; replyTo?: string } => {
  for (const frame of frames.slice(0, maxSalvageFrames)) {
    const size = frame.byteLength
    const ends = size <= 2 * salvagedEndBytes
      ? lossy(frame, 0, size)
      : `${lossy(frame, 0, salvagedEndBytes)}\n${lossy(frame, size - salvagedEndBytes, size)}`
    const found = senderIn(ends)
    if (found.replyTo !== undefined) return found
  }
  return {}
}

const clip = (text: string): string => text.length <= maxDetail ? text : `${text.slice(0, maxDetail)}…`

const tooLarge = (payload: Uint8Array): Fault => ({
  reason: "TooLarge",
  detail: `the message has ${payload.byteLength} bytes, more than the limit of ${maxBytes}`,
  ...salvage([payload])
})

/** Reads the JSON object from the frames after the topic. */
export const parse = (frames: ReadonlyArray<Uint8Array>): Result.Result<Json, Fault> => {
  const payload = frames[0]
  if (payload === undefined || frames.length !== 1) {
    // A peer that sends frames too many put its JSON in one of them; it is told when its address is there.
    const detail = `expected 2 frames, a topic and JSON, but the message has ${frames.length + 1}`
    return Result.fail({ reason: "FrameCount", detail, ...salvage(frames) })
  }
  if (payload.byteLength > maxBytes) return Result.fail(tooLarge(payload))
  let text: string
  try {
    text = utf8.decode(payload)
  } catch {
    return Result.fail({ reason: "NotUtf8", detail: "the message is not valid UTF-8", ...salvage(frames) })
  }
  return Result.mapError(
    parseText(text),
    (fault) => fault.reason === "NotJson" ? { ...fault, ...salvage(frames) } : fault
  )
}

/** Reads the JSON object from a text. */
export const parseText = (text: string): Result.Result<Json, Fault> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const detail = `the message is not valid JSON: ${clip(cause instanceof Error ? cause.message : String(cause))}`
    return Result.fail({ reason: "NotJson", detail })
  }
  return isRecord(value)
    ? Result.succeed(value)
    : Result.fail({ reason: "Invalid", detail: "expected a JSON object" })
}

const formatIssue = SchemaIssue.makeFormatterDefault()

const invalid = (value: Json, issue: SchemaIssue.Issue): Fault => ({
  reason: "Invalid",
  detail: clip(formatIssue(issue).replaceAll(/\s*\n\s*/g, " ")),
  ...sender(value)
})

const write = (wire: unknown): Result.Result<Uint8Array, Fault> => {
  const payload = Buffer.from(JSON.stringify(wire), "utf8")
  return payload.byteLength <= maxBytes ? Result.succeed(payload) : Result.fail(tooLarge(payload))
}

/** Bytes of which each piece but the last is a multiple of three, so that they make one base64. */
const base64PieceBytes = 48 * 1024
const textPieceLength = 64 * 1024

/** The base64 of bytes, in pieces. */
export function* base64Pieces(bytes: Uint8Array): Generator<string> {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let from = 0; from < all.byteLength; from += base64PieceBytes) {
    yield all.toString("base64", from, Math.min(all.byteLength, from + base64PieceBytes))
  }
}

const isHighSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdbff

/** What JSON writes between the quotes of a string, in pieces. */
export function* textPieces(text: string): Generator<string> {
  for (let from = 0; from < text.length;) {
    const end = from + textPieceLength
    // A pair of surrogates stays together, since JSON writes each of them alone as an escape.
    const to = isHighSurrogate(text.charCodeAt(end - 1)) ? end + 1 : end
    yield JSON.stringify(text.slice(from, to)).slice(1, -1)
    from = to
  }
}

/** Makes the function that reads a message from what `parse` returned. */
export const decoder = <A>(schema: Schema.Codec<A, unknown>): (value: Json) => Result.Result<A, Fault> => {
  const fromWire = SchemaParser.decodeUnknownResult(schema)
  return (value) => Result.mapError(fromWire(value), (issue) => invalid(value, issue))
}

/** Makes the function that writes a message as the payload frame. */
export const encoder = <A>(schema: Schema.Codec<A, unknown>): (value: A) => Result.Result<Uint8Array, Fault> => {
  const toWire = SchemaParser.encodeUnknownResult(schema)
  return (value) => Result.flatMap(Result.mapError(toWire(value), (issue) => invalid({}, issue)), write)
}

/** Makes the functions for messages most of which can take a shortcut past their schema. */
export const codec = <A>(schema: Schema.Codec<A, unknown>, shortcut: Shortcut.Shortcut): {
  readonly decode: (value: Json) => Result.Result<A, Fault>
  readonly encode: (value: A) => Result.Result<Uint8Array, Fault>
  /** What `encode` writes as JSON. */
  readonly toWire: (value: A) => Result.Result<unknown, Fault>
} => {
  const read = decoder(schema)
  const toSchemaWire = SchemaParser.encodeUnknownResult(schema)
  const toWire = (value: A): Result.Result<unknown, Fault> => {
    const known = shortcut.encode(value)
    return known === Shortcut.undecided
      ? Result.mapError(toSchemaWire(value), (issue) => invalid({}, issue))
      : Result.succeed(known)
  }
  return {
    decode: (value) => {
      const known = shortcut.decode(value)
      return known === Shortcut.undecided ? read(value) : Result.succeed(known as A)
    },
    encode: (value) => Result.flatMap(toWire(value), write),
    toWire
  }
}
