/** The Python environment that a skill may have at its root. It is no file of the skill, but its interpreter. */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** Where it is, relative to the skill's root; discovery ignores it. */
export const folder = ".venv"

/** Where its interpreter is, if it has one. */
export const pythonOf = (root: string): string => Path.join(root, folder, "bin", "python")

/** Tells whether there is one, whole or not. */
export const isThere = (root: string): boolean =>
  Fs.lstatSync(Path.join(root, folder), { throwIfNoEntry: false }) !== undefined

const timeOf = (path: string): string =>
  String(Fs.statSync(path, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? "")

/** Text that changes when packages are installed into it, upgraded or removed. */
export const versionOf = (root: string): string => {
  const libraries = Path.join(root, folder, "lib")
  try {
    const times = Fs.readdirSync(libraries).map((name) => timeOf(Path.join(libraries, name, "site-packages")))
    return [timeOf(Path.join(root, folder, "pyvenv.cfg")), ...times].join(" ")
  } catch {
    return ""
  }
}
