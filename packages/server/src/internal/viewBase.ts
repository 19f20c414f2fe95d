import { lstatSync } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { isAbandoned, ownName } from "./owner.ts"

/** Creates the base folder of this server, named after its process. Others may pass through, but not look, if asked for. */
export const create = async (directory: string, isPassable: boolean): Promise<string> => {
  const base = await Fs.realpath(await Fs.mkdtemp(Path.join(directory, `${ownName()}-`)))
  if (isPassable) await Fs.chmod(base, 0o711)
  return base
}

const isOwn = (path: string): boolean => {
  try {
    const stat = lstatSync(path)
    return stat.isDirectory() && stat.uid === process.getuid?.()
  } catch {
    return false
  }
}

/** Lists the base folders of servers of this user and machine that ended without removing them. */
export const abandoned = async (directory: string): Promise<ReadonlyArray<string>> => {
  const names = await Fs.readdir(directory).catch((): Array<string> => [])
  return names.flatMap((name) => {
    if (!isAbandoned(name, /^-[A-Za-z0-9]{6}$/)) return []
    const path = Path.join(directory, name)
    return isOwn(path) ? [path] : []
  })
}
