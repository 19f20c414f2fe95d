/** Runs what ADK's `SkillToolset` makes of a script of a skill: the script itself, on its server. */
import { type CodeExecutionInput, type CodeExecutionResult, type File, FileContentEncoding } from "@google/adk"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
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
    const output = await toolbox.call("run_skill_script", { ...skill, script, args: argumentsOf(args) }, { signal })
    return { ...streams(output.structured), outputFiles: output.artifacts.map(fileOf) }
  } catch (error) {
    throw ModelError.modelError(error)
  }
}
