/**
 * Lets other users pass the folders above the project, which tests that are root need: they start programs that are in the project
 * as an ordinary user. A checkout may be in a folder that is root's alone. What was changed is as it was afterwards.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

const project = Path.join(import.meta.dirname, "../..")

export const setup = (): () => void => {
  const changed: Array<readonly [folder: string, mode: number]> = []
  for (let folder = project; process.getuid?.() === 0 && folder !== "/"; folder = Path.dirname(folder)) {
    const mode = Fs.statSync(folder).mode & 0o7777
    if ((mode & 0o001) !== 0) continue
    Fs.chmodSync(folder, mode | 0o001)
    changed.push([folder, mode])
  }
  return () => changed.forEach(([folder, mode]) => Fs.chmodSync(folder, mode))
}
