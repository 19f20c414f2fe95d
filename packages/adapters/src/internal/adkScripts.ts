/** Runs what ADK's `SkillToolset` makes of a script of a skill: the script itself, on its server. */
import { type CodeExecutionInput, type CodeExecutionResult, type File, FileContentEncoding } from "@google/adk"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { ToolError } from "@skillscale/tools/ToolError"
import { isUtf8 } from "node:buffer"
import { randomBytes } from "node:crypto"
import * as AdkRegistry from "./adkRegistry.ts"
import * as Images from "./images.ts"
import * as ModelError from "./modelError.ts"

/** The code around a script, for the languages that ADK knows and servers run. */
const wrappers: ReadonlyArray<RegExp> = [
  /^(?:require\('ts-node\/register'\);\n)?require\('\.\/(.+)'\);$/,
  /^import runpy\nrunpy\.run_path\('\.\/(.+)', run_name='__main__'\)$/,
  /^source \.\/(.+) "\$@"$/
]

const scriptOf = (code: string): string | undefined => {
  const path = wrappers.map((wrapper) => wrapper.exec(code)?.[1]).find((found) => found !== undefined)
  return path === undefined || path.startsWith("scripts/") ? path : `scripts/${path}`
}

const skillOf = (files: ReadonlyArray<File>): { readonly skill: string; readonly topic: string } | undefined => {
  const marker = files.find(({ name }) => name === `assets/${AdkRegistry.marker}`)
  if (marker === undefined) return undefined
  const encoding = marker.contentEncoding === FileContentEncoding.UTF8 ? "utf8" : "base64"
  const { skill, topic }: { readonly skill?: unknown; readonly topic?: unknown } = JSON.parse(
    Buffer.from(marker.content, encoding).toString("utf8")
  )
  return typeof skill === "string" && typeof topic === "string" ? { skill, topic } : undefined
}

const argumentsOf = (args: CodeExecutionInput["args"] = []): ReadonlyArray<string> =>
  Array.isArray(args) ? args.map(String) : Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)])

/** ADK writes the content to a file, and then gives its model all that can be enumerated. */
const fileOf = ({ data, mime, path }: Artifacts.Artifact): File =>
  Object.defineProperty(
    { name: path, mimeType: mime, contentEncoding: FileContentEncoding.BASE64, content: "" },
    "content",
    { value: Images.base64(data), enumerable: false }
  )

const streams = (structured: unknown): { readonly stdout: string; readonly stderr: string } => {
  const { stderr = "", stdout = "" }: { readonly stdout?: string; readonly stderr?: string } =
    typeof structured === "object" && structured !== null ? structured : {}
  return { stdout, stderr }
}

/** No two calls have the same name: ADK gives a file another one where it has had one of that name, and the text would not know. */
const wholeFile = (whole: Artifacts.Artifact): Artifacts.Artifact => ({
  ...whole,
  path: whole.path.replace(/(?=\.[^.]*$)/, `-${randomBytes(8).toString("hex")}`)
})

/** The text as far as it is that of the whole. `SkillToolset` has no tool that reads artifacts: the note after it is another here. */
const beginning = (stdout: string, { data, path }: Artifacts.Artifact): string => {
  const where = `the output file ${JSON.stringify(path)}`
  if (!isUtf8(data)) return `[standard output is not text: it is ${where}]`
  const all = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  // A unit of UTF-16 takes three bytes at most.
  const text = all.toString("utf8", 0, 3 * stdout.length)
  let length = 0
  while (length < stdout.length && stdout[length] === text[length]) length++
  return `${text.slice(0, length)}\n[the beginning of ${data.byteLength} bytes; all of them are ${where}]`
}

const resultOf = ({ artifacts, structured, whole }: SkillTools.Output): CodeExecutionResult => {
  const { stderr, stdout } = streams(structured)
  if (whole === undefined) return { stdout, stderr, outputFiles: artifacts.map(fileOf) }
  const named = wholeFile(whole)
  return {
    stdout: beginning(stdout, named),
    stderr,
    outputFiles: artifacts.map((artifact) => fileOf(artifact === whole ? named : artifact))
  }
}

/** What ADK makes of an error itself, with files, for which it has no other way. */
const failureOf = (script: string, { artifacts, text }: ToolError): CodeExecutionResult => {
  let told = text
  const outputFiles = artifacts.map((artifact) => {
    const reading = `read_artifact ${JSON.stringify(artifact.id)}`
    if (!told.includes(reading)) return fileOf(artifact)
    const named = wholeFile(artifact)
    told = told.replaceAll(reading, `the output file ${JSON.stringify(named.path)}`)
    return fileOf(named)
  })
  const error = `Failed to execute script '${script}': ${told}`
  return Object.assign({ stdout: "", stderr: "", outputFiles }, { error, errorCode: "EXECUTION_ERROR" })
}

export const execute = async (
  toolbox: Toolbox,
  { args, code, inputFiles }: CodeExecutionInput,
  signal: AbortSignal | undefined
): Promise<CodeExecutionResult> => {
  const skill = skillOf(inputFiles)
  const script = scriptOf(code)
  if (skill === undefined || script === undefined) {
    throw new Error("only scripts of skills that come from the registry of SkillScale can be run")
  }
  try {
    return resultOf(
      await toolbox.call("run_skill_script", { ...skill, script, args: argumentsOf(args) }, { signal })
    )
  } catch (error) {
    if (error instanceof ToolError && error.artifacts.length > 0) return failureOf(script, error)
    throw ModelError.modelError(error)
  }
}
