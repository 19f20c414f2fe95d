/** Why there is no connection to an external server, or a call over it came to nothing. */
import { ProtocolError, SdkError, SdkErrorCode, SdkHttpError } from "@modelcontextprotocol/client"
import * as Data from "effect/Data"

/** The program could not be started, or there is no such one. */
export class NotStarted extends Data.TaggedError("NotStarted")<{
  readonly detail: string
  readonly cause: unknown
}> {
  override get message() {
    return this.detail
  }
}

/** Nothing answers, or the connection ended. */
export class Lost extends Data.TaggedError("Lost")<{
  readonly detail: string
  /** Whether the server cannot have seen what was asked. */
  readonly isUnsent: boolean
  /** Whether nothing else will be answered over this connection either. */
  readonly isGone: boolean
}> {
  override get message() {
    return this.detail
  }
}

/** It answers, but not as MCP has it, or not what was asked. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly detail: string
  /** The code of JSON-RPC, where the server told one. */
  readonly code: number | undefined
}> {
  override get message() {
    return this.detail
  }
}

export type Failure = Lost | Refused

/** The program was over too soon. */
export const ended = (how: string): Lost =>
  new Lost({ detail: `the program ${how} before the handshake of MCP was done`, isUnsent: true, isGone: true })

const maxDetail = 2000

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " ").trim().slice(0, maxDetail)

const unsentCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT"
])

/** The codes of the system below an error of `fetch`, which hides them in its causes. */
const systemCodes = (error: unknown): ReadonlyArray<string> => {
  const codes: Array<string> = []
  const look = (inner: unknown, depth: number): void => {
    if (!(inner instanceof Error) || depth > 4) return
    if ("code" in inner && typeof inner.code === "string") codes.push(inner.code)
    look(inner.cause, depth + 1)
    if (inner instanceof AggregateError) { for (const each of inner.errors) look(each, depth + 1) }
  }
  look(error, 0)
  return codes
}

/** What lies deepest says most: `fetch failed` is no help. */
const causeOf = (error: unknown): string => {
  let inner = error
  for (let depth = 0; depth < 4 && inner instanceof Error && inner.cause instanceof Error; depth++) inner = inner.cause
  return inner === error || !(inner instanceof Error) || inner.message === "" ? "" : `: ${messageOf(inner)}`
}

const fromHttp = (error: SdkHttpError): Failure => {
  const status = error.status ?? 0
  const detail = messageOf(error)
  if (status === 401 || status === 403) {
    return new Refused({
      detail: `it wants other credentials (HTTP ${status}); give them with a header`,
      code: undefined
    })
  }
  // A session that the server does not know any more: what was asked was not done.
  if (status === 404) return new Lost({ detail, isUnsent: true, isGone: true })
  if (status === 429 || status === 503) return new Lost({ detail, isUnsent: true, isGone: false })
  return status >= 500 ? new Lost({ detail, isUnsent: false, isGone: false }) : new Refused({ detail, code: undefined })
}

const fromSdk = (error: SdkError): Failure => {
  const detail = `${messageOf(error)}${causeOf(error)}`
  switch (error.code) {
    case SdkErrorCode.NotConnected:
    case SdkErrorCode.SendFailed:
      return new Lost({ detail, isUnsent: true, isGone: true })
    case SdkErrorCode.ConnectionClosed:
      return new Lost({ detail, isUnsent: false, isGone: true })
    case SdkErrorCode.RequestTimeout:
      return new Lost({ detail: "it does not answer", isUnsent: false, isGone: false })
    case SdkErrorCode.UnsupportedResultType:
      return new Refused({ detail: "it asks its caller for input, which is not offered here", code: undefined })
    case SdkErrorCode.EraNegotiationFailed:
      return error.cause instanceof Error
        ? new Lost({ detail, isUnsent: true, isGone: true })
        : new Refused({ detail, code: undefined })
    default:
      return new Refused({ detail, code: undefined })
  }
}

/** Tells what an error of the client library means. */
export const from = (error: unknown): Failure => {
  if (error instanceof Lost || error instanceof Refused) return error
  if (error instanceof SdkHttpError) return fromHttp(error)
  if (error instanceof SdkError) {
    const isUnsent = systemCodes(error).some((code) => unsentCodes.has(code))
    return isUnsent
      ? new Lost({ detail: `${messageOf(error)}${causeOf(error)}`, isUnsent, isGone: true })
      : fromSdk(error)
  }
  if (error instanceof ProtocolError) {
    return new Refused({ detail: `it answered with error ${error.code}: ${messageOf(error)}`, code: error.code })
  }
  const isUnsent = systemCodes(error).some((code) => unsentCodes.has(code))
  return new Lost({ detail: `${messageOf(error)}${causeOf(error)}`, isUnsent, isGone: isUnsent })
}
