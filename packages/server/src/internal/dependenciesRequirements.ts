/**
 * Reads what Python scripts need: the inline metadata of PEP 723, and requirements files of pip.
 *
 * A skill names packages and versions. Where they come from is the operator's to say, so that options which name an index, and
 * variables, are refused; so are sources other than the index, which run code of theirs when they are installed, unless the
 * operator lets them. The tools get what is written here from the parts that were read, never a skill's own text.
 */
import * as Data from "effect/Data"
import * as Path from "node:path"
import * as Pep508 from "./dependenciesPep508.ts"
import * as Toml from "./dependenciesToml.ts"

/** What a skill declares cannot be prepared; the message says where and why. */
export class Refused extends Data.TaggedError("Refused")<{ readonly message: string }> {
  constructor(message: string) {
    super({ message })
  }
}

/** What one environment is made from, in a normal form: equal needs are equal texts. */
export interface Requirements {
  /** `requires-python`, or empty. */
  readonly python: string
  /** Sorted, each once. */
  readonly packages: ReadonlyArray<string>
  readonly constraints: ReadonlyArray<string>
  readonly hashes: boolean
  readonly prereleases: boolean
}

export interface Options {
  /** Whether installing may run code of packages. */
  readonly scripts: boolean
}

const maxPackages = 500
const maxDepth = 8
const maxFiles = 64
const maxLine = 32 * 1024

const allowHint = "the operator can let it with SKILLSCALE_INSTALL_SCRIPTS=on"

/** One requirement (PEP 508) with its hashes, in a normal form, of parts that were read. */
const requirement = (given: string, where: string, options: Options): string => {
  const text = given.replaceAll(/[ \t]+/g, " ").trim()
  const refuse = (why: string): never => {
    throw new Refused(`${where}: ${JSON.stringify(text.slice(0, 200))} ${why}`)
  }
  if (text.length > maxLine) refuse(`is longer than ${maxLine} characters`)
  if (text.includes("${")) refuse("names a variable, which a skill may not")
  // pip and uv end lines where Python does, so also at U+0085 and U+2028.
  if (!/^[\x20-\x7e]*$/.test(text)) refuse("has characters that are no printable ones of ASCII")
  const [bare = "", ...more] = text.split(/ (?=--)/)
  const hashes = more.map((option) => {
    const [, kind, value] = /^--hash=(sha256|sha384|sha512):([0-9a-f]+)$/i.exec(option) ?? []
    if (kind !== undefined && value !== undefined) return `--hash=${kind.toLowerCase()}:${value.toLowerCase()}`
    return refuse(`has the option ${option.split(/[= ]/)[0]?.slice(0, 100)}, which a skill may not set`)
  })
  const read = Pep508.parse(bare)
  if (read === undefined) return refuse("is not the name of a package with versions")
  if (read.url !== undefined) {
    if (!/^(?!(?:[a-z]+\+)?file:)[a-z][a-z0-9+.-]*:\/\//i.test(read.url)) {
      refuse("is a path, which a skill may not name")
    }
    if (!options.scripts) refuse(`does not come from the index; ${allowHint}`)
  }
  return [Pep508.write(read), ...hashes.sort()].join(" ")
}

const sorted = (values: Iterable<string>): ReadonlyArray<string> => [...new Set(values)].sort()

const bounded = (made: Requirements, where: string): Requirements => {
  if (made.packages.length + made.constraints.length <= maxPackages) return made
  throw new Refused(`${where}: more than ${maxPackages} packages`)
}

/** The lines between `# /// script` and the last `# ///` of the comment that follows it (PEP 723). */
const block = (source: string, file: string): string | undefined => {
  const lines = source.split(/\r?\n/)
  let found: string | undefined
  for (let first = 0; first < lines.length; first += 1) {
    if (lines[first]?.trimEnd() !== "# /// script") continue
    let end = first + 1
    let last = -1
    for (; /^#(?: |$)/.test(lines[end] ?? ""); end += 1) {
      if (lines[end]?.trimEnd() === "# ///") last = end
    }
    if (last === -1) throw new Refused(`${file}: the block that # /// script begins has no # /// at its end`)
    if (found !== undefined) throw new Refused(`${file}: there is more than one block # /// script`)
    found = lines.slice(first + 1, last).map((line) => line.slice(2)).join("\n")
    first = last
  }
  return found
}

/** What a script says of itself, or `undefined` when it says nothing. Throws `Refused`. */
export const inline = (source: string, file: string, options: Options): Requirements | undefined => {
  if (!source.includes("# /// script")) return undefined
  const text = block(source, file)
  if (text === undefined) return undefined
  let keys: ReadonlyMap<string, Toml.Value>
  try {
    keys = Toml.top(text)
  } catch (error) {
    if (error instanceof Toml.Malformed) throw new Refused(`${file}: in its block # /// script, ${error.message}`)
    throw error
  }
  const packages = keys.get("dependencies") ?? []
  const python = keys.get("requires-python") ?? ""
  if (!Array.isArray(packages)) throw new Refused(`${file}: dependencies is not a list`)
  if (typeof python !== "string") throw new Refused(`${file}: requires-python is not a string`)
  const named = packages.map((one: unknown) => {
    if (typeof one !== "string") throw new Refused(`${file}: dependencies has something that is not a string`)
    if (/\s--/.test(one)) {
      throw new Refused(`${file}: ${JSON.stringify(one)} has an option, which is for requirements files`)
    }
    return requirement(one, file, options)
  })
  return bounded(
    {
      python: python.replaceAll(/\s/g, ""),
      packages: sorted(named),
      constraints: [],
      hashes: false,
      prereleases: false
    },
    file
  )
}

interface Collected {
  readonly packages: Array<string>
  readonly constraints: Array<string>
  hashes: boolean
  prereleases: boolean
  files: number
}

/** Without a comment, which begins the line or follows a space. */
const withoutComment = (line: string): string => {
  const at = line.search(/(?:^|\s)#/)
  return (at === -1 ? line : line.slice(0, at)).trim()
}

const logicalLines = (text: string): ReadonlyArray<string> =>
  text.replace(/^\uFEFF/, "").replaceAll(/\\\r?\n/g, " ").split(/\r?\n/)
    .map(withoutComment)
    .filter((line) => line !== "")

const collect = (
  file: string,
  into: "packages" | "constraints",
  read: (path: string) => string | undefined,
  options: Options,
  found: Collected,
  depth: number
): void => {
  const text = read(file)
  if (text === undefined) throw new Refused(`${file} is not a file of the skill`)
  if (depth > maxDepth) throw new Refused(`${file}: requirements files name each other more than ${maxDepth} deep`)
  found.files += 1
  // Files that name others often are many more than they seem.
  if (found.files > maxFiles) {
    throw new Refused(`${file}: requirements files name each other more than ${maxFiles} times`)
  }
  for (const line of logicalLines(text)) {
    const nested = /^(-r|--requirement|-c|--constraint)(?:\s+|=|(?<=^-[rc]))(\S.*)$/.exec(line)
    if (nested !== null) {
      const [, option = "", path = ""] = nested
      const kind = option === "-c" || option === "--constraint" ? "constraints" : into
      collect(Path.posix.join(Path.posix.dirname(file), path), kind, read, options, found, depth + 1)
    } else if (line === "--pre") {
      found.prereleases = true
    } else if (line === "--require-hashes") {
      found.hashes = true
    } else if (line.startsWith("-")) {
      if (line === "--prefer-binary") continue
      throw new Refused(
        `${file}: the option ${
          line.split(/[= ]/)[0]?.slice(0, 100)
        } is not for a skill to set; where packages come from is the operator's to ` +
          "say (PIP_INDEX_URL, UV_INDEX and so on)"
      )
    } else {
      found[into].push(requirement(line, file, options))
    }
    if (found.packages.length + found.constraints.length > 2 * maxPackages) break
  }
}

/** Reads a requirements file and those that it names. `read` gives the text of a file of the skill. Throws `Refused`. */
export const file = (
  path: string,
  read: (path: string) => string | undefined,
  options: Options
): Requirements => {
  const found: Collected = { packages: [], constraints: [], hashes: false, prereleases: false, files: 0 }
  collect(path, "packages", read, options, found, 0)
  return bounded({
    python: "",
    packages: sorted(found.packages),
    constraints: sorted(found.constraints),
    hashes: found.hashes || found.packages.some((line) => line.includes(" --hash=")),
    prereleases: found.prereleases
  }, path)
}

const release = (version: string): ReadonlyArray<number> | undefined =>
  /^\d+(?:\.\d+)*$/.test(version) ? version.split(".").map(Number) : undefined

const compare = (left: ReadonlyArray<number>, right: ReadonlyArray<number>): number => {
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** Tells whether a version of Python is one that a specifier lets (PEP 440, final releases). Throws `Refused`. */
export const admits = (specifier: string, version: string): boolean => {
  const actual = release(/^\d+(?:\.\d+)*/.exec(version)?.[0] ?? "") ?? []
  return specifier.split(",").filter((part) => part !== "").every((part) => {
    const [, operator, bound = "", wild] = /^(===|==|!=|<=|>=|~=|<|>)(\d[\d.]*?)(\.\*)?$/.exec(part) ?? []
    const wanted = release(bound)
    if (operator === undefined || wanted === undefined || wild !== undefined && !/^[=!]=$/.test(operator)) {
      throw new Refused(`requires-python ${JSON.stringify(specifier)} cannot be read; write it such as ">=3.11,<4"`)
    }
    const order = compare(wild === undefined ? actual : actual.slice(0, wanted.length), wanted)
    switch (operator) {
      case "==":
      case "===":
        return order === 0
      case "!=":
        return order !== 0
      case "<=":
        return order <= 0
      case ">=":
        return order >= 0
      case "<":
        return order < 0
      case ">":
        return order > 0
      default:
        return order >= 0 && compare(actual.slice(0, wanted.length - 1), wanted.slice(0, -1)) === 0
    }
  })
}
