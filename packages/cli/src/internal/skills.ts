import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as SkillManifest from "@skillscale/core/SkillManifest"
import * as Suggestion from "@skillscale/core/Suggestion"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { constants } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"
import * as Prepare from "./prepare.ts"
import * as SkillState from "./skillState.ts"

const position = (diagnostic: SkillManifest.Diagnostic) => `${diagnostic.file}:${diagnostic.line}`

const print = (diagnostic: SkillManifest.Diagnostic) =>
  Io.note(Exit.oneLine(`${position(diagnostic)}: ${diagnostic.severity}: ${diagnostic.message} (${diagnostic.code})`))

const scan = (folder: string) =>
  Effect.mapError(SkillDiscovery.scan({ directory: folder }), (error) => Exit.usage(error.message))

const summary = (skill: SkillDiscovery.Skill) => ({ ...SkillDiscovery.info(skill), root: skill.root })

export interface ListInput {
  readonly directory: string
  readonly json: boolean
}

export const list = Effect.fnUntraced(function*(input: ListInput) {
  const catalog = yield* scan(input.directory)
  yield* Effect.forEach(catalog.diagnostics, print)
  const states = yield* Prepare.inspect(catalog.skills)
  if (input.json) {
    const all = catalog.skills.map((skill, index) => ({ ...summary(skill), dependencies: states[index] ?? null }))
    return yield* Io.line(JSON.stringify(all, null, 2))
  }
  const width = Math.max(0, ...catalog.skills.map((skill) => skill.name.length))
  for (const [index, skill] of catalog.skills.entries()) {
    const remark = SkillState.remark(states[index])
    const text = `${skill.description}${remark === "" ? "" : ` (${remark})`}`
    yield* Io.line(`${skill.name.padEnd(width)}  ${skill.topic}  ${Exit.oneLine(text)}`)
  }
  if (catalog.skills.length === 0) {
    yield* Io.note(`no skills in ${input.directory}; make one with: skillscale skills new NAME`)
  }
})

const pick = Effect.fnUntraced(function*(catalog: SkillDiscovery.Catalog, folder: string, name: string) {
  const skill = catalog.skills.find((candidate) => candidate.name === name)
  if (skill !== undefined) return skill
  const names = catalog.skills.map((candidate) => candidate.name)
  const near = Suggestion.near(name, names)
  const hint = near.length === 0 ? "" : `; did you mean ${near.join(", ")}?`
  return yield* Exit.usage(
    `there is no skill ${JSON.stringify(name)} in ${folder}${hint}; there are: ${names.join(", ") || "none"}`
  )
})

const find = (folder: string, name: string) => Effect.flatMap(scan(folder), (catalog) => pick(catalog, folder, name))

export interface ShowInput extends ListInput {
  readonly name: string
}

export const show = Effect.fnUntraced(function*(input: ShowInput) {
  const skill = yield* find(input.directory, input.name)
  const text = yield* Effect.mapError(manifestText(skill.file), Exit.usage)
  if (!input.json) {
    if (Option.isSome(skill.refusal)) yield* Io.note(Exit.oneLine(`warning: calls are refused: ${skill.refusal.value}`))
    return yield* Io.write(text)
  }
  const [dependencies = null] = yield* Prepare.inspect([skill])
  const schemas = {
    input: Option.getOrNull(skill.input),
    output: Option.getOrNull(skill.output),
    refusal: Option.getOrNull(skill.refusal)
  }
  yield* Io.line(JSON.stringify({ ...summary(skill), ...schemas, dependencies, files: skill.files }, null, 2))
})

export interface PrepareInput {
  readonly names: ReadonlyArray<string>
  readonly directory: string
}

export const prepare = Effect.fnUntraced(function*(input: PrepareInput) {
  const catalog = yield* scan(input.directory)
  yield* Effect.forEach(catalog.diagnostics, print)
  const named = yield* Effect.forEach(new Set(input.names), (name) => pick(catalog, input.directory, name))
  const skills = named.length === 0 ? catalog.skills : named
  if (skills.length === 0) {
    return yield* Io.note(`no skills in ${input.directory}; make one with: skillscale skills new NAME`)
  }
  yield* Prepare.prepare(skills)
})

/** Reads a SKILL.md; a pipe or a device in its place must not hold the command up. Fails with what is wrong. */
const manifestText = (file: string): Effect.Effect<string, string> =>
  Effect.tryPromise({
    try: async () => {
      const handle = await Fs.open(file, constants.O_RDONLY | constants.O_NONBLOCK)
      try {
        const stat = await handle.stat()
        if (!stat.isFile()) throw new Error("it is not a file")
        if (stat.size > SkillManifest.maxBytes) throw new Error(`it is larger than ${SkillManifest.maxBytes} bytes`)
        return await handle.readFile("utf8")
      } finally {
        await handle.close()
      }
    },
    catch: (cause) => `cannot read ${file}: ${cause instanceof Error ? cause.message : String(cause)}`
  })

const validateOne = Effect.fnUntraced(function*(file: string) {
  const read = yield* Effect.result(manifestText(file))
  if (Result.isFailure(read)) {
    yield* Io.note(`${file}: error: ${read.failure}`)
    return false
  }
  const text = read.success
  const folder = Path.basename(Path.dirname(Path.resolve(file)))
  const result = SkillManifest.validate(text, { file, folder })
  if (Result.isSuccess(result)) {
    const flaws = yield* SkillDiscovery.schemaFlaws(Path.dirname(file), result.success.manifest)
    const diagnostics = [
      ...result.success.diagnostics,
      ...flaws.map((diagnostic) => ({ ...diagnostic, severity: "error" as const }))
    ]
    yield* Effect.forEach(diagnostics, print)
    return diagnostics.every((diagnostic) => diagnostic.severity !== "error")
  }
  yield* Effect.forEach(result.failure.diagnostics, print)
  return false
})

const manifests = async (folder: string, depth: number): Promise<ReadonlyArray<string>> => {
  const entries = await Fs.readdir(folder, { withFileTypes: true })
  if (entries.some((entry) => entry.name === "SKILL.md")) return [Path.join(folder, "SKILL.md")]
  if (depth === 0) return []
  const inner = entries.filter((entry) =>
    entry.isDirectory() && entry.name !== "node_modules" && !entry.name.startsWith(".")
  )
  return (await Promise.all(inner.map((entry) => manifests(Path.join(folder, entry.name), depth - 1)))).flat().sort()
}

export interface ValidateInput {
  readonly target: Option.Option<string>
  readonly directory: string
}

export const validate = Effect.fnUntraced(function*(input: ValidateInput) {
  const folder = Option.getOrElse(input.target, () => input.directory)
  const files = yield* Effect.tryPromise({
    try: () => manifests(folder, 6),
    catch: () => Exit.usage(`${folder} is not a folder that can be read; name a skill, or a folder with skills`)
  })
  if (files.length === 0) {
    return yield* Exit.usage(`there is no SKILL.md below ${folder}; make a skill with: skillscale skills new NAME`)
  }
  const valid = yield* Effect.forEach(files, validateOne)
  const bad = valid.filter((ok) => !ok).length
  yield* Io.line(`${files.length - bad} of ${files.length} ${files.length === 1 ? "skill is" : "skills are"} valid`)
  if (bad > 0) return yield* Exit.usage("")
})

const template = (name: string, description: string) =>
  `---
name: ${name}
description: ${JSON.stringify(description)}
license: MIT
---

# ${name}

Tell the agent here when to use the skill, what it takes and what it answers.

## Usage

The skill reads text on standard input and prints the number of its lines and words.

\`\`\`sh
python3 scripts/run.py < notes.txt
\`\`\`
`

const script = `"""Counts the lines and words of standard input."""
import sys


def main() -> int:
    text = sys.stdin.read()
    if not text.strip():
        print("there is no input; pass text on standard input", file=sys.stderr)
        return 1
    print(f"{len(text.splitlines())} lines, {len(text.split())} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
`

export interface CreateInput {
  readonly name: string
  readonly directory: string
  readonly category: string
  readonly description: string
}

const isName = (value: string) => /^[a-z0-9]+(-[a-z0-9]+)*$/.test(value) && value.length <= 64

export const create = Effect.fnUntraced(function*(input: CreateInput) {
  for (const [what, value] of [["NAME", input.name], ["--category", input.category]] as const) {
    if (!isName(value)) {
      return yield* Exit.usage(
        `${what} ${JSON.stringify(value)}: expected 1 to 64 of a-z, 0-9 and single hyphens inside`
      )
    }
  }
  const root = Path.join(input.directory, input.category, input.name)
  const file = Path.join(root, "SKILL.md")
  const manifest = template(input.name, input.description)
  const checked = SkillManifest.validate(manifest, { file, folder: input.name })
  if (Result.isFailure(checked)) {
    const why = checked.failure.diagnostics.map(({ message }) => message).join("; ")
    return yield* Exit.usage(`--description ${JSON.stringify(input.description)}: ${why}`)
  }
  const exists = yield* Effect.promise(() => Fs.access(root).then(() => true, () => false))
  if (exists) return yield* Exit.usage(`${root} exists already; choose another name, or remove it first`)
  // The manifest comes last: with it the folder is a skill, and a running server takes it up.
  yield* Io.save(Path.join(root, "scripts", "run.py"), script)
  yield* Io.save(file, manifest)
  yield* Io.line(root)
})
