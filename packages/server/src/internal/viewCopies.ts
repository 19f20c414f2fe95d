/**
 * Views that are copies of a skill's files in a home of their own, prepared ahead where that helps. A run writes into its
 * copy, or over it when the executor puts an overlay there.
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ViewArtifacts from "./viewArtifacts.ts"
import * as ViewFiles from "./viewFiles.ts"
import type { Homes } from "./viewHomes.ts"
import * as ViewInputs from "./viewInputs.ts"
import * as ViewPool from "./viewPool.ts"

export interface Options {
  readonly homes: Homes
  readonly limits: ViewArtifacts.Limits
  /** Whom copies belong to, when not to the server. */
  readonly owner: ViewFiles.Owner | undefined
  /** Views of one skill that are kept ready. */
  readonly perSkill: number
}

const maxPrepared = 16

const copySkill = Effect.fnUntraced(
  function*(homes: Homes, skill: ViewPool.Skill, home: string, owner?: ViewFiles.Owner) {
    const name = Path.basename(skill.root)
    const root = Path.join(home, name)
    const temp = Path.join(home, ".tmp")
    const folders = ViewInputs.foldersOf(skill.files.map((file) => file.path))
    yield* homes.create(home, [".tmp", name, ...folders.map((folder) => `${name}/${folder}`)])
    const copied = yield* ViewFiles.fill(
      skill.files,
      ({ path, sha256 }) => ViewFiles.copy(Path.join(skill.root, path), Path.join(root, path), sha256, owner)
    )
    const made = [home, temp, root, ...folders.map((folder) => Path.join(root, folder))]
    const settled = yield* ViewFiles.attempt(
      home,
      () => new Map(made.map((folder) => [folder, ViewFiles.settleFolder(folder, owner)]))
    )
    return { home, root, temp, copied, folders: settled } satisfies ViewPool.Prepared
  }
)

const digestOf = ({ copied, root }: ViewPool.Prepared): Effect.Effect<string, ViewFiles.Failed> =>
  Effect.map(
    Effect.forEach(copied, ([path, { hash }]) =>
      hash === undefined
        ? Effect.map(
          Effect.tryPromise({
            try: () => ViewFiles.hashFile(Path.join(root, path)),
            catch: (cause) => new ViewFiles.Failed({ path, cause })
          }),
          (sha256) => ({ path, sha256 })
        )
        : Effect.succeed({ path, sha256: hash })),
    SkillDiscovery.digest
  )

/** Runs an attempt in a scope of its own, which closes at once when it fails, else with the given one. */
const attemptIn = <A, E>(scope: Scope.Scope, attempt: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Scope.fork(scope), (own) =>
      restore(Scope.provide(attempt, own)).pipe(
        Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
      ))
  )

export const make = ({ homes, limits, owner, perSkill }: Options) => {
  /** Skills whose copies stay the server's, since runs write over them. */
  const overlaid = new Set<string>()
  const ownerOf = ({ root }: ViewPool.Skill) => overlaid.has(root) ? undefined : owner

  const fresh = (skill: ViewPool.Skill, home: string) =>
    Effect.suspend(() => copySkill(homes, skill, home, ownerOf(skill)))

  const pool = ViewPool.make({
    perSkill,
    total: maxPrepared,
    discard: ({ home }) => homes.removeLater(home),
    prepare: (skill) =>
      Effect.suspend(() => {
        const home = homes.next()
        return Effect.onExit(fresh(skill, home), (exit) => Exit.isSuccess(exit) ? Effect.void : homes.remove(home))
      }).pipe(Effect.orElseSucceed(() => undefined))
  })

  const refillLater = (skill: ViewPool.Skill) => homes.later(pool.refill(skill))

  const reclaim = Effect.andThen(pool.clear, homes.settled)

  const attempt = Effect.fnUntraced(function*(
    skill: ViewPool.Skill,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>
  ) {
    const mine = ownerOf(skill)
    let home = homes.next()
    let reusable: ViewPool.Prepared | undefined
    // Registered first, so that an interruption on the way leaves nothing behind.
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        pool.giveBack(skill, reusable),
        reusable === undefined ? Effect.andThen(homes.removeLater(home), refillLater(skill)) : Effect.void
      )
    )
    const ready = yield* Effect.uninterruptible(Effect.tap(pool.take(skill), (ready) =>
      Effect.sync(() => {
        if (ready !== undefined) home = ready.home
      })))
    const prepared = ready ?? (yield* fresh(skill, home))
    const { root } = prepared
    yield* ViewFiles.attempt(root, () =>
      ViewInputs.foldersOf(Object.keys(files)).forEach((folder) => {
        const path = Path.join(root, folder)
        if (Fs.mkdirSync(path, { recursive: true }) === undefined || mine === undefined) return
        Fs.chownSync(path, mine.uid, mine.gid)
      }))
    const placed = yield* ViewInputs.place(root, files, links, mine)
    const reuse = () => {
      reusable = prepared
    }
    return { prepared, reuse, placed: new Map<string, ViewFiles.Placed>([...prepared.copied, ...placed]) }
  })

  return Effect.fnUntraced(function*(
    skill: ViewPool.Skill,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>,
    isOverlaid: boolean
  ) {
    if (isOverlaid) overlaid.add(skill.root)
    else overlaid.delete(skill.root)
    const scope = yield* Effect.scope
    const opened = attemptIn(scope, attempt(skill, files, links))
    const isFull = ({ cause }: ViewFiles.Failed) => ViewFiles.isDiskFull(cause)
    const { placed, prepared, reuse } = yield* Effect.catchIf(opened, isFull, () => Effect.andThen(reclaim, opened))
      .pipe(Effect.tapError((error) => isFull(error) ? reclaim : Effect.void))
    yield* refillLater(skill)
    homes.begun()
    const { root } = prepared
    // Giving the view out again looks once more, so that here the last look will do.
    let untouched: boolean | undefined
    const abandoned = Effect.sync(() => {
      if (untouched ?? ViewPool.isUntouched(prepared)) reuse()
    })
    const common = { root, digest: digestOf(prepared), kept: Effect.succeed(true), abandoned }
    if (isOverlaid) {
      const { artifacts, onWritten } = ViewArtifacts.overlaid(() => ViewArtifacts.byContent(placed), limits)
      return { ...common, temp: "/tmp", overlay: { at: root, onWritten }, writable: [], artifacts }
    }
    const artifacts = Effect.suspend(() => {
      untouched = ViewPool.isUntouched(prepared)
      if (untouched) return Effect.succeed(ViewArtifacts.none)
      // A run that put a link in the place of its folder does not decide what the server reads.
      return ViewFiles.isRealFolder(root)
        ? ViewArtifacts.collect(root, placed, limits)
        : Effect.succeed({ artifacts: [], truncated: true })
    })
    return { ...common, temp: prepared.temp, overlay: undefined, writable: [prepared.home], artifacts }
  })
}
