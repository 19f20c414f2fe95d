/**
 * What a final answer means: a reply, a run's result, or the reason of a failure. Pure.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"

/** What was asked, as far as the meaning of the answer depends on it. */
export interface Asked {
  readonly skill: string
  readonly topic: string
  readonly script: string
  readonly digest: string
  readonly timeoutMs: number
  /** The fields of the request that version 1 does not know and that change what runs. */
  readonly fields: ReadonlyArray<string>
}

const isCode = Schema.is(Protocol.Code)

const isCurrent = (response: Protocol.Response): boolean =>
  response.v !== undefined && response.v >= 2 || response.server !== undefined || response.code !== undefined

/** Fails for a server of version 1 that ran something else than what was asked. */
const honoured = (response: Protocol.Response, asked: Asked): Result.Result<Protocol.Response, ClientError.Reason> =>
  asked.fields.length === 0 || isCurrent(response)
    ? Result.succeed(response)
    : Result.fail(new ClientError.Unsupported({ fields: asked.fields }))

const skillFailed = (response: Protocol.Response): ClientError.SkillFailed =>
  new ClientError.SkillFailed({
    stderr: response.stderr ?? "",
    content: response.content,
    detail: response.error,
    ...(response.signal !== undefined
      ? { signal: response.signal }
      : response.exitCode !== undefined
      ? { exitCode: response.exitCode }
      : {})
  })

/** Classifies an answer with `status: "error"`. */
export const reasonOf = (response: Protocol.Response, asked: Asked): ClientError.Reason => {
  const detail = response.error === "" ? "the server gives no explanation" : response.error
  const { artifacts = [], content, issues = [], retryable = false, stderr = "" } = response
  const { code } = response
  // A server of version 1 gives no code; all that it can tell is that the skill failed.
  if (code === undefined) return skillFailed(response)
  if (!isCode(code)) return new ClientError.ServerError({ code, retryable, detail })
  switch (code) {
    case "SkillFailed":
      return skillFailed(response)
    case "TimedOut":
      return new ClientError.Timeout({
        detail,
        retryable,
        ...(asked.timeoutMs === Infinity ? {} : { timeoutMs: asked.timeoutMs })
      })
    case "NoServer":
      return new ClientError.NoServer({ topic: asked.topic, detail })
    case "SkillNotFound":
      return new ClientError.SkillNotFound({ skill: asked.skill, near: [], available: [], detail })
    case "ScriptNotFound":
      return new ClientError.ScriptNotFound({ script: asked.script, detail })
    case "SkillChanged":
      return new ClientError.SkillChanged({ digest: asked.digest, detail })
    case "Overloaded":
      return new ClientError.Overloaded({ where: "server", detail })
    case "BadRequest":
      return new ClientError.BadRequest({ detail })
    case "InvalidInput":
      return new ClientError.InvalidInput({ issues, detail })
    case "InvalidOutput":
      return new ClientError.InvalidOutput({ issues, stderr, content, artifacts, detail })
    case "TooLarge":
      return new ClientError.TooLarge({ detail })
    case "Rejected":
      return new ClientError.Rejected({ detail })
    case "Cancelled":
      return new ClientError.Cancelled({ detail })
    case "OutputLimit":
    case "MemoryLimit":
    case "CpuLimit":
    case "ProcessLimit":
    case "OpenFilesLimit":
    case "DiskLimit":
      return new ClientError.LimitExceeded({ code, stderr, content, detail })
    case "Killed":
      return new ClientError.Killed({
        stderr,
        content,
        detail,
        ...(response.signal === undefined ? {} : { signal: response.signal })
      })
    case "ShuttingDown":
    case "NotGranted":
      return new ClientError.ServerError({ code, retryable: response.retryable ?? true, detail })
    case "SpawnFailed":
    case "Internal":
      return new ClientError.ServerError({ code, retryable, detail })
  }
}

export const reply = (
  response: Protocol.Response,
  asked: Asked
): Result.Result<SkillClient.Reply, ClientError.Reason> =>
  response.status === "error"
    ? Result.fail(reasonOf(response, asked))
    : Result.map(honoured(response, asked), () => ({
      skill: asked.skill,
      topic: asked.topic,
      content: response.content,
      server: response.server,
      usage: response.usage,
      artifacts: response.artifacts ?? [],
      response
    }))

export const runResult = (
  response: Protocol.Response,
  asked: Asked
): Result.Result<SkillClient.RunResult, ClientError.Reason> => {
  const ended = response.exitCode !== undefined || response.signal !== undefined
  if (response.status === "error" && !(response.code === "SkillFailed" && ended)) {
    return Result.fail(reasonOf(response, asked))
  }
  return Result.map(honoured(response, asked), () => ({
    exitCode: response.signal === undefined ? response.exitCode ?? 0 : undefined,
    signal: response.signal,
    stdout: response.stdout ?? Buffer.from(response.content, "utf8"),
    stderr: response.stderr ?? "",
    truncated: response.truncated ?? [],
    artifacts: response.artifacts ?? [],
    usage: response.usage,
    server: response.server
  }))
}
