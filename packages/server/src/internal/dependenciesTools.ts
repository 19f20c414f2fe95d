/**
 * Runs the programs that build environments: with the operator's settings for proxies and indexes and nothing else of the
 * environment, and, where the executor can do that, confined to the folder that they build in.
 *
 * Confined they reach the network, read the system and the operator's settings, and write nowhere else: whatever a package makes
 * of the program that installs it, nothing else of the host changes, and nothing that another environment is made from.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type * as Executor from "../Executor.ts"

/** A program that builds did not do it; `output` is the end of what it printed. */
export class Failed extends Data.TaggedError("Failed")<
  { readonly tool: string; readonly how: string; readonly output: string }
> {}

export interface Options {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly timeout: Duration.Input
  /** Whether programs are confined. Without it they can do what the server can. */
  readonly confined: boolean
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

/** Names of files and folders with settings of these programs, below the home, for configuration, and of the system. */
const settings = {
  home: [".npmrc", ".netrc", "_netrc", ".pip", ".local/share/uv", ".local/share/python_keyring"],
  config: ["pip", "uv", "python_keyring"],
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

/** Not a setting of the programs, but where they look for more than theirs. */
const places = /^(?:PATH|HOME|TMPDIR|XDG_.*)$/

/** What of the host the operator's settings are, or name. */
export const settingsOf = (env: Readonly<Record<string, string>>): ReadonlyArray<string> => {
  const { HOME: home, XDG_CONFIG_DIRS: dirs = "/etc/xdg", XDG_CONFIG_HOME: config } = env
  const below = (folder: string | undefined, names: ReadonlyArray<string>) =>
    folder === undefined || !Path.isAbsolute(folder) ? [] : names.map((name) => Path.join(folder, name))
  const all = [
    ...settings.system,
    ...below(home, settings.home),
    ...below(config ?? (home === undefined ? undefined : Path.join(home, ".config")), settings.config),
    ...dirs.split(":").flatMap((folder) => below(folder, settings.config)),
    ...Object.entries(env).flatMap(([name, value]) => places.test(name) ? [] : pathsIn(value))
  ]
  return [...new Set(all)].filter((path) => path !== "/" && Fs.existsSync(path))
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

/** What is made in the folder of a build while it lasts, so that no two of them have anything in common. */
const scratch = ".work"

const scratchEnvironment = (folder: string): Readonly<Record<string, string>> => {
  const work = Path.join(folder, scratch)
  return {
    TMPDIR: work,
    XDG_CACHE_HOME: work,
    PIP_CACHE_DIR: Path.join(work, "pip"),
    UV_CACHE_DIR: Path.join(work, "uv"),
    npm_config_cache: Path.join(work, "npm")
  }
}

export const make = (executor: Executor.Executor["Service"], options: Options) => {
  const found = options.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
  const path = `${Path.dirname(process.execPath)}${Path.delimiter}${found}`
  const env = environment(options.env, path)
  const readable = settingsOf(env)

  const specOf = (
    folder: string,
    file: string,
    args: ReadonlyArray<string>,
    more: Readonly<Record<string, string>>
  ): Executor.Spec => {
    // New files are readable for runs, which may be another user, and never writable for others.
    const spec = {
      file: "/bin/sh",
      args: ["-c", "umask 022; exec \"$@\"", "sh", file, ...args],
      cwd: folder,
      env: { ...env, ...more },
      timeout: options.timeout
    }
    if (!options.confined) return spec
    Fs.mkdirSync(Path.join(folder, scratch), { recursive: true, mode: 0o700 })
    return {
      ...spec,
      env: { ...spec.env, ...scratchEnvironment(folder) },
      confinement: {
        network: true,
        systemCalls: "deny",
        writable: [folder],
        readable: [homeOf(file), ...readable].filter((path) => path !== "/" && path !== env["HOME"])
      }
    }
  }

  /** Runs a program to its end, in the folder of a build. */
  const run = Effect.fnUntraced(function*(
    tool: string,
    folder: string,
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
    yield* Stream.runForEach(executor.stream({ ...specOf(folder, file, args, more), ...unbounded }), keep).pipe(
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

  /** Runs a program in the folder of a build, for what it prints. */
  const ask = Effect.fnUntraced(function*(tool: string, folder: string, file: string, args: ReadonlyArray<string>) {
    const failed = (how: string) => new Failed({ tool, how, output: "" })
    const { exitCode, stdout } = yield* Effect.mapError(
      executor.run(specOf(folder, file, args, {})),
      (error) => failed(error.message)
    )
    if (exitCode !== 0) return yield* failed(`exited with ${exitCode}`)
    return Buffer.from(stdout).toString("utf8")
  })

  return {
    path,
    env,
    run,
    ask,
    /** Removes what the programs left for themselves. */
    clean: (folder: string) =>
      Effect.promise(() => FsPromises.rm(Path.join(folder, scratch), { recursive: true, force: true }))
  }
}
