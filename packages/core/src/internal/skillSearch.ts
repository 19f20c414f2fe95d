import * as FsPromises from "node:fs/promises"
import * as Path from "node:path"
import { byBytes, type Folder, folderOf, isExhausted, isLoop, isMissing, NotADirectory } from "./skillFiles.ts"

export const maxDepth = 6
export const maxFolders = 2_000

export interface Found {
  readonly roots: ReadonlyArray<string>
  readonly folders: ReadonlyArray<Folder>
  readonly unreadable: ReadonlyArray<{ readonly path: string; readonly cause: unknown }>
  readonly truncated: boolean
}

interface Candidate {
  readonly path: string
  readonly depth: number
}

const isSearched = (name: string): boolean =>
  name !== "node_modules" && name !== "__pycache__" &&
  (!name.startsWith(".") || name === ".agents" || name === ".claude")

/** Finds the folders that hold a SKILL.md. Only the directory itself must be readable. */
export const search = async (directory: string, signal: AbortSignal): Promise<Found> => {
  const roots: Array<string> = []
  const folders: Array<Folder> = []
  const unreadable: Array<{ readonly path: string; readonly cause: unknown }> = []
  const seen = new Set<string>()
  // What is reached without a link comes first, so that a link never decides what the thing itself is called.
  const pending: Array<Candidate> = [{ path: directory, depth: 0 }]
  const links: Array<Candidate> = []

  const visit = async ({ depth, path }: Candidate): Promise<void> => {
    const stat = await FsPromises.stat(path, { bigint: true })
    if (!stat.isDirectory()) {
      if (depth === 0) {
        throw new NotADirectory()
      }
      return
    }
    const real = await FsPromises.realpath(path)
    if (seen.has(real)) {
      return
    }
    seen.add(real)
    folders.push(folderOf(path, stat))
    const entries = await FsPromises.readdir(path, { withFileTypes: true })
    if (entries.some((entry) => entry.name === "SKILL.md" && !entry.isDirectory())) {
      roots.push(path)
      return
    }
    const below = entries.filter((entry) => depth < maxDepth && isSearched(entry.name)).sort((left, right) =>
      byBytes(left.name, right.name)
    )
    for (const entry of below) {
      const candidate = { path: Path.join(path, entry.name), depth: depth + 1 }
      if (entry.isDirectory()) {
        pending.push(candidate)
      } else if (entry.isSymbolicLink()) {
        links.push(candidate)
      }
    }
  }

  let visited = 0
  for (;;) {
    signal.throwIfAborted()
    const candidate = pending.shift() ?? links.shift()
    if (candidate === undefined || visited === maxFolders) {
      return { roots: roots.sort(byBytes), folders, unreadable, truncated: candidate !== undefined }
    }
    visited += 1
    try {
      await visit(candidate)
    } catch (cause) {
      if (candidate.depth === 0 || isExhausted(cause)) {
        throw cause
      }
      if (!isMissing(cause) && !isLoop(cause)) {
        unreadable.push({ path: candidate.path, cause })
      }
    }
  }
}
