/** Runs scripts for tools: with their output as it is produced for who wants to see it, and as text for the model at the end. */
import * as ClientError from "@skillscale/client/ClientError"
import type * as SkillClient from "@skillscale/client/SkillClient"
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as SkillTools from "../SkillTools.ts"
import * as Failing from "./failing.ts"
import { freePath } from "./freePath.ts"
import * as ModelText from "./modelText.ts"

export interface Options extends ModelText.Cap {
  readonly client: SkillClient.SkillClient["Service"]
  readonly timeout: Duration.Input | undefined
  readonly maxTimeoutMs: number
}

/** What a run left: its result, and that as a model is told of it. */
export interface Ran {
  readonly result: SkillClient.RunResult
  readonly output: SkillTools.Output
  /** Standard output as far as it fits. */
  readonly stdout: string
}

export interface Running {
  readonly run: (
    request: SkillClient.RunRequest & { readonly timeoutSeconds?: number | undefined },
    options: SkillTools.CallOptions
  ) => Effect.Effect<Ran, Failing.Failure>
}

type OnProgress = NonNullable<SkillTools.CallOptions["onProgress"]>

const maxStderr = 2000

const failureOf = (result: SkillClient.RunResult): Failing.RunFailed | undefined =>
  result.exitCode === 0 || result.exitCode === undefined && result.signal === undefined
    ? undefined
    : new Failing.RunFailed({
      reason: new ClientError.SkillFailed({
        stderr: result.stderr,
        content: Buffer.from(result.stdout).toString("utf8"),
        detail: "",
        ...result.signal === undefined ? {} : { signal: result.signal },
        ...result.exitCode === undefined ? {} : { exitCode: result.exitCode }
      }),
      left: result
    })

export const make = ({ client, maxTimeoutMs, timeout, ...cap }: Options): Running => {
  const { artifacts, maxOutput } = cap

  /** One that hears of a call for longer than that may take is not waited for, so that it ends. */
  const bounded = (onProgress: OnProgress, limit: Duration.Input): Effect.Effect<OnProgress> =>
    Effect.map(Monotonic.millis, (begun) => {
      const until = begun + Duration.toMillis(limit)
      return (event) =>
        Effect.flatMap(
          Monotonic.millis,
          (now) => Effect.asVoid(Effect.timeoutOption(onProgress(event), Math.max(0, until - now)))
        )
    })

  const streamed = (request: SkillClient.RunRequest, onProgress: OnProgress) =>
    Effect.suspend(() => {
      const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() }
      let result: SkillClient.RunResult | undefined
      const tell = (stream: "stdout" | "stderr", data?: Uint8Array) => {
        const text = decoders[stream].decode(data, { stream: data !== undefined })
        return text === "" ? Effect.void : onProgress({ _tag: "Output", stream, text })
      }
      return Stream.runForEach(client.stream(request), (event) => {
        switch (event._tag) {
          case "Accepted":
            return onProgress({ _tag: "Accepted", server: event.server })
          case "Stdout":
            return tell("stdout", event.data)
          case "Stderr":
            return tell("stderr", event.data)
          case "Progress":
            return onProgress({ _tag: "Progress", message: event.content })
          case "Done":
            result = event.result
            return Effect.andThen(tell("stdout"), tell("stderr"))
        }
      }).pipe(Effect.flatMap(() => result === undefined ? Effect.die("the stream has no end") : Effect.succeed(result)))
    })

  const outputOf = (result: SkillClient.RunResult): Ran => {
    const made = result.artifacts.map(({ data, mime, path }) => artifacts.put({ path, mime, data }))
    const { binary, text } = ModelText.decoded(result.stdout, cap, made)
    const stderr = result.stdout.byteLength === 0 && result.stderr.trim() !== ""
      ? `Standard error:\n${ModelText.tail(result.stderr.trimEnd(), Math.min(maxStderr, Math.floor(maxOutput / 2)))}`
      : ""
    const files = ModelText.files(made, cap)
    const notes = [
      stderr,
      files.text,
      ModelText.missing(result.truncated)
    ].filter((note) => note !== "").join("\n\n")
    const path = freePath("stdout.txt", made)
    const shown = ModelText.capped(text, cap, path, result.stdout, notes === "" ? 0 : notes.length + 2)
    const told = [shown.text.trimEnd(), notes].filter((part) => part !== "").join("\n\n")
    const whole = binary ?? shown.whole
    return {
      result,
      stdout: shown.text,
      output: {
        text: told === "" ? "(no output)" : ModelText.head(told, maxOutput),
        structured: undefined,
        artifacts: [...made, ...[binary, shown.whole].filter((artifact) => artifact !== undefined), ...files.list],
        ...whole === undefined ? {} : { whole }
      }
    }
  }

  return {
    run: Effect.fnUntraced(function*({ timeoutSeconds, ...request }, { onProgress }) {
      const limit = timeoutSeconds === undefined ? timeout : Math.min(timeoutSeconds * 1000, maxTimeoutMs)
      const limited = limit === undefined ? request : { ...request, timeout: limit }
      const heard = onProgress === undefined || limit === undefined ? onProgress : yield* bounded(onProgress, limit)
      const result = yield* Effect.mapError(
        heard === undefined ? client.run(limited) : streamed(limited, heard),
        ({ reason }) => reason
      )
      const failure = failureOf(result)
      return failure === undefined ? outputOf(result) : yield* failure
    })
  }
}
