/**
 * Logs what the data path refuses, at most once per kind in ten seconds, with how many were left out.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { textOf } from "./routes.ts"
import type { Observer } from "./switch.ts"

const intervalMs = 10_000
const maxText = 200

const clip = (text: string): string => text.length > maxText ? `${text.slice(0, maxText)}…` : text

export const make = (context: Context.Context<never>): Pick<Observer, "onDropped" | "onRefused"> => {
  const run = Effect.runForkWith(context)
  const kinds = new Map<string, { at: number; suppressed: number }>()

  const log = (kind: string, message: string, annotations: () => Record<string, string>): void => {
    const now = Date.now()
    const last = kinds.get(kind)
    if (last !== undefined && now - last.at < intervalMs) {
      last.suppressed += 1
      return
    }
    kinds.set(kind, { at: now, suppressed: 0 })
    run(
      Effect.logWarning(message).pipe(
        Effect.annotateLogs({ ...annotations(), suppressed: String(last?.suppressed ?? 0) })
      )
    )
  }

  return {
    onDropped: (reason, topic) => {
      // Nobody waits for these: a late reply to a caller that is gone, a cancellation without a server.
      if (reason !== "no_subscriber") {
        log(reason, "message dropped", () => ({ reason, topic: clip(textOf(topic)) }))
      }
    },
    onRefused: (address, detail) => log("refused", "connection ended", () => ({ address, detail: clip(detail) }))
  }
}
