/** Makes names of skills from the names of tools: lower-case letters, digits and single hyphens, 64 at most. */
import { createHash } from "node:crypto"

const maxLength = 64
const hashLength = 6

/** What tells two tools apart whose names become the same. As UTF-8, halves of surrogate pairs would all be the same. */
const hashOf = (tool: string): string =>
  createHash("sha256").update(JSON.stringify(tool)).digest("hex").slice(0, hashLength)

const spelled = (tool: string): string =>
  tool.replaceAll(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-+|-+$/g, "")

const marked = (name: string, tool: string): string => {
  const begin = name.slice(0, maxLength - hashLength - 1).replace(/-+$/, "")
  return `${begin === "" ? "tool" : begin}-${hashOf(tool)}`
}

/**
 * Names the skill of each tool. A tool whose name is a skill's name keeps it. Of several others that would have one name, or the
 * name of such a tool, each gets the first digits of the SHA-256 of its own name, and so does one whose name is too long or has
 * neither letter nor digit: what a name means does not depend on the order of the tools.
 */
export const make = (tools: ReadonlyArray<string>): ReadonlyMap<string, string> => {
  const counts = new Map<string, number>()
  for (const tool of new Set(tools)) counts.set(spelled(tool), (counts.get(spelled(tool)) ?? 0) + 1)
  return new Map(tools.map((tool) => {
    const name = spelled(tool)
    const isPlain = name !== "" && name.length <= maxLength && (name === tool || counts.get(name) === 1)
    return [tool, isPlain ? name : marked(name, tool)]
  }))
}
