import type * as ClientError from "@skillscale/client/ClientError"
import * as Settings from "@skillscale/core/Settings"
import * as Cause from "effect/Cause"
import type * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Lifecycle from "./lifecycle.ts"

/** 0 done; 1 the skill ran and failed; 2 bad usage or bad input; 3 no answer in time; 4 no proxy or no server, or the server was lost. */
export type ExitCode = 0 | 1 | 2 | 3 | 4

/** EX_SOFTWARE of sysexits.h: the program itself is at fault. */
const faultCode = 70

/** Ends the command with an exit code and one sentence on standard error; an empty message prints nothing. */
export class Failed extends Data.TaggedError("Failed")<{ readonly code: ExitCode; readonly message: string }> {}

/** Bad usage or bad input. */
export const usage = (message: string): Failed => new Failed({ code: 2, message })

/** Nothing to talk to, or nothing to listen on. */
export const unavailable = (error: { readonly message: string }): Failed =>
  new Failed({ code: 4, message: error.message })

/** Ends the command when the two lists of addresses do not belong together. */
export const checkedProxies = (addresses: Settings.ProxyAddress) =>
  Effect.mapError(Effect.fromResult(Settings.proxies(addresses)), usage)

/** Names the variable, what was expected of it and what it held. */
export const explainConfig = ({ cause }: Config.ConfigError): string => {
  if (cause._tag !== "SchemaError" || cause.issue._tag !== "Pointer") return cause.message
  const text = new Schema.SchemaError(cause.issue.issue).message
  return `${cause.issue.path.join(".")}: ${text.replace(/^E/, "e")}; correct it or unset it`
}

const isConfigError = (error: object): error is Config.ConfigError => "_tag" in error && error._tag === "ConfigError"

/** Turns the error of a layer into the end of the command. */
export const layerOr = <E>(toFailed: (error: E) => Failed) => <A, R>(layer: Layer.Layer<A, E, R>) =>
  Layer.effectContext(Effect.mapError(Layer.build(layer), toFailed))

/** Ends the command because there is nothing to talk to or to listen on. */
export const layerOrUnavailable: <A, R>(
  layer: Layer.Layer<A, { readonly message: string }, R>
) => Layer.Layer<A, Failed, R> = layerOr(unavailable)

/** Ends the command because what it was given cannot be used. */
export const layerOrUsage: <A, R>(
  layer: Layer.Layer<A, { readonly message: string }, R>
) => Layer.Layer<A, Failed, R> = layerOr((error) => usage(isConfigError(error) ? explainConfig(error) : error.message))

export const codeOfClientError = ({ isRetryable, reason }: ClientError.ClientError): ExitCode => {
  switch (reason._tag) {
    case "Timeout":
      return 3
    case "NoServer":
    case "Unreachable":
    case "Closed":
    case "CircuitOpen":
    case "Overloaded":
    case "ReplicaLost":
      return 4
    case "BadRequest":
    case "InvalidInput":
    case "Rejected":
    case "ScriptNotFound":
    case "SkillChanged":
    case "SkillNotFound":
    case "TooLarge":
    case "Unsupported":
      return 2
    case "ServerError":
      return isRetryable || reason.code === "ShuttingDown" ? 4 : 1
    default:
      return 1
  }
}

/** As the error itself says it, in the words of the command line. */
export const messageOf = ({ message, operation }: ClientError.ClientError): string =>
  operation === "stream" ? message.replace(/^cannot stream/, "cannot run") : message

export const fromClientError = (error: ClientError.ClientError): Failed =>
  new Failed({ code: codeOfClientError(error), message: messageOf(error) })

/** Text of others on one line, without what would control a terminal. */
export const oneLine = (text: string): string =>
  text.trim().replaceAll(/\s*[\r\n]+\s*/g, " ").replaceAll(
    /[\u0000-\u001f\u007f-\u009f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`
  )

/** The command line was wrong, or lacks a command; the presenter has said so. */
export const isShowHelp = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "ShowHelp"

/** Maps how the program ended to the exit code. */
export const codeOf = (exit: Exit.Exit<unknown, unknown>, lifecycle: Lifecycle.State): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return Lifecycle.interruptedCode(lifecycle)
  const error = Cause.squash(exit.cause)
  if (error instanceof Failed) return error.code
  return isShowHelp(error) ? 2 : faultCode
}
