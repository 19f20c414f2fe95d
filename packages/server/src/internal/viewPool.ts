/**
 * Views that are prepared ahead for skills that were called lately, and views that a run gave back as it got them.
 *
 * A view is given out only when it is what a new one would be: the skill's files have not changed since they were copied,
 * and nobody touched the copies or their folders. Times that a program cannot set (`ctime`) tell.
 */
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as ViewFiles from "./viewFiles.ts"

export type Skill = Pick<SkillDiscovery.Skill, "name" | "root" | "files" | "scripts">

export interface Prepared {
  readonly home: string
  readonly root: string
  readonly temp: string
  readonly copied: ReadonlyMap<string, ViewFiles.Copied>
  /** Every folder of the view, absolute, and what it was when all was in place. */
  readonly folders: ReadonlyMap<string, string>
}

export interface Options {
  readonly perSkill: number
  readonly total: number
  readonly prepare: (skill: Skill) => Effect.Effect<Prepared | undefined>
  readonly discard: (prepared: Prepared) => Effect.Effect<void>
}

const maxFiles = 200
const maxBytes = 4 * 1024 * 1024

const isSmall = (skill: Skill): boolean =>
  skill.files.length <= maxFiles && skill.files.reduce((sum, file) => sum + file.size, 0) <= maxBytes

/** Tells whether a view of a small skill is as it was made: nothing added, removed, renamed, written or made writable. */
export const isUntouched = ({ copied, folders, root }: Prepared): boolean => {
  if (copied.size > maxFiles) return false
  for (const [path, made] of folders) {
    if (ViewFiles.folderFingerprint(path) !== made) return false
  }
  for (const [path, { fingerprint }] of copied) {
    if (ViewFiles.fingerprint(`${root}/${path}`) !== fingerprint) return false
  }
  return true
}

const isCurrent = (prepared: Prepared): boolean => {
  for (const file of prepared.copied.values()) {
    if (!ViewFiles.isCurrent(file)) return false
  }
  return true
}

const isSettled = (prepared: Prepared): boolean => {
  for (const file of prepared.copied.values()) {
    if (!file.settled) return false
  }
  return true
}

interface Shelf {
  readonly skill: Skill
  readonly views: Array<Prepared>
}

export const make = (options: Options) => {
  /** By the skill's root; the least lately used first. */
  const shelves = new Map<string, Shelf>()
  const filling = new Set<string>()
  /** Views that runs have now, by the skill's root. */
  const lent = new Map<string, number>()
  const oneAtATime = Semaphore.makeUnsafe(1)

  const empty = Effect.fnUntraced(function*(root: string) {
    const shelf = shelves.get(root)
    shelves.delete(root)
    for (const prepared of shelf?.views ?? []) yield* options.discard(prepared)
  })

  const clear = Effect.suspend(() => Effect.forEach([...shelves.keys()], empty, { discard: true }))

  const shelfOf = Effect.fnUntraced(function*(skill: Skill) {
    const shelf = shelves.get(skill.root)
    if (shelf !== undefined && shelf.skill.files !== skill.files) yield* empty(skill.root)
    const kept = shelves.get(skill.root) ?? { skill, views: [] }
    shelves.delete(skill.root)
    shelves.set(skill.root, kept)
    return kept
  })

  /** Gives out a view, if there is one, and expects it, or the one that is made instead, back. */
  const take = Effect.fnUntraced(function*(skill: Skill) {
    lent.set(skill.root, (lent.get(skill.root) ?? 0) + 1)
    if (!shelves.has(skill.root)) return undefined
    const shelf = yield* shelfOf(skill)
    for (let prepared = shelf.views.shift(); prepared !== undefined; prepared = shelf.views.shift()) {
      if (isCurrent(prepared) && isUntouched(prepared)) return prepared
      yield* options.discard(prepared)
    }
    return undefined
  })

  const returned = (root: string) => {
    const left = (lent.get(root) ?? 1) - 1
    if (left === 0) lent.delete(root)
    else lent.set(root, left)
  }

  /** Takes back a view that is untouched, for the next run, or hears that it is gone. */
  const giveBack = Effect.fnUntraced(function*(skill: Skill, prepared: Prepared | undefined) {
    returned(skill.root)
    if (prepared === undefined) return
    const shelf = yield* shelfOf(skill)
    const isWanted = isSmall(skill) && isSettled(prepared) && shelf.views.length < options.perSkill
    if (isWanted && (yield* makeRoom(skill.root))) shelf.views.push(prepared)
    else yield* options.discard(prepared)
  })

  const makeRoom = Effect.fnUntraced(function*(root: string) {
    const count = () => [...shelves.values()].reduce((sum, shelf) => sum + shelf.views.length, 0)
    for (const other of [...shelves.keys()]) {
      if (count() < options.total) return true
      if (other !== root) yield* empty(other)
    }
    return count() < options.total
  })

  /** Prepares views of a skill until it has its share. */
  const refill = Effect.fnUntraced(function*(skill: Skill) {
    if (filling.has(skill.root) || !isSmall(skill)) return
    filling.add(skill.root)
    yield* Effect.gen(function*() {
      for (;;) {
        const shelf = yield* shelfOf(skill)
        const expected = shelf.views.length + (lent.get(skill.root) ?? 0)
        if (expected >= options.perSkill || !(yield* makeRoom(skill.root))) return
        const prepared = yield* options.prepare(skill)
        if (prepared === undefined) return
        const current = shelves.get(skill.root)
        if (current === undefined || current.skill.files !== skill.files || !isSettled(prepared)) {
          return yield* options.discard(prepared)
        }
        current.views.push(prepared)
        yield* Effect.yieldNow
      }
    }).pipe(oneAtATime.withPermit, Effect.ensuring(Effect.sync(() => filling.delete(skill.root))))
  })

  return { take, giveBack, refill, clear }
}
