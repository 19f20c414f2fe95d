/**
 * Builds environments: Python's with uv where it is installed, else with venv and pip; folders `node_modules` with npm.
 *
 * The programs run as the server's user, unconfined, with the operator's settings for proxies and indexes and nothing else of the
 * environment. Unless the operator lets it, nothing that is installed runs code while it is installed.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Path from "node:path"
import type * as Executor from "../Executor.ts"
import * as PackageJson from "./dependenciesPackageJson.ts"
import { Refused, type Requirements } from "./dependenciesRequirements.ts"

/** A program that builds did not do it; `output` is the end of what it printed. */
export class Failed extends Data.TaggedError("Failed")<
  { readonly tool: string; readonly how: string; readonly output: string }
> {}

/** A program that is needed is not on this machine. */
export class Missing extends Data.TaggedError("Missing")<{ readonly detail: string }> {}

export interface Options {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly scripts: boolean
  readonly timeout: Duration.Input
}

/** The end of a build's output that is kept, in bytes. */
const maxOutput = 64 * 1024

const operator = new RegExp(
  "^(?:" + [
    "PATH|HOME|USER|LOGNAME|LANG|LC_ALL|TMPDIR|NETRC|XDG_CACHE_HOME|XDG_CONFIG_HOME|XDG_CONFIG_DIRS|XDG_DATA_HOME",
    "(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy",
    "SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS",
    "PIP_(?:INDEX_URL|EXTRA_INDEX_URL|NO_INDEX|FIND_LINKS|CERT|CLIENT_CERT|TRUSTED_HOST|PROXY|CONFIG_FILE|CACHE_DIR|NO_CACHE_DIR" +
    "|DEFAULT_TIMEOUT|TIMEOUT|RETRIES|KEYRING_PROVIDER|USE_FEATURE|UPLOADED_PRIOR_TO)",
    "UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_[A-Z0-9_]+_(?:USERNAME|PASSWORD)|INDEX_STRATEGY|NO_INDEX|FIND_LINKS" +
    "|KEYRING_PROVIDER|NATIVE_TLS|SYSTEM_CERTS|INSECURE_HOST|CACHE_DIR|NO_CACHE|OFFLINE|HTTP_TIMEOUT|HTTP_RETRIES|CONFIG_FILE" +
    "|EXCLUDE_NEWER|CONCURRENT_[A-Z]+|CREDENTIALS_DIR)",
    "NPM_TOKEN|NODE_AUTH_TOKEN",
    "npm_config_(?:registry|@[^:]+:registry|//.+|userconfig|globalconfig|cafile|ca|cert|key|proxy|https[-_]proxy|noproxy|strict[-_]ssl" +
    "|cache|offline|prefer[-_]offline|before|fetch[-_][a-z-_]+|maxsockets)"
  ].join("|") + ")$"
)

/** The operator's settings for programs that fetch packages. */
export const environment = (
  env: Readonly<Record<string, string | undefined>>,
  path: string
): Readonly<Record<string, string>> => ({
  ...Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value !== undefined && operator.test(/^npm_config_/i.test(name) ? name.toLowerCase() : name)
        ? [[name, value]]
        : []
    )
  ),
  PATH: path,
  PYTHONNOUSERSITE: "1",
  PIP_DISABLE_PIP_VERSION_CHECK: "1",
  PIP_NO_INPUT: "1",
  NO_COLOR: "1",
  CI: "1"
})

/** Without the credentials of addresses, and without what would control a terminal. */
const printable = (output: Uint8Array): string =>
  Buffer.from(output).toString("utf8")
    .replaceAll(/(\w:\/\/)[^\s/@]+@/g, "$1***@")
    .replaceAll(/\u001b\[[0-9;?]*[A-Za-z]|[^\n\t\u0020-\u007e\u00a0-\uffff]/g, "")
    .trim()

const maxReason = 500

/** Where a tool says why; the hints of the tools are for whom runs them by hand. npm begins with the reason, others end with it. */
export const lastWords = (tool: string, output: string): string => {
  const lines = output.split("\n").map((line) => line.trim()).filter((line) =>
    line !== "" && !/^(?:\[notice\]|hint:|npm error A complete log|WARNING: Retrying|npm warn)/.test(line)
  )
  const errors = lines.filter((line) => /error|failed|×|╰|no matching|not found|cannot|unable/i.test(line))
  const said = errors.length > 0 ? errors : lines
  const broken = /broken by '([^\n]+?)': \//.exec(output)?.[1]
  const parts = [...tool.startsWith("npm") ? said.slice(0, 4) : said.slice(-4), ...broken === undefined ? [] : [broken]]
  return parts.join("; ").slice(0, maxReason)
}

const isExecutable = (file: string): boolean => {
  try {
    Fs.accessSync(file, Fs.constants.X_OK)
    return Fs.statSync(file).isFile()
  } catch {
    return false
  }
}

const search = (program: string, path: string): string | undefined =>
  path.split(Path.delimiter).filter((folder) => Path.isAbsolute(folder)).map((folder) => Path.join(folder, program))
    .find(isExecutable)

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

const place = (folder: string, name: string, text: string): Effect.Effect<void, Failed> =>
  Effect.try({
    try: () => Fs.writeFileSync(Path.join(folder, name), text, { mode: 0o644 }),
    catch: (cause) => new Failed({ tool: name, how: `cannot be written: ${String(cause)}`, output: "" })
  })

const lockName = "package-lock.json"

const refusing = <A>(work: () => A): Effect.Effect<A, Failed | Refused> =>
  Effect.try({
    try: work,
    catch: (error) =>
      error instanceof Refused
        ? error
        : new Failed({ tool: "npm install", how: `left no lock file: ${String(error)}`, output: "" })
  })

const digest = (parts: ReadonlyArray<unknown>): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32)

export const make = (executor: Executor.Executor["Service"], options: Options) => {
  const found = options.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
  const path = `${Path.dirname(process.execPath)}${Path.delimiter}${found}`
  const env = environment(options.env, path)

  /** New files are readable for runs, which may be another user, and never writable for others. */
  const run = Effect.fnUntraced(function*(
    tool: string,
    cwd: string,
    file: string,
    args: ReadonlyArray<string>,
    more: Readonly<Record<string, string>> = {}
  ) {
    let kept: Buffer = Buffer.alloc(0)
    let exit: Executor.Ended | undefined
    const keep = (event: Executor.ExecutorEvent) =>
      Effect.sync(() => {
        if (event._tag === "Exit") exit = event.ended
        else kept = Buffer.concat([kept, event.data]).subarray(-maxOutput)
      })
    const failed = (how: string) => new Failed({ tool, how, output: printable(kept) })
    yield* Stream.runForEach(
      executor.stream({
        file: "/bin/sh",
        args: ["-c", "umask 022; exec \"$@\"", "sh", file, ...args],
        cwd,
        env: { ...env, ...more },
        timeout: options.timeout,
        stdoutBytes: Number.MAX_SAFE_INTEGER,
        stderrBytes: Number.MAX_SAFE_INTEGER
      }),
      keep
    ).pipe(
      Effect.mapError((error) =>
        failed(
          error.reason._tag === "TimedOut" ? `did not end within ${error.reason.timeoutMs / 1000} s` : error.message
        )
      )
    )
    if (exit?.exitCode === 0) return
    return yield* failed(
      exit === undefined || exit.signal === "" ? `exited with ${exit?.exitCode}` : `died of ${exit.signal}`
    )
  })

  const ask = Effect.fnUntraced(function*(program: string) {
    const found = search(program, path)
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
    return file === undefined || version === undefined || !isExecutable(file)
      ? undefined
      : { file, version, identity: answer.trim() } satisfies Python
  }, Effect.withTracerEnabled(false))

  const known = new Map<string, Python>()

  const python = Effect.fnUntraced(function*(program: string) {
    const before = known.get(program)
    if (before !== undefined && isExecutable(before.file)) return before
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

  const keyOfPython = (base: Python, needs: Requirements): string =>
    `python-${digest(["python", 2, options.scripts, base.identity, { ...needs, python: "" }])}`

  const buildPython = Effect.fnUntraced(function*(folder: string, base: Python, needs: Requirements) {
    const own = Path.join(folder, "venv", "bin", "python")
    yield* place(folder, "requirements.txt", `${needs.packages.join("\n")}\n`)
    const more = ["-r", "requirements.txt"]
    if (needs.constraints.length > 0) {
      yield* place(folder, "constraints.txt", `${needs.constraints.join("\n")}\n`)
      more.push("-c", "constraints.txt")
    }
    if (needs.hashes) more.push("--require-hashes")
    const uv = search("uv", path)
    if (uv !== undefined) {
      const quiet = ["--no-progress", "--color", "never", "--no-python-downloads"]
      yield* run("uv venv", folder, uv, ["venv", ...quiet, "--no-project", "--python", base.file, "venv"])
      if (needs.packages.length === 0) return
      const prerelease = needs.prereleases ? ["--prerelease", "allow"] : []
      // Copied, so that the environment depends on nothing outside of it.
      const how = ["--python", own, "--link-mode", "copy", ...prerelease]
      const safe = options.scripts ? [] : ["--only-binary", ":all:"]
      yield* run("uv pip install", folder, uv, ["pip", "install", ...quiet, ...how, ...safe, ...more])
      // Compiled now, since runs cannot; by a Python that looks at no site-packages, since files `.pth` there are code.
      const compile = ["-I", "-S", "-m", "compileall", "-q", "-j", "0", Path.join("venv", "lib")]
      // Some packages have files for other versions of Python.
      return yield* Effect.ignore(run("compileall", folder, base.file, compile))
    }
    yield* run("python3 -m venv", folder, base.file, ["-I", "-m", "venv", "venv"])
    if (needs.packages.length === 0) return
    const prerelease = needs.prereleases ? ["--pre"] : []
    const safe = options.scripts ? [] : ["--only-binary", ":all:"]
    const pip = options.scripts ? ["-I", "-m", "pip"] : ["-I", "-c", guardedPip]
    const install = ["install", "--no-input", "--progress-bar", "off"]
    yield* run("pip install", folder, own, [...pip, ...install, ...prerelease, ...safe, ...more])
  })

  const keyOfNode = (wanted: PackageJson.NodePackages): string => {
    const { arch, platform, versions } = process
    const target = [platform, arch, versions.modules, platform === "linux" ? libc() : ""]
    return `node-${digest(["node", 2, options.scripts, target, wanted.manifest, wanted.lock?.text ?? ""])}`
  }

  /** What npm makes of the operator's settings, without credentials. */
  const configOf = Effect.fnUntraced(function*(npm: string, folder: string) {
    const what = { file: npm, args: ["config", "list", "--json"], cwd: folder, env, timeout: options.timeout }
    const failed = (how: string) => new Failed({ tool: "npm config list", how, output: "" })
    const { exitCode, stdout } = yield* Effect.mapError(executor.run(what), (error) => failed(error.message))
    if (exitCode !== 0) return yield* failed(`exited with ${exitCode}`)
    return yield* Effect.try({
      try: () => PackageJson.parse(Buffer.from(stdout).toString("utf8"), "it"),
      catch: () => failed("did not answer with JSON")
    })
  })

  /** Has npm choose versions, and downloads none: what packages of the registry themselves ask for is looked at before. */
  const resolve = Effect.fnUntraced(
    function*(npm: string, folder: string, manifest: string, quiet: ReadonlyArray<string>) {
      const only = ["--package-lock-only", "--package-lock", "--save", "--lockfile-version=3", "--ignore-scripts"]
      const all = "--omit-lockfile-registry-resolved=false"
      yield* run("npm install", folder, npm, ["install", ...quiet, ...only, all], guardedNpm)
      return yield* refusing(() =>
        PackageJson.locked(manifest, Fs.readFileSync(Path.join(folder, lockName), "utf8"), "package.json")
      )
    }
  )

  const buildNode = Effect.fnUntraced(function*(folder: string, wanted: PackageJson.NodePackages) {
    const npm = search("npm", path)
    if (npm === undefined) {
      return yield* Effect.fail(new Missing({ detail: "needs npm, which is not installed on this server" }))
    }
    const { lock, manifest } = wanted
    yield* place(folder, "package.json", manifest)
    const quiet = ["--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    if (options.scripts) {
      if (lock !== undefined) yield* place(folder, Path.basename(lock.name), lock.text)
      const what = lock === undefined ? "install" : "ci"
      yield* run(`npm ${what}`, folder, npm, [what, ...quiet])
    } else {
      const config = yield* configOf(npm, folder)
      const found = lock === undefined ? yield* resolve(npm, folder, manifest, quiet) : { manifest, lock }
      yield* place(folder, "package.json", found.manifest)
      yield* place(folder, lockName, yield* refusing(() => PackageJson.settle(found.lock, config)))
      yield* run("npm ci", folder, npm, ["ci", ...quiet, "--ignore-scripts"], guardedNpm)
    }
    // npm makes none when all that was asked for is optional and not for this platform.
    yield* Effect.promise(() => FsPromises.mkdir(Path.join(folder, "node_modules"), { recursive: true, mode: 0o755 }))
  })

  return { pythonFor, keyOfPython, buildPython, keyOfNode, buildNode }
}

export type Build = ReturnType<typeof make>
