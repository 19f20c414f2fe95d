/** Names what a process leaves in a folder that others share, so that it can be told whether its owner still lives. */
import * as Fs from "node:fs"

/** Clock ticks from boot to the start of a process, which tells it from a later one with the same id. */
const startOf = (pid: number): string | undefined => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]
  } catch {
    return undefined
  }
}

/** Containers that share a folder see what the others have there, but not each other's processes. */
const namespace = (): string => {
  try {
    return /\d+/.exec(Fs.readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0"
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

/** The name of this process, with which the names of its folders begin. */
export const ownName = (): string => `skillscale-${namespace()}-${process.pid}-${startOf(process.pid) ?? "0"}`

/** Tells whether a folder belongs to a process of this pid namespace that is gone. `kind` is what follows the owner's name. */
export const isAbandoned = (name: string, kind: RegExp): boolean => {
  const [owner = "", where, pid = "", start = ""] = /^skillscale-(\d+)-(\d+)-(\d+)/.exec(name) ?? []
  return owner !== "" && kind.test(name.slice(owner.length)) && where === namespace() && !isAlive(Number(pid), start)
}
