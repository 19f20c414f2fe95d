/**
 * Makes skills of tools. Such a skill has two files, which are nowhere on disk: `SKILL.md`, and `tool.json` with the definition of
 * the tool, so that the digest changes when that does.
 */
import type * as Control from "@skillscale/core/Control"
import * as JsonSchema from "@skillscale/core/JsonSchema"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as SkillManifest from "@skillscale/core/SkillManifest"
import * as Topic from "@skillscale/core/Topic"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as MountNames from "./mountNames.ts"
import * as MountTool from "./mountTool.ts"

/** The file that stands for the entry point. */
export const entry = "tool.json"

const maxDescription = 1024

/** A skill, and the tool that it is. */
export interface Mounted {
  readonly tool: MountTool.Tool
  readonly skill: SkillDiscovery.Skill
  readonly document: SkillDiscovery.Document
  readonly hints: Control.Hints
  /** By their paths. */
  readonly contents: ReadonlyMap<string, Uint8Array>
}

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex")

const fault = (
  severity: SkillManifest.Diagnostic["severity"],
  file: string,
  message: string
): SkillManifest.Diagnostic => ({ severity, file, line: 1, code: "InvalidSchema", message })

const oneLine = (text: string | undefined): string => (text ?? "").replaceAll(/\s+/g, " ").trim()

const cut = (text: string): string => {
  const characters = Array.from(text)
  return characters.length <= maxDescription ? text : `${characters.slice(0, maxDescription - 1).join("")}…`
}

const titleOf = (tool: MountTool.Tool): string => oneLine(tool.title ?? tool.annotations?.title)

const descriptionOf = (mount: string, tool: MountTool.Tool): string => {
  const said = oneLine(tool.description)
  if (said !== "") return cut(said)
  const title = titleOf(tool)
  return cut(`${title === "" ? "" : `${title}. `}The tool ${JSON.stringify(tool.name)} of the MCP server ${mount}.`)
}

/** What MCP says of a tool that says nothing: it changes things, may destroy some, and deals with the world outside. */
export const hintsOf = ({ annotations = {} }: MountTool.Tool): Control.Hints => {
  const readOnly = annotations.readOnlyHint ?? false
  return {
    readOnly,
    destructive: !readOnly && (annotations.destructiveHint ?? true),
    idempotent: annotations.idempotentHint ?? readOnly,
    openWorld: annotations.openWorldHint ?? true
  }
}

/** Of a tool that is gone. */
export const unknownHints: Control.Hints = { readOnly: false, destructive: true, idempotent: false, openWorld: true }

interface Declared {
  readonly schema: Option.Option<Schema.JsonObject>
  /** Why it is not told. */
  readonly problem: string | undefined
}

const declared = (schema: Schema.JsonObject | undefined): Declared => {
  if (schema === undefined) return { schema: Option.none(), problem: undefined }
  const compiled = JsonSchema.compile(schema)
  return Result.isSuccess(compiled)
    ? { schema: Option.some(schema), problem: undefined }
    : { schema: Option.none(), problem: compiled.failure }
}

/** A fence that is longer than any in the text. */
const fenced = (text: string): string => {
  const longest = Math.max(2, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length))
  const fence = "`".repeat(longest + 1)
  return `${fence}json\n${text}\n${fence}`
}

const schemaText = (what: string, { problem, schema }: Declared, absent: string): ReadonlyArray<string> => {
  if (Option.isSome(schema)) {
    return [`The JSON Schema of ${what}:`, fenced(JSON.stringify(MountTool.ordered(schema.value), null, 2))]
  }
  return [
    problem === undefined
      ? absent
      : `The JSON Schema of ${what} is in \`${entry}\`. Nobody checks it before a call: ${problem}.`
  ]
}

const bodyOf = (mount: string, name: string, tool: MountTool.Tool, input: Declared, output: Declared): string => {
  const title = titleOf(tool)
  const description = tool.description?.trim() ?? ""
  return [
    `# ${title === "" ? name : title}`,
    `Calls the tool ${JSON.stringify(tool.name)} of the MCP server ${mount}.`,
    ...description === "" ? [] : [description],
    "## Input",
    "Give the arguments as one JSON object on standard input, or nothing where there are none. " +
    "There are no scripts, and arguments of a command line, files and variables are refused.",
    ...schemaText("the arguments", input, "The server tells no schema of the arguments."),
    "## Output",
    ...schemaText(
      "the result",
      output,
      "Standard output is the text of the answer. Images, sounds, embedded resources and links come as files."
    )
  ].join("\n\n")
}

const documentOf = (mount: string, name: string, tool: MountTool.Tool, input: Declared, output: Declared): string =>
  [
    "---",
    `name: ${name}`,
    `description: ${JSON.stringify(descriptionOf(mount, tool))}`,
    "metadata:",
    `  mcp-server: ${JSON.stringify(mount)}`,
    `  mcp-tool: ${JSON.stringify(tool.name)}`,
    "---",
    bodyOf(mount, name, tool, input, output),
    ""
  ].join("\n")

const skillOf = (mount: string, name: string, tool: MountTool.Tool): Mounted | string => {
  const root = `/mcp/${mount}/${name}`
  const input = declared(tool.inputSchema)
  const output = declared(tool.outputSchema)
  const text = documentOf(mount, name, tool, input, output)
  const parsed = SkillManifest.parse(text, { file: `${root}/SKILL.md`, folder: name })
  if (Result.isFailure(parsed)) return parsed.failure.diagnostics.map(({ message }) => message).join("; ")
  const { body, frontMatter, manifest } = parsed.success
  const contents = new Map([
    ["SKILL.md", Buffer.from(text)],
    [entry, Buffer.from(MountTool.toText(tool))]
  ])
  const files = Array.from(contents, ([path, bytes]) => ({
    path,
    size: bytes.byteLength,
    executable: false,
    sha256: sha256(bytes)
  }))
  const problems = [["input", input.problem], ["output", output.problem]] as const
  const skill: SkillDiscovery.Skill = {
    name,
    description: manifest.description,
    category: mount,
    topic: Topic.fromCategory(mount),
    root,
    file: `${root}/SKILL.md`,
    manifest,
    digest: SkillDiscovery.digest(files),
    files,
    entry: Option.some(entry),
    scripts: [],
    input: input.schema,
    output: output.schema,
    refusal: Option.none(),
    diagnostics: problems.flatMap(([kind, problem]) =>
      problem === undefined
        ? []
        : [
          fault(
            "warning",
            `${root}/${entry}`,
            `the ${kind} schema of the tool ${JSON.stringify(tool.name)} is not checked: ${problem}`
          )
        ]
    )
  }
  const document = { frontMatter, instructions: body, size: Buffer.byteLength(text), sha256: sha256(text) }
  return { tool, skill, document, hints: hintsOf(tool), contents }
}

/** All skills of a server by their names, in the order of these, and what is wrong with tools that are left out. */
export interface Mounts {
  readonly byName: ReadonlyMap<string, Mounted>
  readonly catalog: SkillDiscovery.Catalog
}

export const none: Mounts = { byName: new Map(), catalog: { skills: [], diagnostics: [] } }

/** Makes the skills of the tools that a server lists. Of two tools with one name the first is taken. */
export const make = (mount: string, listed: ReadonlyArray<unknown>): Mounts => {
  const tools = new Map<string, MountTool.Tool>()
  const diagnostics: Array<SkillManifest.Diagnostic> = []
  const leaveOut = (which: string, why: string) =>
    diagnostics.push(fault("error", `/mcp/${mount}`, `the tool ${which} is left out: ${why}`))
  const skills = listed.filter(MountTool.isSkill).length
  if (skills > 0) {
    const why = `${skills} tools are left out: they are skills of a stack already, which agents reach there`
    diagnostics.push(fault("error", `/mcp/${mount}`, why))
  }
  for (const [index, value] of listed.entries()) {
    if (MountTool.isSkill(value)) continue
    const tool = MountTool.read(value)
    if (typeof tool === "string") leaveOut(`number ${index + 1}`, tool)
    else if (tools.has(tool.name)) leaveOut(JSON.stringify(tool.name), "another one has its name")
    else tools.set(tool.name, tool)
  }
  const names = MountNames.make(Array.from(tools.keys()))
  const byName = new Map<string, Mounted>()
  for (const tool of tools.values()) {
    const name = names.get(tool.name) ?? ""
    const found = byName.has(name) ? "another one becomes the same skill" : skillOf(mount, name, tool)
    if (typeof found === "string") leaveOut(JSON.stringify(tool.name), found)
    else byName.set(name, found)
  }
  const mounted = Array.from(byName.values()).sort((one, other) => one.skill.name < other.skill.name ? -1 : 1)
  for (const { skill } of mounted) diagnostics.push(...skill.diagnostics)
  return {
    byName: new Map(mounted.map((one) => [one.skill.name, one])),
    catalog: { skills: mounted.map(({ skill }) => skill), diagnostics }
  }
}
