/**
 * Names the processes that share a cache, so that what one of them left behind can be told from what another one still uses.
 *
 * A process of this machine and of this namespace is looked up. Of others only the age of their last sign of life is known,
 * which is why whoever holds something touches it.
 */
import * as Fs from "node:fs"

/** How often a holder gives a sign of life, in milliseconds. */
export const beatMs = 20_000

/** After which a process that cannot be looked up counts as gone, in milliseconds. */
const silentMs = 120_000

const read = (path: string): string | undefined => {
  try {
    return Fs.readFileSync(path, "latin1")
  } catch {
    return undefined
  }
}

/** Clock ticks from boot to the start of a process, which tells it from a later one with the same id. */
const startOf = (pid: number): string | undefined => {
  const stat = read(`/proc/${pid}/stat`)
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19]
}

const namespace = (): string => {
  try {
    return /\d+/.exec(Fs.readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0"
  } catch {
    return "0"
  }
}

const machine = (): string => read("/proc/sys/kernel/random/boot_id")?.trim().replaceAll("-", "") ?? "0"

let place: string | undefined

const here = (): string => place ??= `${machine()}-${namespace()}`

/** This process: where it is, its id, and its start. */
export const self = (): string => `${here()}-${process.pid}-${startOf(process.pid) ?? "0"}`

/** The process id in what `self` gave, for messages. */
export const pidOf = (owner: string): string => owner.split("-")[2] ?? "?"

const isThere = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

/** Tells whether the process of `self` lives, where `ageMs` is how long ago it gave a sign. */
export const isAlive = (owner: string, ageMs: number): boolean => {
  const [machine, space, pid, start] = owner.split("-")
  if (pid === undefined || start === undefined || !/^\d+$/.test(pid)) return ageMs < silentMs
  if (`${machine}-${space}` !== here()) return ageMs < silentMs
  if (!isThere(Number(pid))) return false
  const actual = startOf(Number(pid))
  return actual === undefined || actual === start
}
