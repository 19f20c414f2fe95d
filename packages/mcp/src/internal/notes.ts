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

/** How lines of standard error begin that are told as progress. */
const prefix = "::progress::"

/** Makes a function that leaves those lines out of the pieces of standard error. */
const withoutProgress = () => {
  /** The line that has not ended, as long as it may be one of them; empty where a line begins, none where it is of another kind. */
  let line: string | undefined = ""
  return (piece: string): string => {
    let rest = ""
    for (const part of piece.split(/(?<=\n)/)) {
      const whole: string | undefined = line === undefined ? undefined : line + part
      const isOne = whole?.startsWith(prefix) === true
      const mayBeOne = whole !== undefined && prefix.startsWith(whole)
      if (!isOne && !mayBeOne) rest += whole ?? part
      line = part.endsWith("\n") ? "" : isOne ? prefix : mayBeOne ? whole : undefined
    }
    return rest
  }
}

interface Step {
  readonly progress: number
  readonly total?: number
  readonly message?: string
}

/**
 * Makes a function that gives what is told the numbers of the protocol: of `3/10 message` these, of anything else hardly more than
 * before, since progress has to increase. What begins again from a lower number keeps its numbers in its message.
 */
const counter = () => {
  let progress = 0
  let total: number | undefined
  return (text: string): Step => {
    const [, done = "", all = "", rest = ""] =
      /^(\d{1,15}(?:\.\d{1,9})?)\/(\d{1,15}(?:\.\d{1,9})?)(?:\s+(.*))?$/s.exec(text) ?? []
    const isAmount = done !== "" && Number(done) <= Number(all) && Number(done) >= Math.floor(progress)
    const least = progress + Math.max(1e-6, progress * 1e-12)
    if (isAmount) total = Number(all)
    progress = isAmount ? Math.max(least, Number(done)) : least
    const message = (isAmount ? rest : text).slice(0, maxMessage)
    return { progress, ...total === undefined ? {} : { total }, ...message === "" ? {} : { message } }
  }
}

const teller = (
  context: ServerContext,
  token: string | number
): (progress: SkillTools.Progress) => Promise<void> | undefined => {
  const mayTell = pace()
  const printed = withoutProgress()
  const stepOf = counter()
  let output = maxOutput
  const notify = (step: () => Step) =>
    mayTell()
      ? context.mcpReq.notify({ method: "notifications/progress", params: { progressToken: token, ...step() } })
      : undefined
  return (event) => {
    switch (event._tag) {
      case "Accepted":
        return notify(() => stepOf("a server runs it"))
      case "Progress":
        return event.message === "" ? undefined : notify(() => stepOf(event.message))
      case "Output": {
        const text = event.stream === "stderr" ? printed(event.text) : event.text
        const message = text.trimEnd().slice(0, Math.min(maxMessage, output))
        output -= message.length
        return message === "" ? undefined : notify(() => stepOf(message))
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
