/** Runs scripts for tools: with their output as it is produced for who wants to see it, and as text for the model at the end. */
import * as ClientError from "@skillscale/client/ClientError"
import type * as SkillClient from "@skillscale/client/SkillClient"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { isUtf8 } from "node:buffer"
import type * as Artifacts from "../Artifacts.ts"
import type * as SkillTools from "../SkillTools.ts"
import type * as ToolError from "../ToolError.ts"
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
  ) => Effect.Effect<Ran, ToolError.Reason>
}

const maxStderr = 2000

const failureOf = (result: SkillClient.RunResult): ClientError.SkillFailed | undefined =>
  result.exitCode === 0 || result.exitCode === undefined && result.signal === undefined
    ? undefined
    : new ClientError.SkillFailed({
      stderr: result.stderr,
      content: Buffer.from(result.stdout).toString("utf8"),
      detail: "",
      ...result.signal === undefined ? {} : { signal: result.signal },
      ...result.exitCode === undefined ? {} : { exitCode: result.exitCode }
    })

export const make = ({ artifacts, client, maxOutput, maxTimeoutMs, timeout }: Options): Running => {
  const cap = { artifacts, maxOutput }

  const streamed = (request: SkillClient.RunRequest, onProgress: NonNullable<SkillTools.CallOptions["onProgress"]>) =>
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

  const textOf = (bytes: Uint8Array): { readonly text: string; readonly binary: Artifacts.Artifact | undefined } => {
    const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (isUtf8(all)) return { text: all.toString("utf8"), binary: undefined }
    const binary = artifacts.put({ path: "stdout.bin", mime: "application/octet-stream", data: bytes })
    return { text: `[standard output is not text: artifact ${binary.id}, ${ModelText.sizeOf(binary.size)}]`, binary }
  }

  const outputOf = (result: SkillClient.RunResult): Ran => {
    const made = result.artifacts.map(({ data, mime, path }) => artifacts.put({ path, mime, data }))
    const { binary, text } = textOf(result.stdout)
    const stderr = result.stdout.byteLength === 0 && result.stderr.trim() !== ""
      ? `Standard error:\n${ModelText.tail(result.stderr.trimEnd(), Math.min(maxStderr, Math.floor(maxOutput / 2)))}`
      : ""
    const cut = result.truncated.filter((what) => what !== "stderr")
    const notes = [
      stderr,
      ModelText.files(made, cap),
      cut.length === 0 ? "" : `[the server cut ${cut.join(" and ")} at its limit]`
    ].filter((note) => note !== "").join("\n\n")
    const shown = ModelText.capped(text, cap, "stdout.txt", result.stdout, notes === "" ? 0 : notes.length + 2)
    const whole = [shown.text.trimEnd(), notes].filter((part) => part !== "").join("\n\n")
    return {
      result,
      stdout: shown.text,
      output: {
        text: whole === "" ? "(no output)" : ModelText.head(whole, maxOutput),
        structured: undefined,
        artifacts: [...made, ...[binary, shown.whole].filter((artifact) => artifact !== undefined)]
      }
    }
  }

  return {
    run: Effect.fnUntraced(function*({ timeoutSeconds, ...request }, { onProgress }) {
      const limit = timeoutSeconds === undefined ? timeout : Math.min(timeoutSeconds * 1000, maxTimeoutMs)
      const limited = limit === undefined ? request : { ...request, timeout: limit }
      const result = yield* Effect.mapError(
        onProgress === undefined ? client.run(limited) : streamed(limited, onProgress),
        ({ reason }) => reason
      )
      const failure = failureOf(result)
      return failure === undefined ? outputOf(result) : yield* failure
    })
  }
}
