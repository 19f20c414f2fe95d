/** A folder of the host that a run is given to write, at a path of its own, and what it may not make of files there. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as SandboxSupport from "@skillscale/server/SandboxSupport"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { skipUnless } from "./executorSuite.ts"
import * as Support from "./fixtures/support.ts"

const mechanisms = await Effect.runPromise(SandboxSupport.probe())
const hasCells = ["cell", "overlay"].every((wanted) =>
  mechanisms.some(({ isThere, name }) => name === wanted && isThere)
)
const isRoot = process.getuid?.() === 0

const setup = Effect.gen(function*() {
  const home = yield* Support.folder
  const [places, kept] = [Path.join(home, "places"), Path.join(home, "kept")]
  const folder = Path.join(kept, "one")
  for (const path of [places, kept, folder, Path.join(kept, "other")]) Fs.mkdirSync(path)
  if (isRoot) Fs.chownSync(folder, NativeExecutor.nobody, NativeExecutor.nobody)
  Fs.writeFileSync(Path.join(kept, "other", "secret"), "hush")
  const layer = Layer.provide(
    NativeExecutor.layerOrNode({ sandbox: { open: [places, kept] } }),
    NodeServices.layer
  )
  const at = Path.join(places, "one")
  const sh = Effect.fnUntraced(function*(script: string, confinement: Partial<Executor.Confinement> = {}) {
    const executor = yield* Executor.Executor
    assert.isTrue(executor.canShow(at) && executor.canShow(folder) && !executor.canShow(places))
    const { stderr, stdout } = yield* executor.run({
      file: "/bin/sh",
      args: ["-c", script],
      cwd: at,
      env: { PATH: "/usr/bin:/bin" },
      confinement: { network: true, systemCalls: "deny", writable: [], ...confinement },
      overlay: { at, skill: folder, direct: true, onWritten: () => Effect.die("it has no changes") }
    })
    return Support.text(stdout) + Support.text(stderr)
  })
  return { home, folder, at, kept, layer, sh }
})

describe("a folder of the host in a cell", () => {
  skipUnless(
    hasCells,
    "there are no cells",
    "is written as it is, by another user than root, and nothing else is",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const { at, folder, home, kept, layer, sh } = yield* setup
          yield* Effect.gen(function*() {
            for (let run = 1; run <= 3; run++) {
              const uid = isRoot ? NativeExecutor.nobody : process.getuid?.()
              const before = run === 1 ? "" : `${run - 1}\n`
              const said = yield* sh(`pwd; cat before 2> /dev/null; echo ${run} > before; mkdir -p a/b; id -u`)
              assert.strictEqual(said, `${at}\n${before}${uid}\n`)
            }
            const others = `cat ${kept}/other/secret; ls ${kept} ${home}; touch ${home}/x ${at}/../x ${kept}/x`
            const said = yield* sh(others)
            assert.notInclude(said, "hush")
            assert.notInclude(said, "other\n")
          }).pipe(Effect.provide(layer))
          assert.deepStrictEqual(Fs.readdirSync(folder), ["a", "before"])
          assert.deepStrictEqual([Fs.readdirSync(home).sort(), Fs.readdirSync(kept)], [["kept", "places"], [
            "one",
            "other"
          ]])
          assert.strictEqual(
            Fs.statSync(Path.join(folder, "a/b")).uid,
            isRoot ? NativeExecutor.nobody : process.getuid?.()
          )
          assert.deepStrictEqual(Fs.readdirSync(Path.dirname(at)), [])
        }))
  )

  skipUnless(
    hasCells,
    "there are no cells",
    "gets no modes with rights of its owner where they are refused",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const { folder, layer, sh } = yield* setup
          const script = "touch a; chmod 755 a; chmod 4755 a; mkdir b; chmod 2755 b; install -m 6755 /bin/true c"
          const modes = () => ["a", "b", "c"].map((name) => Fs.statSync(Path.join(folder, name)).mode & 0o7777)
          yield* Effect.gen(function*() {
            yield* sh(script, { plainModes: true })
            assert.deepStrictEqual(modes().map((mode) => mode & 0o6000), [0, 0, 0])
            yield* sh("rm -r a b c")
            yield* sh(script)
            assert.deepStrictEqual(modes(), [0o4755, 0o2755, 0o6755])
          }).pipe(Effect.provide(layer))
        }))
  )
})
