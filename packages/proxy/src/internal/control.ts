/**
 * What the proxy itself answers to control messages: to a question how many servers got it, so that the asker knows when
 * it has heard all of them, or that there is none; and to `topology` the live topics.
 */
import * as Control from "@skillscale/core/Control"
import * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Result from "effect/Result"

export interface Answer {
  readonly replyTo: string
  readonly payload: Uint8Array
}

export interface Facts {
  /** The servers that got the message. */
  readonly fanout: number
  /** How many serve the topic, if this is its control topic. */
  readonly replicas: number | undefined
  /** For how long servers that had lost this proxy may be on their way back, in milliseconds. */
  readonly settleMs: number
  readonly topology: () => Control.TopologyReply
}

/** Decides what to tell the sender of a control message, if anything. */
export const controlAnswer = (topic: string, frames: ReadonlyArray<Uint8Array>, facts: Facts): Answer | undefined => {
  const decoded = Control.decode(frames)
  if (Result.isFailure(decoded)) {
    return undefined
  }
  const { kind, replyTo, requestId } = decoded.success
  if (Control.isUnanswered(decoded.success)) {
    return undefined
  }
  // Whoever asks would take a server that is not back yet for gone.
  if (kind === "renew" && facts.fanout === 0 && facts.settleMs > 0) {
    return undefined
  }
  const answered = kind === "topology" && topic === Topic.proxy
    ? { content: JSON.stringify(facts.topology()) }
    : {
      event: "fanout",
      content: String(facts.fanout),
      ...(facts.replicas === undefined ? {} : { replicas: facts.replicas }),
      ...(facts.settleMs > 0 ? { settleMs: facts.settleMs } : {})
    }
  const common = { requestId, status: "success", error: "", timestamp: Date.now() / 1000, v: 2 } as const
  const payload = Protocol.encodeResponse({ ...common, ...answered })
  return Result.isSuccess(payload) ? { replyTo, payload: payload.success } : undefined
}
