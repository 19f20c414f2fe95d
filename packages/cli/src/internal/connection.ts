import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

/** Where the proxy is, and how long a call may take. */
export interface Options {
  readonly xsub: string
  readonly xpub: string
  readonly timeout: Duration.Duration
}

/** Runs an effect with a client that is connected to the proxy. */
export const withClient = <A, E, R>(
  options: Options,
  use: (client: SkillClient.SkillClient["Service"]) => Effect.Effect<A, E, R>
) =>
  Effect.scoped(Effect.gen(function*() {
    yield* Exit.checkedProxies(options)
    const layer = SkillClient.layer({ timeout: options.timeout }).pipe(
      Exit.layerOr(Exit.fromClientError),
      Layer.provide(Exit.layerOrUnavailable(ZmqBus.layerFailover({ xsub: options.xsub, xpub: options.xpub })))
    )
    return yield* use(Context.get(yield* Layer.build(layer), SkillClient.SkillClient))
  })).pipe(Effect.provide(Telemetry.layer({ serviceName: "skillscale-cli" })))

const outputOf = ({ reason }: ClientError.ClientError) => {
  switch (reason._tag) {
    case "InvalidOutput":
    case "Killed":
    case "LimitExceeded":
    case "SkillFailed":
      return { content: reason.content, stderr: reason.stderr }
    default:
      return undefined
  }
}

const explain = (error: ClientError.ClientError): string => {
  const { reason } = error
  if (reason._tag !== "SkillFailed" || reason.stderr.trim() === "") return Exit.messageOf(error)
  const how = reason.exitCode === undefined
    ? reason.signal === undefined ? "" : ` with ${reason.signal}`
    : ` with exit code ${reason.exitCode}`
  return `skill ${error.skill ?? ""} failed${how}`
}

const toJson = (error: ClientError.ClientError) => ({
  status: "error",
  code: error.reason._tag,
  error: Exit.messageOf(error),
  retryable: error.isRetryable,
  ...outputOf(error),
  ...("issues" in error.reason ? { issues: error.reason.issues } : {}),
  ...(error.reason._tag !== "SkillFailed" ? {} : {
    exit_code: error.reason.exitCode ?? null,
    signal: error.reason.signal ?? null
  })
})

const report = Effect.fnUntraced(function*(error: ClientError.ClientError, json: boolean) {
  const output = outputOf(error)
  if (json) yield* Io.evenUnread(Io.line(JSON.stringify(toJson(error), null, 2)))
  else if (output !== undefined) {
    yield* Io.evenUnread(Io.write(output.content))
    yield* Io.note(
      Buffer.from(output.stderr === "" || output.stderr.endsWith("\n") ? output.stderr : `${output.stderr}\n`)
    )
  }
  return yield* new Exit.Failed({
    code: Exit.codeOfClientError(error),
    message: json ? Exit.messageOf(error) : explain(error)
  })
})

/**
 * Ends the command when a call fails. What the skill wrote before it failed is passed on: its output to standard output,
 * its diagnostics to standard error; with `json` the error itself is printed.
 */
export const orFailed =
  ({ json }: { readonly json: boolean }) =>
  <A, R>(effect: Effect.Effect<A, ClientError.ClientError | Exit.Failed, R>) =>
    Effect.catchTag(effect, "ClientError", (error) => report(error, json))
