import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Cache from "../../src/internal/dependenciesCache.ts"
import * as Owner from "../../src/internal/dependenciesOwner.ts"
import * as Support from "../fixtures/support.ts"

const setup = Effect.fnUntraced(function*(maxBytes = 1024 ** 3) {
  const directory = Cache.open(Path.join(yield* Support.folder, "cache"))
  /** Another server of the same machine, in a scope of its own. */
  const server = Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const cache = yield* Scope.provide(Cache.make({ directory, maxBytes }), scope)
    return { ...cache, close: Scope.close(scope, Exit.void) }
  })
  const builds: Array<string> = []
  const fill = (name: string, bytes = 10) => ({ folder }: Pick<Cache.Place, "folder">) =>
    Effect.sync(() => {
      builds.push(name)
      Fs.writeFileSync(Path.join(folder, "content"), Buffer.alloc(bytes, 1))
    })
  return { directory, server, builds, fill, entries: () => Fs.readdirSync(Cache.environmentsOf(directory)).sort() }
})

const silent = () => Effect.void

/** The id of a process that is over. */
const dead = Effect.sync(() => {
  const { pid } = ChildProcess.spawnSync("true")
  return Owner.self().replace(/-\d+-(\d+)$/, `-${pid}-$1`)
})

it.live("builds once for servers that want the same at the same time", () =>
  Effect.gen(function*() {
    const { builds, fill, server } = yield* setup()
    const [one, other] = [yield* server, yield* server]
    const gate = yield* Deferred.make<void>()
    const slow = ({ folder }: Pick<Cache.Place, "folder">) =>
      Effect.andThen(Deferred.await(gate), fill("slow")({ folder }))
    const waits: Array<string> = []
    const first = yield* Effect.forkChild(one.acquire("k", 5_000, silent, slow), { startImmediately: true })
    yield* Support.eventually("it builds", () => other.inspect("k") === "building")
    const second = yield* Effect.forkChild(
      other.acquire("k", 5_000, (pid) => Effect.sync(() => void waits.push(pid)), slow),
      { startImmediately: true }
    )
    yield* Support.eventually("the other waits", () => waits.length > 0)
    yield* Deferred.succeed(gate, undefined)
    assert.strictEqual(yield* Fiber.join(first), yield* Fiber.join(second))
    assert.deepStrictEqual([builds, waits[0], one.inspect("k")], [["slow"], String(process.pid), "ready"])
  }))

it.live("takes the lock of a dead process, and builds again what it left", () =>
  Effect.gen(function*() {
    const { builds, directory, fill, server } = yield* setup()
    const half = Path.join(Cache.environmentsOf(directory), "k")
    Fs.mkdirSync(half)
    Fs.writeFileSync(Path.join(half, "leftover"), "")
    Fs.writeFileSync(Path.join(directory, "locks", "k"), yield* dead)
    const cache = yield* server
    assert.strictEqual(cache.inspect("k"), "absent")
    const folder = yield* cache.acquire("k", 5_000, silent, fill("again"))
    assert.deepStrictEqual([builds, Fs.existsSync(Path.join(folder, "leftover"))], [["again"], false])
    assert.deepStrictEqual(Fs.readdirSync(Path.join(directory, "locks")), [])
  }))

it.live("waits for a live process only as long as it may", () =>
  Effect.gen(function*() {
    const { directory, fill, server } = yield* setup()
    const cache = yield* server
    const lock = Path.join(directory, "locks", "k")
    Fs.writeFileSync(lock, Owner.self())
    const error = yield* Effect.flip(cache.acquire("k", 150, silent, fill("k")))
    assert.match(error.message, new RegExp(`process ${process.pid} has been preparing`))
    // Of a process on another machine only its last sign is known.
    Fs.writeFileSync(lock, Owner.self().replace(/^[^-]+/, "elsewhere"))
    assert.strictEqual((yield* Effect.flip(cache.acquire("k", 150, silent, fill("k")))) instanceof Cache.Busy, true)
    Fs.utimesSync(lock, new Date(0), new Date(0))
    yield* cache.acquire("k", 5_000, silent, fill("k"))
  }))

it.live("leaves nothing of what failed or was interrupted", () =>
  Effect.gen(function*() {
    const { directory, entries, fill, server } = yield* setup()
    const cache = yield* server
    const failing = ({ folder }: Pick<Cache.Place, "folder">) =>
      Effect.andThen(fill("half")({ folder }), Effect.fail("no"))
    assert.strictEqual(yield* Effect.flip(cache.acquire("k", 5_000, silent, failing)), "no")
    const begun = yield* Deferred.make<void>()
    const endless = ({ folder }: Pick<Cache.Place, "folder">) =>
      fill("half")({ folder }).pipe(Effect.andThen(Deferred.succeed(begun, undefined)), Effect.andThen(Effect.never))
    const fiber = yield* Effect.forkChild(cache.acquire("k", 5_000, silent, endless))
    yield* Deferred.await(begun)
    yield* Fiber.interrupt(fiber)
    assert.deepStrictEqual([entries(), Fs.readdirSync(Path.join(directory, "locks"))], [[], []])
  }))

it.live("removes the least recently used beyond its bound, and never what a live server uses", () =>
  Effect.gen(function*() {
    const size = 64 * 1024
    const { builds, directory, entries, fill, server } = yield* setup(2.5 * size)
    const [mine, other] = [yield* server, yield* server]
    for (const key of ["a", "b", "c", "d"]) {
      yield* (key === "a" ? other : mine).acquire(key, 5_000, silent, fill(key, size))
      const marker = Path.join(directory, "complete", key)
      Fs.utimesSync(marker, builds.length, builds.length)
    }
    // What a killed server left half built.
    Fs.mkdirSync(Path.join(Cache.environmentsOf(directory), "half"))
    mine.release("b")
    mine.release("c")
    yield* mine.trim
    // `a` is older than `b` and `c`, but the other server uses it; with it and `d` there is no room for a third.
    assert.deepStrictEqual(entries(), ["a", "d"])
    yield* other.close
    mine.release("d")
    yield* mine.acquire("e", 5_000, silent, fill("e", size))
    yield* mine.trim
    assert.deepStrictEqual(entries(), ["d", "e"])
    // The uses of a killed server do not count.
    Fs.writeFileSync(Path.join(directory, "servers", `${yield* dead}-00000000`), "d")
    yield* mine.acquire("f", 5_000, silent, fill("f", size))
    yield* mine.trim
    assert.deepStrictEqual(entries(), ["e", "f"])
  }))

const isFixed = (file: string, fixed: boolean): boolean =>
  ChildProcess.spawnSync("chattr", [fixed ? "+i" : "-i", file], { stdio: "ignore" }).status === 0

it.live.skipIf(process.getuid?.() !== 0)(
  "sets aside what cannot be removed, and counts it",
  () =>
    Effect.gen(function*() {
      const size = 256 * 1024
      const { directory, entries, fill, server } = yield* setup(2.5 * size)
      const half = Path.join(Cache.environmentsOf(directory), "k")
      Fs.mkdirSync(half)
      Fs.writeFileSync(Path.join(half, "fixed"), Buffer.alloc(size, 1))
      assert.isTrue(isFixed(Path.join(half, "fixed"), true))
      const aside = Path.join(directory, "building", "aside")
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const folder of [half, ...Fs.readdirSync(aside).map((name) => Path.join(aside, name))]) {
            isFixed(Path.join(folder, "fixed"), false)
          }
        })
      )
      const cache = yield* server
      const folder = yield* cache.acquire("k", 5_000, silent, fill("k", size))
      assert.deepStrictEqual(Fs.readdirSync(folder), ["content"])
      assert.match(Fs.readdirSync(aside).join(), /^k-[^,]+$/)
      assert.strictEqual(Fs.statSync(aside).mode & 0o777, 0o700)
      // With what is aside there is room for one.
      Fs.utimesSync(Path.join(directory, "complete", "k"), 1, 1)
      cache.release("k")
      yield* cache.acquire("l", 5_000, silent, fill("l", size))
      yield* cache.trim
      assert.deepStrictEqual(entries(), ["l"])
      for (const name of Fs.readdirSync(aside)) isFixed(Path.join(aside, name, "fixed"), false)
      yield* cache.trim
      assert.deepStrictEqual(Fs.readdirSync(aside), [])
    })
)

it.live("removes what killed builds left, and not what is in hand", () =>
  Effect.gen(function*() {
    const { directory, fill, server } = yield* setup()
    const [building, trees] = [Path.join(directory, "building"), Path.join(directory, "building", "trees")]
    const suffix = "0".repeat(32)
    for (const path of [`${building}/a-${suffix}`, `${trees}/a-${suffix}`, `${trees}/b-${suffix}`]) {
      Fs.mkdirSync(path)
      Fs.writeFileSync(Path.join(path, "file"), "")
    }
    Fs.writeFileSync(Path.join(directory, "locks", "b"), Owner.self())
    const cache = yield* server
    yield* cache.acquire("c", 5_000, silent, fill("c"))
    yield* cache.trim
    assert.deepStrictEqual(Fs.readdirSync(building).sort(), ["aside", "trees"])
    assert.deepStrictEqual(Fs.readdirSync(trees), [`b-${suffix}`])
  }))

it.live("refuses a folder into which others could put code", () =>
  Effect.gen(function*() {
    const folder = Path.join(yield* Support.folder, "cache")
    Fs.mkdirSync(folder)
    Fs.chmodSync(folder, 0o777)
    assert.throws(() => Cache.open(folder), /can be written by every user/)
    Fs.chmodSync(folder, 0o755)
    const opened = Cache.open(folder)
    for (const path of ["", "environments", "locks", "servers"]) {
      assert.strictEqual(Fs.statSync(Path.join(opened, path)).mode & 0o022, 0)
    }
    if (Support.isRoot) {
      Fs.chownSync(folder, 65_534, 65_534)
      assert.throws(() => Cache.open(folder), /belongs to another user/)
    }
    assert.throws(() => Cache.open("/proc/nothing/here"), /cannot be used/)
  }))
