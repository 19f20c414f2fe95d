import { lstatSync, readFileSync, readlinkSync } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"

/** Clock ticks from boot to the start of a process, which tells it from a later one with the same id. */
const startOf = (pid: number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]
  } catch {
    return undefined
  }
}

/** Containers that share a folder see each other's bases, but not each other's processes. */
const namespace = (): string => {
  try {
    return /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0"
  } catch {
    return "0"
  }
}

const isAlive = (pid: number, start: string): boolean => {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EPERM")) return false
  }
  const actual = startOf(pid)
  return actual === undefined || actual === start
}

/** Creates the base folder of this server, named after its process. Others may pass through, but not look, if asked for. */
export const create = async (directory: string, isPassable: boolean): Promise<string> => {
  const owner = `${namespace()}-${process.pid}-${startOf(process.pid) ?? "0"}`
  const base = await Fs.realpath(await Fs.mkdtemp(Path.join(directory, `skillscale-${owner}-`)))
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
  const here = namespace()
  return names.flatMap((name) => {
    const [, where, pid, start] = /^skillscale-(\d+)-(\d+)-(\d+)-[A-Za-z0-9]{6}$/.exec(name) ?? []
    if (where !== here || pid === undefined || start === undefined || isAlive(Number(pid), start)) return []
    const path = Path.join(directory, name)
    return isOwn(path) ? [path] : []
  })
}
