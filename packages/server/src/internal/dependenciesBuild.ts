/**
 * Builds environments: Python's with uv where it is installed, else with venv and pip; folders `node_modules` with npm.
 *
 * Unless the operator lets it, nothing that is installed runs code while it is installed. How the programs are run is left to
 * `dependenciesTools.ts`.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Path from "node:path"
import type * as Executor from "../Executor.ts"
import type { Place } from "./dependenciesCache.ts"
import * as PackageJson from "./dependenciesPackageJson.ts"
import { Refused, type Requirements } from "./dependenciesRequirements.ts"
import * as Tools from "./dependenciesTools.ts"
import * as Tree from "./dependenciesTree.ts"

/** A program that is needed is not on this machine. */
export class Missing extends Data.TaggedError("Missing")<{ readonly detail: string }> {}

export interface Options extends Tools.Options {
  readonly scripts: boolean
}

/** A Python that environments can be made from. */
export interface Python {
  readonly file: string
  readonly version: string
  /** Sorts out other builds and platforms. */
  readonly identity: string
}

const identify = `import json, platform, sys, sysconfig
print(json.dumps([sys.executable, platform.python_version(), platform.python_implementation(),
  sysconfig.get_platform(), sysconfig.get_config_var("SOABI"), sys.base_prefix]))`

/**
 * pip builds packages that a package names by address, whatever it was told; for that it starts programs. Nothing in Python takes
 * such a hook away again.
 */
const guardedPip = `import os, runpy, sys
starts = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn"}
def guard(event, args):
    if event == "subprocess.Popen":
        name = os.path.basename(os.fsdecode(args[0]))
        # Asks for the password of an index; tells the version of musl.
        if name == "keyring" or name.startswith("ld-musl-"):
            return
        raise PermissionError("a package needs " + name + " to be installed, and installing runs no code of packages")
    if event in starts:
        raise PermissionError("installing runs no code of packages")
sys.addaudithook(guard)
runpy.run_module("pip", run_name="__main__", alter_sys=True)`

/** Holds also for an npm that npm starts, and before what a file `.npmrc` beside a package says. Those that npm does not know it ignores. */
const guardedNpm = {
  npm_config_ignore_scripts: "true",
  npm_config_git: "/bin/false",
  npm_config_allow_git: "none",
  npm_config_allow_remote: "none",
  npm_config_allow_file: "none",
  npm_config_allow_directory: "none"
}

const pythons = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9"]

/** Packages with native parts come apart for musl. */
const libc = (): string => {
  try {
    return Fs.readdirSync("/lib").some((name) => name.startsWith("ld-musl-")) ? "musl" : "glibc"
  } catch {
    return "glibc"
  }
}

/** Tells why a file cannot be written. */
const unwritten = (name: string) => (cause: unknown) =>
  new Tools.Failed({ tool: name, how: `cannot be written: ${String(cause)}`, output: "" })

/** A file that a program left. Throws for what is none, and for more than can be meant. */
const readLeft = (folder: string, name: string): string => {
  const file = Fs.openSync(
    Path.join(folder, name),
    Fs.constants.O_RDONLY | Fs.constants.O_NOFOLLOW | Fs.constants.O_NONBLOCK
  )
  try {
    const { size } = Fs.fstatSync(file)
    if (size > maxLeftBytes) throw new Error(`${name} is larger than ${maxLeftBytes} bytes`)
    return Fs.readFileSync(file, "utf8")
  } finally {
    Fs.closeSync(file)
  }
}

const maxLeftBytes = 32 * 1024 * 1024

const lockName = "package-lock.json"

const refusing = <A>(work: () => A): Effect.Effect<A, Tools.Failed | Refused> =>
  Effect.try({
    try: work,
    catch: (error) =>
      error instanceof Refused
        ? error
        : new Tools.Failed({ tool: "npm install", how: `left no lock file: ${String(error)}`, output: "" })
  })

/** Where the Python of an environment leads, which is a link; empty where it is none. */
const interpreterIn = (folder: string): string => {
  try {
    return Fs.readlinkSync(Path.join(folder, "venv", "bin", "python"))
  } catch {
    return ""
  }
}

const digest = (parts: ReadonlyArray<unknown>): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32)

export const make = (executor: Executor.Executor["Service"], options: Options) => {
  const tools = Tools.make(executor, options)
  const { env, path, run } = tools

  /** In place of whatever a program left there. */
  const put = ({ folder }: Place, name: string, text: string): Effect.Effect<void, Tools.Failed> =>
    Effect.tryPromise({
      try: async () => {
        const path = Path.join(folder, name)
        await Tree.remove(path)
        await FsPromises.writeFile(path, text, { mode: 0o644, flag: "wx" })
        // Of the environment, which a program may look at to tell whose it is.
        if (options.builder !== undefined) await FsPromises.lchown(path, options.builder.uid, options.builder.gid)
      },
      catch: unwritten(name)
    })

  const ask = Effect.fnUntraced(function*(program: string) {
    const found = Tools.search(program, path)
    if (found === undefined) return undefined
    const answer = yield* executor.run({
      file: found,
      args: ["-I", "-c", identify],
      cwd: "/",
      env,
      timeout: "10 seconds"
    }).pipe(
      Effect.map(({ stdout }) => Buffer.from(stdout).toString("utf8")),
      Effect.orElseSucceed(() => "")
    )
    const [, file, version] = /^\["([^"\\]+)", "([^"\\]+)", .*\]\s*$/.exec(answer) ?? []
    return file === undefined || version === undefined || !Tools.isExecutable(file)
      ? undefined
      : { file, version, identity: answer.trim() } satisfies Python
  }, Effect.withTracerEnabled(false))

  const known = new Map<string, Python>()

  const python = Effect.fnUntraced(function*(program: string) {
    const before = known.get(program)
    if (before !== undefined && Tools.isExecutable(before.file)) return before
    const now = yield* ask(program)
    if (now === undefined) known.delete(program)
    else known.set(program, now)
    return now
  })

  /** The first Python of the path that the requirement lets, the usual one before others. */
  const pythonFor = Effect.fnUntraced(function*(specifier: string, admits: (version: string) => boolean) {
    const seen = new Set<string>()
    for (const program of pythons) {
      const candidate = yield* python(program)
      if (candidate === undefined) continue
      if (admits(candidate.version)) return candidate
      seen.add(candidate.version)
    }
    const has = seen.size === 0 ? "there is no python3" : `there is only ${[...seen].join(", ")}`
    const needs = specifier === "" ? "Python 3" : `Python ${specifier}`
    return yield* Effect.fail(new Missing({ detail: `needs ${needs}, and on this server ${has}` }))
  })

  /** What code of packages finds as Python where a version manager's shim is first in the path, whose own files are not shown. */
  const withPython = Effect.map(
    Effect.option(pythonFor("", () => true)),
    Option.match({
      onNone: () => ({}),
      onSome: ({ file }) => {
        const [first = "", ...rest] = path.split(Path.delimiter)
        const folder = Path.dirname(file)
        const isFirst = Path.dirname(Tools.search("python3", path) ?? "") === folder
        return isFirst ? {} : { PATH: [first, folder, ...rest].join(Path.delimiter) }
      }
    })
  )

  const keyOfPython = (base: Python, needs: Requirements): string =>
    `python-${digest(["python", 2, options.scripts, base.identity, { ...needs, python: "" }])}`

  const installPython = Effect.fnUntraced(function*(at: Place, base: Python, needs: Requirements) {
    const own = Path.join(at.at, "venv", "bin", "python")
    yield* put(at, "requirements.txt", `${needs.packages.join("\n")}\n`)
    const more = ["-r", "requirements.txt"]
    if (needs.constraints.length > 0) {
      yield* put(at, "constraints.txt", `${needs.constraints.join("\n")}\n`)
      more.push("-c", "constraints.txt")
    }
    if (needs.hashes) more.push("--require-hashes")
    const uv = Tools.search("uv", path)
    if (uv !== undefined) {
      const quiet = ["--no-progress", "--color", "never", "--no-python-downloads"]
      yield* run("uv venv", at, uv, ["venv", ...quiet, "--no-project", "--python", base.file, "venv"])
      const made = interpreterIn(at.folder)
      if (needs.packages.length === 0) return made
      const prerelease = needs.prereleases ? ["--prerelease", "allow"] : []
      // Copied, so that the environment depends on nothing outside of it.
      const how = ["--python", own, "--link-mode", "copy", ...prerelease]
      const safe = options.scripts ? [] : ["--only-binary", ":all:"]
      yield* run("uv pip install", at, uv, ["pip", "install", ...quiet, ...how, ...safe, ...more])
      // Compiled now, since runs cannot; by a Python that looks at no site-packages, since files `.pth` there are code.
      const compile = ["-I", "-S", "-m", "compileall", "-q", Path.join("venv", "lib")]
      // Some packages have files for other versions of Python.
      yield* Effect.catchTag(run("compileall", at, base.file, compile), "Failed", () => Effect.void)
      return made
    }
    yield* run("python3 -m venv", at, base.file, ["-I", "-m", "venv", "venv"])
    const made = interpreterIn(at.folder)
    if (needs.packages.length === 0) return made
    const prerelease = needs.prereleases ? ["--pre"] : []
    const safe = options.scripts ? [] : ["--only-binary", ":all:"]
    const pip = options.scripts ? ["-I", "-m", "pip"] : ["-I", "-c", guardedPip]
    const install = ["install", "--no-input", "--progress-bar", "off"]
    yield* run("pip install", at, own, [...pip, ...install, ...prerelease, ...safe, ...more])
    return made
  })

  const buildPython = Effect.fnUntraced(function*(at: Place, base: Python, needs: Requirements) {
    const made = yield* installPython(at, base, needs)
    if (interpreterIn(at.folder) === made) return
    return yield* Effect.fail(
      new Refused("a package has put something in the place of the environment's Python, which cannot run then")
    )
  })

  const keyOfNode = (wanted: PackageJson.NodePackages): string => {
    const { arch, platform, versions } = process
    const target = [platform, arch, versions.modules, platform === "linux" ? libc() : ""]
    return `node-${digest(["node", 2, options.scripts, target, wanted.manifest, wanted.lock?.text ?? ""])}`
  }

  /** What npm makes of the operator's settings, without credentials. */
  const configOf = Effect.fnUntraced(function*(npm: string, at: Place) {
    const answer = yield* tools.ask("npm config list", at, npm, ["config", "list", "--json"])
    return yield* Effect.try({
      try: () => PackageJson.parse(answer, "it"),
      catch: () => new Tools.Failed({ tool: "npm config list", how: "did not answer with JSON", output: "" })
    })
  })

  /** Has npm choose versions, and downloads none: what packages of the registry themselves ask for is looked at before. */
  const resolve = Effect.fnUntraced(
    function*(npm: string, at: Place, manifest: string, quiet: ReadonlyArray<string>) {
      const only = ["--package-lock-only", "--package-lock", "--save", "--lockfile-version=3", "--ignore-scripts"]
      const all = "--omit-lockfile-registry-resolved=false"
      yield* run("npm install", at, npm, ["install", ...quiet, ...only, all], guardedNpm)
      return yield* refusing(() => PackageJson.locked(manifest, readLeft(at.folder, lockName), "package.json"))
    }
  )

  const buildNode = Effect.fnUntraced(function*(at: Place, wanted: PackageJson.NodePackages) {
    const npm = Tools.search("npm", path)
    if (npm === undefined) {
      return yield* Effect.fail(new Missing({ detail: "needs npm, which is not installed on this server" }))
    }
    const { lock, manifest } = wanted
    yield* put(at, "package.json", manifest)
    const quiet = ["--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    if (options.scripts) {
      if (lock !== undefined) yield* put(at, Path.basename(lock.name), lock.text)
      const what = lock === undefined ? "install" : "ci"
      yield* run(`npm ${what}`, at, npm, [what, ...quiet], yield* withPython)
    } else {
      const config = yield* configOf(npm, at)
      const found = lock === undefined ? yield* resolve(npm, at, manifest, quiet) : { manifest, lock }
      yield* put(at, "package.json", found.manifest)
      yield* put(at, lockName, yield* refusing(() => PackageJson.settle(found.lock, config)))
      yield* run("npm ci", at, npm, ["ci", ...quiet, "--ignore-scripts"], guardedNpm)
    }
    // npm makes none when all that was asked for is optional and not for this platform.
    yield* Effect.tryPromise({
      try: () => FsPromises.mkdir(Path.join(at.folder, "node_modules"), { recursive: true, mode: 0o755 }),
      catch: unwritten("node_modules")
    })
  })

  return { pythonFor, keyOfPython, buildPython, keyOfNode, buildNode }
}

export type Build = ReturnType<typeof make>
