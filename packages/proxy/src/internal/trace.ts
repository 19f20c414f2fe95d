/**
 * Spans for the requests that carry a W3C trace context.
 */
import * as Protocol from "@skillscale/core/Protocol"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Observer } from "./switch.ts"

const needle = Buffer.from("\"traceparent\"")

/** Returns what runs a forward inside of `Proxy.forward`, whose parent is the request's trace context. */
export const make = (context: Context.Context<never>): NonNullable<Observer["onMessage"]> => {
  const run = Effect.runSyncWith(context)
  return (topic, frames, forward) => {
    const body = frames()
    const request = body.some((frame) => frame.includes(needle)) ? Protocol.decodeRequest(body) : undefined
    const traceparent = request !== undefined && Result.isSuccess(request) ? request.success.traceparent : undefined
    const parent = traceparent === undefined
      ? Option.none()
      : HttpTraceContext.w3c(Headers.fromInput({ traceparent }))
    if (Option.isNone(parent)) {
      return forward()
    }
    let isForwarded = false
    const once = Effect.sync(() => {
      isForwarded = true
      forward()
    })
    try {
      run(Effect.withSpan(once, "Proxy.forward", { parent: parent.value, kind: "producer", attributes: { topic } }))
    } catch {
      // A tracer that fails must not cost a message.
      if (!isForwarded) {
        forward()
      }
    }
  }
}
