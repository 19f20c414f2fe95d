/**
 * Keeps built environments by their content, for all servers of a machine.
 *
 * An environment holds its own path where it is Python's. So its programs find it at its final place from the beginning: in a cell
 * that shows there what is in a folder that nobody else reaches, and that is moved when it is complete; else in the place itself. It is built
 * under a lock that names the process which builds; it counts only when its marker is there, which is written last, where no program of
 * a build can write. Each process says which environments it uses. To
 * build, to begin to use and to remove one all take its lock, so that none is removed while somebody uses it.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Owner from "./dependenciesOwner.ts"
import * as Tree from "./dependenciesTree.ts"

/** The folder cannot be used, or not be trusted. */
export class Unusable extends Data.TaggedError("Unusable")<{ readonly message: string }> {
  constructor(message: string) {
    super({ message })
  }
}

/** What is being built has become larger than the cache may be, or is nothing to be kept. */
export class Outgrown extends Data.TaggedError("Outgrown")<{ readonly message: string }> {
  constructor(message: string) {
    super({ message })
  }
}

/** Another process held a lock for too long. */
export class Busy extends Data.TaggedError("Busy")<{ readonly message: string }> {
  constructor(message: string) {
    super({ message })
  }
}

export interface Options {
  /** Absolute, checked by `open`. */
  readonly directory: string
  readonly maxBytes: number
  /** Whether programs can be shown another folder at this path. Default: never. */
  readonly canShow?: ((path: string) => boolean) | undefined
  /** Whose a folder is while it is built, where the server is root; by default root's. */
  readonly builder?: { readonly uid: number; readonly gid: number } | undefined
}

/** Where an environment is built. */
export interface Place {
  /** Absolute; where the server finds it. */
  readonly folder: string
  /** Where it is when it is complete, and where its programs find it. */
  readonly at: string
  /** A folder for what the programs need only while they build, as the server and as they find it. */
  readonly work: string
  readonly workAt: string
  /** The home of one program, which is made when it starts. */
  readonly home: string
  readonly homeAt: string
}

const environments = "environments"
const building = "building"
/** Folders in hand that programs are shown elsewhere. */
const trees = "building/trees"
/** What could not be removed. */
const aside = "building/aside"
/** What the file system may lose to others while something is built, besides what the cache may have. */
const otherBytes = 1024 ** 3
const markers = "complete"
const pollMs = 100
const stealMs = 10_000
const maxRestMs = 10_000

const codeOf = (error: unknown): unknown => error instanceof Error && "code" in error ? error.code : undefined

/** Where environments are; what runs may read. */
export const environmentsOf = (directory: string): string => Path.join(directory, environments)

/** Folders below which programs of builds are shown what they build. */
export const shownOf = (directory: string): ReadonlyArray<string> => [
  environmentsOf(directory),
  Path.join(directory, trees)
]

/** Like `mkdir` with `recursive`, which does not end where nothing can be made, such as in /proc. */
const makeFolders = (path: string): void => {
  try {
    Fs.mkdirSync(path, { mode: 0o755 })
  } catch (error) {
    if (codeOf(error) === "EEXIST") return
    const above = Path.dirname(path)
    if (codeOf(error) !== "ENOENT" || above === path || Fs.existsSync(above)) throw error
    makeFolders(above)
    Fs.mkdirSync(path, { mode: 0o755 })
  }
}

/**
 * Makes the folders, passable and readable for others, writable only for the server's user. Throws `Unusable` when somebody
 * else could put code there.
 */
export const open = (directory: string): string => {
  try {
    makeFolders(directory)
    const real = Fs.realpathSync(directory)
    for (const name of ["", environments, markers, "locks", "servers", building, trees, aside]) {
      const path = Path.join(real, name)
      makeFolders(path)
      const stat = Fs.lstatSync(path)
      if (!stat.isDirectory()) throw new Unusable(`${path} is not a folder`)
      if (stat.uid !== process.getuid?.() && stat.uid !== 0) {
        throw new Unusable(`${path} belongs to another user, who could put code into it`)
      }
      if ((stat.mode & 0o002) !== 0) {
        throw new Unusable(`${path} can be written by every user, who could put code into it; chmod o-w it`)
      }
    }
    // Builds are passed on the way, and have names that nobody knows.
    for (const name of [building, trees]) Fs.chmodSync(Path.join(real, name), 0o711)
    // Nobody disarmed what is there.
    Fs.chmodSync(Path.join(real, aside), 0o700)
    Fs.accessSync(environmentsOf(real), Fs.constants.W_OK)
    return real
  } catch (error) {
    if (error instanceof Unusable) throw error
    throw new Unusable(`${directory} cannot be used: ${error instanceof Error ? error.message : String(error)}`)
  }
}

const ageOf = (path: string, now: number): number => {
  const stat = Fs.statSync(path, { throwIfNoEntry: false })
  return stat === undefined ? Number.POSITIVE_INFINITY : now - stat.mtimeMs
}

const touch = (path: string): void => {
  try {
    const now = new Date()
    Fs.utimesSync(path, now, now)
  } catch {
    // It is gone, which others will notice.
  }
}

const textOf = (path: string): string | undefined => {
  try {
    return Fs.readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

/** Removes a lock whose holder is dead. Who does so holds the folder beside it, so that a lock taken anew is not removed. */
const breakLock = (lock: string, now: number): void => {
  const mutex = `${lock}.break`
  try {
    Fs.mkdirSync(mutex)
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error
    if (ageOf(mutex, now) > stealMs) Fs.rmSync(mutex, { recursive: true, force: true })
    return
  }
  try {
    const holder = textOf(lock)
    if (holder !== undefined && !Owner.isAlive(holder, ageOf(lock, now))) Fs.rmSync(lock, { force: true })
  } finally {
    Fs.rmSync(mutex, { recursive: true, force: true })
  }
}

interface Kept {
  readonly key: string
  readonly bytes: number
  readonly usedAt: number
  readonly complete: boolean
}

/** Makes the view that one server has of the cache; the scope ends its uses. */
export const make = Effect.fnUntraced(function*({ builder, canShow = () => false, directory, maxBytes }: Options) {
  const owner = Owner.self()
  const name = `${owner}-${randomBytes(4).toString("hex")}`
  const own = Path.join(directory, "servers", name)
  const uses = new Map<string, number>()
  const folderOf = (key: string) => Path.join(directory, environments, key)
  const lockOf = (key: string) => Path.join(directory, "locks", key)
  const markerOf = (key: string) => Path.join(directory, markers, key)
  const isOutside = (key: string) => canShow(folderOf(key)) && canShow(Path.join(directory, trees, key))
  const isComplete = (key: string) => Fs.existsSync(markerOf(key)) && Fs.existsSync(folderOf(key))

  const saveUses = () => {
    const next = `${own}.next`
    Fs.writeFileSync(next, [...uses.keys()].join("\n"), { mode: 0o644 })
    Fs.renameSync(next, own)
  }

  const use = (key: string) => {
    uses.set(key, (uses.get(key) ?? 0) + 1)
    saveUses()
  }

  const release = (key: string): void => {
    const left = (uses.get(key) ?? 1) - 1
    if (left > 0) uses.set(key, left)
    else uses.delete(key)
    try {
      saveUses()
    } catch {
      // Others see it as used until this process ends.
    }
  }

  yield* Effect.acquireRelease(
    Effect.sync(() => uses.clear()),
    () => Effect.sync(() => Fs.rmSync(own, { force: true }))
  )
  yield* Effect.sync(() => touch(own)).pipe(
    Effect.repeat(Schedule.spaced(Duration.millis(Owner.beatMs))),
    Effect.forkScoped
  )

  const usedByAnyone = (now: number): ReadonlySet<string> => {
    const keys = new Set<string>(uses.keys())
    const folder = Path.join(directory, "servers")
    for (const entry of Fs.readdirSync(folder)) {
      const path = Path.join(folder, entry)
      const other = entry.replace(/\.next$/, "").replace(/-[0-9a-f]{8}$/, "")
      if (!Owner.isAlive(other, ageOf(path, now))) Fs.rmSync(path, { force: true })
      else for (const key of textOf(path)?.split("\n") ?? []) keys.add(key)
    }
    return keys
  }

  const tryLock = (key: string, now: number): boolean => {
    const lock = lockOf(key)
    const mine = `${lock}.${name}`
    Fs.writeFileSync(mine, owner, { mode: 0o644 })
    try {
      Fs.linkSync(mine, lock)
      return true
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error
      const holder = textOf(lock)
      if (holder !== undefined && !Owner.isAlive(holder, ageOf(lock, now))) breakLock(lock, now)
      return false
    } finally {
      Fs.rmSync(mine, { force: true })
    }
  }

  const unusable = (path: string) => (error: unknown) =>
    new Unusable(`${path}: ${error instanceof Error ? error.message : String(error)}`)

  const attempt = <A>(path: string, body: () => A) =>
    Effect.try({
      try: body,
      catch: unusable(path)
    })

  const unlock = (key: string) => Effect.sync(() => Fs.rmSync(lockOf(key), { force: true }))

  const beat = (key: string) =>
    Effect.sync(() => touch(lockOf(key))).pipe(Effect.delay(Duration.millis(Owner.beatMs)), Effect.forever)

  /** Runs with the lock of a key. Waits as long as a live process has it, at most `patienceMs`. */
  const withLock = <A, E, R>(
    key: string,
    patienceMs: number,
    onWait: (pid: string) => Effect.Effect<void>,
    body: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | Busy | Unusable, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const began = yield* Clock.currentTimeMillis
        for (;;) {
          // Marks on disk have the time of the system, whatever clock the program has.
          if (yield* attempt(lockOf(key), () => tryLock(key, Date.now()))) break
          const pid = Owner.pidOf(textOf(lockOf(key)) ?? "")
          if ((yield* Clock.currentTimeMillis) - began > patienceMs) {
            return yield* Effect.fail(new Busy(`process ${pid} has been preparing the same for too long`))
          }
          yield* restore(Effect.andThen(onWait(pid), Effect.sleep(pollMs)))
        }
        return yield* restore(Effect.raceFirst(body, beat(key))).pipe(Effect.ensuring(unlock(key)))
      })
    )

  const warned = (message: string, path: string) => ({ message: reason }: Unusable) =>
    Effect.logWarning(message).pipe(Effect.annotateLogs({ path, reason }))

  /** Removes a folder, or at least puts it out of the way. */
  const discard = (path: string): Effect.Effect<void> =>
    Effect.tryPromise({ try: () => Tree.remove(path), catch: unusable(path) }).pipe(
      Effect.catch((error) =>
        Effect.tryPromise({
          try: () => Tree.setAside(path, Path.join(directory, aside)),
          catch: unusable(path)
        }).pipe(
          Effect.flatMap((now) => warned("what was built cannot be removed and is set aside", now)(error)),
          Effect.catch(warned("what was built can neither be removed nor set aside", path))
        )
      )
    )

  const removeFolder = (key: string) =>
    Effect.suspend(() => {
      Fs.rmSync(markerOf(key), { force: true })
      return discard(folderOf(key))
    })

  const placeOf = (key: string): Place => {
    const at = folderOf(key)
    const own = `${key}-${randomBytes(16).toString("hex")}`
    if (!isOutside(key)) {
      const work = Path.join(directory, building, own)
      const home = Path.join(work, "home")
      return { folder: at, at, work, workAt: work, home, homeAt: home }
    }
    const folder = Path.join(directory, trees, own)
    return {
      folder,
      at,
      work: Path.join(folder, ".work"),
      workAt: Path.join(at, ".work"),
      home: Path.join(folder, ".home"),
      homeAt: Path.join(at, ".home")
    }
  }

  /** Makes the folders of a build, for those who build alone. */
  const makePlace = ({ folder, work }: Place): void => {
    for (const path of [folder, work]) {
      Fs.mkdirSync(path, { mode: 0o700 })
      // Without what it may have from the folder above.
      Fs.chmodSync(path, 0o700)
      if (builder !== undefined) Fs.chownSync(path, builder.uid, builder.gid)
    }
  }

  const looking = <A>(path: string, look: () => Promise<A>): Effect.Effect<A, Outgrown | Unusable> =>
    Effect.tryPromise({
      try: look,
      catch: (error) => error instanceof Tree.Unfit ? new Outgrown(error.message) : unusable(path)(error)
    })

  const freeBytes = (): number => {
    const { bavail, bsize } = Fs.statfsSync(directory)
    return bavail * bsize
  }

  /**
   * Looks at the size of a build every second, and more seldom where looking takes long, and fails when it is too large. Bytes of
   * removed files that are still open are in no folder, but are missing from the file system.
   */
  const outgrows = ({ folder, work }: Place): Effect.Effect<never, Outgrown | Unusable> =>
    Effect.gen(function*() {
      const before = freeBytes()
      const folders = work.startsWith(`${folder}/`) ? [folder] : [folder, work]
      for (let restMs = 1000;;) {
        yield* Effect.sleep(restMs)
        const began = performance.now()
        let bytes = 0
        for (const path of folders) bytes += yield* looking(path, () => Tree.sizeOf(path))
        if (bytes > maxBytes) {
          const message = `it takes more than the ${maxBytes} bytes that the cache may have (SKILLSCALE_MAX_CACHE)`
          return yield* Effect.fail(new Outgrown(message))
        }
        if (before - freeBytes() > maxBytes + otherBytes) {
          return yield* Effect.fail(
            new Unusable(
              `while it was built the file system of ${directory} lost more than ${maxBytes + otherBytes} bytes`
            )
          )
        }
        restMs = Math.min(maxRestMs, Math.max(1000, 10 * (performance.now() - began)))
      }
    })

  /**
   * Makes sure that an environment is there and stays until `release`. `build` fills its folder; what fails or is
   * interrupted leaves nothing.
   */
  const acquire = <E>(
    key: string,
    patienceMs: number,
    onWait: (pid: string) => Effect.Effect<void>,
    build: (place: Place) => Effect.Effect<void, E>
  ): Effect.Effect<string, E | Busy | Outgrown | Unusable> => {
    const at = folderOf(key)
    const fill = Effect.fnUntraced(function*(place: Place): Effect.fn.Return<void, E | Outgrown | Unusable> {
      const { folder } = place
      // Nobody else is to get in before it is disarmed.
      yield* attempt(folder, () => makePlace(place))
      yield* Effect.raceFirst(build(place), outgrows(place))
      yield* Effect.andThen(discard(place.home), discard(place.work))
      yield* looking(folder, () => Tree.handOver(folder))
      const bytes = yield* looking(folder, () => Tree.sizeOf(folder))
      yield* attempt(at, () => {
        const next = `${markerOf(key)}.next`
        Fs.writeFileSync(next, JSON.stringify({ bytes }), { mode: 0o644 })
        if (folder !== at) Fs.renameSync(folder, at)
        Fs.renameSync(next, markerOf(key))
      })
    })
    const make = Effect.gen(function*(): Effect.fn.Return<string, E | Outgrown | Unusable> {
      yield* attempt(own, () => use(key))
      if (isComplete(key)) {
        touch(markerOf(key))
        return at
      }
      yield* removeFolder(key)
      const place = placeOf(key)
      yield* Effect.onError(fill(place), () => Effect.andThen(discard(place.work), discard(place.folder)))
      return at
    })
    const undo = Effect.suspend(() =>
      Effect.andThen(isComplete(key) ? Effect.void : removeFolder(key), Effect.sync(() => release(key)))
    )
    return withLock(key, patienceMs, onWait, Effect.onError(make, () => undo))
  }

  const look = (key: string): Kept => {
    const path = markerOf(key)
    const stat = Fs.statSync(path, { throwIfNoEntry: false })
    const bytes = Number(/"bytes":(\d+)/.exec(textOf(path) ?? "")?.[1] ?? 0)
    return { key, bytes, usedAt: stat?.mtimeMs ?? 0, complete: isComplete(key) }
  }

  /** Removes what killed builds left, and tells how much there is that cannot be removed. */
  const tidy = Effect.gen(function*() {
    const left = (name: string) =>
      Fs.readdirSync(Path.join(directory, name)).map((one) => Path.join(directory, name, one))
    for (const path of [...left(building), ...left(trees)]) {
      const key = /^(.*)-[0-9a-f]{32}$/.exec(Path.basename(path))?.[1]
      if (key === undefined || !tryLock(key, Date.now())) continue
      yield* Effect.ensuring(discard(path), unlock(key))
    }
    let bytes = 0
    for (const path of left(aside)) {
      const gone = yield* Effect.exit(Effect.tryPromise(() => Tree.remove(path)))
      if (Exit.isSuccess(gone)) continue
      bytes += yield* Effect.orElseSucceed(looking(path, () => Tree.sizeOf(path)), () => 0)
    }
    return bytes
  })

  /** Removes what was not used for longest until the rest is within the bound, and what a killed process left half built. */
  const trim = Effect.gen(function*() {
    const names = [environments, markers].flatMap((name) => Fs.readdirSync(Path.join(directory, name)))
    const all = [...new Set(names.filter((name) => !name.endsWith(".next")))].map(look).sort((a, b) =>
      a.usedAt - b.usedAt
    )
    let total = all.reduce((sum, { bytes }) => sum + bytes, yield* tidy)
    for (const { bytes, complete, key } of all) {
      if (complete && total <= maxBytes) continue
      if (usedByAnyone(Date.now()).has(key) || !tryLock(key, Date.now())) continue
      const removal = Effect.suspend(() => {
        if (usedByAnyone(Date.now()).has(key) || complete !== isComplete(key)) return Effect.void
        total -= bytes
        return removeFolder(key)
      })
      yield* Effect.ensuring(Effect.uninterruptible(removal), unlock(key))
    }
    if (total > maxBytes) {
      yield* Effect.logWarning("the cache of dependencies is larger than its bound, and all of it is in use").pipe(
        Effect.annotateLogs({ directory, bytes: total, bound: maxBytes })
      )
    }
  }).pipe(Effect.catchDefect((defect) => Effect.logWarning("cannot look through the cache of dependencies", defect)))

  /** Tells of an environment without making it. */
  const inspect = (key: string): "ready" | "building" | "absent" => {
    if (isComplete(key)) return "ready"
    const holder = textOf(lockOf(key))
    return holder !== undefined && Owner.isAlive(holder, ageOf(lockOf(key), Date.now())) ? "building" : "absent"
  }

  return { acquire, release, trim, inspect, isComplete, folderOf }
}) satisfies (options: Options) => Effect.Effect<unknown, never, Scope.Scope>

export type Cache = Effect.Success<ReturnType<typeof make>>
