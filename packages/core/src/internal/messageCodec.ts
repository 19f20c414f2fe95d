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

/** What the fields of `address` are called on the wire. */
export const addressKeys = { requestId: "request_id", replyTo: "reply_to" } as const

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const maxDetail = 500
const maxSalvageBytes = 1024 * 1024

const isReplyTopic = Schema.is(Topic.ReplyTopic)
const isRequestId = Schema.is(RequestId)

export const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const sender = (value: Json): { requestId?: string; replyTo?: string } => ({
  ...(isRequestId(value["request_id"]) ? { requestId: value["request_id"] } : {}),
  ...(isReplyTopic(value["reply_to"]) ? { replyTo: value["reply_to"] } : {})
})

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

const tooLarge = ({ byteLength }: Uint8Array): Fault => ({
  reason: "TooLarge",
  detail: `the message has ${byteLength} bytes, more than the limit of ${maxBytes}`
})

/** Reads the JSON object from the frames after the topic. */
export const parse = (frames: ReadonlyArray<Uint8Array>): Result.Result<Json, Fault> => {
  const payload = frames[0]
  if (payload === undefined || frames.length !== 1) {
    // A peer that sends one frame too many put its JSON in one of them; it is told when its address is there.
    const address = frames.length > 1 && frames.length <= 4 ? salvage(frames) : {}
    const detail = `expected 2 frames, a topic and JSON, but the message has ${frames.length + 1}`
    return Result.fail({ reason: "FrameCount", detail, ...address })
  }
  if (payload.byteLength > maxBytes) return Result.fail(tooLarge(payload))
  let text: string
  try {
    text = utf8.decode(payload)
  } catch {
    const lossy = payload.byteLength <= maxSalvageBytes ? salvage(frames) : {}
    return Result.fail({ reason: "NotUtf8", detail: "the message is not valid UTF-8", ...lossy })
  }
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

/** Makes both functions for messages most of which can take a shortcut past their schema. */
export const codec = <A>(schema: Schema.Codec<A, unknown>, shortcut: Shortcut.Shortcut): {
  readonly decode: (value: Json) => Result.Result<A, Fault>
  readonly encode: (value: A) => Result.Result<Uint8Array, Fault>
} => {
  const read = decoder(schema)
  const written = encoder(schema)
  return {
    decode: (value) => {
      const known = shortcut.decode(value)
      return known === Shortcut.undecided ? read(value) : Result.succeed(known as A)
    },
    encode: (value) => {
      const known = shortcut.encode(value)
      return known === Shortcut.undecided ? written(value) : write(known)
    }
  }
}
