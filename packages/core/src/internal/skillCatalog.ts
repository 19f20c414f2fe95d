import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Crypto from "node:crypto"
import * as Path from "node:path"
import type { Catalog, Skill, SkillFile } from "../SkillDiscovery.ts"
import * as SkillManifest from "../SkillManifest.ts"
import * as Topic from "../Topic.ts"
import { byBytes, sha256Of } from "./skillFiles.ts"
import * as Schemas from "./skillSchemas.ts"

export interface Candidate {
  readonly root: string
  readonly skill: Skill | undefined
  readonly diagnostics: ReadonlyArray<SkillManifest.Diagnostic>
}

export interface Source {
  readonly root: string
  readonly files: ReadonlyArray<SkillFile & { readonly shebang: boolean }>
  /** Nothing where `SKILL.md` cannot be read, and `diagnostics` tell why. */
  readonly parsed: Result.Result<SkillManifest.Parsed, SkillManifest.Rejected> | undefined
  /** What is in the files that have schemas. */
  readonly contents: ReadonlyMap<string, Uint8Array>
  readonly diagnostics: ReadonlyArray<SkillManifest.Diagnostic>
}

const entryPoints = ["run.sh", "run.py", "run.mjs", "run.js", "run.ts"].map((name) => `scripts/${name}`)

export const digest = (files: ReadonlyArray<Pick<SkillFile, "path" | "sha256">>): string => {
  const sha256 = Crypto.createHash("sha256")
  for (const line of files.map((file) => `${file.path}\0${file.sha256}\0`).sort(byBytes)) {
    sha256.update(line)
  }
  return `sha256:${sha256.digest("hex")}`
}

const categoryOf = (root: string): string => {
  const name = Path.basename(Path.dirname(root)).toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-+|-+$/g, "")
  return name === "" ? "skills" : name.slice(0, Topic.maxBytes - Topic.control(Topic.fromCategory("")).length)
}

const isRunnable = (file: Source["files"][number]): boolean => {
  const parts = file.path.split("/")
  const name = parts.at(-1) ?? ""
  return (parts.length === 1 || parts[0] === "scripts") && name !== "__init__.py" && !name.endsWith(".d.ts") &&
    (/.\.(?:sh|bash|py|mjs|cjs|js|mts|ts)$/.test(name) || file.shebang && file.executable)
}

const decode = (bytes: Uint8Array): string | undefined => {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}

export const fault = (
  severity: SkillManifest.Diagnostic["severity"],
  code: SkillManifest.DiagnosticCode,
  file: string,
  message: string
): SkillManifest.Diagnostic => ({ severity, file, line: 1, code, message })

export const parseText = (
  root: string,
  bytes: Uint8Array
): Result.Result<SkillManifest.Parsed, SkillManifest.Rejected> => {
  const file = Path.join(root, "SKILL.md")
  const text = decode(bytes)
  return text === undefined
    ? Result.fail({ diagnostics: [fault("error", "Unreadable", file, "the text is not UTF-8")] })
    : SkillManifest.parse(text, { file, folder: Path.basename(root) })
}

export const toCandidate = ({ contents, diagnostics, files, parsed, root }: Source): Candidate => {
  const file = Path.join(root, "SKILL.md")
  if (parsed === undefined) {
    return { root, skill: undefined, diagnostics }
  }
  if (Result.isFailure(parsed)) {
    return { root, skill: undefined, diagnostics: [...diagnostics, ...parsed.failure.diagnostics] }
  }
  const { manifest } = parsed.success
  const category = categoryOf(root)
  const paths = new Set(files.map(({ path }) => path))
  const { diagnostics: flaws, ...declared } = Schemas.gather(root, manifest, (path) => {
    const bytes = contents.get(path)
    return bytes === undefined ? paths.has(path) ? Schemas.tooLarge : Schemas.missing : Result.succeed(bytes)
  })
  const all = [...diagnostics, ...parsed.success.diagnostics, ...flaws]
  const skill: Skill = {
    name: manifest.name,
    description: manifest.description,
    category,
    topic: Topic.fromCategory(category),
    root,
    file,
    manifest,
    digest: digest(files),
    files: files.map(({ executable, path, sha256, size }) => ({ path, size, executable, sha256 })),
    entry: Option.fromNullishOr(entryPoints.find((path) => paths.has(path))),
    scripts: files.filter(isRunnable).map(({ path }) => path),
    ...declared,
    diagnostics: all
  }
  return { root, skill, diagnostics: all }
}

export const fromMemory = (root: string, files: Readonly<Record<string, string>>): Candidate => {
  const text = files["SKILL.md"]
  return toCandidate({
    root,
    parsed: text === undefined ? undefined : parseText(root, Buffer.from(text)),
    contents: new Map(
      Object.entries(files).map(([path, content]) => [path, Buffer.from(content)] as const)
        .filter(([, content]) => content.byteLength <= Schemas.maxFileBytes)
    ),
    diagnostics: [],
    files: Object.entries(files).map(([path, content]) => ({
      path,
      size: Buffer.byteLength(content),
      executable: false,
      shebang: content.startsWith("#!"),
      sha256: sha256Of(content)
    })).sort((left, right) => byBytes(left.path, right.path))
  })
}

/** Of several skills with one name, the first in the order of their paths is taken. */
export const toCatalog = (
  candidates: ReadonlyArray<Candidate>,
  diagnostics: ReadonlyArray<SkillManifest.Diagnostic>
): Catalog => {
  const skills = new Map<string, Skill>()
  const found = [...diagnostics]
  for (const candidate of [...candidates].sort((left, right) => byBytes(left.root, right.root))) {
    found.push(...candidate.diagnostics)
    const { skill } = candidate
    const first = skill && skills.get(skill.name)
    if (first !== undefined) {
      const message = `the name ${first.name} is taken by ${first.root}: this skill is left out`
      found.push(fault("warning", "DuplicateName", Path.join(candidate.root, "SKILL.md"), message))
    } else if (skill !== undefined) {
      skills.set(skill.name, skill)
    }
  }
  return {
    skills: Array.from(skills.values()).sort((left, right) => byBytes(left.name, right.name)),
    diagnostics: found
  }
}

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "\"": "&quot;",
  "'": "&#x27;"
}

const escape = (text: string): string => text.replaceAll(/[&<>"']/g, (character) => escapes[character] ?? character)

export const availableSkills = (skills: ReadonlyArray<Pick<Skill, "name" | "description" | "file">>): string =>
  [
    "<available_skills>",
    ...skills.flatMap(({ description, file, name }) => [
      "<skill>",
      ...["<name>", escape(name), "</name>"],
      ...["<description>", escape(description), "</description>"],
      ...["<location>", escape(file), "</location>"],
      "</skill>"
    ]),
    "</available_skills>"
  ].join("\n")
