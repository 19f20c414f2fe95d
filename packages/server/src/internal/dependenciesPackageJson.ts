/** Reads what scripts of Node need: `package.json`, with its lock file where there is one. */
import { Refused } from "./dependenciesRequirements.ts"

/** What one folder `node_modules` is made from. */
export interface NodePackages {
  /** The text of `package.json`. */
  readonly manifest: string
  readonly lock: { readonly name: string; readonly text: string } | undefined
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const parse = (text: string, file: string): Readonly<Record<string, unknown>> => {
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

const isFromRegistry = (spec: unknown): boolean =>
  typeof spec === "string" && (spec.startsWith("npm:") || !/[:/]/.test(spec))

/** Overrides may be nested; every string in them is a version. */
const overridesFrom = (value: unknown, depth = 0): boolean =>
  isRecord(value) && depth < 8
    ? Object.values(value).every((one) => overridesFrom(one, depth + 1))
    : isFromRegistry(value)

const checkLock = (text: string, file: string): void => {
  for (const [name, entry] of entries(parse(text, file)["packages"])) {
    if (!isRecord(entry) || name === "") continue
    const { link, resolved } = entry
    if (link === true || resolved !== undefined && !/^https?:\/\//.test(String(resolved))) {
      throw new Refused(`${file}: ${name} does not come from a registry; ${allowHint}`)
    }
  }
}

/** Reads a `package.json`, or gives `undefined` when it asks for no packages. Throws `Refused`. */
export const read = (
  file: string,
  manifest: string,
  lock: NodePackages["lock"],
  options: { readonly scripts: boolean }
): NodePackages | undefined => {
  const value = parse(manifest, file)
  const wanted = [...entries(value["dependencies"]), ...entries(value["optionalDependencies"])]
  if (wanted.length === 0) return undefined
  if (value["workspaces"] !== undefined) throw new Refused(`${file}: a skill cannot have workspaces`)
  if (!options.scripts) {
    const foreign = wanted.find(([, spec]) => !isFromRegistry(spec))
    if (foreign !== undefined) {
      throw new Refused(`${file}: ${foreign[0]} does not come from a registry; ${allowHint}`)
    }
    if (value["overrides"] !== undefined && !overridesFrom(value["overrides"])) {
      throw new Refused(`${file}: an override does not come from a registry; ${allowHint}`)
    }
    if (lock !== undefined) checkLock(lock.text, lock.name)
  }
  return { manifest, lock }
}
