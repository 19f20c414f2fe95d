/**
 * Reads one requirement of Python (PEP 508) and gives its parts, from which it is written anew: pip and uv never see a skill's own
 * text, in which they find other ends of lines, options and places than this module does.
 */
export interface Requirement {
  readonly name: string
  readonly extras: ReadonlyArray<string>
  readonly versions: ReadonlyArray<string>
  readonly url: string | undefined
  readonly marker: ReadonlyArray<string>
}

const maxLength = 2_000

const variables = [
  "python_full_version|python_version|os_name|sys_platform|platform_release|platform_system|platform_version|platform_machine",
  "platform_python_implementation|implementation_name|implementation_version|extra"
].join("|")

const identifier = /[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?/y
const version = /(?:===|==|~=|!=|<=|>=|<|>) *v?[0-9][A-Za-z0-9.*+!_-]*/y
// No dash after a space, also in strings: pip, which knows none in requirements, begins its options there.
const part = new RegExp(
  `===|==|~=|!=|<=|>=|<|>|[()]|(?:and|or|not|in|${variables})\\b|'(?:[\\w.+*!~,-]| (?!-))*'|"(?:[\\w.+*!~,-]| (?!-))*"`,
  "y"
)

const normalName = (name: string): string => name.toLowerCase().replaceAll(/[-_.]+/g, "-")

/** Gives `undefined` for what is no requirement, or is one in characters other than those of ASCII that can be printed. */
export const parse = (text: string): Requirement | undefined => {
  if (text.length > maxLength || !/^[\x20-\x7e]*$/.test(text)) return undefined
  let at = 0
  const take = (pattern: RegExp): string | undefined => {
    while (text[at] === " ") at += 1
    pattern.lastIndex = at
    const found = pattern.exec(text)?.[0]
    if (found !== undefined) at += found.length
    return found
  }
  const list = (pattern: RegExp): ReadonlyArray<string> | undefined => {
    const found: Array<string> = []
    do {
      const one = take(pattern)
      if (one === undefined) return found.length === 0 ? found : undefined
      found.push(one.replaceAll(" ", ""))
    } while (take(/,/y) !== undefined)
    return found
  }
  const name = take(identifier)
  if (name === undefined) return undefined
  const hasExtras = take(/\[/y) !== undefined
  const extras = hasExtras ? list(identifier) : []
  if (extras === undefined || hasExtras && take(/\]/y) === undefined) return undefined
  const url = take(/@/y) === undefined ? undefined : take(/[\x21-\x7e]+/y) ?? ""
  const isEnclosed = url === undefined && take(/\(/y) !== undefined
  const versions = url === undefined ? list(version) : []
  if (versions === undefined || isEnclosed && take(/\)/y) === undefined) return undefined
  const marker: Array<string> = []
  if (take(/;/y) !== undefined) {
    for (let one = take(part); one !== undefined; one = take(part)) marker.push(one)
    if (marker.length === 0) return undefined
  }
  while (text[at] === " ") at += 1
  return at < text.length ? undefined : { name: normalName(name), extras, versions, url, marker }
}

/** Equal requirements are equal texts. */
export const write = ({ extras, marker, name, url, versions }: Requirement): string =>
  [
    name,
    extras.length === 0 ? "" : `[${extras.join(",")}]`,
    url === undefined ? versions.join(",") : ` @ ${url}`,
    marker.length === 0 ? "" : `${url === undefined ? "" : " "}; ${marker.join(" ")}`
  ].join("")
