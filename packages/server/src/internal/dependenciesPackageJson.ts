/**
 * Reads what scripts of Node need: `package.json`, with its lock file where there is one.
 *
 * npm gets files that are written here from the names, versions and hashes that were read, so that nothing else of a skill's
 * files, and nothing of what npm may learn to read in them, decides where packages come from.
 */
import { Refused } from "./dependenciesRequirements.ts"

export interface Lock {
  /** What it is called in messages. */
  readonly name: string
  readonly text: string
}

/** What one folder `node_modules` is made from. */
export interface NodePackages {
  /** The text of `package.json`. */
  readonly manifest: string
  readonly lock: Lock | undefined
}

type Json = Readonly<Record<string, unknown>>

const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

/** Throws `Refused`. */
export const parse = (text: string, file: string): Json => {
  try {
    const value: unknown = JSON.parse(text)
    if (isRecord(value)) return value
  } catch {
    // Falls through to what is said of both.
  }
  throw new Refused(`${file} is not a JSON object`)
}

const entries = (value: unknown): ReadonlyArray<readonly [string, unknown]> =>
  isRecord(value) ? Object.entries(value) : []

const allowHint = "the operator can let it with SKILLSCALE_INSTALL_SCRIPTS=on"

const foreign = (file: string, what: string): Refused =>
  new Refused(`${file}: ${what} does not come from a registry; ${allowHint}`)

const name = String.raw`(?:@[A-Za-z0-9~][A-Za-z0-9._~-]{0,213}\/)?[A-Za-z0-9~][A-Za-z0-9._~-]{0,213}`
const isName = (text: unknown): text is string => typeof text === "string" && new RegExp(`^${name}$`).test(text)

/** Versions, ranges and tags. Without `:`, `/` and `\`, npm takes for a file what begins with a dot or ends like an archive. */
const isRange = (text: string): boolean =>
  text.length <= 500 && /^ *(?:[\w*^~<>=|+!-][\w.*^~<>=|+\-, !]*)?$/.test(text) &&
  !/\.(?:tgz|tar|tar\.gz) *$/i.test(text)

const isFromRegistry = (spec: unknown): boolean => {
  if (typeof spec !== "string") return false
  const [, real, range = ""] = /^npm:(@?[^@]*)(?:@(.*))?$/.exec(spec) ?? []
  return real === undefined ? isRange(spec) : isName(real) && isRange(range)
}

/** Names with their versions, each of which has to come from a registry. */
const packages = (value: unknown, file: string, of = ""): Readonly<Record<string, string>> => {
  const found = entries(value).map(([name, spec]): readonly [string, string] => {
    const shown = `${of}${JSON.stringify(name.slice(0, 200)).slice(1, -1)}`
    if (!isName(name)) throw new Refused(`${file}: ${shown} is not the name of a package`)
    if (!isFromRegistry(spec)) throw foreign(file, shown)
    return [name, String(spec)]
  })
  return Object.fromEntries(found)
}

/** Those that npm also installs without, and that it must not, are left out. */
const isOptionalPeer = (meta: unknown, name: string): boolean => {
  const one = isRecord(meta) ? meta[name] : undefined
  return isRecord(one) && one["optional"] === true
}

const kinds = ["dependencies", "optionalDependencies", "peerDependencies"] as const

const withoutEmpty = (value: Json): Json =>
  Object.fromEntries(Object.entries(value).filter(([, one]) => !isRecord(one) || Object.keys(one).length > 0))

const version = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/
const integrity = /^sha(?:1|256|384|512)-[A-Za-z0-9+/=]+(?: sha(?:1|256|384|512)-[A-Za-z0-9+/=]+)*$/
const place = new RegExp(`^node_modules/${name}(?:/node_modules/${name})*$`)
const flags = ["optional", "devOptional", "peer", "inBundle", "hasInstallScript"]
const platforms = ["os", "cpu", "libc"]

const strings = (value: unknown, isGood: (one: string) => boolean): ReadonlyArray<string> | undefined =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === "string" && isGood(one)) : undefined

/** Programs of a package; npm makes what they name executable, so that it has to be in the package. */
const programs = (value: unknown): Json =>
  Object.fromEntries(
    entries(value).filter(([name, path]) =>
      /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) && typeof path === "string" && /^[\w./@+-]+$/.test(path) &&
      !path.startsWith("/") && !path.split("/").includes("..")
    )
  )

/** How deep packages may lie in packages, and how many of them there may be. npm makes neither. */
const maxNesting = 32
const maxPackages = 10_000

const lockEntry = (at: string, entry: unknown, file: string): Json => {
  if (at.split("node_modules/", maxNesting + 2).length > maxNesting + 1) {
    throw new Refused(`${file} has packages in more than ${maxNesting} others`)
  }
  if (!place.test(at) || !isRecord(entry) || entry["link"] !== undefined) {
    throw foreign(file, JSON.stringify(at.slice(0, 200)).slice(1, -1))
  }
  const { name, resolved } = entry
  const isAddress = typeof resolved === "string" && /^https?:\/\/[\x21-\x7e]+$/.test(resolved) && URL.canParse(resolved)
  const isVersion = typeof entry["version"] === "string" && version.test(entry["version"])
  if (!isVersion || name !== undefined && !isName(name) || resolved !== undefined && !isAddress) throw foreign(file, at)
  if (entry["hasShrinkwrap"] !== undefined) {
    throw new Refused(`${file}: ${at} brings a lock file of its own, which is not looked at; ${allowHint}`)
  }
  const hash = entry["integrity"]
  if (hash !== undefined && (typeof hash !== "string" || !integrity.test(hash))) {
    throw new Refused(`${file}: ${at} has an integrity that cannot be read`)
  }
  const platform = platforms.map((kind) => [kind, strings(entry[kind], (one) => /^!?[a-z0-9_-]+$/.test(one))] as const)
  const optionalPeers = Object.keys(isRecord(entry["peerDependenciesMeta"]) ? entry["peerDependenciesMeta"] : {})
    .filter((name) => isName(name) && isOptionalPeer(entry["peerDependenciesMeta"], name))
  return {
    name,
    version: entry["version"],
    resolved,
    integrity: hash,
    ...Object.fromEntries(flags.filter((flag) => entry[flag] === true).map((flag) => [flag, true])),
    ...Object.fromEntries(platform.filter(([, value]) => value !== undefined)),
    ...withoutEmpty({
      ...Object.fromEntries(kinds.map((kind) => [kind, packages(entry[kind], file, `${at} > `)])),
      peerDependenciesMeta: Object.fromEntries(optionalPeers.map((name) => [name, { optional: true }])),
      bin: programs(entry["bin"])
    }),
    bundleDependencies: strings(entry["bundleDependencies"], isName)
  }
}

/** Folders in which Node looks for packages from there, the nearest first, each with `/` at its end. */
const foldersOf = (at: string): ReadonlyArray<string> => {
  const parts = at.split("node_modules/").slice(1)
  const above = parts.map((_, depth) =>
    `node_modules/${parts.slice(0, depth).map((part) => `${part}node_modules/`).join("")}`
  )
  return [at === "" ? "node_modules/" : `${at}/node_modules/`, ...above.toReversed()]
}

/** Without optional packages that could not be had when the lock file was made, for which npm would refuse all of it. */
const withoutLost = (places: ReadonlySet<string>, at: string, entry: Json): Json => {
  const wanted = entries(entry["optionalDependencies"])
  const folders = wanted.length === 0 ? [] : foldersOf(at)
  const found = wanted.filter(([name]) => folders.some((folder) => places.has(`${folder}${name}`)))
  return withoutEmpty({ ...entry, optionalDependencies: Object.fromEntries(found) })
}

/** Writes a manifest that `read` gave, and its lock file, anew, without what only developing needs. Throws `Refused`. */
export const locked = (manifest: string, text: string, file: string): NodePackages & { readonly lock: Lock } => {
  const { packages } = parse(text, file)
  if (!isRecord(packages)) {
    throw new Refused(`${file} has no "packages"; write it anew with npm 7 or later (npm install --package-lock-only)`)
  }
  const kept = Object.entries(packages).filter(([at, entry]) =>
    at !== "" && !(isRecord(entry) && entry["dev"] === true)
  )
  if (kept.length > maxPackages) throw new Refused(`${file} has more than ${maxPackages} packages`)
  const places = new Set(kept.map(([at]) => at))
  const written = kept.map((
    [at, entry]
  ): readonly [string, Json] => [at, withoutLost(places, at, lockEntry(at, entry, file))])
  const root = withoutLost(places, "", parse(manifest, file))
  const lock = { lockfileVersion: 3, requires: true, packages: { "": root, ...Object.fromEntries(written) } }
  return { manifest: JSON.stringify(root), lock: { name: file, text: JSON.stringify(lock) } }
}

const publicRegistry = "https://registry.npmjs.org"
/** Which answers with what the one above has, and which lock files of yarn name. */
const mirrors = [publicRegistry, "https://registry.yarnpkg.com"]

const originOf = (address: unknown): string =>
  typeof address === "string" && URL.canParse(address) ? new URL(address).origin : ""

/**
 * Has every package of a lock file that `locked` wrote come from a registry of the operator, as npm's own configuration names
 * them. An address is left to npm only when it is the one that the public registry has for the package; for others npm asks the
 * package's registry, so that a lock file chooses no path there. Throws `Refused`.
 */
export const settle = ({ name: file, text }: Lock, config: Json): string => {
  const registryOf = (name: string) => originOf(config[`${name.split("/")[0]}:registry`] ?? config["registry"])
  const configured = Object.entries(config).filter(([key]) => /^(?:@[^:]+:)?registry$/.test(key))
  const origins = new Set([...mirrors, ...configured.map(([, address]) => originOf(address))])
  const read = parse(text, file)
  const settled = entries(read["packages"]).map(([at, entry]) => {
    if (!isRecord(entry) || typeof entry["resolved"] !== "string") return [at, entry]
    const { resolved, ...rest } = entry
    const name = typeof entry["name"] === "string" ? entry["name"] : at.replace(/^.*node_modules\//, "")
    const address = new URL(resolved)
    address.protocol = mirrors.some((mirror) => new URL(mirror).host === address.host) ? "https:" : address.protocol
    if (!origins.has(address.origin) || address.username !== "" || address.password !== "") throw foreign(file, at)
    const usual = `/${name}/-/${name.replace(/^.*\//, "")}-${String(entry["version"])}.tgz`
    const isUsual = registryOf(name) === publicRegistry && mirrors.includes(address.origin) &&
      address.pathname === usual
    return [at, isUsual ? { ...rest, resolved: `${publicRegistry}${usual}` } : rest]
  })
  return JSON.stringify({ ...read, packages: Object.fromEntries(settled) })
}

/** Reads a `package.json`, or gives `undefined` when it asks for no packages. Throws `Refused`. */
export const read = (
  file: string,
  manifest: string,
  lock: NodePackages["lock"],
  options: { readonly scripts: boolean }
): NodePackages | undefined => {
  const value = parse(manifest, file)
  if (entries(value["dependencies"]).length + entries(value["optionalDependencies"]).length === 0) return undefined
  if (value["workspaces"] !== undefined) throw new Refused(`${file}: a skill cannot have workspaces`)
  if (options.scripts) return { manifest, lock }
  if (entries(value["overrides"]).length > 0) {
    throw new Refused(`${file}: a skill cannot have overrides; ${allowHint}`)
  }
  const peers = entries(value["peerDependencies"]).filter(([name]) =>
    !isOptionalPeer(value["peerDependenciesMeta"], name)
  )
  const written = JSON.stringify(withoutEmpty({
    dependencies: packages(value["dependencies"], file),
    optionalDependencies: packages(value["optionalDependencies"], file),
    peerDependencies: packages(Object.fromEntries(peers), file)
  }))
  return lock === undefined ? { manifest: written, lock } : locked(written, lock.text, lock.name)
}
