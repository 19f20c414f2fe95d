/**
 * Files of a working view: copies them in, lists and reads what is there afterwards, removes the whole.
 *
 * Small files are handled with synchronous calls, which cost a fifth of asynchronous ones, in slices of time so that the
 * event loop stays free; large files go through the thread pool.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import { createHash } from "node:crypto"
import * as Path from "node:path"

const inlineBytes = 256 * 1024
const sliceMs = 2
/** How long before now a change must lie, so that the next one is sure to have another time. */
const settledMs = 2_000

export class SourceError extends Error {
  override readonly cause: unknown
  constructor(cause: unknown) {
    super("cannot read the source")
    this.cause = cause
  }
}

/** A view cannot be made or looked at; `cause` is a `SourceError` when a file of the skill is to blame. */
export class Failed extends Data.TaggedError("Failed")<{ readonly path: string; readonly cause: unknown }> {}

/** A file in a view as it was when it was placed. */
export interface Placed {
  readonly fingerprint: string
  readonly sha256: () => string
}

/** A file of a skill, and what tells later whether the skill still has the same. */
export interface Copied extends Placed {
  readonly source: string
  readonly signature: string
  /** False for a file that changed just before it was copied: a change right after might not show in its times. */
  readonly settled: boolean
  /** The hash of the copy; nothing for a large file, which is hashed when somebody asks. */
  readonly hash: string | undefined
}

export interface Entry {
  readonly path: string
  readonly size: number
  readonly fingerprint: string
}

export const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex")

const fingerprintOf = (stat: Fs.BigIntStats): string => `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`

const signatureOf = (stat: Fs.BigIntStats): string => `${stat.dev}:${fingerprintOf(stat)}`

/** What a file is now, wherever links lead; empty when it is gone. */
export const signature = (path: string): string => {
  const stat = Fs.statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? "" : signatureOf(stat)
}

/** What a file is now; empty when it is gone. */
export const fingerprint = (path: string): string => {
  const stat = Fs.lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? "" : fingerprintOf(stat)
}

/** What a folder is now, its mode and the times of its entries included; empty when it is gone. */
export const folderFingerprint = (path: string): string => {
  const stat = Fs.lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? "" : `${stat.ino}:${stat.mode}:${stat.mtimeNs}:${stat.ctimeNs}`
}

/** Gives a folder an old time, so that the next change of its entries shows, and tells what it is then. */
export const settleFolder = (path: string, owner?: Owner): string => {
  if (owner !== undefined) Fs.chownSync(path, owner.uid, owner.gid)
  const time = (Date.now() - settledMs) / 1000
  Fs.utimesSync(path, time, time)
  return folderFingerprint(path)
}

export const isErrno = (cause: unknown, ...codes: ReadonlyArray<string>): boolean =>
  cause instanceof Error && "code" in cause && codes.includes(String(cause.code))

export const isDiskFull = (cause: unknown): boolean => isErrno(cause, "ENOSPC", "EDQUOT")

/** Does something to a path. A promise that was begun is waited for. */
export const attempt = <A>(path: string, make: () => A | Promise<A>): Effect.Effect<A, Failed> =>
  Effect.suspend(() => {
    const fail = (cause: unknown) => new Failed({ path, cause })
    try {
      const made = make()
      if (!(made instanceof Promise)) return Effect.succeed(made)
      return Effect.uninterruptible(Effect.tryPromise({ try: () => made, catch: fail }))
    } catch (cause) {
      return Effect.fail(fail(cause))
    }
  })

/** Returns an effect that lets others run when it has been a few milliseconds since they last could. */
const pause = () => {
  let began = performance.now()
  return Effect.suspend(() => {
    if (performance.now() - began < sliceMs) return Effect.void
    return Effect.map(Effect.yieldNow, () => {
      began = performance.now()
    })
  })
}

/** Makes files one after the other, in slices of time, and tells what was made of each. */
export const fill = Effect.fnUntraced(function*<A extends { readonly path: string }, P>(
  files: ReadonlyArray<A>,
  make: (file: A) => P | Promise<P>
) {
  const placed = new Map<string, P>()
  const rest = pause()
  for (const file of files) {
    placed.set(file.path, yield* attempt(file.path, () => make(file)))
    yield* rest
  }
  return placed
})

/** Whom the files of a view belong to, when not to the server. */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

const write = (target: string, data: Uint8Array, mode: number, mtimeMs: number, owner?: Owner): Fs.BigIntStats => {
  const to = Fs.openSync(target, "wx", mode)
  try {
    Fs.writeFileSync(to, data)
    if (owner !== undefined) Fs.fchownSync(to, owner.uid, owner.gid)
    const mtime = Math.min(mtimeMs, Date.now() - settledMs) / 1000
    Fs.futimesSync(to, mtime, mtime)
    return Fs.fstatSync(to, { bigint: true })
  } finally {
    Fs.closeSync(to)
  }
}

const readSource = (source: string): { readonly stat: Fs.BigIntStats; readonly data: Uint8Array | undefined } => {
  try {
    // O_NONBLOCK: a pipe that took the file's place must not stop the server.
    const from = Fs.openSync(source, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
    try {
      const stat = Fs.fstatSync(from, { bigint: true })
      if (!stat.isFile()) throw new Error("it is no longer a file")
      return { stat, data: stat.size > inlineBytes ? undefined : Fs.readFileSync(from) }
    } finally {
      Fs.closeSync(from)
    }
  } catch (cause) {
    throw new SourceError(cause)
  }
}

const copyLarge = async (
  source: string,
  target: string,
  mode: number,
  mtimeMs: number,
  owner?: Owner
): Promise<Fs.BigIntStats> => {
  try {
    await FsPromises.copyFile(source, target, Fs.constants.COPYFILE_FICLONE)
  } catch (cause) {
    throw isErrno(cause, "ENOENT", "EACCES", "EPERM") ? new SourceError(cause) : cause
  }
  await FsPromises.chmod(target, mode)
  if (owner !== undefined) await FsPromises.chown(target, owner.uid, owner.gid)
  const mtime = Math.min(mtimeMs, Date.now() - settledMs) / 1000
  await FsPromises.utimes(target, mtime, mtime)
  return FsPromises.lstat(target, { bigint: true })
}

/**
 * Copies one file of a skill. The copy has the times and the mode of the file, but its owner may write it. Throws, or
 * fails with, `SourceError` when the file is to blame, and the error of the file system when the view is.
 */
export const copy = (
  source: string,
  target: string,
  knownSha256: string,
  owner?: Owner
): Copied | Promise<Copied> => {
  const { data, stat } = readSource(source)
  const mode = Number(stat.mode & 0o777n) | 0o600
  const origin = {
    source,
    signature: signatureOf(stat),
    settled: Number(stat.ctimeMs) < Date.now() - 100
  }
  if (data === undefined) {
    return copyLarge(source, target, mode, Number(stat.mtimeMs), owner).then((placed) => ({
      ...origin,
      fingerprint: fingerprintOf(placed),
      hash: undefined,
      sha256: () => knownSha256
    }))
  }
  const hash = sha256(data)
  const placed = write(target, data, mode, Number(stat.mtimeMs), owner)
  return { ...origin, fingerprint: fingerprintOf(placed), hash, sha256: () => hash }
}

/** Writes one input file. */
export const place = (target: string, data: Uint8Array, owner?: Owner): Placed | Promise<Placed> => {
  const done = (stat: Fs.BigIntStats): Placed => ({ fingerprint: fingerprintOf(stat), sha256: () => sha256(data) })
  if (data.byteLength <= inlineBytes) return done(write(target, data, 0o644, Date.now(), owner))
  return (async () => {
    await FsPromises.writeFile(target, data, { flag: "wx", mode: 0o644 })
    if (owner !== undefined) await FsPromises.chown(target, owner.uid, owner.gid)
    const mtime = (Date.now() - settledMs) / 1000
    await FsPromises.utimes(target, mtime, mtime)
    return done(await FsPromises.lstat(target, { bigint: true }))
  })()
}

/** Tells whether the skill has the same file now as when it was copied. */
export const isCurrent = (file: Copied): boolean => signature(file.source) === file.signature

/** Tells whether a path without links in it still has none, and leads to a folder. */
export const isRealFolder = (path: string): boolean => {
  try {
    return Fs.realpathSync.native(path) === path && Fs.statSync(path).isDirectory()
  } catch {
    return false
  }
}

const openFolder = (path: string): Fs.Dir => {
  try {
    return Fs.opendirSync(path)
  } catch (cause) {
    if (!isErrno(cause, "EACCES")) throw cause
    Fs.chmodSync(path, 0o700)
    return Fs.opendirSync(path)
  }
}

/**
 * Lists the regular files below a folder, and counts everything. What cannot be looked at, and what is beyond `limit`,
 * makes the list incomplete. `__pycache__` is counted, but not looked into.
 */
export const list = (root: string, limit: number) =>
  Effect.gen(function*() {
    const entries: Array<Entry> = []
    const rest = pause()
    let complete = true
    let seen = 0
    const folders = [""]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      let handle: Fs.Dir
      try {
        handle = openFolder(Path.join(root, folder))
      } catch {
        complete = false
        continue
      }
      try {
        for (let item = handle.readSync(); item !== null; item = handle.readSync()) {
          seen += 1
          if (seen > limit) return { entries, seen, complete: false }
          if (item.name === "__pycache__") continue
          const path = folder === "" ? item.name : `${folder}/${item.name}`
          if (item.isDirectory()) folders.push(path)
          else if (item.isFile()) {
            const stat = Fs.lstatSync(Path.join(root, path), { bigint: true, throwIfNoEntry: false })
            // The name of a file that is there, but cannot be asked for by it, is not UTF-8.
            if (stat === undefined) complete = false
            else entries.push({ path, size: Number(stat.size), fingerprint: fingerprintOf(stat) })
          }
          yield* rest
        }
      } finally {
        handle.closeSync()
      }
    }
    return { entries, seen, complete }
  })

/** Reads `size` bytes of a file without following a link that took its place. */
export const read = async (path: string, size: number): Promise<Uint8Array> => {
  const flags = Fs.constants.O_RDONLY | Fs.constants.O_NOFOLLOW | Fs.constants.O_NONBLOCK
  const handle = await FsPromises.open(path, flags).catch(async (cause: unknown) => {
    if (!isErrno(cause, "EACCES")) throw cause
    await FsPromises.chmod(path, 0o600)
    return FsPromises.open(path, flags)
  })
  try {
    if (!(await handle.stat()).isFile()) throw new Error("it is no longer a file")
    const data = Buffer.allocUnsafe(size)
    let length = 0
    while (length < size) {
      const { bytesRead } = await handle.read(data, length, size - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return data.subarray(0, length)
  } finally {
    await handle.close()
  }
}

export const hashFile = async (path: string): Promise<string> => {
  const hash = createHash("sha256")
  for await (const chunk of Fs.createReadStream(path)) hash.update(chunk)
  return hash.digest("hex")
}

const removeFolder = async (path: string): Promise<void> => {
  for (const entry of await FsPromises.readdir(path, { withFileTypes: true })) {
    const child = Path.join(path, entry.name)
    if (entry.isDirectory()) await removeFolder(child)
    else await FsPromises.unlink(child)
  }
  await FsPromises.rmdir(path)
}

const makeRemovable = async (folder: string): Promise<void> => {
  await FsPromises.chmod(folder, 0o700)
  for (const entry of await FsPromises.readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await makeRemovable(Path.join(folder, entry.name))
  }
}

/** Removes a tree even when a run took away the permissions of its folders. Of a link, only the link. */
export const remove = async (path: string): Promise<void> => {
  const stat = Fs.lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isDirectory()) return FsPromises.unlink(path)
  try {
    // Takes half the time of `rm`, which looks at everything first.
    await removeFolder(path)
  } catch {
    await makeRemovable(path).catch(() => {})
    await FsPromises.rm(path, { recursive: true, force: true })
  }
}
