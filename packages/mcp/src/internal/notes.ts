/** What a client hears of a call while it runs: progress, where it gave a token, and standard error as log messages. */
import type { LoggingLevel, ServerContext } from "@modelcontextprotocol/server"
import { LOG_LEVEL_META_KEY } from "@modelcontextprotocol/server"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as Effect from "effect/Effect"

/** The longest message, in characters. */
const maxMessage = 1000
/** Characters of output that are told as progress of one call. */
const maxOutput = 32_000
/** So many messages of a call are told at once; further ones at most every `pauseMs`, so that a slow client is not buried. */
const maxAtOnce = 200
const pauseMs = 100

const isHeard = (level: unknown): boolean => level === "debug" || level === "info"

const pace = () => {
  let told = 0
  let last = -Infinity
  return (): boolean => {
    const now = performance.now()
    if (told >= maxAtOnce && now - last < pauseMs) return false
    told += 1
    last = now
    return true
  }
}

const teller = (
  context: ServerContext,
  token: string | number
): (progress: SkillTools.Progress) => Promise<void> | undefined => {
  const mayTell = pace()
  let progress = 0
  let output = maxOutput
  const tell = (message: string) =>
    message === "" || !mayTell() ? undefined : context.mcpReq.notify({
      method: "notifications/progress",
      params: { progressToken: token, progress: ++progress, message: message.slice(0, maxMessage) }
    })
  return (event) => {
    switch (event._tag) {
      case "Accepted":
        return tell("a server runs it")
      case "Progress":
        return tell(event.message)
      case "Output": {
        const message = event.text.trimEnd().slice(0, Math.min(maxMessage, output))
        output -= message.length
        return tell(message)
      }
    }
  }
}

const logger = (context: ServerContext, tool: string): (progress: SkillTools.Progress) => Promise<void> | undefined => {
  const mayTell = pace()
  return (event) =>
    event._tag !== "Output" || event.stream !== "stderr" || event.text.trim() === "" || !mayTell()
      ? undefined
      : context.mcpReq.notify({
        method: "notifications/message",
        params: { level: "info", logger: tool, data: event.text.trimEnd().slice(0, maxMessage) }
      })
}

/** What the client asked to hear; nothing where it asked for nothing, so that the run is not streamed for nobody. */
export const of = (context: ServerContext, tool: string, level: LoggingLevel | undefined): SkillTools.CallOptions => {
  const token = context.mcpReq._meta?.progressToken
  const envelope: Readonly<Record<string, unknown>> | undefined = context.mcpReq.envelope
  const listeners = [
    ...token === undefined ? [] : [teller(context, token)],
    ...isHeard(envelope?.[LOG_LEVEL_META_KEY] ?? level) ? [logger(context, tool)] : []
  ]
  if (listeners.length === 0) return {}
  return {
    // A client that is gone ends the call in another way.
    onProgress: (event) =>
      Effect.forEach(listeners, (listener) => Effect.ignore(Effect.tryPromise(async () => listener(event))), {
        discard: true
      })
  }
}
