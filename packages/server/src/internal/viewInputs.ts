/** Which input files may be placed in a view, and placing them. */
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ViewFiles from "./viewFiles.ts"

const isCode = (path: string): boolean => /\.(?:py[cdo]?|so|pth|[cm]?[jt]s|node|sh|bash|rb|pl|pm)$/i.test(path)

const isNode = (path: string): boolean => /\.[cm]?[jt]s$/.test(path)

const isReadByNode = (part: string): boolean => part === "node_modules" || part === "package.json"

const ancestors = (path: string): ReadonlyArray<string> => {
  const parts = path.split("/")
  return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join("/"))
}

/** Lists the folders that files need, each after the one that it is in. */
export const foldersOf = (paths: Iterable<string>): ReadonlyArray<string> => [...new Set([...paths].flatMap(ancestors))]

const overlaps = (left: string) => (right: string): boolean =>
  left === right || left.startsWith(`${right}/`) || right.startsWith(`${left}/`)

/**
 * Finds the first input file that may not be placed: where a file or folder of the skill or another input is, where an
 * interpreter would load it in the place of what a script means to load, and where a link is.
 */
export const refuse = (
  skill: Pick<SkillDiscovery.Skill, "files" | "scripts">,
  inputs: ReadonlyArray<string>,
  links: ReadonlyArray<string>
): string | undefined => {
  if (inputs.length === 0) return undefined
  const own = new Set(skill.files.map((file) => file.path))
  const given = new Set(inputs)
  const folders = new Set([...own, ...inputs].flatMap(ancestors))
  const code = new Set(skill.scripts.map((script) => Path.posix.dirname(script)))
  const rootHasCode = code.delete(".")
  const hasNode = skill.scripts.some(isNode)
  return inputs.find((path) =>
    own.has(path) || folders.has(path) || code.has(path) ||
    hasNode && path.split("/").some(isReadByNode) ||
    rootHasCode && isCode(path) ||
    ancestors(path).some((folder) => own.has(folder) || given.has(folder) || code.has(folder))
  ) ?? inputs.find((path) => links.some(overlaps(path)))
}

/** Writes the input files and makes the links, in folders that are there. */
export const place = Effect.fnUntraced(function*(
  root: string,
  files: Readonly<Record<string, Uint8Array>>,
  links: Readonly<Record<string, string>>,
  owner?: ViewFiles.Owner
) {
  const inputs = Object.entries(files).map(([path, data]) => ({ path, data }))
  const placed = yield* ViewFiles.fill(inputs, ({ data, path }) => ViewFiles.place(Path.join(root, path), data, owner))
  for (const [path, target] of Object.entries(links)) {
    yield* ViewFiles.attempt(path, () => Fs.symlinkSync(target, Path.join(root, path)))
  }
  return placed
})
