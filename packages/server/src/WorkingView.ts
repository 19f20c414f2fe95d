/**
 * Gives every run a private, writable view of its skill's root, and tells afterwards what the run left there.
 *
 * The view is an overlay at the skill's own path, where the executor can make one, else a copy of the skill's files in a
 * folder of its own below one base folder per server; the skill itself is never changed. Input files are placed into it,
 * files with new content come out of it as artifacts. For small skills that are called often, copies are prepared ahead.
 * A view is removed in the background after its scope closes, and at the latest when the service closes; base folders of
 * servers that were killed are removed when the next one starts.
 *
 * @since 0.1.0
 */
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Os from "node:os"
import * as Path from "node:path"
import type * as Executor from "./Executor.ts"
import type * as ViewArtifacts from "./internal/viewArtifacts.ts"
import * as ViewCopies from "./internal/viewCopies.ts"
import * as ViewFiles from "./internal/viewFiles.ts"
import * as ViewHomes from "./internal/viewHomes.ts"
import * as ViewInputs from "./internal/viewInputs.ts"
import * as ViewOverlays from "./internal/viewOverlays.ts"

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
        return ViewFiles.isDiskFull(reason.cause)
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
   * Opens a view of a skill and places the input files in it, by their relative path. Default: a copy. `links` are laid
   * over the skill's files as symbolic links: what they lead to, absolute, by their relative path.
   */
  readonly open: (
    skill: Source,
    files: Readonly<Record<string, Uint8Array>>,
    kind?: Kind,
    links?: Readonly<Record<string, string>>
  ) => Effect.Effect<View, WorkingViewError, Scope.Scope>
}>()("@skillscale/server/WorkingView") {}

const nobody = 65_534

const toError = (skill: string) => ({ cause, path }: ViewFiles.Failed): WorkingViewError =>
  new WorkingViewError({
    skill,
    reason: cause instanceof ViewFiles.SourceError
      ? new SkillUnreadable({ path, cause: cause.cause })
      : new Storage({ path, cause })
  })

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
  const owner = process.getuid?.() === 0 ? options?.owner ?? { uid: nobody, gid: nobody } : undefined
  const homes = yield* Effect.mapError(ViewHomes.make(directory, owner !== undefined), toError(""))
  const openCopy = ViewCopies.make({ homes, limits, owner, perSkill: options?.prepared ?? 4 })
  const openOverlay = ViewOverlays.make(homes, limits)

  const open: WorkingView["Service"]["open"] = (skill, files, kind = "copy", links = {}) =>
    Effect.suspend(() => {
      const refused = ViewInputs.refuse(skill, Object.keys(files), Object.keys(links))
      if (refused !== undefined) {
        return Effect.fail(new WorkingViewError({ skill: skill.name, reason: new FileRefused({ path: refused }) }))
      }
      const opened = kind === "overlay"
        ? openOverlay(skill, files, links)
        : openCopy(skill, files, links, kind === "overlaid copy")
      return Effect.mapBoth(opened, {
        onFailure: toError(skill.name),
        onSuccess: (view): View => ({ ...view, digest: Effect.mapError(view.digest, toError(skill.name)) })
      })
    })

  return WorkingView.of({ base: homes.base, open })
})

/**
 * Opens views as copies.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<WorkingView, WorkingViewError> =>
  Layer.effect(WorkingView, make(options))
