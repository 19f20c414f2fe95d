/**
 * Looks at, hands over and removes folders that a program of a package filled, which names, nests and hides in them what it
 * likes.
 *
 * Nothing here goes by a path: a folder is opened in its parent, without links, so that none is too deep to be looked at. One that
 * cannot be read gets a mode with which it can. What still cannot be looked at is an error, never an empty folder.
 */
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Path from "node:path"

/** What was left there is not for the cache. */
export class Unfit extends Error {}

const maxDepth = 256
const maxEntries = 2_000_000

/** An inode takes room, too, also where no block is counted for it. */
const entryBytes = 512

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = Fs.constants
// Node has no name for it: a handle of what may be neither read nor written.
const O_PATH = process.platform === "linux" ? 0o10000000 : 0

/** An open folder. */
interface Opened {
  readonly handle: FsPromises.FileHandle
  readonly path: Buffer
}

type Place = string | Buffer

const hasHandles = Fs.existsSync("/proc/self/fd")

/** Where something in a folder is, with a path as short as its name where the system has one. */
const within = ({ handle, path }: Opened, name: Buffer): Buffer =>
  Buffer.concat([hasHandles ? Buffer.from(`/proc/self/fd/${handle.fd}`) : path, Buffer.from("/"), name])

const pathOf = ({ handle, path }: Opened): Place => hasHandles ? `/proc/self/fd/${handle.fd}` : path

const codeOf = (error: unknown): unknown => error instanceof Error && "code" in error ? error.code : undefined

const isDenied = (error: unknown): boolean => codeOf(error) === "EACCES"

/** Gone, or something else by now: only a program that still runs does that. */
const isChanged = (error: unknown): boolean => /^(?:ENOENT|ENOTDIR|ELOOP)$/.test(String(codeOf(error)))

const rights = 0o700

/** Gives the owner of a folder all rights there. */
const unlock = async (place: Place): Promise<void> => {
  if (O_PATH === 0) return FsPromises.chmod(place, rights)
  const handle = await FsPromises.open(place, O_PATH | O_DIRECTORY | O_NOFOLLOW)
  try {
    await FsPromises.chmod(`/proc/self/fd/${handle.fd}`, rights)
  } finally {
    await handle.close()
  }
}

const open = async (place: Place): Promise<Opened> => {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
  const handle = await FsPromises.open(place, flags).catch(async (error: unknown) => {
    if (!isDenied(error)) throw error
    await unlock(place)
    return FsPromises.open(place, flags)
  })
  return { handle, path: Buffer.from(place) }
}

/** The names in a folder, a few at a time, since there may be more than memory has room for. */
const namesIn = async function*(folder: Opened): AsyncGenerator<Buffer, void> {
  let isFirst = true
  // No name is lost in letters of one byte each.
  for await (const { name } of await FsPromises.opendir(pathOf(folder), { encoding: "latin1" })) {
    const bytes = Buffer.from(name, "latin1")
    if (isFirst) {
      isFirst = false
      // A folder may be read and not entered.
      await FsPromises.lstat(within(folder, bytes)).catch(async (error: unknown) => {
        if (isDenied(error)) await FsPromises.chmod(pathOf(folder), rights)
      })
    }
    yield bytes
  }
}

interface Visitor {
  /** `place` is where it is now; a folder is visited after all that is in it. */
  readonly visit: (place: Buffer, stat: Fs.Stats) => Promise<void> | void
  /** What to do about something that changes meanwhile. */
  readonly lasting: "fails" | "goes on"
}

/** Calls `visit` for all that is below a folder. Throws for what cannot be looked at. */
const walk = async (top: Place, { lasting, visit }: Visitor): Promise<void> => {
  let entries = 0
  const tolerate = (error: unknown): undefined => {
    if (lasting === "goes on" && isChanged(error)) return undefined
    throw error
  }
  const descend = async (folder: Opened, depth: number): Promise<void> => {
    if (depth > maxDepth) throw new Unfit(`it has folders more than ${maxDepth} deep`)
    for await (const name of namesIn(folder)) {
      if (++entries > maxEntries) throw new Unfit(`it has more than ${maxEntries} files`)
      const place = within(folder, name)
      const stat = await FsPromises.lstat(place).catch(tolerate)
      if (stat === undefined) continue
      if (stat.isDirectory()) {
        const inner = await open(place).catch(tolerate)
        if (inner === undefined) continue
        try {
          await descend(inner, depth + 1)
        } catch (error) {
          tolerate(error)
        } finally {
          await inner.handle.close()
        }
      }
      await visit(place, stat)
    }
  }
  const root = await open(top)
  try {
    await descend(root, 1)
  } finally {
    await root.handle.close()
  }
}

/** Size on disk, in bytes. Programs may still be at work there. */
export const sizeOf = async (folder: string): Promise<number> => {
  let bytes = 0
  const visit = (_: Buffer, { blocks }: Fs.Stats) => {
    bytes += blocks * 512 + entryBytes
  }
  await walk(folder, { lasting: "goes on", visit })
  return bytes
}

const readable = 0o444
const passable = 0o111

/** What its owner may do without writing, all may; nobody else writes, also by a list of rights, whose mask are those of the group. */
const modeOf = (stat: Fs.Stats): number =>
  stat.mode & rights | readable | (stat.isDirectory() ? passable | rights : (stat.mode & 0o100) !== 0 ? passable : 0)

/**
 * Makes of what programs left what others may use: of the server's user when that is root, readable for all and writable for
 * nobody else, without set-user-ID and set-group-ID, and nothing but files, folders and links. No program may be at work there.
 */
export const handOver = async (folder: string): Promise<void> => {
  const isRoot = process.getuid?.() === 0
  const visit = async (place: Place, stat: Fs.Stats): Promise<void> => {
    if (stat.isSymbolicLink()) return isRoot ? FsPromises.lchown(place, 0, 0) : undefined
    if (!stat.isDirectory() && !stat.isFile()) return FsPromises.unlink(place)
    // Before the mode, which its old owner could change.
    if (isRoot) await FsPromises.lchown(place, 0, 0)
    const mode = modeOf(stat)
    // A folder may have got another one since it was looked at.
    if (stat.isDirectory() || (stat.mode & 0o7777) !== mode) await FsPromises.chmod(place, mode)
  }
  await walk(folder, { lasting: "fails", visit })
  await visit(folder, await FsPromises.lstat(folder))
}

/**
 * Removes a folder with all that is in it, or a file. Folders in folders are moved up before they are looked at, so that the
 * depth of what was left does not matter.
 */
export const remove = async (path: string): Promise<void> => {
  const about = await FsPromises.lstat(path).catch((error: unknown) => {
    if (codeOf(error) !== "ENOENT") throw error
  })
  if (about === undefined) return
  if (!about.isDirectory()) return FsPromises.unlink(path)
  let moved = 0
  const own = `.removed-${process.pid}-${Date.now().toString(36)}-`
  /** Tells how many it saw; while a folder is changed not all may be seen at once. */
  const empty = async (folder: Opened, top: Opened): Promise<number> => {
    let seen = 0
    for await (const name of namesIn(folder)) {
      seen++
      const place = within(folder, name)
      const stat = await FsPromises.lstat(place)
      if (!stat.isDirectory()) {
        await FsPromises.unlink(place)
      } else if (folder !== top) {
        await unlock(place)
        await FsPromises.rename(place, within(top, Buffer.from(`${own}${moved++}`)))
      } else {
        const inner = await open(place)
        try {
          // Who may not write there cannot empty it.
          await FsPromises.chmod(pathOf(inner), rights)
          while (await empty(inner, top) > 0);
        } finally {
          await inner.handle.close()
        }
        await FsPromises.rmdir(place)
      }
    }
    return seen
  }
  await unlock(path)
  const top = await open(path)
  try {
    while (await empty(top, top) > 0);
  } finally {
    await top.handle.close()
  }
  await FsPromises.rmdir(path)
}

/** Puts a folder that cannot be removed out of the way. */
export const setAside = async (path: string, folder: string): Promise<string> => {
  const aside = Path.join(folder, `${Path.basename(path)}-${process.pid}-${Date.now().toString(36)}`)
  await FsPromises.rename(path, aside)
  return aside
}
