import { assert, describe, it } from "@effect/vitest"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { execFileSync, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as WorkingView from "../src/WorkingView.ts"
import { skipUnless } from "./executorSuite.ts"
import * as Support from "./fixtures/support.ts"

const files = {
  "scripts/run.sh": "cat\n",
  "scripts/lib/util.py": "x = 1\n",
  "references/a.md": "reference\n"
}

const make = Effect.fnUntraced(function*(options?: WorkingView.Options) {
  const directory = options?.directory ?? (yield* Support.folder)
  const views = yield* WorkingView.make({ ...options, directory })
  const base = () =>
    Path.join(directory, Fs.readdirSync(directory).find((name) => name.startsWith("skillscale-")) ?? "?")
  return { ...views, directory, homes: () => Fs.readdirSync(base()) }
})

/** Opens a view, lets `run` do its worst there, and returns the artifacts. */
const ran = (
  views: WorkingView.WorkingView["Service"],
  skill: WorkingView.Source,
  run: (root: string) => void,
  inputs: Readonly<Record<string, Uint8Array>> = {}
) =>
  Effect.scoped(Effect.gen(function*() {
    const view = yield* views.open(skill, inputs)
    run(view.root)
    return yield* view.artifacts
  }))

const paths = ({ artifacts }: WorkingView.Artifacts) => artifacts.map(({ path }) => path)

describe("WorkingView", () => {
  it.live("is a private copy below the name of the skill's folder, with its own folder for temporary files", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const views = yield* make()
      const view = yield* views.open(skill, {})
      assert.strictEqual(Path.basename(view.root), "sample")
      assert.isFalse(view.temp.startsWith(`${view.root}/`))
      assert.isTrue(Fs.statSync(view.temp).isDirectory())
      for (const { path } of skill.files) {
        assert.strictEqual(
          Fs.readFileSync(Path.join(view.root, path), "utf8"),
          Fs.readFileSync(Path.join(skill.root, path), "utf8")
        )
      }
      assert.strictEqual(Fs.statSync(Path.dirname(view.root)).mode & 0o777, 0o700)
      // Whom a server that is root has its runs become has to pass through the base.
      const baseMode = process.getuid?.() === 0 ? 0o711 : 0o700
      assert.strictEqual(Fs.statSync(Path.dirname(Path.dirname(view.root))).mode & 0o777, baseMode)
      assert.strictEqual(yield* view.digest, skill.digest)
      assert.deepStrictEqual(yield* view.artifacts, { artifacts: [], truncated: false })
    }))

  it.live("keeps the executable bit, and lets the owner write what is read-only in the skill", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const root = Support.writeSkill(directory, "testing/sample", files)
      Fs.chmodSync(Path.join(root, "scripts/run.sh"), 0o555)
      Fs.chmodSync(Path.join(root, "references/a.md"), 0o444)
      const view = yield* (yield* make()).open(yield* Support.load(directory, "sample"), {})
      assert.strictEqual(Fs.statSync(Path.join(view.root, "scripts/run.sh")).mode & 0o777, 0o755)
      assert.strictEqual(Fs.statSync(Path.join(view.root, "references/a.md")).mode & 0o777, 0o644)
    }))

  it.live("never changes the skill, whatever happens in the view", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const views = yield* make()
      const before = Support.snapshot(skill.root)
      const inode = (root: string) => Fs.statSync(Path.join(root, "SKILL.md")).ino
      for (let round = 0; round < 4; round++) {
        yield* ran(views, skill, (root) => {
          assert.notStrictEqual(inode(root), inode(skill.root))
          assert.strictEqual(Fs.readFileSync(Path.join(root, "SKILL.md"), "utf8"), Fs.readFileSync(skill.file, "utf8"))
          assert.isFalse(Fs.existsSync(Path.join(root, "left")))
          Fs.writeFileSync(Path.join(root, "SKILL.md"), "overwritten")
          Fs.appendFileSync(Path.join(root, "references/a.md"), "more")
          Fs.chmodSync(Path.join(root, "scripts"), 0o700)
          Fs.rmSync(Path.join(root, "scripts"), { recursive: true })
          Fs.symlinkSync(skill.root, Path.join(root, "left"))
        })
      }
      assert.deepStrictEqual(Support.snapshot(skill.root), before)
    }))

  it.live("returns new and changed files, nested ones too, sorted, with size, hash, type and content", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const { artifacts, truncated } = yield* ran(yield* make(), skill, (root) => {
        Fs.mkdirSync(Path.join(root, "out/deep"), { recursive: true })
        Fs.writeFileSync(Path.join(root, "out/deep/data.csv"), "a,b\n")
        Fs.writeFileSync(Path.join(root, "a.png"), Buffer.from([0, 255]))
        Fs.writeFileSync(Path.join(root, "empty"), "")
        Fs.appendFileSync(Path.join(root, "references/a.md"), "more")
        Fs.rmSync(Path.join(root, "scripts/run.sh"))
      })
      assert.isFalse(truncated)
      assert.deepStrictEqual(
        artifacts.map(({ mime, path, size }) => [path, size, mime]),
        [
          ["a.png", 2, "image/png"],
          ["empty", 0, "application/octet-stream"],
          ["out/deep/data.csv", 4, "text/csv"],
          ["references/a.md", 14, "text/markdown"]
        ]
      )
      const png = artifacts[0] ?? assert.fail()
      assert.deepStrictEqual([...png.data], [0, 255])
      assert.strictEqual(png.sha256, createHash("sha256").update(png.data).digest("hex"))
    }))

  it.live("finds a change of the same size in the same millisecond, and no change where the content is the same", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const views = yield* make({ prepared: 0 })
      for (let round = 0; round < 50; round++) {
        const artifacts = yield* ran(views, skill, (root) => {
          Fs.writeFileSync(Path.join(root, "references/a.md"), "referencX\n")
          Fs.writeFileSync(Path.join(root, "input.txt"), "B")
        }, { "input.txt": Buffer.from("A") })
        assert.deepStrictEqual(paths(artifacts), ["input.txt", "references/a.md"])
      }
      const same = yield* ran(views, skill, (root) => {
        Fs.chmodSync(Path.join(root, "scripts/run.sh"), 0o755)
        Fs.utimesSync(Path.join(root, "SKILL.md"), 1, 1)
        Fs.writeFileSync(Path.join(root, "references/a.md"), "reference\n")
        Fs.writeFileSync(Path.join(root, "input.txt"), "A")
      }, { "input.txt": Buffer.from("A") })
      assert.deepStrictEqual(same, { artifacts: [], truncated: false })
    }))

  it.live("keeps up to 64 folders with nothing but links, and makes them anew when they are gone", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const views = yield* make()
      const open = (target: string, inputs: Readonly<Record<string, Uint8Array>> = {}) =>
        Effect.scoped(Effect.gen(function*() {
          const { overlay } = yield* views.open(skill, inputs, "overlay", { node_modules: target })
          const home = overlay?.inputs ?? assert.fail("it has inputs")
          assert.strictEqual(Fs.readlinkSync(Path.join(home, "node_modules")), target)
          return { home, lasting: overlay?.lasting }
        }))
      const targets = Array.from({ length: 70 }, (_, index) => `/nowhere/${index}`)
      const first = yield* Effect.forEach(targets, (target) => open(target))
      assert.deepStrictEqual(first.map(({ lasting }) => lasting), targets.map((_, index) => index < 64))
      assert.isFalse((yield* open("/nowhere/0", { "in.txt": Buffer.from("x") })).lasting)
      yield* Support.eventually("the others are removed", () => views.homes().length === 64)
      assert.deepStrictEqual(yield* open("/nowhere/0"), first[0])
      Fs.rmSync(first[0]?.home ?? "", { recursive: true })
      assert.isTrue((yield* open("/nowhere/0")).lasting)
      assert.lengthOf(views.homes(), 64)
    }))

  it.live("leaves out links, pipes, sockets and __pycache__, and follows nothing out of the view", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const secret = Path.join(yield* Support.folder, "secret")
      Fs.writeFileSync(secret, "secret")
      const artifacts = yield* ran(yield* make(), skill, (root) => {
        Fs.symlinkSync(secret, Path.join(root, "link"))
        Fs.symlinkSync(Path.dirname(secret), Path.join(root, "folder"))
        Fs.rmSync(Path.join(root, "references"), { recursive: true })
        Fs.symlinkSync(Path.dirname(secret), Path.join(root, "references"))
        execFileSync("mkfifo", [Path.join(root, "pipe")])
        execFileSync("python3", ["-c", "import socket; socket.socket(socket.AF_UNIX).bind('sock')"], { cwd: root })
        Fs.mkdirSync(Path.join(root, "scripts/__pycache__"))
        Fs.writeFileSync(Path.join(root, "scripts/__pycache__/util.pyc"), "x")
        Fs.writeFileSync(Path.join(root, "real"), "x")
      })
      assert.deepStrictEqual(paths(artifacts), ["real"])
    }))

  it.live("reads nothing when the run put a link in the place of its folder, or of one above", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const elsewhere = yield* Support.folder
      Fs.mkdirSync(Path.join(elsewhere, "sample"))
      Fs.writeFileSync(Path.join(elsewhere, "sample/secret"), "secret")
      const views = yield* make()
      const homes: Array<string> = []
      const replace = (act: (root: string) => void) =>
        ran(views, skill, (root) => {
          homes.push(Path.basename(Path.dirname(root)))
          Fs.rmSync(root, { recursive: true })
          act(root)
        })
      const nothing = { artifacts: [], truncated: true }
      assert.deepStrictEqual(yield* replace((root) => Fs.symlinkSync(Path.join(elsewhere, "sample"), root)), nothing)
      const above = yield* replace((root) => {
        Fs.rmSync(Path.dirname(root), { recursive: true })
        Fs.symlinkSync(elsewhere, Path.dirname(root))
      })
      assert.deepStrictEqual(above, nothing)
      assert.deepStrictEqual(yield* replace(() => {}), nothing)
      const again = yield* replace((root) => {
        Fs.mkdirSync(root)
        Fs.writeFileSync(Path.join(root, "new"), "")
      })
      assert.deepStrictEqual([paths(again), again.truncated], [["new"], false])
      assert.lengthOf(homes, 4)
      yield* Support.eventually("views are removed", () => !views.homes().some((home) => homes.includes(home)))
      assert.strictEqual(Fs.readFileSync(Path.join(elsewhere, "sample/secret"), "utf8"), "secret")
    }))

  it.live("says truncated where the count, the bytes, the entries, or a name that has no text keep something back", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const write = (...names: ReadonlyArray<string>) => (root: string) =>
        names.forEach((name) => Fs.writeFileSync(Path.join(root, name), "12345"))
      const few = yield* ran(yield* make({ maxArtifacts: 2 }), skill, write("a", "b", "c"))
      assert.deepStrictEqual([paths(few), few.truncated], [["a", "b"], true])
      const exact = yield* ran(yield* make({ maxArtifacts: 3, maxArtifactBytes: 15 }), skill, write("a", "b", "c"))
      assert.deepStrictEqual([paths(exact), exact.truncated], [["a", "b", "c"], false])
      const small = yield* ran(yield* make({ maxArtifactBytes: 12 }), skill, write("a", "b", "c"))
      assert.deepStrictEqual([paths(small), small.truncated], [["a", "b"], true])
      const entries = yield* ran(yield* make({ maxEntries: 20 }), skill, (root) => {
        for (let index = 0; index < 100; index++) Fs.writeFileSync(Path.join(root, `n${index}`), "")
      })
      assert.isTrue(entries.truncated && entries.artifacts.length < 20)
      const named = yield* ran(yield* make(), skill, (root) => {
        write("fine", "back\\slash")(root)
        Fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), "x")
      })
      assert.deepStrictEqual([paths(named), named.truncated], [["fine"], true])
    }))

  it.live("does not read a sparse file that is larger than the limit", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const artifacts = yield* ran(yield* make(), skill, (root) => {
        Fs.writeFileSync(Path.join(root, "huge"), "")
        Fs.truncateSync(Path.join(root, "huge"), 2 ** 40)
        Fs.writeFileSync(Path.join(root, "z"), "z")
      })
      assert.deepStrictEqual([paths(artifacts), artifacts.truncated], [["z"], true])
    }))

  it.live("places input files, large ones too, and returns them only when they changed", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const large = Buffer.alloc(600_000, "x")
      const inputs = { "in/deep/data.bin": large, "ünï.txt": Buffer.from("hi"), "references/b.md": Buffer.from("b") }
      const artifacts = yield* ran(yield* make(), skill, (root) => {
        assert.isTrue(Fs.readFileSync(Path.join(root, "in/deep/data.bin")).equals(large))
        assert.strictEqual(Fs.readFileSync(Path.join(root, "references/b.md"), "utf8"), "b")
        Fs.appendFileSync(Path.join(root, "ünï.txt"), "!")
      }, inputs)
      assert.deepStrictEqual(paths(artifacts), ["ünï.txt"])
    }))

  for (
    const path of [
      "SKILL.md",
      "scripts/run.sh",
      "scripts/new.py",
      "scripts/lib/json.py",
      "SKILL.md/x",
      "scripts",
      "references"
    ]
  ) {
    it.live(`refuses the input file ${path}`, () =>
      Effect.gen(function*() {
        const views = yield* make()
        const error = yield* Effect.flip(views.open(yield* Support.skill(files), { [path]: Buffer.from("") }))
        assert.strictEqual(error.reason._tag, "FileRefused")
        assert.include(error.message, JSON.stringify(path))
        assert.lengthOf(views.homes(), 0)
      }))
  }

  it.live("refuses input files that collide, and what the interpreter of a script would load", () =>
    Effect.gen(function*() {
      const views = yield* make()
      const none = Buffer.from("")
      const tag = (skill: WorkingView.Source, ...inputs: ReadonlyArray<string>) =>
        Effect.scoped(views.open(skill, Object.fromEntries(inputs.map((path) => [path, none])))).pipe(
          Effect.match({ onSuccess: () => "ok", onFailure: (error) => error.reason._tag })
        )
      const inScripts = yield* Support.skill(files)
      const atRoot = yield* Support.skill({ "main.py": "import json\n" })
      const node = yield* Support.skill({ "scripts/run.mjs": "" })
      assert.strictEqual(yield* tag(inScripts, "a", "a/b"), "FileRefused")
      assert.strictEqual(yield* tag(inScripts, "input.py", "package.json"), "ok")
      assert.strictEqual(yield* tag(atRoot, "json.py"), "FileRefused")
      assert.strictEqual(yield* tag(atRoot, "json/__init__.py"), "FileRefused")
      assert.strictEqual(yield* tag(atRoot, "data.csv"), "ok")
      assert.strictEqual(yield* tag(node, "package.json"), "FileRefused")
      assert.strictEqual(yield* tag(node, "node_modules/x/index.txt"), "FileRefused")
    }))

  it.live("tells the digest of what is in the view, not of what the catalog says", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ ...files, "big.bin": Buffer.alloc(400_000, "a") })
      const views = yield* make()
      assert.strictEqual(yield* Effect.flatMap(views.open(skill, {}), (view) => view.digest), skill.digest)
      for (const [path, data] of [["scripts/run.sh", "tac\n"], ["big.bin", Buffer.alloc(400_000, "b")]] as const) {
        Fs.writeFileSync(Path.join(skill.root, path), data)
        const digest = yield* Effect.flatMap(views.open(skill, {}), (view) => view.digest)
        assert.strictEqual(digest, yield* SkillDiscovery.digestDirectory(skill.root))
        assert.notStrictEqual(digest, skill.digest)
      }
    }))

  it.live("fails with SkillUnreadable when a file of the skill is gone, or became a pipe, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const views = yield* make()
      const path = Path.join(skill.root, "references/a.md")
      Fs.rmSync(path)
      const gone = yield* Effect.flip(views.open(skill, {}))
      assert.strictEqual(gone.reason._tag, "SkillUnreadable")
      assert.match(gone.message, /references\/a\.md of skill sample.*ENOENT/)
      execFileSync("mkfifo", [path])
      assert.strictEqual((yield* Effect.flip(views.open(skill, {}))).reason._tag, "SkillUnreadable")
      yield* Support.eventually("failed views are removed", () => views.homes().length === 0)
    }))

  it.live("removes a view after its scope closes, read-only trees too, also on interruption, and all with the service", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const directory = yield* Support.folder
      const scope = yield* Scope.make()
      const views = yield* Scope.provide(make({ directory, prepared: 0 }), scope)
      yield* ran(views, skill, (root) => {
        Fs.mkdirSync(Path.join(root, "locked/inner"), { recursive: true })
        Fs.chmodSync(Path.join(root, "locked/inner"), 0)
        Fs.chmodSync(Path.join(root, "locked"), 0o500)
      })
      const fiber = yield* views.open(skill, {}).pipe(Effect.andThen(Effect.never), Effect.scoped, Effect.forkChild)
      yield* Support.eventually("the second view is there", () => views.homes().includes("2"))
      yield* Fiber.interrupt(fiber)
      yield* Support.eventually("views are removed", () => views.homes().length === 0)
      for (let round = 0; round < 300; round++) yield* ran(views, skill, () => {})
      assert.isBelow(views.homes().length, 100)
      const open = yield* Effect.provideService(views.open(skill, {}), Scope.Scope, yield* Scope.make())
      assert.isTrue(Fs.existsSync(open.root))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  it.live("leaves nothing when it is interrupted while it copies", () =>
    Effect.gen(function*() {
      const many = Object.fromEntries(
        Array.from({ length: 900 }, (_, index) => [`data/${index}.bin`, Buffer.alloc(20_000)])
      )
      const skill = yield* Support.skill({ ...files, ...many })
      const views = yield* make()
      const fiber = yield* Effect.scoped(views.open(skill, {})).pipe(Effect.forkChild)
      yield* Support.eventually("it has begun", () => views.homes().length > 0)
      const exit = yield* Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber))
      assert.isTrue(Exit.hasInterrupts(exit), "the copy was too fast for this test")
      yield* Support.eventually("it is removed", () => views.homes().length === 0)
    }))

  it.live("removes the base folders of dead servers of this machine, and no other", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const script = `import * as WorkingView from ${JSON.stringify(import.meta.resolve("../src/WorkingView.ts"))}
        import * as Effect from "effect/Effect"
        const up = Effect.andThen(WorkingView.make({ directory: ${
        JSON.stringify(directory)
      } }), Effect.sync(() => console.log("up")))
        Effect.runFork(Effect.scoped(Effect.andThen(up, Effect.never)))
        setInterval(() => {}, 1000)`
      const start = Effect.callback<ReturnType<typeof spawn>>((resume) => {
        const child = spawn(process.execPath, ["--conditions=skillscale", "--input-type=module", "-e", script], {
          cwd: import.meta.dirname,
          stdio: ["ignore", "pipe", "inherit"]
        })
        child.stdout.once("data", () => resume(Effect.succeed(child)))
      })
      const end = (child: ReturnType<typeof spawn>) =>
        Effect.callback<void>((resume) => {
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
      const living = yield* Effect.acquireRelease(start, end)
      const dead = yield* start
      yield* end(dead)
      const before = Fs.readdirSync(directory)
      const of = (child: ReturnType<typeof spawn>) =>
        before.find((name) => name.split("-")[2] === String(child.pid)) ?? assert.fail(before.join())
      // The id of the living one with another start is that of a dead one whose id was given out again.
      const [prefix, space, pid, began] = of(living).split("-")
      const reused = [prefix, space, pid, Number(began) - 1, "abcdef"].join("-")
      const foreign = [prefix, Number(space) + 1, 999_999_999, began, "abcdef"].join("-")
      for (const name of [reused, foreign, "skillscale-other"]) Fs.mkdirSync(Path.join(directory, name))
      yield* make({ directory })
      const after = Fs.readdirSync(directory)
      assert.notInclude(after, of(dead))
      assert.notInclude(after, reused)
      assert.includeMembers(after, [of(living), foreign, "skillscale-other"])
    }))

  skipUnless(
    Support.isRoot,
    "mounting takes root",
    "says when the disk is full, and the next run works",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const skill = yield* Support.skill(files)
          const directory = yield* Support.folder
          execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory])
          yield* Effect.addFinalizer(() => Effect.sync(() => execFileSync("umount", ["-l", directory])))
          const views = yield* Effect.orDie(make({ directory })).pipe()
          const error = yield* Effect.flip(Effect.scoped(views.open(skill, { "big.bin": Buffer.alloc(2_000_000) })))
          assert.strictEqual(error.reason._tag, "Storage")
          assert.match(error.message, /big\.bin: the disk for working folders is full/)
          // Nearly all of it, while the removal of the failed view and prepared views might still be under way.
          for (let round = 0; round < 3; round++) {
            yield* ran(views, skill, () => {}, { "most.bin": Buffer.alloc(900_000) })
          }
        }))
  )

  describe("views that are prepared ahead", () => {
    /** Lets the time pass for which files count as changed just now, since those are not prepared. */
    const settled = Effect.sleep(120)
    const prepared = Effect.fnUntraced(function*() {
      const skill = yield* Support.skill(files)
      const views = yield* make({ prepared: 2 })
      for (const { path } of skill.files) Fs.utimesSync(Path.join(skill.root, path), 1, 1)
      yield* settled
      yield* ran(views, skill, () => {})
      yield* Support.eventually("two are prepared", () => {
        const homes = views.homes()
        return homes.length === 2 && !homes.includes("1") &&
          homes.every((home) =>
            Fs.existsSync(
              Path.join(views.directory, Fs.readdirSync(views.directory)[0] ?? "", home, "sample/scripts/run.sh")
            )
          )
      })
      const base = Path.join(views.directory, Fs.readdirSync(views.directory)[0] ?? "")
      return { skill, views, base, homes: views.homes() }
    })
    const homeOf = (view: WorkingView.View) => Path.basename(Path.dirname(view.temp))

    it.live("are given out once, and made again", () =>
      Effect.gen(function*() {
        const { homes, skill, views } = yield* prepared()
        const first = yield* views.open(skill, {})
        const second = yield* views.open(skill, { "in.txt": Buffer.from("x") })
        const third = yield* views.open(skill, {})
        assert.sameMembers([homeOf(first), homeOf(second)], homes)
        assert.notInclude(homes, homeOf(third))
        assert.strictEqual(yield* first.digest, skill.digest)
        assert.deepStrictEqual(yield* second.artifacts, { artifacts: [], truncated: false })
        Fs.writeFileSync(Path.join(second.root, "in.txt"), "y")
        assert.deepStrictEqual(paths(yield* second.artifacts), ["in.txt"])
      }))

    it.live("are not given out when a file of the skill changed, though the catalog has not noticed", () =>
      Effect.gen(function*() {
        const { homes, skill, views } = yield* prepared()
        Fs.writeFileSync(Path.join(skill.root, "scripts/run.sh"), "tac\n")
        const view = yield* views.open(skill, {})
        assert.notInclude(homes, homeOf(view))
        assert.strictEqual(Fs.readFileSync(Path.join(view.root, "scripts/run.sh"), "utf8"), "tac\n")
        yield* Support.eventually("the old ones are gone", () => !homes.some((home) => views.homes().includes(home)))
      }))

    it.live("are not given out for another state of the catalog", () =>
      Effect.gen(function*() {
        const { homes, skill, views } = yield* prepared()
        Fs.writeFileSync(Path.join(skill.root, "new.txt"), "new")
        const edited = yield* Support.load(Path.dirname(Path.dirname(skill.root)), "sample")
        const view = yield* views.open(edited, {})
        assert.notInclude(homes, homeOf(view))
        assert.isTrue(Fs.existsSync(Path.join(view.root, "new.txt")))
      }))

    it.live("do not keep the service from going on when something cleaned the base folder away", () =>
      Effect.gen(function*() {
        const { base, skill, views } = yield* prepared()
        Fs.rmSync(base, { recursive: true })
        yield* ran(views, skill, (root) => assert.isTrue(Fs.existsSync(Path.join(root, "SKILL.md"))))
        assert.strictEqual(Fs.statSync(base).mode & 0o777, 0o700)
      }))

    for (
      const [what, touch] of [
        ["written to", (home: string) => Fs.writeFileSync(`${home}/sample/scripts/run.sh`, "cat\n")],
        ["given a file", (home: string) => Fs.writeFileSync(`${home}/sample/scripts/json.py`, "")],
        ["given a temporary file", (home: string) => Fs.writeFileSync(`${home}/.tmp/.bashrc`, "")],
        ["given a folder", (home: string) => Fs.mkdirSync(`${home}/sample/json`)],
        ["given a link", (home: string) => Fs.symlinkSync("/etc", `${home}/sample/etc`)],
        ["given a cache", (home: string) => Fs.mkdirSync(`${home}/sample/scripts/__pycache__`)],
        ["removed", (home: string) => Fs.rmSync(home, { recursive: true })]
      ] as const
    ) {
      it.live(`are not given out when they were ${what}`, () =>
        Effect.gen(function*() {
          const { base, homes, skill, views } = yield* prepared()
          for (const home of homes) touch(Path.join(base, home))
          const view = yield* views.open(skill, {})
          assert.notInclude(homes, homeOf(view))
          assert.deepStrictEqual(Fs.readdirSync(view.temp), [])
          assert.sameMembers(Fs.readdirSync(Path.join(view.root, "scripts")), ["lib", "run.sh"])
        }))
    }

    /** Opens a view, uses it, and tells that nobody can reach it any more. */
    const used = (
      views: WorkingView.WorkingView["Service"],
      skill: WorkingView.Source,
      use: (view: WorkingView.View) => void
    ) =>
      Effect.scoped(Effect.gen(function*() {
        const view = yield* views.open(skill, {})
        use(view)
        yield* view.artifacts
        yield* view.abandoned
        return homeOf(view)
      }))

    it.live("serve the next run when a run left them as it got them", () =>
      Effect.gen(function*() {
        const { homes, skill, views } = yield* prepared()
        const read = (view: WorkingView.View) => void Fs.readFileSync(Path.join(view.root, "scripts/run.sh"))
        const seen = new Set<string>()
        for (let run = 0; run < 10; run++) seen.add(yield* used(views, skill, read))
        assert.isTrue([...seen].every((home) => homes.includes(home)))
      }))

    it.live("do not serve another run before it is known that nobody can reach them", () =>
      Effect.gen(function*() {
        const { skill, views } = yield* prepared()
        const first = yield* Effect.scoped(Effect.map(views.open(skill, {}), homeOf))
        yield* Support.eventually("it is removed", () => !views.homes().includes(first))
      }))

    for (
      const [what, touch] of [
        ["wrote a file and put its time back", (view: WorkingView.View) => {
          const file = Path.join(view.root, "scripts/run.sh")
          const { atime, mtime } = Fs.statSync(file)
          Fs.writeFileSync(file, "tac\n")
          Fs.utimesSync(file, atime, mtime)
        }],
        ["made a file and removed it", (view: WorkingView.View) => {
          Fs.writeFileSync(Path.join(view.root, "x"), "")
          Fs.rmSync(Path.join(view.root, "x"))
        }],
        ["made a temporary file and removed it", (view: WorkingView.View) => {
          Fs.writeFileSync(Path.join(view.temp, "x"), "")
          Fs.rmSync(Path.join(view.temp, "x"))
        }],
        ["made a folder read-only", (view: WorkingView.View) => Fs.chmodSync(Path.join(view.root, "scripts"), 0o500)],
        ["made a file read-only", (view: WorkingView.View) => Fs.chmodSync(Path.join(view.root, "SKILL.md"), 0o400)],
        [
          "linked a file",
          (view: WorkingView.View) =>
            Fs.linkSync(Path.join(view.root, "SKILL.md"), Path.join(view.temp, "..", "..", `link-${process.pid}`))
        ],
        ["replaced the root", (view: WorkingView.View) => {
          Fs.renameSync(view.root, `${view.root}-away`)
          Fs.cpSync(`${view.root}-away`, view.root, { recursive: true, preserveTimestamps: true })
        }],
        ["put a file beside the root", (view: WorkingView.View) => Fs.writeFileSync(`${view.temp}/../x`, "")]
      ] as const
    ) {
      it.live(`do not serve another run after one that ${what}`, () =>
        Effect.gen(function*() {
          const { skill, views } = yield* prepared()
          const home = yield* used(views, skill, touch)
          const next = yield* Effect.forEach([1, 2, 3], () => Effect.map(views.open(skill, {}), homeOf))
          assert.notInclude(next, home)
        }))
    }

    it.live("are at most 16 for all skills, and none for a large skill", () =>
      Effect.gen(function*() {
        const directory = yield* Support.folder
        for (let index = 0; index < 12; index++) Support.writeSkill(directory, `testing/s${index}`, files)
        Support.writeSkill(directory, "testing/large", { "big.bin": Buffer.alloc(5_000_000) })
        const { skills } = yield* SkillDiscovery.scan({ directory })
        yield* settled
        const views = yield* make({ prepared: 2 })
        for (const skill of skills) yield* ran(views, skill, () => {})
        yield* Support.eventually("sixteen are prepared", () => views.homes().length === 16)
        yield* ran(views, skills[0] ?? assert.fail(), () => {})
        yield* Support.eventually("and no more", () => views.homes().length === 16)
      }))
  })
})
