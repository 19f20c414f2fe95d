/**
 * The folders that views are in, one for each, below one base folder per server. What can be done later, such as removing
 * them, is done in the background, and at the latest when the scope closes.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Semaphore from "effect/Semaphore"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as OffPeak from "./offPeak.ts"
import * as ViewBase from "./viewBase.ts"
import * as ViewFiles from "./viewFiles.ts"

const maxRemovals = 64
const removalsAtATime = 2

const remove = (path: string): Effect.Effect<void> =>
  Effect.promise(() => ViewFiles.remove(path)).pipe(
    Effect.catchCause((cause) => Effect.logWarning("cannot remove a working view", path, cause)),
    Effect.uninterruptible
  )

/** Makes the base folder, which the scope owns, and removes those of servers that were killed. */
export const make = Effect.fnUntraced(function*(directory: string, isPassable: boolean) {
  for (const path of yield* Effect.promise(() => ViewBase.abandoned(directory))) yield* remove(path)
  const base = yield* Effect.acquireRelease(
    ViewFiles.attempt(directory, () => ViewBase.create(directory, isPassable)),
    remove
  )
  const background = yield* FiberSet.make<void>()
  const offPeak = OffPeak.make()
  const removals = Semaphore.makeUnsafe(removalsAtATime)
  let count = 0

  /** Makes a home and folders in it. */
  const create = (home: string, folders: ReadonlyArray<string>) =>
    ViewFiles.attempt(home, () => {
      try {
        Fs.mkdirSync(home, { mode: 0o700 })
      } catch (cause) {
        if (!ViewFiles.isErrno(cause, "ENOENT")) throw cause
        // Something that cleans temporary folders took the base.
        Fs.mkdirSync(base, { mode: 0o700 })
        Fs.mkdirSync(home, { mode: 0o700 })
      }
      for (const folder of folders) Fs.mkdirSync(Path.join(home, folder))
    })

  const removeLater = (home: string) =>
    Effect.flatMap(FiberSet.size(background), (size) =>
      size < maxRemovals
        ? FiberSet.run(
          background,
          Effect.uninterruptible(Effect.andThen(offPeak.wait, removals.withPermit(remove(home))))
        )
        : remove(home))

  return {
    base,
    /** Names a home that nobody has yet. */
    next: () => Path.join(base, String(count += 1)),
    create,
    remove,
    removeLater,
    later: (work: Effect.Effect<void>) => FiberSet.run(background, Effect.andThen(offPeak.wait, work)),
    /** Tells that a view is given out, whose run leaves time for what waits. */
    begun: offPeak.begun,
    settled: FiberSet.awaitEmpty(background)
  }
})

export type Homes = Effect.Success<ReturnType<typeof make>>
