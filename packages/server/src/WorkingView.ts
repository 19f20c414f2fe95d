/**
 * Gives every run a private, writable view of its skill's root, and tells afterwards what the run left there.
 *
 * The view is an overlay at the skill's own path, where the executor can make one, else a copy of the skill's files in a
 * folder of its own below one base folder per server; the skill itself is never changed. Input files are placed into it,
 * files with new content come out of it as artifacts. For small skills that are called often, copies are prepared ahead. A view is removed in the background after its scope closes, and at the
 * latest when the service closes; base folders of servers that were killed are removed when the next one starts.
 *
 * @since 0.1.0
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type * as Executor from "./Executor.ts"
import * as OffPeak from "./internal/offPeak.ts"
import * as ViewArtifacts from "./internal/viewArtifacts.ts"
import * as ViewBase from "./internal/viewBase.ts"
import * as ViewFiles from "./internal/viewFiles.ts"
import * as ViewInputs from "./internal/viewInputs.ts"
import * as ViewPool from "./internal/viewPool.ts"

/**
 * The view could not be written: the disk is full, a limit of the file system was met, or a permission is missing.
 *
 * @category errors
 * @since 0.1.0
 */
export class Storage extends Schema.TaggedError<Storage>()("Storage", {
  path: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * A file of the skill vanished or could not be read while the view was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillUnreadable extends Schema.TaggedError<SkillUnreadable>()("SkillUnreadable", {
  path: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * An input file would replace a file of the skill or another input file, or lie where the skill's scripts load their
 * modules from.
 *
 * @category errors
 * @since 0.1.0
 */
export class FileRefused extends Schema.TaggedError<FileRefused>()("FileRefused", { path: Schema.String }) {}

/**
 * The only error of this module; `reason` says why there is no view.
 *
 * @category errors
 * @since 0.1.0
 */
export class WorkingViewError extends Schema.TaggedError<WorkingViewError>()("WorkingViewError", {
  skill: Schema.String,
  reason: Schema.Union([Storage, SkillUnreadable, FileRefused])
}) {
  override readonly cause = this.reason
  override get message() {
    const { reason } = this
    switch (reason._tag) {
      case "Storage":
        return ViewFiles.isErrno(reason.cause, "ENOSPC", "EDQUOT")
          ? `cannot write ${reason.path}: the disk for working folders is full on this server`
          : `cannot write ${reason.path}: ${String(reason.cause)}`
      case "SkillUnreadable":
        return `cannot read ${reason.path} of skill ${this.skill}: ${String(reason.cause)}`
      case "FileRefused":
        return `the input file ${
          JSON.stringify(reason.path)
        } would replace or shadow a file of skill ${this.skill}, or another input file; give it another name`
    }
  }
}

/**
 * A file that a run created or changed. `path` is relative to the view's root, with `/`.
 *
 * @category models
 * @since 0.1.0
 */
export type Artifact = ViewArtifacts.Artifact

/**
 * What came out of a view. `truncated` tells that more was there than the limits let through.
 *
 * @category models
 * @since 0.1.0
 */
export type Artifacts = ViewArtifacts.Artifacts

/**
 * One run's folder.
 *
 * @category models
 * @since 0.1.0
 */
export interface View {
  /** Absolute; the working directory of the run. */
  readonly root: string
  /** Absolute; for temporary files, beside the root, never returned. */
  readonly temp: string
  /** For the executor, when the view is an overlay. */
  readonly overlay: Executor.Overlay | undefined
  /** What a confined run may write, absolute. */
  readonly writable: ReadonlyArray<string>
  /** The digest of the skill's files as the run finds them. Ask before the run. */
  readonly digest: Effect.Effect<string, WorkingViewError>
  /** Whether the run found what `digest` told until its end. Ask after the run. */
  readonly kept: Effect.Effect<boolean>
  /**
   * New files and files whose content changed, sorted by path. Links, special files and `__pycache__` are left out.
   */
  readonly artifacts: Effect.Effect<Artifacts, WorkingViewError>
  /**
   * Tells that every process that could reach the view is gone. When the run left the view as it got it, down to the times
   * that a program cannot set, it may then serve another run.
   */
  readonly abandoned: Effect.Effect<void>
}

/**
 * What a view of a skill is made from.
 *
 * @category models
 * @since 0.1.0
 */
export type Source = Pick<SkillDiscovery.Skill, "name" | "root" | "files" | "scripts">

/**
 * Bounds of the artifacts of one run.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The folder for views. Default: the system's folder for temporary files. */
  readonly directory?: string | undefined
  /** Artifacts of one run. Default: 256. */
  readonly maxArtifacts?: number | undefined
  /** All artifacts of one run together, in bytes. Default: 32 MiB. */
  readonly maxArtifactBytes?: number | undefined
  /** Files and folders looked at for artifacts. Default: 20,000. */
  readonly maxEntries?: number | undefined
  /**
   * Views of one skill that are kept ready; 0 keeps none. Only skills of at most 200 files and 4 MiB have any, and all
   * skills together at most 16. Default: 4.
   */
  readonly prepared?: number | undefined
  /** Whom copies belong to when the server is root, so that a confined run can change them. Default: 65534 for both. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined
}

/**
 * An overlay, which the executor puts over the skill in its own place; a copy; or an overlay over a copy, for a skill over
 * which the executor cannot put one.
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = "overlay" | "copy" | "overlaid copy"

/**
 * Opens views.
 *
 * @category services
 * @since 0.1.0
 */
export class WorkingView extends Context.Service<WorkingView, {
  /** Absolute; the folder in which views are. The executor has to know it before it makes overlays. */
  readonly base: string
  /**
   * Opens a view of a skill and places the input files in it, by their relative path. Default: a copy. `links` are laid over the skill's files as symbolic links: what they lead to, absolute,
   * by their relative path.
   */
  readonly open: (
    skill: Source,
    files: Readonly<Record<string, Uint8Array>>,
    kind?: Kind,
    links?: Readonly<Record<string, string>>
  ) => Effect.Effect<View, WorkingViewError, Scope.Scope>
}>()("@skillscale/server/WorkingView") {}

const maxPrepared = 16
const nobody = 65_534
const maxRemovals = 64
const removalsAtATime = 2

const toError = (skill: string, path: string) => (cause: unknown): WorkingViewError =>
  new WorkingViewError({
    skill,
    reason: cause instanceof ViewFiles.SourceError
      ? new SkillUnreadable({ path, cause: cause.cause })
      : new Storage({ path, cause })
  })

const isFull = (error: WorkingViewError): boolean =>
  error.reason._tag === "Storage" && ViewFiles.isErrno(error.reason.cause, "ENOSPC", "EDQUOT")

const remove = (path: string): Effect.Effect<void> =>
  Effect.promise(() => ViewFiles.remove(path)).pipe(
    Effect.catchCause((cause) => Effect.logWarning("cannot remove a working view", path, cause)),
    Effect.uninterruptible
  )

const attemptOne = <A>(make: () => A | Promise<A>, fail: (cause: unknown) => WorkingViewError) =>
  Effect.suspend((): Effect.Effect<A, WorkingViewError> => {
    try {
      const made = make()
      if (!(made instanceof Promise)) return Effect.succeed(made)
      return Effect.uninterruptible(Effect.tryPromise({ try: () => made, catch: fail }))
    } catch (cause) {
      return Effect.fail(fail(cause))
    }
  })

/** Makes files in a view one after the other, in slices of time. */
const fill = Effect.fnUntraced(function*<A extends { readonly path: string }, P>(
  skill: string,
  files: ReadonlyArray<A>,
  make: (file: A) => P | Promise<P>
) {
  const placed = new Map<string, P>()
  const rest = ViewFiles.pause()
  for (const file of files) {
    const fail = toError(skill, file.path)
    placed.set(file.path, yield* attemptOne(() => make(file), fail))
    yield* rest
  }
  return placed
})

const overlaps = (left: string) => (right: string): boolean =>
  left === right || left.startsWith(`${right}/`) || right.startsWith(`${left}/`)

const placeLinks = (
  skill: string,
  root: string,
  links: Readonly<Record<string, string>>
): Effect.Effect<void, WorkingViewError> =>
  Effect.forEach(
    Object.entries(links),
    ([path, target]) =>
      Effect.try({ try: () => Fs.symlinkSync(target, Path.join(root, path)), catch: toError(skill, path) }),
    {
      discard: true
    }
  )

/**
 * Makes the service; its scope owns the base folder.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<WorkingView["Service"], WorkingViewError, Scope.Scope> {
  const directory = Path.resolve(options?.directory ?? Os.tmpdir())
  const limits = {
    maxArtifacts: options?.maxArtifacts ?? 256,
    maxArtifactBytes: options?.maxArtifactBytes ?? 32 * 1024 * 1024,
    maxEntries: options?.maxEntries ?? 20_000
  }
  /** Skills whose copies stay the server's, since runs write over them. */
  const overlaid = new Set<string>()
  const owner = process.getuid?.() === 0 ? options?.owner ?? { uid: nobody, gid: nobody } : undefined
  for (const path of yield* Effect.promise(() => ViewBase.abandoned(directory))) yield* remove(path)
  const base = yield* Effect.acquireRelease(
    Effect.tryPromise({ try: () => ViewBase.create(directory, owner !== undefined), catch: toError("", directory) }),
    remove
  )
  const background = yield* FiberSet.make<void>()
  const offPeak = OffPeak.make()
  const removals = Semaphore.makeUnsafe(removalsAtATime)
  let count = 0

  const removeLater = (home: string) =>
    Effect.flatMap(FiberSet.size(background), (size) =>
      size < maxRemovals
        ? FiberSet.run(
          background,
          Effect.uninterruptible(Effect.andThen(offPeak.wait, removals.withPermit(remove(home))))
        )
        : remove(home))

  const makeFolders = (home: string, folders: ReadonlyArray<string>) => {
    try {
      Fs.mkdirSync(home, { mode: 0o700 })
    } catch (cause) {
      if (!ViewFiles.isErrno(cause, "ENOENT")) throw cause
      // Something that cleans temporary folders took the base.
      Fs.mkdirSync(base, { mode: 0o700 })
      Fs.mkdirSync(home, { mode: 0o700 })
    }
    for (const folder of folders) Fs.mkdirSync(Path.join(home, folder))
  }

  const ownerOf = ({ root }: Source) => overlaid.has(root) ? undefined : owner

  const fresh = Effect.fnUntraced(function*(skill: Source, home: string) {
    const name = Path.basename(skill.root)
    const root = Path.join(home, name)
    const temp = Path.join(home, ".tmp")
    const folders = ViewInputs.foldersOf(skill.files.map((file) => file.path))
    yield* Effect.try({
      try: () => makeFolders(home, [".tmp", name, ...folders.map((folder) => `${name}/${folder}`)]),
      catch: toError(skill.name, home)
    })
    const copied = yield* fill(
      skill.name,
      skill.files,
      ({ path, sha256 }) => ViewFiles.copy(Path.join(skill.root, path), Path.join(root, path), sha256, ownerOf(skill))
    )
    const made = [home, temp, root, ...folders.map((folder) => Path.join(root, folder))]
    const settled = yield* Effect.try({
      try: () => new Map(made.map((folder) => [folder, ViewFiles.settleFolder(folder, ownerOf(skill))])),
      catch: toError(skill.name, home)
    })
    return { home, root, temp, copied, folders: settled }
  })

  const nextHome = () => Path.join(base, String(count += 1))

  const pool = ViewPool.make({
    perSkill: options?.prepared ?? 4,
    total: maxPrepared,
    discard: ({ home }) => removeLater(home),
    prepare: (skill) =>
      Effect.suspend(() => {
        const home = nextHome()
        return Effect.onExit(fresh(skill, home), (exit) => exit._tag === "Success" ? Effect.void : remove(home))
      }).pipe(Effect.orElseSucceed(() => undefined))
  })

  const refillLater = (skill: Source) => FiberSet.run(background, Effect.andThen(offPeak.wait, pool.refill(skill)))

  const reclaim = Effect.andThen(pool.clear, FiberSet.awaitEmpty(background))

  const attempt = Effect.fnUntraced(function*(
    skill: Source,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>
  ) {
    const mine = ownerOf(skill)
    let home = nextHome()
    let reusable: ViewPool.Prepared | undefined
    // Registered first, so that an interruption on the way leaves nothing behind.
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        pool.giveBack(skill, reusable),
        reusable === undefined ? Effect.andThen(removeLater(home), refillLater(skill)) : Effect.void
      )
    )
    const ready = yield* Effect.uninterruptible(Effect.tap(pool.take(skill), (ready) =>
      Effect.sync(() => {
        if (ready !== undefined) home = ready.home
      })))
    const prepared = ready ?? (yield* fresh(skill, home))
    const inputs = Object.entries(files).map(([path, data]) => ({ path, data }))
    const { root } = prepared
    yield* Effect.try({
      try: () =>
        ViewInputs.foldersOf(Object.keys(files)).forEach((folder) => {
          const path = Path.join(root, folder)
          if (Fs.mkdirSync(path, { recursive: true }) === undefined || mine === undefined) return
          Fs.chownSync(path, mine.uid, mine.gid)
        }),
      catch: toError(skill.name, root)
    })
    const placed = yield* fill(
      skill.name,
      inputs,
      ({ data, path }) => ViewFiles.place(Path.join(root, path), data, mine)
    )
    yield* placeLinks(skill.name, root, links)
    const reuse = () => {
      reusable = prepared
    }
    return { prepared, reuse, placed: new Map<string, ViewFiles.Placed>([...prepared.copied, ...placed]) }
  })

  const openCopy = Effect.fnUntraced(function*(
    skill: Source,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>,
    isOverlaid: boolean
  ): Effect.fn.Return<View, WorkingViewError, Scope.Scope> {
    if (isOverlaid) overlaid.add(skill.root)
    else overlaid.delete(skill.root)
    const scope = yield* Effect.scope
    const opened = attemptIn(scope, attempt(skill, files, links))
    const { placed, prepared, reuse } = yield* Effect.catchIf(opened, isFull, () => Effect.andThen(reclaim, opened))
      .pipe(
        Effect.tapError((error) => isFull(error) ? reclaim : Effect.void)
      )
    yield* refillLater(skill)
    offPeak.begun()
    const { copied, root, temp } = prepared
    const digest = Effect.map(
      Effect.forEach(copied, ([path, { hash }]) =>
        hash === undefined
          ? Effect.tryPromise({
            try: () => ViewFiles.hashFile(Path.join(root, path)),
            catch: toError(skill.name, path)
          })
            .pipe(Effect.map((sha256) => ({ path, sha256 })))
          : Effect.succeed({ path, sha256: hash })),
      SkillDiscovery.digest
    )
    // Giving the view out again looks once more, so that here the last look will do.
    let untouched: boolean | undefined
    const artifacts = Effect.suspend(() => {
      untouched = ViewPool.isUntouched(prepared)
      if (untouched) return Effect.succeed(ViewArtifacts.none)
      // A run that put a link in the place of its folder does not decide what the server reads.
      return ViewFiles.isRealFolder(root)
        ? ViewArtifacts.collect(root, placed, limits)
        : Effect.succeed({ artifacts: [], truncated: true })
    })
    const abandoned = Effect.sync(() => {
      if (untouched ?? ViewPool.isUntouched(prepared)) reuse()
    })
    if (isOverlaid) {
      let written: Artifacts = ViewArtifacts.none
      return {
        root,
        temp: "/tmp",
        overlay: {
          at: root,
          onWritten: (folder) =>
            Effect.map(ViewArtifacts.collect(folder, ViewArtifacts.byContent(placed), limits), (artifacts) => {
              written = artifacts
            })
        },
        writable: [],
        digest,
        kept: Effect.succeed(true),
        artifacts: Effect.sync(() => written),
        abandoned
      }
    }
    return {
      root,
      temp,
      overlay: undefined,
      writable: [prepared.home],
      digest,
      kept: Effect.succeed(true),
      artifacts,
      abandoned
    }
  })

  /** Puts the inputs into a folder of their own; the executor and the skill's folder do the rest. */
  const openOverlay = Effect.fnUntraced(function*(
    skill: Source,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>
  ): Effect.fn.Return<View, WorkingViewError, Scope.Scope> {
    const paths = [...Object.keys(files), ...Object.keys(links)]
    const home = paths.length === 0 ? undefined : nextHome()
    let placed: ReadonlyMap<string, ViewFiles.Placed> = new Map()
    if (home !== undefined) {
      yield* Effect.addFinalizer(() => removeLater(home))
      yield* Effect.try({
        try: () => makeFolders(home, ViewInputs.foldersOf(paths)),
        catch: toError(skill.name, home)
      })
      const inputs = Object.entries(files).map(([path, data]) => ({ path, data }))
      placed = yield* fill(skill.name, inputs, ({ data, path }) => ViewFiles.place(Path.join(home, path), data))
      yield* placeLinks(skill.name, home, links)
    }
    let written: Artifacts = ViewArtifacts.none
    let pinned: ReadonlyArray<string> = []
    const signatures = () => skill.files.map(({ path }) => ViewFiles.signature(Path.join(skill.root, path)))
    return {
      root: skill.root,
      temp: "/tmp",
      overlay: {
        at: skill.root,
        inputs: home,
        onWritten: (folder) =>
          Effect.map(
            ViewArtifacts.collect(folder, new Map([...ViewArtifacts.placedBySkill(skill.files), ...placed]), limits),
            (artifacts) => {
              written = artifacts
            }
          )
      },
      writable: [],
      digest: Effect.suspend(() => {
        pinned = signatures()
        return Effect.map(
          Effect.forEach(skill.files, ({ path }) =>
            Effect.map(
              Effect.tryPromise({
                try: () => ViewFiles.hashFile(Path.join(skill.root, path)),
                catch: (cause) => toError(skill.name, path)(new ViewFiles.SourceError(cause))
              }),
              (sha256) => ({ path, sha256 })
            )),
          SkillDiscovery.digest
        )
      }),
      kept: Effect.sync(() => pinned.length === 0 || signatures().every((signature, i) => signature === pinned[i])),
      artifacts: Effect.sync(() => written),
      abandoned: Effect.void
    }
  })

  const open: WorkingView["Service"]["open"] = (skill, files, kind = "copy", links = {}) =>
    Effect.suspend(() => {
      const inputs = Object.keys(files)
      const refused = ViewInputs.refuse(skill, inputs) ?? inputs.find((path) => Object.keys(links).some(overlaps(path)))
      if (refused !== undefined) {
        return Effect.fail(new WorkingViewError({ skill: skill.name, reason: new FileRefused({ path: refused }) }))
      }
      return kind === "overlay"
        ? openOverlay(skill, files, links)
        : openCopy(skill, files, links, kind === "overlaid copy")
    })

  return WorkingView.of({ base, open })
})

/** Runs an attempt in a scope of its own, which closes at once when it fails, else with the given one. */
const attemptIn = <A, E>(scope: Scope.Scope, attempt: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Scope.fork(scope), (own) =>
      restore(Scope.provide(attempt, own)).pipe(
        Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
      ))
  )

/**
 * Opens views as copies.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<WorkingView, WorkingViewError> =>
  Layer.effect(WorkingView, make(options))
