/**
 * The control group (version 2) below which each reaper of a server gets one of its own, where the server may make one.
 *
 * It lies in the server's own group. That has to let go of the controllers for memory and processes first, which it only
 * does when no process is in it: a server that is alone there moves to a group beside. Nobody else is ever moved.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { isAbandoned, ownName } from "./owner.ts"

/** What limits a tree without measuring it. */
const wanted = ["memory", "pids"]
const ownGroup = ".server"
const cells = /^\.cells-\d+$/
const removalTries = 50

export interface ControlGroups {
  /** Absolute; empty where there can be none. */
  readonly folder: string
  /** Which of `memory` and `pids` are bounded in it. */
  readonly controllers: ReadonlyArray<string>
  /** Why there is none, or why controllers are missing. */
  readonly lacking: string | undefined
}

const words = (file: string): ReadonlyArray<string> =>
  Fs.readFileSync(file, "utf8").split(/\s+/).filter((word) => word !== "")

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error)

/** Where the group of this process is mounted. */
const findOwn = (): string | undefined => {
  const own = /^0::(.*)$/m.exec(Fs.readFileSync("/proc/self/cgroup", "utf8"))?.[1]
  if (own === undefined) return undefined
  for (const line of Fs.readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [left = "", right = ""] = line.split(" - ")
    const [root = "", at = ""] = left.split(" ").slice(3)
    if (!right.startsWith("cgroup2 ")) continue
    const path = Path.relative(root, own)
    if (!path.startsWith("..")) return Path.join(at, path)
  }
  return undefined
}

/** None where the kernel has no control groups at all. */
const whereOwn = (): string | undefined => {
  try {
    return findOwn()
  } catch {
    return undefined
  }
}

/** This process may have moved to its own group before. */
const base = (own: string): string => Path.basename(own) === `${ownName()}${ownGroup}` ? Path.dirname(own) : own

const enable = (folder: string, controllers: ReadonlyArray<string>): void => {
  const file = Path.join(folder, "cgroup.subtree_control")
  const enabled = words(file)
  const missing = controllers.filter((name) => !enabled.includes(name))
  if (missing.length > 0) Fs.writeFileSync(file, missing.map((name) => `+${name}`).join(" "))
}

const isAlone = (folder: string): boolean =>
  words(Path.join(folder, "cgroup.procs")).every((pid) => pid === String(process.pid))

const moveAside = (folder: string): void => {
  const aside = Path.join(folder, `${ownName()}${ownGroup}`)
  Fs.mkdirSync(aside, { recursive: true })
  Fs.writeFileSync(Path.join(aside, "cgroup.procs"), String(process.pid))
}

type Delegated = Pick<ControlGroups, "controllers" | "lacking">

/** Lets the groups below have the controllers, or tells whether it could. */
const delegate = (folder: string, mayMove: boolean): Delegated => {
  const there = words(Path.join(folder, "cgroup.controllers"))
  const controllers = wanted.filter((name) => there.includes(name))
  const missing = wanted.filter((name) => !there.includes(name))
  const keeps = (why: string): Delegated => ({
    controllers: [],
    lacking: `${folder} keeps ${controllers.join(" and ")} to itself: ${why}`
  })
  try {
    enable(folder, controllers)
  } catch (error) {
    if (codeOf(error) !== "EBUSY") return keeps(codeOf(error))
    if (!isAlone(folder)) return keeps("other processes are in it")
    if (mayMove) {
      moveAside(folder)
      enable(folder, controllers)
    }
  }
  return { controllers, lacking: missing.length === 0 ? undefined : `${folder} does not have ${missing.join(" and ")}` }
}

const removeTree = (folder: string): void => {
  for (const entry of Fs.readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(Path.join(folder, entry.name))
  }
  Fs.rmdirSync(folder)
}

/** Ends whoever is in a group, and removes it. The kernel takes a moment. */
const remove = (folder: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let tries = 0; tries < removalTries; tries++) {
      try {
        Fs.writeFileSync(Path.join(folder, "cgroup.kill"), "1")
        return removeTree(folder)
      } catch (error) {
        if (codeOf(error) === "ENOENT") return
        if (tries + 1 === removalTries) yield* Effect.logWarning("cannot remove a control group", folder, codeOf(error))
      }
      yield* Effect.sleep(20)
    }
  })

const removeAbandoned = (folder: string) =>
  Effect.forEach(
    Fs.readdirSync(folder).filter((name) => isAbandoned(name, cells) || isAbandoned(name, /^\.server$/)),
    (name) => remove(Path.join(folder, name)),
    { discard: true }
  )

let count = 0

/**
 * Makes the group, which the scope owns, and removes those of servers that were killed. With `probe` it only tells what a
 * server would get.
 */
export const make = Effect.fnUntraced(function*(
  options?: { readonly probe: boolean }
): Effect.fn.Return<ControlGroups, never, Scope.Scope> {
  const mayMove = options?.probe !== true
  const own = whereOwn()
  if (own === undefined) return { folder: "", controllers: [], lacking: "control groups of version 2 are not mounted" }
  const parent = base(own)
  const folder = Path.join(parent, `${ownName()}.cells-${++count}`)
  try {
    Fs.mkdirSync(folder)
  } catch (error) {
    return { folder: "", controllers: [], lacking: `${parent} cannot be written: ${codeOf(error)}` }
  }
  yield* Effect.addFinalizer(() => remove(folder))
  yield* removeAbandoned(parent)
  try {
    const delegated = delegate(parent, mayMove)
    if (mayMove) enable(folder, delegated.controllers)
    return { folder, ...delegated }
  } catch (error) {
    return { folder, controllers: [], lacking: `${parent} keeps its controllers to itself: ${codeOf(error)}` }
  }
})
