import * as Result from "effect/Result"
import { realpath, stat } from "node:fs/promises"
import * as Path from "node:path"
import { setTimeout } from "node:timers/promises"
import type { Catalog } from "../SkillDiscovery.ts"
import * as SkillManifest from "../SkillManifest.ts"
import { type Candidate, digest, fault, parseText, toCandidate, toCatalog } from "./skillCatalog.ts"
import * as Files from "./skillFiles.ts"
import * as Schemas from "./skillSchemas.ts"
import { search } from "./skillSearch.ts"

interface Entry {
  readonly candidate: Candidate
  readonly hashes: ReadonlyMap<string, Files.Hashed>
  readonly skipped: string
  readonly folders: ReadonlyArray<Files.Folder>
  /** How many scans in a row could not read the skill, because it kept changing, and kept what was known. */
  readonly stale: number
}

/** What one scan learned, so that the next reads only what changed. */
export interface Scan {
  readonly catalog: Catalog
  readonly entries: ReadonlyMap<string, Entry>
  readonly folders: ReadonlyArray<Files.Folder>
}

const attempts = 5
const maxStale = 10

export const scan = async (directory: string, previous: Scan | undefined, signal: AbortSignal): Promise<Scan> => {
  const found = await searchTwice(directory, previous, signal)
  const entries = new Map<string, Entry>()
  for (const root of found.roots) {
    const entry = await readSkill(root, previous?.entries.get(root), signal)
    if (entry !== undefined) {
      entries.set(root, entry)
    }
  }
  const candidates = Array.from(entries.values(), ({ candidate }) => candidate)
  const diagnostics = found.unreadable.map(({ cause, path }) =>
    fault("warning", "Unreadable", path, `the folder cannot be searched: ${messageOf(cause)}`)
  )
  if (found.truncated) {
    const message = `more than ${Files.maxFolders} folders: the rest is not searched`
    diagnostics.push(fault("warning", "LimitExceeded", directory, message))
  }
  const catalog = toCatalog(candidates, diagnostics)
  return {
    catalog: previous !== undefined && isSame(previous.catalog, catalog) ? previous.catalog : catalog,
    entries,
    folders: [...found.folders, ...Array.from(entries.values()).flatMap(({ folders }) => folders)]
  }
}

/** A folder that is read while a file in it is replaced may seem to hold neither: what was there is looked for again. */
const searchTwice = async (directory: string, previous: Scan | undefined, signal: AbortSignal) => {
  const found = await search(directory, signal)
  const roots = new Set(found.roots)
  for (const root of previous?.entries.keys() ?? []) {
    if (!roots.has(root) && await stat(Path.join(root, "SKILL.md")).then(() => true, () => false)) {
      return search(directory, signal)
    }
  }
  return found
}

export const digestFolder = async (root: string, signal: AbortSignal): Promise<string> => {
  await realpath(root)
  return digest(await settle(signal, () => readHashes(root, signal)))
}

const readHashes = async (root: string, signal: AbortSignal) => {
  const listing = await Files.list(root, signal)
  const files: Array<{ readonly path: string; readonly sha256: string }> = []
  for (const file of listing.files) {
    const { sha256 } = await Files.hash(file, signal)
    files.push({ path: file.path, sha256 })
  }
  return files
}

const mayPass = (cause: unknown): boolean =>
  cause instanceof Files.Changed || Files.isMissing(cause) || Files.isLoop(cause)

const settle = async <A>(signal: AbortSignal, read: () => Promise<A>): Promise<A> => {
  for (let attempt = 1;; attempt++) {
    try {
      return await read()
    } catch (cause) {
      if (!mayPass(cause) || attempt === attempts) {
        throw cause
      }
      await setTimeout(10 * attempt, undefined, { signal })
    }
  }
}

const isSame = (left: Catalog, right: Catalog): boolean =>
  left.skills.length === right.skills.length &&
  left.skills.every((skill, index) => skill === right.skills[index]) &&
  JSON.stringify(left.diagnostics) === JSON.stringify(right.diagnostics)

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

/** Returns nothing for a folder that stopped being a skill since it was found. */
const readSkill = async (
  root: string,
  previous: Entry | undefined,
  signal: AbortSignal
): Promise<Entry | undefined> => {
  const folders: Array<Files.Folder> = []
  try {
    return await settle(signal, () => {
      folders.length = 0
      return readOnce(root, previous, folders, signal)
    })
  } catch (cause) {
    if (signal.aborted || Files.isExhausted(cause)) {
      throw cause
    }
    if (folders.length === 0 && Files.isMissing(cause)) {
      return undefined
    }
    if (previous?.candidate.skill !== undefined && mayPass(cause) && previous.stale < maxStale) {
      return { ...previous, folders: [...folders], stale: previous.stale + 1 }
    }
    const file = Path.join(root, "SKILL.md")
    const diagnostic = cause instanceof Files.LimitExceeded
      ? fault("error", "LimitExceeded", file, `the skill has ${cause.message}: it is left out`)
      : fault("error", "Unreadable", file, `the skill cannot be read and is left out: ${messageOf(cause)}`)
    return {
      candidate: { root, skill: undefined, diagnostics: [diagnostic] },
      hashes: new Map(),
      skipped: "",
      folders: [...folders],
      stale: 0
    }
  }
}

const readOnce = async (
  root: string,
  previous: Entry | undefined,
  folders: Array<Files.Folder>,
  signal: AbortSignal
): Promise<Entry> => {
  const listing = await Files.list(root, signal, folders)
  const skipped = JSON.stringify(listing.skipped)
  const unchanged = (file: Files.Listed): Files.Hashed | undefined => {
    const known = previous?.hashes.get(file.path)
    return known?.settled === true && known.signature === Files.signature(file) ? known : undefined
  }
  if (
    previous !== undefined && previous.skipped === skipped && previous.hashes.size === listing.files.length &&
    listing.files.every((file) => unchanged(file) !== undefined)
  ) {
    return { ...previous, folders: [...folders], stale: 0 }
  }
  const hashes = new Map<string, Files.Hashed>()
  const contents = new Map<string, Uint8Array>()
  const readWhole = async (file: Files.Listed): Promise<Uint8Array> => {
    const chunks: Array<Uint8Array> = []
    hashes.set(file.path, await Files.hash(file, signal, chunks))
    return Buffer.concat(chunks)
  }
  const manifest = listing.files.find(({ path }) => path === "SKILL.md")
  const isTooLarge = manifest !== undefined && manifest.stat.size > SkillManifest.maxBytes
  const parsed = manifest === undefined || isTooLarge ? undefined : parseText(root, await readWhole(manifest))
  const schemas = new Set(
    parsed !== undefined && Result.isSuccess(parsed) ? Schemas.files(parsed.success.manifest) : []
  )
  const files = []
  for (const file of listing.files) {
    if (schemas.has(file.path) && file.stat.size <= Schemas.maxFileBytes) {
      contents.set(file.path, await readWhole(file))
    }
    const hashed = hashes.get(file.path) ?? unchanged(file) ?? await Files.hash(file, signal)
    hashes.set(file.path, hashed)
    files.push({
      path: file.path,
      size: Number(file.stat.size),
      executable: Files.isExecutable(file.stat),
      sha256: hashed.sha256,
      shebang: hashed.shebang
    })
  }
  const diagnostics = listing.skipped.map(({ message, path }) => fault("warning", "SkippedLink", path, message))
  if (manifest === undefined) {
    diagnostics.push(fault("error", "Unreadable", Path.join(root, "SKILL.md"), "not a file inside the skill"))
  } else if (isTooLarge) {
    const message = `larger than ${SkillManifest.maxBytes} bytes: move text into files that SKILL.md refers to`
    diagnostics.push(fault("error", "TooLarge", Path.join(root, "SKILL.md"), message))
  }
  const candidate = toCandidate({
    root,
    files,
    parsed,
    contents,
    diagnostics
  })
  return {
    candidate: previous !== undefined && JSON.stringify(previous.candidate) === JSON.stringify(candidate)
      ? previous.candidate
      : candidate,
    hashes,
    skipped,
    folders: [...folders],
    stale: 0
  }
}
