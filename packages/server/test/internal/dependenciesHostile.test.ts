/** Skills and packages that ask for more than packages of the operator's indexes, with the real programs. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Dependencies from "../../src/Dependencies.ts"
import { skipUnless } from "../executorSuite.ts"
import * as Packages from "../fixtures/packages.ts"
import * as Support from "../fixtures/support.ts"

const path = process.env["PATH"] ?? ""
const withoutUv = path.split(":").filter((folder) => !Fs.existsSync(Path.join(folder, "uv"))).join(":")

const works = (file: string, ...args: ReadonlyArray<string>): boolean => {
  try {
    execFileSync(file, args, { stdio: "ignore", timeout: 60_000 })
    return true
  } catch {
    return false
  }
}

const setup = Effect.fnUntraced(function*(env: Readonly<Record<string, string>>) {
  const home = yield* Support.folder
  const directory = yield* Effect.orDie(Dependencies.prepareDirectory(Path.join(home, "cache")))
  const own = { HOME: home, PATH: withoutUv, npm_config_cache: Path.join(home, "npm"), npm_config_fetch_retries: "0" }
  const layer = (more: Readonly<Record<string, string>> = {}) =>
    // Unconfined, since these tests look for what would get out.
    Dependencies.layer({ directory, env: { ...own, ...env, ...more }, sandbox: "off" }).pipe(
      Layer.provide(Support.executor)
    )
  const prepare = (files: Support.Files, more: Readonly<Record<string, string>> = {}) =>
    Effect.gen(function*() {
      const skill = yield* Support.skill(files)
      const service = yield* Dependencies.Dependencies
      return yield* service.prepare(skill)
    }).pipe(Effect.provide(layer(more)))
  return { home, marker: Path.join(home, "marker"), prepare }
})

const ends = ["\u0085", "\u2028", "\v"]

describe("hostile needs of Python", () => {
  it.live("build no source package behind another end of a line", () =>
    Effect.gen(function*() {
      const { home, marker, prepare } = yield* setup({ PIP_NO_INDEX: "1" })
      const wheels = Path.join(home, "wheels")
      Packages.wheel(home, wheels, "good")
      const evil = Packages.sdist(home, "evil", marker)
      const env = { PIP_FIND_LINKS: wheels }
      const found = yield* prepare({ "run.py": "", "requirements.txt": "good==1.0\n" }, env)
      assert.isTrue(Fs.existsSync(found.python("run.py") ?? ""))
      for (const end of ends) {
        for (const line of [`good==1.0${end}evil@file://${evil}`, `good${end}${evil}`]) {
          const files = [
            { "run.py": "", "requirements.txt": `${line}\n` },
            {
              "run.py": `# /// script\n# dependencies = [${JSON.stringify(line).replaceAll("\\v", "\\u000b")}]\n# ///\n`
            }
          ]
          for (const one of files) {
            const error = yield* Effect.flip(prepare(one, env))
            assert.isFalse(Fs.existsSync(marker), "built")
            assert.strictEqual(error.reason._tag, "Refused", JSON.stringify(one))
          }
        }
      }
      assert.isFalse(Fs.existsSync(marker))
    }), 120_000)

  it.live("build no source package that a package names by its address", () =>
    Effect.gen(function*() {
      const { home, marker, prepare } = yield* setup({ PIP_NO_INDEX: "1" })
      const wheels = Path.join(home, "wheels")
      Packages.wheel(home, wheels, "good", [`evil @ file://${Packages.sdist(home, "evil", marker)}`])
      const error = yield* Effect.flip(
        prepare({ "run.py": "", "requirements.txt": "good" }, { PIP_FIND_LINKS: wheels })
      )
      assert.isFalse(Fs.existsSync(marker))
      assert.match(error.message, /installing runs no code of packages/)
    }), 120_000)

  it.live("are not ready where a package takes the place of Python", () =>
    Effect.gen(function*() {
      const { home, prepare } = yield* setup({ PIP_NO_INDEX: "1" })
      const wheels = Path.join(home, "wheels")
      Packages.wheel(home, wheels, "python", [], { "python-1.0.data/scripts/python": "#!/bin/sh\n" })
      const error = yield* Effect.flip(
        prepare({ "run.py": "", "requirements.txt": "python" }, { PIP_FIND_LINKS: wheels })
      )
      assert.match(error.message, /in the place of the environment's Python/)
    }), 120_000)

  skipUnless(
    works("python3", "-m", "pip", "index", "versions", "uv"),
    "the index of Python packages cannot be reached",
    "run no code with uv, also of a package that names another by its address, or that is run when Python starts",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const { home, marker, prepare } = yield* setup({ UV_OFFLINE: "1" })
          assert.isTrue(works("python3", "-m", "pip", "install", "-q", "--target", Path.join(home, "uv"), "uv"))
          const wheels = Path.join(home, "wheels")
          const env = { UV_FIND_LINKS: wheels, PATH: `${Path.join(home, "uv/bin")}:${withoutUv}` }
          Packages.wheel(home, wheels, "good", [`evil @ file://${Packages.sdist(home, "evil", marker)}`])
          Packages.wheel(home, wheels, "starts", [], {
            "starts.pth": `import os; open(${JSON.stringify(marker)}, "w").close()\n`
          })
          const error = yield* Effect.flip(prepare({ "run.py": "", "requirements.txt": "good" }, env))
          assert.isFalse(Fs.existsSync(marker), "built")
          assert.match(JSON.stringify(error.reason), /URL dependencies must be expressed as direct requirements/)
          const found = yield* prepare({ "run.py": "", "requirements.txt": "starts" }, env)
          assert.isFalse(Fs.existsSync(marker), "started")
          const modules = Path.join(Path.dirname(Path.dirname(found.python("run.py") ?? "")), "lib")
          const names = Fs.readdirSync(modules, { recursive: true, encoding: "utf8" })
          assert.isTrue(names.some((name) => /starts\.cpython-\d+\.pyc$/.test(name)), "not compiled")
          // What the marker would have told.
          execFileSync(found.python("run.py") ?? "", ["-c", ""])
          assert.isTrue(Fs.existsSync(marker))
        }), 120_000)
  )
})

const manifest = (value: unknown, more: Support.Files = {}): Support.Files => ({
  "run.mjs": "",
  "package.json": JSON.stringify(value),
  ...more
})

/** An npm that does not know the option asks the address before what came of it can be looked at. */
const knowsRemote = works("npm", "--version") &&
  execFileSync("npm", ["config", "list", "--json"], { encoding: "utf8" }).includes("\"allow-remote\"")

const hasNpm = works("npm", "--version") && works("git", "--version")
const npm = (title: string, test: () => Effect.Effect<void, unknown>) =>
  skipUnless(hasNpm, "npm or git is not there", title, (title) => it.live(title, test, 120_000))

describe("hostile needs of Node", () => {
  npm("take packages of the registry alone, in every kind of dependency", () =>
    Effect.gen(function*() {
      const { home, marker, prepare } = yield* setup({})
      const { asked, url } = yield* Packages.registry(home, { good: {} })
      const secret = Packages.archive(home, "secret")
      const env = { npm_config_registry: url }
      const evil = Packages.repository(home, marker)
      for (const spec of [evil, `file:${secret}`, `${url}latest/meta-data`, "secret-1.0.0.tgz", ".. "]) {
        for (const kind of ["dependencies", "optionalDependencies", "peerDependencies"]) {
          const value = { dependencies: { good: "1" }, [kind]: { good: "1", evil: spec } }
          const error = yield* Effect.flip(prepare(manifest(value), env))
          assert.isFalse(Fs.existsSync(marker), "run")
          assert.match(error.message, /evil does not come from a registry/)
        }
      }
      const rest = {
        scripts: { preinstall: `touch ${marker}`, postinstall: `touch ${marker}` },
        bundleDependencies: ["evil"],
        devDependencies: { evil },
        publishConfig: { registry: "http://127.0.0.1:9/" },
        config: { registry: "http://127.0.0.1:9/" }
      }
      const npmrc = { ".npmrc": "registry=http://127.0.0.1:9/\ngit=./evil.sh\nignore-scripts=false\n" }
      const found = yield* prepare(manifest({ ...rest, dependencies: { good: "^1" } }, npmrc), env)
      assert.isTrue(Fs.existsSync(Path.join(found.nodeModules["node_modules"] ?? "", "good/index.js")))
      assert.deepStrictEqual([...new Set(asked)].sort(), ["/good", "/good/-/good-1.0.0.tgz"])
      assert.isFalse(Fs.existsSync(marker))
    }).pipe(Effect.scoped))

  npm("take none that a package of the registry names by its address", () =>
    Effect.gen(function*() {
      const { home, marker, prepare } = yield* setup({})
      const other = yield* Packages.registry(Path.join(home, "other"), {})
      const specs = {
        git: Packages.repository(home, marker),
        file: `file:${Packages.archive(home, "secret")}`,
        folder: `file:${Path.join(home, "of-secret/package")}`,
        ...knowsRemote ? { address: `${other.url}latest/meta-data` } : {}
      }
      const names = Object.entries(specs).flatMap(([name, spec]) =>
        ["dependencies", "peerDependencies"].map((kind) => [`${name}-${kind.slice(0, 4)}`, { [kind]: { evil: spec } }])
      )
      const registry = yield* Packages.registry(home, Object.fromEntries(names))
      for (const [name] of names) {
        const error = yield* Effect.flip(
          prepare(manifest({ dependencies: { [String(name)]: "1" } }), { npm_config_registry: registry.url })
        )
        assert.isFalse(Fs.existsSync(marker), "run")
        assert.match(error.message, /EALLOW|have been disabled|git|does not come from a registry/, String(name))
      }
      assert.isFalse(Fs.existsSync(marker))
      assert.deepStrictEqual(other.asked, [])
      assert.isFalse(registry.asked.some((url) => url.includes("/-/")))
    }).pipe(Effect.scoped))

  npm("take a lock file's packages from the operator's registry alone", () =>
    Effect.gen(function*() {
      const { home, marker, prepare } = yield* setup({})
      const other = yield* Packages.registry(Path.join(home, "other"), { good: {} })
      const { asked, url } = yield* Packages.registry(home, { good: { dependencies: { more: "1" } }, more: {} })
      const env = { npm_config_registry: url }
      const wants = { dependencies: { good: "1" } }
      const lock = (good: unknown, more: unknown = {}, packages: Readonly<Record<string, unknown>> = {}) => ({
        "package-lock.json": JSON.stringify({
          lockfileVersion: 3,
          packages: {
            "": wants,
            "node_modules/good": { version: "1.0.0", dependencies: { more: "1" }, ...Object(good) },
            "node_modules/more": { version: "1.0.0", ...Object(more) },
            ...packages
          }
        })
      })
      const evil = Packages.repository(home, marker)
      const secret = Path.join(home, "of-secret")
      Packages.archive(home, "secret")
      const refused = [
        lock({ resolved: `${other.url}latest/meta-data/iam` }),
        lock({ resolved: evil }),
        lock({ resolved: `file:${secret}` }),
        lock({ version: evil }),
        lock({ version: `${other.url}x.tgz` }),
        lock({ link: true, resolved: secret }),
        lock({ hasShrinkwrap: true }),
        lock({ dependencies: { more: "1", evil } }),
        lock({ peerDependencies: { evil: `file:${secret}` } }),
        lock({}, {}, { "../../evil": { version: "1.0.0" } }),
        lock({}, {}, { "node_modules/..": { version: "1.0.0" } }),
        {
          "package-lock.json": JSON.stringify({
            dependencies: { good: { version: "1.0.0", resolved: `${other.url}x` } }
          })
        }
      ]
      for (const one of refused) {
        const error = yield* Effect.flip(prepare(manifest(wants, one), env))
        assert.deepStrictEqual(other.asked, [])
        assert.strictEqual(error.reason._tag, "Refused", JSON.stringify(one))
      }
      assert.deepStrictEqual([other.asked, asked], [[], []])
      const fine = [
        lock({}),
        lock({ resolved: "https://registry.npmjs.org/good/-/good-1.0.0.tgz" }),
        lock({ resolved: "https://registry.yarnpkg.com/good/-/good-1.0.0.tgz#0a" }),
        // No path of the registry is a lock file's to choose.
        lock({ resolved: `${url}latest/meta-data` }),
        lock({}, {}, { "node_modules/dev": { dev: true, version: "1.0.0", resolved: `${other.url}dev.tgz` } })
      ]
      for (const one of fine) {
        const found = yield* prepare(manifest({ ...wants, devDependencies: { dev: "1" } }, one), env)
        assert.isTrue(Fs.existsSync(Path.join(found.nodeModules["node_modules"] ?? "", "more/index.js")))
      }
      const urls = ["/good", "/good/-/good-1.0.0.tgz", "/more", "/more/-/more-1.0.0.tgz"]
      assert.deepStrictEqual([other.asked, [...new Set(asked)].sort()], [[], urls])
      assert.isFalse(Fs.existsSync(marker))
    }).pipe(Effect.scoped))
})
