/** Makes of a tool's answer what a script would have left: output, diagnostics, an exit code and files. */
import type * as WorkingView from "@skillscale/server/WorkingView"
import mime from "mime"
import { createHash } from "node:crypto"
import * as Path from "node:path"

/** The bounds of the files of one answer, as of a run. */
export const maxFiles = 256
export const maxFileBytes = 32 * 1024 * 1024

/** The bound of standard output, as of a run. */
export const maxOutputBytes = 16 * 1024 * 1024

/** A part of an answer, as far as it is looked at. */
export type Block =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image" | "audio"; readonly data: string; readonly mimeType: string }
  | { readonly type: "resource_link"; readonly uri: string; readonly name: string }
  | {
    readonly type: "resource"
    readonly resource: {
      readonly uri: string
      readonly mimeType?: string | undefined
      readonly text?: string
      readonly blob?: string
    }
  }

/** What a tool answered. */
export interface Answer {
  readonly content: ReadonlyArray<Block>
  readonly structuredContent?: unknown
  readonly isError?: boolean | undefined
}

export interface Left {
  readonly exitCode: number
  readonly stdout: Uint8Array
  readonly stdoutTruncated: boolean
  /** Beside what was said before. */
  readonly stderr: string
  readonly artifacts: ReadonlyArray<WorkingView.Artifact>
  readonly artifactsTruncated: boolean
}

/** Structured content that is larger than standard output may be: half of it would be no JSON. */
export const tooLarge = "too large"

/** A file's name as a URI ends with it, without what a path must not have. */
const nameOf = (uri: string): string => {
  const last = uri.replace(/[?#].*$/s, "").split("/").findLast((part) => part !== "") ?? ""
  let name = last
  try {
    name = decodeURIComponent(last)
  } catch {
    // It stays as it is spelled.
  }
  return name.replaceAll(/[/\\\u0000-\u001f\u007f]+/g, "-").replace(/^\.+/, "").slice(0, 128)
}

const extension = (type: string | undefined): string =>
  (type === undefined ? null : mime.getExtension(type)) ?? (type?.startsWith("text/") === true ? "txt" : "bin")

const collector = () => {
  const files = new Map<string, WorkingView.Artifact>()
  let bytes = 0
  let isTruncated = false

  /** Two files of one name are numbered. */
  const free = (name: string): string => {
    const { ext, name: stem } = Path.parse(name)
    for (let count = 1;; count++) {
      const path = count === 1 ? name : `${stem}-${count}${ext}`
      if (!files.has(path)) return path
    }
  }

  return {
    add: (name: string, data: Uint8Array, type: string | undefined): void => {
      if (files.size >= maxFiles || bytes + data.byteLength > maxFileBytes) {
        isTruncated = true
        return
      }
      bytes += data.byteLength
      const path = free(name)
      files.set(path, {
        path,
        size: data.byteLength,
        sha256: createHash("sha256").update(data).digest("hex"),
        mime: type ?? mime.getType(path) ?? "application/octet-stream",
        data
      })
    },
    result: () => ({ artifacts: Array.from(files.values()), artifactsTruncated: isTruncated })
  }
}

const filesOf = (content: ReadonlyArray<Block>) => {
  const files = collector()
  const counts = { image: 0, audio: 0, resource: 0 }
  const links: Array<Block> = []
  for (const block of content) {
    switch (block.type) {
      case "image":
      case "audio": {
        counts[block.type] += 1
        const name = `${block.type}-${counts[block.type]}.${extension(block.mimeType)}`
        files.add(name, Buffer.from(block.data, "base64"), block.mimeType)
        break
      }
      case "resource": {
        const { blob, mimeType, text, uri } = block.resource
        counts.resource += 1
        const name = nameOf(uri)
        files.add(
          name === "" ? `resource-${counts.resource}.${extension(mimeType)}` : name,
          blob === undefined ? Buffer.from(text ?? "") : Buffer.from(blob, "base64"),
          mimeType
        )
        break
      }
      case "resource_link":
        links.push(block)
        break
      case "text":
        break
    }
  }
  if (links.length > 0) {
    files.add("resource-links.json", Buffer.from(`${JSON.stringify(links, null, 2)}\n`), "application/json")
  }
  return files.result()
}

const textOf = (content: ReadonlyArray<Block>): string =>
  content.flatMap((block) => block.type === "text" ? [block.text] : []).join("\n")

/** Whole characters only, as far as there is room. */
const bounded = (text: string): { readonly stdout: Uint8Array; readonly stdoutTruncated: boolean } => {
  const bytes = Buffer.from(text)
  if (bytes.byteLength <= maxOutputBytes) return { stdout: bytes, stdoutTruncated: false }
  let end = maxOutputBytes
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return { stdout: bytes.subarray(0, end), stdoutTruncated: true }
}

/**
 * Reads an answer. Where the tool has a schema of its output, standard output is the structured content as JSON, else the text, or
 * the structured content where there is no text. The text of a failure is standard error.
 */
export const read = (answer: Answer, hasSchema: boolean): Left | typeof tooLarge => {
  const text = textOf(answer.content)
  const files = filesOf(answer.content)
  if (answer.isError === true) {
    return { exitCode: 1, stdout: new Uint8Array(), stdoutTruncated: false, stderr: text, ...files }
  }
  const { structuredContent } = answer
  const isStructured = structuredContent !== undefined && (hasSchema || text === "")
  const output = bounded(isStructured ? JSON.stringify(structuredContent) : text)
  if (isStructured && output.stdoutTruncated) return tooLarge
  return { exitCode: 0, ...output, stderr: "", ...files }
}
