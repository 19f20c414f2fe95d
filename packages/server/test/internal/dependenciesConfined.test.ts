/** What a program that installs packages can do to the host when a package has made it its own. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Dependencies from "../../src/Dependencies.ts"
import * as NativeExecutor from "../../src/NativeExecutor.ts"
import * as SandboxSupport from "../../src/SandboxSupport.ts"
import { skipUnless } from "../executorSuite.ts"
import * as Fixture from "../fixtures/dependencies.ts"
import * as Support from "../fixtures/support.ts"

/** A program named uv that makes an environment, and tries what is given for each of its letters, into `report`. */
const uv = (attempts: Readonly<Record<string, string>>) =>
  `#!/bin/sh
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin" "$last/lib"
  printf '#!/bin/sh\\nexec python3 "$@"\\n' > "$last/bin/python"
  chmod +x "$last/bin/python"
  exit 0
fi
${
    Object.entries(attempts).map(([name, script]) => `(${script}) 2> /dev/null && printf '%s ' ${name} >> report\n`)
      .join("")
  }
echo >> report
`

const python: Support.Files = { "run.py": "", "requirements.txt": "six\n" }

interface Setting extends Partial<Dependencies.Options> {
  readonly cells?: boolean
  readonly variables?: Readonly<Record<string, string>>
  /** More programs, by their names. */
  readonly programs?: Readonly<Record<string, string>>
  readonly files?: Support.Files
}

/** Prepares a skill with that program. */
const prepared = Effect.fnUntraced(function*(home: string, program: string, setting: Setting) {
  const { cells, files = python, programs, variables, ...options } = setting
  const bin = Path.join(home, "bin")
  Fs.mkdirSync(bin, { recursive: true })
  for (const [name, text] of Object.entries({ uv: program, ...programs })) {
    Fs.writeFileSync(Path.join(bin, name), text, { mode: 0o755 })
  }
  const directory = yield* Effect.orDie(Dependencies.prepareDirectory(Path.join(home, "cache")))
  const env = { HOME: home, PATH: `${bin}:${process.env["PATH"] ?? ""}`, ...variables }
  const layer = Dependencies.layer({ directory, env, ...options }).pipe(
    Layer.provide(Layer.provide(Dependencies.layerExecutor({ directory, env, cells }), NodeServices.layer))
  )
  const skill = yield* Effect.orDie(Support.skill(files))
  const result = yield* Effect.gen(function*() {
    const service = yield* Dependencies.Dependencies
    return yield* service.prepare(skill)
  }).pipe(Effect.provide(layer))
  return { directory, folder: result.readable[0] ?? assert.fail() }
})

/** Prepares a skill, and tells which attempts succeeded, and where the environment is. */
const attempted = Effect.fnUntraced(
  function*(home: string, attempts: Readonly<Record<string, string>>, setting: Setting) {
    const found = yield* prepared(home, uv(attempts), setting)
    return { ...found, succeeded: Fs.readFileSync(Path.join(found.folder, "report"), "utf8").trim().split(" ") }
  }
)

/** A cache in a folder that other users can reach. */
const home = Effect.tap(Fixture.folder, (path) => Effect.sync(() => Fs.chmodSync(path, 0o755)))

const mechanisms = await Effect.runPromise(SandboxSupport.probe())
const has = (...names: ReadonlyArray<string>) =>
  names.every((wanted) => mechanisms.some(({ isThere, name }) => isThere && name === wanted))
const hasCells = has("cell", "overlay", "landlock")
const isRoot = process.getuid?.() === 0

/** What a process prints first; it is there as long as the test. */
const started = (script: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<readonly [ChildProcess.ChildProcess, string]>((resume) => {
        const child = ChildProcess.spawn("python3", ["-c", script], { stdio: ["ignore", "pipe", "ignore"] })
        child.stdout.once("data", (data: Buffer) => resume(Effect.succeed([child, data.toString().trim()])))
      }),
      ([child]) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    ([, said]) => said
  )

const terminal = started("import os, time; m, s = os.openpty(); print(os.ttyname(s), flush=True); time.sleep(600)")
const service = (path: string) =>
  started(
    `import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('${path}'); s.listen(9); print(1, flush=True); time.sleep(600)`
  )

const node = (script: string) => `${process.execPath} -e "${script}"`

describe("a program that installs packages", () => {
  for (const cells of [true, false]) {
    skipUnless(
      cells ? hasCells : has("landlock"),
      cells ? "there are no cells" : "the kernel has no Landlock",
      `writes its environment and nothing else of the host ${cells ? "in a cell" : "among the host's processes"}`,
      (title) =>
        it.live(title, () =>
          Effect.gen(function*() {
            const own = yield* home
            Fs.writeFileSync(Path.join(own, "secret"), "hush", { mode: 0o600 })
            Fs.writeFileSync(Path.join(own, ".npmrc"), "registry=https://registry.example/\n", { mode: 0o600 })
            const temporary = Path.join(yield* Support.folder, "secret")
            Fs.writeFileSync(temporary, "hush", { mode: 0o600 })
            const other = Path.join(own, "cache", "environments", "python-other")
            const tty = yield* terminal
            const socket = Path.join(own, "socket")
            yield* service(socket)
            const connects =
              `require('net').connect('${socket}').on('error', () => process.exit(1)).on('connect', () => process.exit(0))`
            // What belongs to the user of the server can be touched by a server that is not root, outside of a cell.
            const asOwner = {
              terminal: `printf x > ${tty}`,
              service: node(connects),
              times: `touch -d @1 ${own}/bin/uv`,
              mode: `chmod 700 ${own}/secret`,
              mark: `chmod 755 ${own}/cache/complete`
            }
            const asRoot = {
              root: "[ \"$(id -u)\" = 0 ]",
              mount: "unshare -m true",
              rights: `chmod 4755 ${own}/bin/uv`,
              ownRights: "cp /bin/true mine; chmod 4755 mine; r=$?; rm mine; exit $r",
              device: "touch -d @1000000000 /dev/null"
            }
            const attempts = {
              inside: "touch venv/inside && [ -e venv/inside ]",
              temporary: "file=\"${TMPDIR:-/tmp}/x-$$\"; touch \"$file\" && rm \"$file\"",
              settings: "grep -q registry.example ~/.npmrc",
              home: `touch ${own}/pwned`,
              above: "touch ../../pwned && [ -e ../../environments ]",
              other: `mkdir -p ${other} && touch ${other}/pwned`,
              tmp: `cat ${temporary}`,
              secret: `cat ${own}/secret`,
              server: `tr '\\0' '\\n' < /proc/${process.pid}/environ | grep -q .`,
              signal: `kill -0 ${process.pid}`,
              program: `printf '' >> ${own}/bin/uv`,
              ...cells || isRoot ? asOwner : {},
              ...isRoot ? asRoot : {}
            }
            const off = yield* attempted(own, attempts, { sandbox: "off", cells })
            assert.deepStrictEqual(off.succeeded, Object.keys(attempts))
            for (const name of ["pwned", "cache/pwned"]) Fs.rmSync(Path.join(own, name))
            for (const path of [other, off.folder]) Fs.rmSync(path, { recursive: true })
            const on = yield* attempted(own, attempts, { cells })
            // Below /tmp a cell has folders of its own there, in which the tool may write, and which nobody else sees.
            const isPrivate = cells && own.startsWith("/tmp/")
            const harmless = isPrivate ? ["home", "above", "other"] : []
            assert.deepStrictEqual(on.succeeded, ["inside", "temporary", "settings", ...harmless])
            for (const path of [Path.join(own, "pwned"), Path.join(own, "cache/pwned"), other]) {
              assert.isFalse(Fs.existsSync(path), path)
            }
            assert.deepStrictEqual(Fs.readdirSync(on.folder).sort(), ["report", "requirements.txt", "venv"])
            const owners = ["", "report", "venv/inside"].map((name) => Fs.statSync(Path.join(on.folder, name)).uid)
            assert.deepStrictEqual(owners, owners.map(() => process.getuid?.()))
            const left = Fs.readdirSync(Path.join(on.directory, "building"), { recursive: true })
            assert.deepStrictEqual(left.sort(), ["aside", "trees"])
          }), 60_000)
    )
  }

  skipUnless(
    hasCells,
    "there are no cells",
    "is where nobody else finds what it makes until that is complete",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const own = yield* home
          const program = `#!/bin/sh\nfor last; do :; done\n[ "$1" = venv ] || sleep 1000\nmkdir -p "$last/bin"\n`
          const build = yield* Effect.forkChild(prepared(own, program, {}))
          const trees = Path.join(own, "cache", "building", "trees")
          yield* Support.eventually(
            "it is built",
            () =>
              Fs.existsSync(trees) &&
              Fs.readdirSync(trees).some((name) => Fs.existsSync(Path.join(trees, name, "venv")))
          )
          assert.deepStrictEqual(Fs.readdirSync(Path.join(own, "cache", "environments")), [])
          assert.strictEqual(Fs.statSync(trees).mode & 0o777, 0o711)
          const [name = ""] = Fs.readdirSync(trees)
          assert.strictEqual(Fs.statSync(Path.join(trees, name)).mode & 0o777, 0o700)
          yield* Fiber.interrupt(build)
          assert.deepStrictEqual(Fs.readdirSync(trees), [])
        }))
  )

  skipUnless(
    has("landlock"),
    "the kernel has no Landlock",
    "has the operator's settings, which nobody else has after it",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const own = yield* home
          const closed = Path.join(own, "closed")
          Fs.mkdirSync(closed, { mode: 0o700 })
          for (
            const name of [
              ".netrc",
              ".pip/pip.conf",
              ".config/uv/uv.toml",
              ".local/share/uv/credentials/one",
              "closed/named"
            ]
          ) {
            const path = Path.join(own, name)
            Fs.mkdirSync(Path.dirname(path), { recursive: true, mode: 0o700 })
            Fs.writeFileSync(path, `hush ${name}`, { mode: 0o600 })
          }
          Fs.writeFileSync(Path.join(own, "not-a-setting"), "hush", { mode: 0o600 })
          const attempts = {
            netrc: "grep -q hush ~/.netrc",
            pip: "grep -q hush ~/.pip/pip.conf",
            uv: "grep -q hush \"$XDG_CONFIG_HOME/uv/uv.toml\"",
            credentials: "grep -q hush \"$XDG_DATA_HOME/uv/credentials/one\"",
            named: "grep -q hush \"$PIP_CONFIG_FILE\"",
            null: "[ \"$UV_CONFIG_FILE\" = /dev/null ]",
            other: "cat ~/not-a-setting",
            home: `[ "$(echo ~)" = ${own} ]`
          }
          const variables = { PIP_CONFIG_FILE: Path.join(closed, "named"), UV_CONFIG_FILE: "/dev/null" }
          for (const cells of hasCells ? [true, false] : [false]) {
            const { directory, folder, succeeded } = yield* attempted(own, attempts, { variables, cells })
            assert.deepStrictEqual(succeeded, ["netrc", "pip", "uv", "credentials", "named", "null"])
            const left = Fs.readdirSync(directory, { recursive: true, encoding: "utf8" })
              .map((name) => Path.join(directory, name))
              .filter((path) => Fs.lstatSync(path).isFile() && Fs.readFileSync(path, "latin1").includes("hush"))
            assert.deepStrictEqual(left, [])
            Fs.rmSync(folder, { recursive: true })
          }
        }))
  )

  it.live("leaves nothing with rights of the server's, and no mark that it was done", () =>
    Effect.gen(function*() {
      for (const sandbox of ["on", "off"] as const) {
        const own = yield* home
        const { directory, folder } = yield* attempted(own, {
          a: "cp /bin/true venv/bin/mine; chmod 755 venv/bin/mine; chmod 6755 venv/bin/mine; chmod 2755 venv/lib",
          b: "mkfifo venv/pipe",
          c: `ln -s ${own}/outside venv/link`,
          d: `chmod 4755 venv/bin/python`,
          e: "mkdir venv/hidden; cp /bin/true venv/hidden/mine; chmod 4755 venv/hidden/mine; chmod 0311 venv/hidden"
        }, { sandbox })
        const modeOf = (name: string) => Fs.statSync(Path.join(folder, name)).mode & 0o7777
        const names = ["", "venv/bin/mine", "venv/lib", "venv/bin/python", "venv/hidden", "venv/hidden/mine"]
        assert.deepStrictEqual(names.map(modeOf), names.map(() => 0o755))
        assert.isFalse(Fs.existsSync(Path.join(folder, "venv/pipe")))
        assert.isTrue(Fs.lstatSync(Path.join(folder, "venv/link")).isSymbolicLink())
        assert.deepStrictEqual(Fs.readdirSync(Path.join(directory, "complete")), [Path.basename(folder)])
      }
    }))

  skipUnless(
    hasCells,
    "there are no cells",
    "finds Python behind a shim of a version manager, whose own files it cannot",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const own = yield* home
          const manager = Path.join(own, "manager")
          const real = ChildProcess.execFileSync("python3", ["-c", "import sys; print(sys.executable)"], {
            encoding: "utf8"
          })
          Fs.writeFileSync(manager, `#!/bin/sh\nexec ${real.trim()} "$@"\n`, { mode: 0o755 })
          const { folder } = yield* prepared(own, "", {
            programs: {
              python3: `#!/bin/sh\nexec ${manager} "$@"\n`,
              npm:
                "#!/bin/sh\nmkdir node_modules; command -v python3 > node_modules/said; python3 -c 'print(1)' >> node_modules/said"
            },
            files: { "run.mjs": "", "package.json": JSON.stringify({ dependencies: { six: "1.0.0" } }) },
            installScripts: true
          })
          const said = Fs.readFileSync(Path.join(folder, "node_modules", "said"), "utf8").split("\n")
          assert.strictEqual(said[1], "1", said[0])
        }))
  )

  it.live("cannot have the server write elsewhere by links that it leaves", () =>
    Effect.gen(function*() {
      const own = yield* home
      const outside = Path.join(own, "outside")
      Fs.mkdirSync(outside)
      Fs.writeFileSync(Path.join(own, ".npmrc"), "registry=https://registry.example/\n")
      if (isRoot) Fs.chownSync(outside, NativeExecutor.nobody, NativeExecutor.nobody)
      const links = [".home", ".work", "requirements.txt"].map((name) => `rm -rf ${name}; ln -s ${outside} ${name}`)
      const program = uv({ links: links.join("; ") }).replace("exit 0", `${links.join("; ")}; exit 0`)
      yield* prepared(own, program, {})
      assert.deepStrictEqual(Fs.readdirSync(outside), [])
    }))

  const ended = Effect.fnUntraced(function*(script: string, setting: Setting) {
    const own = yield* home
    const error = yield* Effect.flip(prepared(own, `#!/bin/sh\n${script}\n`, setting))
    for (const name of ["environments", "building/trees", "building/aside", "complete"]) {
      assert.deepStrictEqual(Fs.readdirSync(Path.join(own, "cache", name)), [], name)
    }
    return error
  })

  const bounds: ReadonlyArray<readonly [string, string, Setting, RegExp]> = [
    [
      "memory",
      node("const kept = []; for (;;) kept.push(Buffer.alloc(1 << 24, 1))"),
      { memoryBytes: 192 * 1024 ** 2 },
      /ran out of its 201326592 bytes of memory \(SKILLSCALE_PREPARE_MEMORY\)/
    ],
    [
      "processes",
      "(for i in $(seq 60); do sleep 1000 & done; wait) || while :; do :; done",
      { processes: 30 },
      /started more than its 30 processes and threads \(SKILLSCALE_PREPARE_PROCESSES\)/
    ],
    [
      "CPU time",
      "while :; do :; done",
      { cpuTime: "1 second" },
      /used up its 1 s of CPU time \(SKILLSCALE_PREPARE_CPU\)/
    ],
    [
      "the size of a file",
      "head -c 3M /dev/zero > big || exit 153",
      { fileBytes: 2 * 1024 ** 2 },
      /file passed its limit of 2097152 bytes \(SKILLSCALE_PREPARE_FILE\)/
    ],
    [
      "the size of the cache",
      "head -c 4M /dev/zero > big; sleep 60",
      { maxBytes: 1024 ** 2 },
      /takes more than the 1048576 bytes that the cache may have/
    ],
    [
      "the size of the cache, in a folder that cannot be read",
      "mkdir hidden; head -c 4M /dev/zero > hidden/big; chmod 0311 hidden; sleep 60",
      { maxBytes: 1024 ** 2 },
      /takes more than the 1048576 bytes that the cache may have/
    ]
  ]
  for (const [what, script, setting, says] of bounds) {
    skipUnless(
      has("landlock"),
      "the kernel has no Landlock",
      `is ended at its bound of ${what}, for good`,
      (title) =>
        it.live(title, () =>
          Effect.gen(function*() {
            const error = yield* ended(script, setting)
            assert.match(error.message, says)
            assert.deepStrictEqual([error.reason._tag, error.isRetryable], ["Refused", false])
          }), 30_000)
    )
  }

  it.live("is ended when the file system loses too much to it, wherever that is", () =>
    Effect.gen(function*() {
      const script = "fallocate -l 1300M big; exec 3< big; rm big; sleep 60"
      const error = yield* ended(script, { maxBytes: 1024 ** 2 })
      assert.match(error.message, /lost more than 1074790400 bytes/)
    }), 30_000)
})
