/** What has to be there before a skill's scripts can run, as its files say. */
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Path from "node:path"
import * as PackageJson from "./dependenciesPackageJson.ts"
import * as Requirements from "./dependenciesRequirements.ts"

export type Skill = Pick<SkillDiscovery.Skill, "name" | "root" | "digest" | "files" | "scripts">

export interface Plan {
  /** Each distinct set of requirements once. */
  readonly python: ReadonlyArray<Requirements.Requirements>
  /** Which of `python` a script runs with. */
  readonly pythonOf: (script: string) => number | undefined
  /** Where in the skill `node_modules` appears, and what is in it. */
  readonly node: ReadonlyMap<string, PackageJson.NodePackages>
}

export const maxFileBytes = 1024 * 1024
const maxEnvironments = 16
const locks = ["npm-shrinkwrap.json", "package-lock.json"]

const isPython = (path: string): boolean => /\.py$/i.test(path)

const folders = (skill: Skill): ReadonlySet<string> =>
  new Set([".", ...skill.scripts.map((script) => Path.posix.dirname(script))])

/** Tells whether any file of the skill could ask for packages. */
export const mayNeed = (skill: Skill): boolean => {
  const places = folders(skill)
  return skill.files.some(({ path }) =>
    isPython(path) || /^(?:requirements\.txt|package\.json)$/.test(Path.posix.basename(path)) &&
      places.has(Path.posix.dirname(path))
  )
}

const hasOwn = (skill: Skill, folder: string): boolean => skill.files.some(({ path }) => path.startsWith(`${folder}/`))

/**
 * Reads what the skill needs. `read` gives the text of a file of the skill, which must be what the catalog knows of it.
 * `hasPython` tells that the skill brings an environment of its own. Throws `Refused`.
 */
export const make = (
  skill: Skill,
  read: (path: string) => string | undefined,
  options: Requirements.Options & { readonly hasPython: boolean }
): Plan => {
  const files = new Set(skill.files.map(({ path }) => path))
  const python: Array<Requirements.Requirements> = []
  const known = new Map<string, number>()
  const indexOf = (needs: Requirements.Requirements): number | undefined => {
    if (needs.packages.length === 0 && needs.python === "") return undefined
    const key = JSON.stringify(needs)
    const index = known.get(key) ?? python.push(needs) - 1
    known.set(key, index)
    if (python.length > maxEnvironments) {
      throw new Requirements.Refused(`the scripts need more than ${maxEnvironments} different Python environments`)
    }
    return index
  }
  const own = new Map<string, number | undefined>()
  const ofFolder = new Map<string, number | undefined>()
  const node = new Map<string, PackageJson.NodePackages>()
  if (!options.hasPython) {
    for (const { path, size } of skill.files) {
      if (!isPython(path) || size > maxFileBytes) continue
      const needs = Requirements.inline(read(path) ?? "", path, options)
      if (needs !== undefined) own.set(path, indexOf(needs))
    }
    for (const folder of folders(skill)) {
      const path = Path.posix.join(folder, "requirements.txt")
      if (files.has(path)) ofFolder.set(folder, indexOf(Requirements.file(path, read, options)))
    }
  }
  for (const folder of folders(skill)) {
    const path = Path.posix.join(folder, "package.json")
    const modules = Path.posix.join(folder, "node_modules")
    if (!files.has(path) || hasOwn(skill, modules)) continue
    const lockName = locks.map((name) => Path.posix.join(folder, name)).find((name) => files.has(name))
    const lockText = lockName === undefined ? undefined : read(lockName)
    const lock = lockName === undefined || lockText === undefined ? undefined : { name: lockName, text: lockText }
    const wanted = PackageJson.read(path, read(path) ?? "", lock, options)
    if (wanted !== undefined) node.set(modules, wanted)
  }
  return {
    python,
    node,
    pythonOf: (script) => {
      if (own.has(script)) return own.get(script)
      const folder = Path.posix.dirname(script)
      return ofFolder.has(folder) ? ofFolder.get(folder) : ofFolder.get(".")
    }
  }
}
