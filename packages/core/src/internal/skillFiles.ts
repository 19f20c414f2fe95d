import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Path from "node:path"

export const maxFiles = 2_000
export const maxFolders = 2_000
export const maxTotalBytes = 268_435_456

export type Stat = Fs.BigIntStats

/** A folder as the watcher needs to know it: the key changes when another folder takes its place. */
export interface Folder {
  readonly path: string
  readonly key: string
}

export interface Listed {
  readonly path: string
  readonly real: string
  readonly stat: Stat
}

export interface Skipped {
  readonly path: string
  readonly message: string
}

export interface Listing {
  readonly files: ReadonlyArray<Listed>
  readonly skipped: ReadonlyArray<Skipped>
}

export interface Hashed {
  readonly sha256: string
  readonly shebang: boolean
  readonly signature: string
  /** Whether the same signature proves the same content: not for a file that changed just before it was read. */
  readonly settled: boolean
}

export class LimitExceeded extends Error {
  readonly limit: number
  readonly unit: "bytes" | "files"
  constructor(limit: number, unit: "bytes" | "files") {
    super(`more than ${limit} ${unit}`)
    this.limit = limit
    this.unit = unit
  }
}

export class Outside extends Error {}

export class NotAFile extends Error {}

export class NotADirectory extends Error {}

/** The file was changed or removed while it was read; trying again may succeed. */
export class Changed extends Error {}

export const isIgnored = (path: string): boolean =>
  /^\.venv(?:\/|$)|(?:^|\/)(?:\.git(?:\/|$)|\.DS_Store$|__pycache__\/[^/]+\.pyc(?:\.\d+)?$)/.test(path)

export const sha256Of = (content: string | Uint8Array): string =>
  Crypto.createHash("sha256").update(content).digest("hex")

export const byBytes = (left: string, right: string): number => Buffer.compare(Buffer.from(left), Buffer.from(right))

export const folderOf = (path: string, stat: Stat): Folder => ({
  path,
  key: `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`
})

const signatureOf = (stat: Stat): string =>
  [stat.dev, stat.ino, stat.size, stat.mode, stat.mtimeNs, stat.ctimeNs].join(":")

export const signature = (listed: Listed): string => signatureOf(listed.stat)

export const isExecutable = (stat: Stat): boolean => (stat.mode & 0o111n) !== 0n

const contains = (root: string, path: string): boolean =>
  path === root || path.startsWith(root.endsWith(Path.sep) ? root : root + Path.sep)

const errno = (cause: unknown): unknown =>
  typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined

export const isMissing = (cause: unknown): boolean => errno(cause) === "ENOENT" || errno(cause) === "ENOTDIR"

/** The process, not the file, is to blame: nothing can be concluded about any skill. */
export const isExhausted = (cause: unknown): boolean =>
  ["EMFILE", "ENFILE", "ENOMEM"].some((code) => code === errno(cause))

export const isLoop = (cause: unknown): boolean => errno(cause) === "ELOOP"

/** Lists the files of a skill without reading them; `folders` receives every folder that was seen, also on failure. */
export const list = async (root: string, signal: AbortSignal, folders: Array<Folder> = []): Promise<Listing> => {
  const realRoot = await FsPromises.realpath(root)
  const files: Array<Listed> = []
  const skipped: Array<Skipped> = []
  let bytes = 0n
  let visited = 0

  const add = (file: Listed): void => {
    files.push(file)
    bytes += file.stat.size
    if (files.length > maxFiles) {
      throw new LimitExceeded(maxFiles, "files")
    }
    if (bytes > maxTotalBytes) {
      throw new LimitExceeded(maxTotalBytes, "bytes")
    }
  }

  const follow = async (path: string, ancestors: ReadonlyArray<string>): Promise<string | Skipped> => {
    try {
      const real = await FsPromises.realpath(path)
      if (!contains(realRoot, real) || isIgnored(Path.relative(realRoot, real))) {
        return { path, message: `the link leads out of the skill, to ${real}: it is left out` }
      }
      return ancestors.includes(real)
        ? { path, message: "the link leads to a folder that it is in: it is left out" }
        : real
    } catch (cause) {
      if (isMissing(cause) || isLoop(cause)) {
        return { path, message: "the link leads nowhere: it is left out" }
      }
      throw cause
    }
  }

  const visit = async (real: string, relative: string, ancestors: ReadonlyArray<string>): Promise<void> => {
    signal.throwIfAborted()
    visited += 1
    if (visited > maxFolders) {
      throw new LimitExceeded(maxFolders, "files")
    }
    folders.push(folderOf(real, await FsPromises.stat(real, { bigint: true })))
    for (const entry of await FsPromises.readdir(real, { withFileTypes: true })) {
      const path = relative === "" ? entry.name : `${relative}/${entry.name}`
      if (isIgnored(entry.isDirectory() ? `${path}/` : path)) {
        continue
      }
      const absolute = Path.join(real, entry.name)
      const target = entry.isSymbolicLink() ? await follow(absolute, ancestors) : absolute
      if (typeof target !== "string") {
        skipped.push(target)
        continue
      }
      const stat = await FsPromises.lstat(target, { bigint: true })
      if (stat.isDirectory()) {
        await visit(target, path, [...ancestors, target])
      } else if (stat.isFile()) {
        add({ path, real: target, stat })
      } else {
        skipped.push({ path: absolute, message: "neither a file nor a folder: it is left out" })
      }
    }
  }

  await visit(realRoot, "", [realRoot])
  const byPath = (left: Skipped, right: Skipped): number => byBytes(left.path, right.path)
  return { files: files.sort((left, right) => byBytes(left.path, right.path)), skipped: skipped.sort(byPath) }
}

const settleMillis = 100

/** Reads a file through one descriptor and calls `chunk` with its bytes; fails with `Changed` when it was written to. */
const readStable = async (real: string, chunk: (bytes: Uint8Array) => void, signal: AbortSignal): Promise<Stat> => {
  // O_NONBLOCK: opening must not wait for the writer of a pipe that took the file's place.
  const flags = Fs.constants.O_RDONLY | Fs.constants.O_NOFOLLOW | Fs.constants.O_NONBLOCK
  const handle = await FsPromises.open(real, flags)
  try {
    const before = await handle.stat({ bigint: true })
    if (!before.isFile()) {
      throw new Changed(`${real} is no file any more`)
    }
    let left = before.size
    const buffer = Buffer.allocUnsafe(Math.min(1_048_576, Number(before.size) + 1))
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null)
      left -= BigInt(bytesRead)
      if (bytesRead === 0 || left < 0n) {
        break
      }
      chunk(buffer.subarray(0, bytesRead))
    }
    const after = await handle.stat({ bigint: true })
    if (left !== 0n || signatureOf(before) !== signatureOf(after)) {
      throw new Changed(`${real} was changed while it was read`)
    }
    return after
  } finally {
    await handle.close()
  }
}

export const hash = async (file: Listed, signal: AbortSignal, keep?: Array<Uint8Array>): Promise<Hashed> => {
  const sha256 = Crypto.createHash("sha256")
  const startedAt = Date.now()
  let head = Buffer.alloc(0)
  const stat = await readStable(file.real, (bytes) => {
    sha256.update(bytes)
    if (head.length < 2) {
      head = Buffer.concat([head, bytes.subarray(0, 2)])
    }
    keep?.push(Buffer.from(bytes))
  }, signal)
  if (signatureOf(stat) !== signatureOf(file.stat)) {
    throw new Changed(`${file.real} was changed while it was read`)
  }
  return {
    sha256: sha256.digest("hex"),
    shebang: head.subarray(0, 2).toString("latin1") === "#!",
    signature: signatureOf(stat),
    settled: Number(stat.ctimeMs) < startedAt - settleMillis
  }
}

const openedPath = (handle: FsPromises.FileHandle): Promise<string | undefined> =>
  FsPromises.readlink(`/proc/self/fd/${handle.fd}`).catch(() => undefined)

/** Reads one file below `root`, following links only as long as they stay there. */
export const readInside = async (
  root: string,
  path: string,
  maxBytes: number,
  signal: AbortSignal
): Promise<Uint8Array> => {
  if (path.includes("\0") || path.split("/").some((part) => part === "" || part === "." || part === "..")) {
    throw new Outside()
  }
  const realRoot = await FsPromises.realpath(root)
  const real = await FsPromises.realpath(Path.join(realRoot, path))
  if (!contains(realRoot, real) || isIgnored(path) || isIgnored(Path.relative(realRoot, real))) {
    throw new Outside()
  }
  const flags = Fs.constants.O_RDONLY | Fs.constants.O_NOFOLLOW | Fs.constants.O_NONBLOCK
  const handle = await FsPromises.open(real, flags)
  try {
    // A folder on the way may have become a link after it was resolved.
    const opened = await openedPath(handle)
    if (opened !== undefined && !contains(realRoot, opened)) {
      throw new Outside()
    }
    if (!(await handle.stat()).isFile()) {
      throw new NotAFile()
    }
    const chunks: Array<Uint8Array> = []
    let size = 0
    for (;;) {
      signal.throwIfAborted()
      const { buffer, bytesRead } = await handle.read({ buffer: Buffer.allocUnsafe(65_536), position: null })
      if (bytesRead === 0) {
        return Buffer.concat(chunks)
      }
      size += bytesRead
      if (size > maxBytes) {
        throw new LimitExceeded(maxBytes, "bytes")
      }
      chunks.push(buffer.subarray(0, bytesRead))
    }
  } finally {
    await handle.close()
  }
}
