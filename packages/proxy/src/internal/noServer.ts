/**
 * The answer to a request that nobody serves.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

export type NoServerReply =
  | { readonly _tag: "Reply"; readonly replyTo: string; readonly payload: Uint8Array }
  /** A response, an event, or anything else that nobody waits for. */
  | { readonly _tag: "NotRequest" }
  | { readonly _tag: "Malformed"; readonly detail: string }

const isReplyTopic = Schema.is(Topic.ReplyTopic)

const notRequest: NoServerReply = { _tag: "NotRequest" }

/**
 * Decides what to tell the sender of a message to `topic` that no connection subscribes to exactly. For `settleMs` milliseconds
 * servers may be on their way back.
 */
export const noServerReply = (topic: string, frames: ReadonlyArray<Uint8Array>, settleMs = 0): NoServerReply => {
  if (Topic.isControl(topic) || !Topic.isSkills(topic) && !mentionsReplyTo(frames)) {
    return notRequest
  }
  const request = Protocol.decodeRequest(frames)
  const requestId = Result.isSuccess(request)
    ? request.success.requestId
    : request.failure.requestId ?? Protocol.unknownId
  const replyTo = Result.isSuccess(request) ? request.success.replyTo : request.failure.replyTo
  if (replyTo === undefined || !isReplyTopic(replyTo)) {
    return Topic.isSkills(topic)
      ? { _tag: "Malformed", detail: Result.isFailure(request) ? request.failure.message : "no reply address" }
      : notRequest
  }
  const payload = Protocol.encodeResponse({
    requestId,
    status: "error",
    content: "",
    error: `no server serves ${topic}: ${
      Topic.isSkills(topic) ? `start one with \`skillscale server --topic ${topic}\`, or ` : ""
    }check the topic's name`,
    timestamp: Date.now() / 1000,
    code: "NoServer",
    retryable: true,
    ...(Result.isSuccess(request) && request.success.v === undefined
      ? {}
      : { v: 2, ...(settleMs > 0 ? { settleMs } : {}) })
  })
  return Result.isSuccess(payload)
    ? { _tag: "Reply", replyTo, payload: payload.success }
    : { _tag: "Malformed", detail: payload.failure.message }
}

const needle = Buffer.from("\"reply_to\"")

const mentionsReplyTo = (frames: ReadonlyArray<Uint8Array>): boolean =>
  frames.some((frame) => Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength).includes(needle))
