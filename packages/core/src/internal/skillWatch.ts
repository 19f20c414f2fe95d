import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Folder } from "./skillFiles.ts"

/**
 * One watch per folder, kept in step with what the scans find. The recursive mode of `fs.watch` is not used: on Linux it
 * opens a watch per file, reads the folders synchronously and misses what appears in a folder before it is watched.
 */
export interface Watchers {
  /** Tells whether folders were added, which may have changed before they were watched, and whether all are watched. */
  readonly update: (folders: ReadonlyArray<Folder>) => { readonly added: boolean; readonly failure: unknown }
  readonly close: () => void
}

interface Watched {
  readonly key: string
  readonly watcher: Fs.FSWatcher
}

const isGone = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause &&
  (cause.code === "ENOENT" || cause.code === "ENOTDIR")

export const make = (onChange: () => void): Watchers => {
  const watched = new Map<string, Watched>()
  let isClosed = false

  const drop = (path: string): void => {
    watched.get(path)?.watcher.close()
    watched.delete(path)
  }

  const add = ({ key, path }: Folder): void => {
    const watcher = Fs.watch(path, { persistent: false }, (event, name) => {
      // A folder that was removed or renamed names itself; its watch is dead although another may take its place.
      if (event === "rename" && name === Path.basename(path)) {
        drop(path)
      }
      onChange()
    })
    watcher.on("error", () => {
      drop(path)
      onChange()
    })
    watched.set(path, { key, watcher })
  }

  return {
    update: (folders) => {
      const current = new Map(isClosed ? [] : folders.map((folder) => [folder.path, folder]))
      for (const [path, { key }] of watched) {
        if (current.get(path)?.key !== key) {
          drop(path)
        }
      }
      let added = false
      let failure: unknown = undefined
      for (const folder of current.values()) {
        if (!watched.has(folder.path) && failure === undefined) {
          try {
            add(folder)
            added = true
          } catch (cause) {
            failure = isGone(cause) ? undefined : cause
          }
        }
      }
      return { added, failure }
    },
    close: () => {
      isClosed = true
      for (const path of Array.from(watched.keys())) {
        drop(path)
      }
    }
  }
}
