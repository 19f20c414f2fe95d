/**
 * Runs the programs that build environments: with the operator's settings for proxies and indexes and nothing else of the
 * environment, and, where the executor can do that, confined to the folder that they build in.
 *
 * Confined they are who runs are, and find what runs find, but for the network, a copy of the operator's settings, and the folder, where
 * alone they write: whatever a package makes of the program that installs it, nothing else of the host changes, and nothing that
 * another environment is made from. Confined or not, they are held to limits, where the executor has them.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type * as Executor from "../Executor.ts"
import type { Place } from "./dependenciesCache.ts"
import * as Tree from "./dependenciesTree.ts"

/** A program that builds did not do it; `output` is the end of what it printed. */
export class Failed extends Data.TaggedError("Failed")<
  { readonly tool: string; readonly how: string; readonly output: string }
> {}

/** A program that builds used more than it may, and would again. */
export class Exceeded extends Data.TaggedError("Exceeded")<{ readonly message: string }> {
  constructor(message: string) {
    super({ message })
  }
}

/** What each program of a build may use, with all that it starts. */
export interface Limits {
  /** Memory of all processes together, in bytes. */
  readonly memoryBytes: number
  /** Processes and threads at a time. */
  readonly processes: number
  /** CPU time, in whole seconds. */
  readonly cpuSeconds: number
  /** The largest file, in bytes. */
  readonly fileBytes: number
}

export interface Options {
  readonly limits: Limits
  /** Whose the private files of confined programs are; by default the server's. */
  readonly builder?: { readonly uid: number; readonly gid: number } | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly timeout: Duration.Input
  /** Whether programs are confined. Without it they can do what the server can. */
  readonly confined: boolean
}

/** What a process may reserve besides what all may use together. */
const reservedBytes = 1024 ** 3

/** What a build has in memory for `/tmp`, in a cell; its temporary files are elsewhere. */
const temporaryBytes = 256 * 1024 ** 2

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

/** Names of files and folders with settings of these programs, below the home, for configuration, and of the system. */
const settings = {
  home: [".npmrc", ".netrc", "_netrc", ".pip"],
  config: ["pip", "uv", "python_keyring"],
  data: ["uv/credentials", "python_keyring"],
  system: ["/etc/pip.conf", "/etc/uv", "/etc/npmrc"]
}

/** Files and folders that a setting names: by paths, several of them apart by white space or commas, or by addresses. */
const pathsIn = (value: string): ReadonlyArray<string> =>
  value.split(/[\s,]+/).flatMap((word) => {
    try {
      return Path.isAbsolute(word) ? [word] : word.startsWith("file:///") ? [fileURLToPath(word)] : []
    } catch {
      return []
    }
  })

/** Not a setting of the programs, but where they look for more than theirs, or a cache, which they have of their own. */
const places = /^(?:PATH|HOME|TMPDIR|XDG_.*|.*_CACHE_DIR|npm_config_cache)$/

type Env = Readonly<Record<string, string>>

const isFolder = (path: string | undefined): path is string => path !== undefined && Path.isAbsolute(path)

/** Whether a folder is a home, or has one in it. */
const holds = (path: string, home: string | undefined): boolean =>
  path === "/" || isFolder(home) && `${Path.resolve(home)}/`.startsWith(`${Path.resolve(path)}/`)

/** Files and folders of the host with settings, besides those of the operator's home. */
export const settingsOf = (env: Env): ReadonlyArray<string> => {
  const { HOME: home, XDG_CONFIG_DIRS: dirs = "/etc/xdg" } = env
  const all = [
    ...settings.system,
    ...dirs.split(":").filter(isFolder).flatMap((folder) => settings.config.map((name) => Path.join(folder, name))),
    ...Object.entries(env).flatMap(([name, value]) => places.test(name) ? [] : pathsIn(value))
  ]
  return [...new Set(all.map((path) => Path.resolve(path)))].filter((path) => !holds(path, home) && Fs.existsSync(path))
}

/** What of the operator's settings is copied, and where to, below a home of a build's own. */
const copiedOf = (
  { HOME: home, XDG_CONFIG_HOME: config, XDG_DATA_HOME: data }: Env
): ReadonlyArray<readonly [string, string]> => {
  const below = (folder: string | undefined, names: ReadonlyArray<string>, to: string) =>
    isFolder(folder)
      ? names.map((name): readonly [string, string] => [Path.join(folder, name), Path.join(to, name)])
      : []
  const usual = (name: string) => isFolder(home) ? Path.join(home, name) : undefined
  return [
    ...below(home, settings.home, ""),
    ...below(config ?? usual(".config"), settings.config, ".config"),
    ...below(data ?? usual(".local/share"), settings.data, ".local/share")
  ]
}

const maxSettingBytes = 1024 ** 2
const maxSettings = 256

/** Names of variables whose files lie where they are because of others beside them. */
const besides = /FIND_LINKS|INDEX/

/**
 * Copies the operator's settings to a home of a build's own, where the user that builds can read them though the operator's cannot
 * be. Returns the variables that say so.
 */
const copySettings = (env: Env, home: string, homeAt: string, builder: Options["builder"]): Env => {
  const give = (path: string) => builder === undefined ? undefined : Fs.chownSync(path, builder.uid, builder.gid)
  let count = 0
  const makeFolder = (path: string): void => {
    if (Fs.existsSync(path)) return
    makeFolder(Path.dirname(path))
    Fs.mkdirSync(path, { mode: 0o700 })
    give(path)
  }
  const copy = (from: string, to: string): boolean => {
    const stat = Fs.statSync(from, { throwIfNoEntry: false })
    if (stat === undefined || ++count > maxSettings) return false
    if (stat.isDirectory()) {
      for (const name of Fs.readdirSync(from)) copy(Path.join(from, name), Path.join(to, name))
      return true
    }
    if (!stat.isFile() || stat.size > maxSettingBytes) return false
    makeFolder(Path.dirname(to))
    Fs.writeFileSync(to, Fs.readFileSync(from), { mode: 0o600 })
    give(to)
    return true
  }
  // There is none, and its parent is no link.
  Fs.mkdirSync(home, { mode: 0o700 })
  give(home)
  for (const [from, to] of copiedOf(env)) copy(from, Path.join(home, to))
  const named = Object.entries(env).flatMap(([name, value]): ReadonlyArray<readonly [string, string]> => {
    if (places.test(name) || besides.test(name) || !Path.isAbsolute(value)) return []
    const to = Path.join("named", String(count), Path.basename(value))
    const isFile = Fs.statSync(value, { throwIfNoEntry: false })?.isFile() === true
    return isFile && copy(value, Path.join(home, to)) ? [[name, Path.join(homeAt, to)]] : []
  })
  return {
    ...Object.fromEntries(named),
    HOME: homeAt,
    XDG_CONFIG_HOME: Path.join(homeAt, ".config"),
    XDG_DATA_HOME: Path.join(homeAt, ".local", "share")
  }
}

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

export const isExecutable = (file: string): boolean => {
  try {
    Fs.accessSync(file, Fs.constants.X_OK)
    return Fs.statSync(file).isFile()
  } catch {
    return false
  }
}

export const search = (program: string, path: string): string | undefined =>
  path.split(Path.delimiter).filter((folder) => Path.isAbsolute(folder)).map((folder) => Path.join(folder, program))
    .find(isExecutable)

/** What a program consists of: the package that it is a part of, else the folder that it is in. */
const homeOf = (file: string): string => {
  const folder = Path.dirname(Fs.realpathSync(file))
  const above = Path.dirname(folder)
  return Fs.existsSync(Path.join(above, "package.json")) ? above : folder
}

const pathOf = (env: Readonly<Record<string, string | undefined>>): string =>
  `${Path.dirname(process.execPath)}${Path.delimiter}${env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"}`

/** What programs of builds have to find of the host, besides what runs find: themselves and the settings of the system. */
export const readable = (env: Readonly<Record<string, string | undefined>>): ReadonlyArray<string> => {
  const path = pathOf(env)
  const programs = ["uv", "npm"].flatMap((name) => search(name, path) ?? [])
  const own = environment(env, path)
  return [...programs.map(homeOf).filter((folder) => !holds(folder, own["HOME"])), ...settingsOf(own)]
}

/** What is only there while a build lasts, so that no two of them have anything in common. */
const workEnvironment = (work: string): Env => ({
  TMPDIR: work,
  XDG_CACHE_HOME: work,
  PIP_CACHE_DIR: Path.join(work, "pip"),
  UV_CACHE_DIR: Path.join(work, "uv"),
  npm_config_cache: Path.join(work, "npm")
})

const boundOf = (reason: Executor.Reason): string | undefined => {
  switch (reason._tag) {
    case "MemoryLimit":
      return "SKILLSCALE_PREPARE_MEMORY"
    case "ProcessLimit":
      return "SKILLSCALE_PREPARE_PROCESSES"
    case "CpuLimit":
      return "SKILLSCALE_PREPARE_CPU"
    case "OutputLimit":
      return "SKILLSCALE_PREPARE_FILE"
    case "DiskLimit":
      return "in /tmp"
    default:
      return undefined
  }
}

export const make = (executor: Executor.Executor["Service"], options: Options) => {
  const path = pathOf(options.env)
  const env = environment(options.env, path)
  const { limits } = options
  const held: Executor.Limits = {
    treeBytes: limits.memoryBytes,
    memoryBytes: limits.memoryBytes + reservedBytes,
    treeTasks: limits.processes,
    cpuSeconds: limits.cpuSeconds,
    fileBytes: limits.fileBytes,
    diskBytes: temporaryBytes
  }

  const specOf = async (
    place: Place,
    file: string,
    args: ReadonlyArray<string>,
    more: Readonly<Record<string, string>>
  ): Promise<Executor.Spec> => {
    // New files are readable for runs, which may be another user, and never writable for others.
    const spec = {
      file: "/bin/sh",
      args: ["-c", "umask 022; exec \"$@\"", "sh", file, ...args],
      cwd: place.at,
      env: { ...env, ...more },
      timeout: options.timeout,
      limits: held
    }
    if (!options.confined) return spec
    const isShown = place.folder !== place.at
    // Anew for each, since the one before could write there.
    await Tree.remove(place.home)
    const own = copySettings(env, place.home, place.homeAt, options.builder)
    return {
      ...spec,
      env: { ...env, ...own, ...workEnvironment(place.workAt), ...more },
      confinement: {
        network: true,
        systemCalls: "deny",
        plainModes: true,
        writable: isShown ? [] : [place.folder, place.work],
        readable: isShown ? [] : [homeOf(file), ...settingsOf(env)].filter((path) => !holds(path, env["HOME"]))
      },
      ...isShown ? { overlay: { at: place.at, skill: place.folder, direct: true, onWritten: () => Effect.void } } : {}
    }
  }

  /** Why there is no result: a limit, which the next attempt would reach as well, or something else. */
  const failing = (tool: string, error: Executor.ExecutorError, output: string): Failed | Exceeded => {
    const { reason } = error
    const bound = boundOf(reason)
    const how = error.message.slice(error.file.length + 1)
    if (bound !== undefined) return new Exceeded(`${tool} ${how} (${bound})`)
    return new Failed({
      tool,
      how: reason._tag === "TimedOut" ? `did not end within ${reason.timeoutMs / 1000} s` : how,
      output
    })
  }

  const specified = (tool: string, ...needs: Parameters<typeof specOf>) =>
    Effect.tryPromise({
      try: () => specOf(...needs),
      catch: (error) => new Failed({ tool, how: `cannot have its settings: ${String(error)}`, output: "" })
    })

  /** Runs a program to its end, in the folder of a build. */
  const run = Effect.fnUntraced(function*(
    tool: string,
    place: Place,
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
    const unbounded = { stdoutBytes: Number.MAX_SAFE_INTEGER, stderrBytes: Number.MAX_SAFE_INTEGER }
    const spec = yield* specified(tool, place, file, args, more)
    yield* Stream.runForEach(executor.stream({ ...spec, ...unbounded }), keep).pipe(
      Effect.mapError((error) => failing(tool, error, printable(kept)))
    )
    if (exit?.exitCode === 0) return
    return yield* failed(
      exit === undefined || exit.signal === "" ? `exited with ${exit?.exitCode}` : `died of ${exit.signal}`
    )
  })

  /** Runs a program in the folder of a build, for what it prints. */
  const ask = Effect.fnUntraced(function*(tool: string, place: Place, file: string, args: ReadonlyArray<string>) {
    const spec = yield* specified(tool, place, file, args, {})
    const { exitCode, stdout } = yield* Effect.mapError(executor.run(spec), (error) => failing(tool, error, ""))
    if (exitCode !== 0) return yield* new Failed({ tool, how: `exited with ${exitCode}`, output: "" })
    return Buffer.from(stdout).toString("utf8")
  })

  return { path, env, run, ask }
}
