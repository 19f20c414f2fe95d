/** What a model reads of a call that failed, and what is kept of its run: the files that it made, and all that it printed. */
import type * as ClientError from "@skillscale/client/ClientError"
import type * as SkillClient from "@skillscale/client/SkillClient"
import * as Data from "effect/Data"
import type * as Artifacts from "../Artifacts.ts"
import * as ToolError from "../ToolError.ts"
import { freePath } from "./freePath.ts"
import * as ModelText from "./modelText.ts"

/** The part of standard error that a model is told, and no more than half of what it is told in all. */
const maxStderr = 4000
/** What is left of all that a model is told for headings, and for where the rest of an output is. */
const notes = 350

/** What a run left that failed. */
export type Left = Pick<SkillClient.RunResult, "stdout" | "stderr" | "truncated" | "artifacts">

/** A run that came to an end, and to no result. */
export class RunFailed
  extends Data.TaggedError("RunFailed")<{ readonly reason: ToolError.Reason; readonly left: Left }>
{}

/** Why a tool has no result. */
export type Failure = ToolError.Reason | RunFailed

const isOutput = (
  reason: ToolError.Reason
): reason is Extract<ClientError.Reason, { readonly stderr: string; readonly content: string }> =>
  "stderr" in reason && "content" in reason

const leftOf = (reason: ToolError.Reason): Left | undefined =>
  isOutput(reason)
    ? {
      stdout: Buffer.from(reason.content),
      stderr: reason.stderr,
      truncated: [],
      artifacts: "artifacts" in reason ? reason.artifacts : []
    }
    : undefined

const ended = (reason: ToolError.Reason): string => {
  if (reason._tag !== "SkillFailed") return reason.message
  if (reason.exitCode !== undefined) return `The script exited with ${reason.exitCode}.`
  return reason.signal === undefined
    ? `The skill failed: ${reason.detail}`
    : `The script was ended by ${reason.signal}.`
}

interface Told {
  readonly text: string
  readonly artifacts: ReadonlyArray<Artifacts.Artifact>
}

/** The end of standard error, and the artifact that has more of it. */
const stderrOf = (stderr: string, cap: ModelText.Cap, path: string, reserved: number): Told => {
  const all = stderr.trimEnd()
  if (all === "") return { text: "", artifacts: [] }
  const room = Math.max(100, cap.maxOutput - reserved - notes)
  const shown = ModelText.tail(all, Math.min(maxStderr, Math.floor(cap.maxOutput / 2), room))
  if (shown === all) return { text: `Standard error:\n${shown}`, artifacts: [] }
  const more = cap.artifacts.put({ path, mime: "text/plain", data: Buffer.from(stderr) })
  return {
    text: `Standard error (its end${ModelText.more(more, cap, "", "more")}):\n${shown}`,
    artifacts: [more]
  }
}

/** Standard output as far as there is room, and the artifact that has all of it. */
const stdoutOf = (
  stdout: Uint8Array,
  cap: ModelText.Cap,
  made: ReadonlyArray<Artifacts.Artifact>,
  reserved: number
): Told => {
  const { binary, text } = ModelText.decoded(stdout, cap, made)
  if (binary !== undefined) return { text: `Standard output:\n${text}`, artifacts: [binary] }
  const all = text.trimEnd()
  if (all === "") return { text: "", artifacts: [] }
  const heading = "Standard output (its beginning):\n"
  const shown = ModelText.capped(all, cap, freePath("stdout.txt", made), stdout, reserved + heading.length)
  return shown.whole === undefined
    ? { text: `Standard output:\n${shown.text}`, artifacts: [] }
    : { text: `${heading}${shown.text}`, artifacts: [shown.whole] }
}

const joined = (parts: ReadonlyArray<string>): string => parts.filter((part) => part !== "").join("\n\n")

const tell = (reason: ToolError.Reason, left: Left, cap: ModelText.Cap): Told => {
  const made = left.artifacts.map(({ data, mime, path }) => cap.artifacts.put({ path, mime, data }))
  const files = ModelText.files(made, cap)
  const after = [files.text, ModelText.missing(left.truncated)]
  const reserved = joined([ended(reason), ...after]).length
  const stderr = stderrOf(left.stderr, cap, freePath("stderr.txt", made), reserved)
  const before = [ended(reason), stderr.text]
  const stdout = stdoutOf(left.stdout, cap, made, joined([...before, ...after]).length + 4)
  return {
    text: ModelText.head(joined([...before, stdout.text, ...after]), cap.maxOutput),
    artifacts: [...made, ...stdout.artifacts, ...stderr.artifacts, ...files.list]
  }
}

/** What failed, the end of standard error, standard output as far as there is room, and the files. */
export const errorOf = (tool: string, failure: Failure, cap: ModelText.Cap): ToolError.ToolError => {
  const reason = failure._tag === "RunFailed" ? failure.reason : failure
  const left = failure._tag === "RunFailed" ? failure.left : leftOf(reason)
  if (left === undefined) {
    return new ToolError.ToolError({ tool, reason, text: ModelText.head(ended(reason), cap.maxOutput) })
  }
  return new ToolError.ToolError({ tool, reason, ...tell(reason, left, cap) })
}
