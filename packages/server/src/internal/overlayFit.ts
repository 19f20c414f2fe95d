/**
 * Whether a run over a skill's own folder finds exactly what discovery knows of the skill, and may change all of it. What
 * discovery leaves out (`.git`, caches, links) a copy leaves out too, and files of other owners cannot be changed in place.
 * A Python environment in `.venv` may be there, whatever is in it: it is the skill's interpreter.
 */
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as WorkingView from "../WorkingView.ts"
import * as OwnEnvironment from "./ownEnvironment.ts"

const trustMs = 2_000
const maxKnown = 256

const fits = (skill: Pick<SkillDiscovery.Skill, "files">, root: string): boolean => {
  const owner = Fs.statSync(root)
  const known = new Set<string>()
  const folders = new Set([""])
  for (const { path } of skill.files) {
    known.add(path)
    for (let folder = Path.posix.dirname(path); folder !== "."; folder = Path.posix.dirname(folder)) {
      known.add(folder)
      folders.add(folder)
    }
  }
  for (const folder of folders) {
    for (const name of Fs.readdirSync(Path.join(root, folder))) {
      const path = folder === "" ? name : `${folder}/${name}`
      if (path === OwnEnvironment.folder) continue
      const stat = Fs.lstatSync(Path.join(root, path))
      const isEmptyFolder = stat.isDirectory() && !known.has(path)
      if (stat.isSymbolicLink() || !known.has(path) && !isEmptyFolder) return false
      if (isEmptyFolder && Fs.readdirSync(Path.join(root, path)).length > 0) return false
      if (stat.uid !== owner.uid || stat.gid !== owner.gid) return false
    }
  }
  return true
}

/** What of a run decides. */
export interface Run {
  /** Overlays are for confined runs only. */
  readonly isConfined: boolean
  readonly hasInputs: boolean
}

export interface Fit {
  readonly kind: WorkingView.Kind
  /** The folder of the skill, for an overlay by the path that has no links in it, by which the executor knows it. */
  readonly root: string
}

/** Decides what view a skill gets. Looks at most every two seconds; a change shows in the digest, or at the next look. */
export const make = (canOverlay: (folder: string) => boolean, base: string) => {
  const looks = new Map<string, { readonly digest: string; readonly at: number; readonly fit: Fit }>()
  const look = (skill: Pick<SkillDiscovery.Skill, "files" | "root">): Fit => {
    try {
      const root = Fs.realpathSync.native(skill.root)
      if (canOverlay(root) && fits(skill, root)) return { kind: "overlay", root }
    } catch {
      // It is gone or cannot be looked at: the copy will tell.
    }
    return { kind: canOverlay(base) ? "overlaid copy" : "copy", root: skill.root }
  }
  const fitOf = (skill: Pick<SkillDiscovery.Skill, "files" | "digest" | "root">): Fit => {
    const last = looks.get(skill.root)
    const now = performance.now()
    if (last !== undefined && last.digest === skill.digest && now - last.at < trustMs) return last.fit
    if (looks.size >= maxKnown) looks.clear()
    const fit = look(skill)
    looks.set(skill.root, { digest: skill.digest, at: now, fit })
    return fit
  }
  return (skill: Pick<SkillDiscovery.Skill, "files" | "digest" | "root">, { hasInputs, isConfined }: Run): Fit => {
    const copy: Fit = { kind: "copy", root: skill.root }
    if (!isConfined) return copy
    const fit = fitOf(skill)
    // Inputs whose owner cannot be mapped would give their owner to the whole view.
    return fit.kind === "overlay" && hasInputs && !canOverlay(base) ? copy : fit
  }
}
