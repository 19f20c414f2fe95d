export interface Repair {
  readonly text: string
  /** The lines that were changed, counted from 1. */
  readonly lines: ReadonlyArray<number>
}

const field = /^( *)([\w.-]+:[ \t]+)(.*)$/
const startsOtherwise = /^["'|>[{&*!#]/
const colon = /:(?=[ \t]|$)/

/** Quotes the plain values that contain a colon, also where they go on over several lines. The line numbers stay. */
export const quotePlainValues = (yaml: string): Repair => {
  const lines = yaml.split("\n")
  const changed: Array<number> = []
  let index = 0
  while (index < lines.length) {
    const [matched, indent = "", key = "", value = ""] = field.exec(withoutReturn(lines[index] ?? "")) ?? []
    if (matched === undefined) {
      index += 1
      continue
    }
    const end = endOfValue(lines, index + 1, indent.length)
    if (!startsOtherwise.test(value)) {
      const parts = [value, ...lines.slice(index + 1, end).map(withoutReturn)].map(withoutComment)
      if (parts.some((part) => colon.test(part))) {
        const quoted = parts.map((part) => part.replaceAll("'", "''").trimEnd())
        quoted[0] = `${indent}${key}'${quoted[0] ?? ""}`
        quoted[quoted.length - 1] = `${quoted[quoted.length - 1] ?? ""}'`
        lines.splice(index, quoted.length, ...quoted)
        changed.push(index + 1)
      }
    }
    index = end
  }
  return { text: lines.join("\n"), lines: changed }
}

const withoutReturn = (line: string): string => line.endsWith("\r") ? line.slice(0, -1) : line

const withoutComment = (line: string): string => line.replace(/(^|[ \t])#.*$/, "")

const endOfValue = (lines: ReadonlyArray<string>, from: number, indent: number): number => {
  let end = from
  for (let index = from; index < lines.length; index++) {
    const line = withoutReturn(lines[index] ?? "")
    if (line.trim() !== "") {
      if (line.length - line.trimStart().length <= indent) {
        break
      }
      end = index + 1
    }
  }
  return end
}
