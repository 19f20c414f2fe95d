/**
 * Views that are prepared ahead for skills that were called lately.
 *
 * A prepared view is given out only when it is what a new one would be: the skill's files have not changed since they
 * were copied, and nobody touched the copies.
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
  /** Files and folders below the root. */
  readonly items: number
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

const isUntouched = Effect.fnUntraced(function*(prepared: Prepared) {
  const temp = yield* ViewFiles.list(prepared.temp, 1)
  const { complete, entries, seen } = yield* ViewFiles.list(prepared.root, prepared.items)
  return complete && temp.complete && temp.seen === 0 && seen === prepared.items &&
    entries.length === prepared.copied.size && entries.every((entry) =>
      prepared.copied.get(entry.path)?.fingerprint === entry.fingerprint
    )
})

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

  /** Gives out a prepared view, which from then on belongs to the caller. */
  const take = Effect.fnUntraced(function*(skill: Skill) {
    if (!shelves.has(skill.root)) return undefined
    const shelf = yield* shelfOf(skill)
    for (let prepared = shelf.views.shift(); prepared !== undefined; prepared = shelf.views.shift()) {
      const good = isCurrent(prepared) && (yield* isUntouched(prepared))
      if (good) return prepared
      yield* options.discard(prepared)
    }
    return undefined
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
        if (shelf.views.length >= options.perSkill || !(yield* makeRoom(skill.root))) return
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

  return { take, refill, clear }
}
