/** What a model reads of a run, within a number of characters. */
import type * as ClientError from "@skillscale/client/ClientError"
import type * as Artifacts from "../Artifacts.ts"
import type * as ToolError from "../ToolError.ts"

/** The part of standard error that a model is told of a run that failed. */
const maxStderr = 4000

const number = new Intl.NumberFormat("en-US")

export const sizeOf = (bytes: number): string => `${number.format(bytes)} byte${bytes === 1 ? "" : "s"}`

/** The end of a text, from the beginning of a line where there is one. */
export const tail = (text: string, length: number): string => {
  if (text.length <= length) return text
  const end = text.slice(-length)
  const newline = end.indexOf("\n")
  return `…${newline === -1 || newline === end.length - 1 ? end : end.slice(newline + 1)}`
}

/** Not between the halves of a character. */
export const head = (text: string, length: number): string => {
  const code = text.charCodeAt(length - 1)
  return text.slice(0, code >= 0xd800 && code <= 0xdbff ? length - 1 : length)
}

/** A text of so many characters at most, which shows where it was cut. */
export const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${head(text, length - 1).trimEnd()}…`

/** The same, in one line. */
export const oneLine = (text: string, length: number): string => cut(text.replaceAll(/\s+/g, " ").trim(), length)

export interface Cap {
  readonly maxOutput: number
  readonly artifacts: Artifacts.Artifacts
}

/** What of a text fits, and the artifact that has all of it when that is not everything. */
export const capped = (
  text: string,
  { artifacts, maxOutput }: Cap,
  path: string,
  data: Uint8Array = Buffer.from(text),
  reserved = 0
): { readonly text: string; readonly whole: Artifacts.Artifact | undefined } => {
  const room = Math.max(0, maxOutput - reserved)
  if (text.length <= room) return { text, whole: undefined }
  const whole = artifacts.put({ path, mime: "text/plain", data })
  const shown = head(text, Math.max(0, room - 200))
  const note = `\n[${number.format(shown.length)} of ${number.format(text.length)} characters; read_artifact ` +
    `${JSON.stringify(whole.id)} from offset ${shown.length} has the rest]`
  return { text: head(`${shown}${note}`, Math.max(room, note.length)), whole }
}

/** So many files are told with their kind and size, those after them only with what they are read by. */
const maxTold = 50

/** The files that a run made, one a line, in a third of the output at most; where they are more, the artifact that lists all. */
export const files = (made: ReadonlyArray<Artifacts.Artifact>, { artifacts, maxOutput }: Cap): string => {
  if (made.length === 0) return ""
  const lines = made.map(({ id, mime, path, size }, index) =>
    `- ${JSON.stringify(path)}${index < maxTold ? ` (${mime}, ${sizeOf(size)})` : ""}: artifact ${id}`
  )
  let room = Math.floor(maxOutput / 3)
  const count = lines.findIndex((line) => (room -= line.length + 1) < 0)
  if (count === -1) return ["Files:", ...lines].join("\n")
  const all = artifacts.put({
    path: "files.json",
    mime: "application/json",
    data: Buffer.from(
      JSON.stringify(made.map(({ id, mime, path, size }) => ({ path, artifact: id, mime, size })), null, 1)
    )
  })
  const more = `- and ${number.format(made.length - count)} more; read_artifact ${JSON.stringify(all.id)} lists all`
  return ["Files:", ...lines.slice(0, count), more].join("\n")
}

const isOutput = (
  reason: ToolError.Reason
): reason is Extract<ClientError.Reason, { readonly stderr: string; readonly content: string }> =>
  "stderr" in reason && "content" in reason

const ended = (reason: ToolError.Reason): string => {
  if (reason._tag !== "SkillFailed") return reason.message
  if (reason.exitCode !== undefined) return `The script exited with ${reason.exitCode}.`
  return reason.signal === undefined
    ? `The skill failed: ${reason.detail}`
    : `The script was ended by ${reason.signal}.`
}

/** What failed, the end of standard error, and standard output as far as there is room. */
export const failure = (reason: ToolError.Reason, maxOutput: number): string => {
  const parts = [ended(reason)]
  if (isOutput(reason)) {
    const stderr = tail(reason.stderr.trimEnd(), maxStderr)
    if (stderr !== "") parts.push(`Standard error${stderr.startsWith("…") ? " (its end)" : ""}:\n${stderr}`)
    const room = maxOutput - parts.join("\n\n").length - 100
    const stdout = head(reason.content.trimEnd(), Math.max(0, room))
    if (stdout !== "") {
      const isCut = stdout.length < reason.content.trimEnd().length
      parts.push(`Standard output${isCut ? " (its beginning)" : ""}:\n${stdout}`)
    }
  }
  return head(parts.join("\n\n"), maxOutput)
}
