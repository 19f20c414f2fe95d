/** What a model reads of a run, within a number of characters. */
import { isUtf8 } from "node:buffer"
import type * as Artifacts from "../Artifacts.ts"
import { freePath } from "./freePath.ts"
import type { Name } from "./vocabularyNames.ts"

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
  /** Whether the model has this tool. */
  readonly has: (tool: Name) => boolean
}

/** What of an artifact a model is told: its name, or that there is no room for it among what is kept. */
export const reference = ({ id }: Artifacts.Artifact, { artifacts }: Cap): string =>
  artifacts.get(id) === undefined ? ", not kept for want of room" : `: artifact ${id}`

/** Where the rest of a text is that was cut, as far as a model can get at it. */
export const more = ({ id }: Artifacts.Artifact, { artifacts, has }: Cap, from: string, what: string): string => {
  if (artifacts.get(id) === undefined) return "; there is no room to keep the rest"
  return has("read_artifact")
    ? `; read_artifact ${JSON.stringify(id)}${from} has ${what}`
    : `; artifact ${JSON.stringify(id)} has all of it`
}

/** What of a text fits, and the artifact that has all of it when that is not everything. */
export const capped = (
  text: string,
  cap: Cap,
  path: string,
  data: Uint8Array = Buffer.from(text),
  reserved = 0
): { readonly text: string; readonly whole: Artifacts.Artifact | undefined } => {
  const room = Math.max(0, cap.maxOutput - reserved)
  if (text.length <= room) return { text, whole: undefined }
  const whole = cap.artifacts.put({ path, mime: "text/plain", data })
  const shown = head(text, Math.max(0, room - 200))
  const note = `\n[${number.format(shown.length)} of ${number.format(text.length)} characters` +
    `${more(whole, cap, ` from offset ${shown.length}`, "the rest")}]`
  return { text: head(`${shown}${note}`, Math.max(room, note.length)), whole }
}

/** What a script printed as text, and the artifact that has it where it is none. */
export const decoded = (
  bytes: Uint8Array,
  cap: Cap,
  made: ReadonlyArray<Artifacts.Artifact>
): { readonly text: string; readonly binary: Artifacts.Artifact | undefined } => {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isUtf8(all)) return { text: all.toString("utf8"), binary: undefined }
  const binary = cap.artifacts.put({
    path: freePath("stdout.bin", made),
    mime: "application/octet-stream",
    data: bytes
  })
  return { text: `[standard output is not text (${sizeOf(binary.size)})${reference(binary, cap)}]`, binary }
}

/** What the server did not send. */
export const missing = (truncated: ReadonlyArray<string>): string => {
  const cut = truncated.filter((what) => what !== "stderr")
  return cut.length === 0 ? "" : `[the server cut ${cut.join(" and ")} at its limit]`
}

/** So many files are told with their kind and size, those after them only with what they are read by. */
const maxTold = 50

/** The files that a run made, one a line, in a third of the output at most; where they are more, the artifact that lists all. */
export const files = (
  made: ReadonlyArray<Artifacts.Artifact>,
  cap: Cap
): { readonly text: string; readonly list: ReadonlyArray<Artifacts.Artifact> } => {
  if (made.length === 0) return { text: "", list: [] }
  const lines = made.map((artifact, index) => {
    const kind = index < maxTold ? ` (${artifact.mime}, ${sizeOf(artifact.size)})` : ""
    return `- ${JSON.stringify(artifact.path)}${kind}${reference(artifact, cap)}`
  })
  let room = Math.floor(cap.maxOutput / 3)
  const count = lines.findIndex((line) => (room -= line.length + 1) < 0)
  if (count === -1) return { text: ["Files:", ...lines].join("\n"), list: [] }
  const all = cap.artifacts.put({
    path: freePath("files.json", made),
    mime: "application/json",
    data: Buffer.from(
      JSON.stringify(made.map(({ id, mime, path, size }) => ({ path, artifact: id, mime, size })), null, 1)
    )
  })
  const rest = `- and ${number.format(made.length - count)} more${more(all, cap, "", "a list of all")}`
  return { text: ["Files:", ...lines.slice(0, count), rest].join("\n"), list: [all] }
}
