/**
 * Finds the program that runs a script: by the file's extension, else by its shebang.
 *
 * Each interpreter is resolved once, and again when it is gone. Python and Ruby are asked for the real executable, because
 * a version manager's shim in the path costs more than the script does. The mode bit of a script does not count, since it
 * rarely survives a checkout or an archive.
 *
 * @since 0.1.0
 */
import * as Cache from "effect/Cache"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Executor from "./Executor.ts"
import * as OwnEnvironment from "./internal/ownEnvironment.ts"

/**
 * The program that a script needs is not on this machine.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotInstalled extends Schema.TaggedError<NotInstalled>()("NotInstalled", { program: Schema.String }) {}

/**
 * Neither the extension nor a shebang tells what runs the script.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unknown extends Schema.TaggedError<Unknown>()("Unknown", {}) {}

/**
 * What the script depends on could not be prepared on this machine.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotPrepared extends Schema.TaggedError<NotPrepared>()("NotPrepared", { detail: Schema.String }) {}

/**
 * The only error of this module; `reason` says why a script has no interpreter.
 *
 * @category errors
 * @since 0.1.0
 */
export class InterpreterError extends Schema.TaggedError<InterpreterError>()("InterpreterError", {
  script: Schema.String,
  reason: Schema.Union([NotInstalled, NotPrepared, Unknown])
}) {
  override readonly cause = this.reason
  override get message() {
    switch (this.reason._tag) {
      case "NotInstalled":
        return `${this.script} needs ${this.reason.program}, which is not installed on this server`
      case "NotPrepared":
        return this.reason.detail
      case "Unknown":
        return `${this.script} has no known extension and no shebang; name it .py, .sh, .mjs, .js or .ts, or begin it with #!`
    }
  }
}

/**
 * The executable and the arguments that go before the script's path.
 *
 * @category models
 * @since 0.1.0
 */
export interface Command {
  /** Absolute. Where the program in the path is the shim of a version manager, the executable behind it. */
  readonly file: string
  readonly args: ReadonlyArray<string>
}

/**
 * Finds interpreters.
 *
 * @category services
 * @since 0.1.0
 */
export class Interpreter extends Context.Service<Interpreter, {
  /**
   * Tells how to run a script. `root` is the skill's folder, where a Python environment in `.venv` takes precedence;
   * `file` is the absolute path of the script; `python` that of an environment that was prepared for it, which comes before
   * the `python3` of the machine.
   */
  readonly resolve: (script: {
    readonly root: string
    readonly file: string
    readonly python?: string | undefined
  }) => Effect.Effect<Command, InterpreterError>
  /** `PATH` for scripts: the folders of the real interpreters, then the server's own path. */
  readonly searchPath: Effect.Effect<string>
}>()("@skillscale/server/Interpreter") {}

/**
 * Which program runs which extension.
 *
 * @category models
 * @since 0.1.0
 */
export const programs: Readonly<Record<string, string>> = {
  ".py": "python3",
  ".sh": "bash",
  ".bash": "bash",
  ".mjs": "node",
  ".cjs": "node",
  ".js": "node",
  ".ts": "node",
  ".mts": "node",
  ".rb": "ruby",
  ".pl": "perl"
}

const maxShebangBytes = 256
const maxKnown = 64

/** Synchronous, since it takes microseconds and stands before every run. */
const isThere = (file: string): boolean => {
  try {
    return Fs.statSync(file, { throwIfNoEntry: false })?.isFile() === true
  } catch {
    return false
  }
}

const isExecutable = (file: string): boolean => {
  // First what tells without an exception, whose stack costs more than all the rest.
  if (!isThere(file)) return false
  try {
    Fs.accessSync(file, Fs.constants.X_OK)
    return true
  } catch {
    return false
  }
}

const search = (program: string, path: string): string | undefined =>
  path.split(Path.delimiter)
    .filter((folder) => Path.isAbsolute(folder))
    .map((folder) => Path.join(folder, program))
    .find(isExecutable)

/** What an interpreter says that it is; a shim answers with the executable behind it. */
const selfReport = (program: string): ReadonlyArray<string> | undefined =>
  /^python[\d.]*$/.test(program)
    ? ["-I", "-c", "import sys; print(sys.executable)"]
    : /^ruby[\d.]*$/.test(program)
    ? ["-e", "puts RbConfig.ruby"]
    : undefined

/** Many machines have no `python`, and the scripts that name it are for version 3 by now. */
const substitutes: Readonly<Record<string, string>> = { python: "python3" }

const readShebang = (file: string): ReadonlyArray<string> | undefined => {
  const head = Buffer.alloc(maxShebangBytes)
  let length = 0
  try {
    const handle = Fs.openSync(file, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
    try {
      length = Fs.readSync(handle, head, 0, maxShebangBytes, 0)
    } finally {
      Fs.closeSync(handle)
    }
  } catch {
    return undefined
  }
  const line = /^#![ \t]*([^\r\n]+)/.exec(head.subarray(0, length).toString("utf8"))?.[1]?.trim()
  return line === undefined || line === "" ? undefined : line.split(/[ \t]+/)
}

/** The server's own environment without its secrets, for programs of its operator. */
const operatorEnv = (path: string): Readonly<Record<string, string>> => ({
  ...Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value === undefined || name.startsWith("SKILLSCALE_") ? [] : [[name, value]]
    )
  ),
  PATH: path
})

/**
 * Makes the service. `path` defaults to the server's `PATH`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options?: { readonly path?: string | undefined }
): Effect.fn.Return<Interpreter["Service"], never, Executor.Executor> {
  const executor = yield* Executor.Executor
  const path = options?.path ?? process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"

  const find = Effect.fnUntraced(function*(program: string) {
    const first = search(program, path)
    const question = selfReport(program)
    if (first === undefined || question === undefined) return first
    const answer = yield* executor.run({
      file: first,
      args: question,
      cwd: "/",
      env: operatorEnv(path),
      timeout: "10 seconds"
    }).pipe(
      Effect.map((execution) => Buffer.from(execution.stdout).toString("utf8").trim()),
      Effect.orElseSucceed(() => ""),
      Effect.withTracerEnabled(false)
    )
    return Path.isAbsolute(answer) && isExecutable(answer) ? answer : first
  })

  const found = new Map<string, string>()
  /** Shared by those that look for the same program at the same time. */
  const searches = yield* Cache.make({ capacity: maxKnown, timeToLive: 0, lookup: find })

  /** Looks again when there was none, or it is gone: installing and upgrading must not take a restart. */
  const current = (program: string): Effect.Effect<string | undefined> =>
    Effect.suspend(() => {
      if (program === "node") return Effect.succeed(process.execPath)
      const last = found.get(program)
      if (last !== undefined && Fs.existsSync(last)) return Effect.succeed(last)
      return Effect.map(Cache.get(searches, program), (file) => {
        if (found.size >= maxKnown) found.clear()
        if (file === undefined) found.delete(program)
        else found.set(program, file)
        return file
      })
    })

  const named = Effect.fnUntraced(function*(script: string, program: string, args: ReadonlyArray<string>) {
    if (Path.isAbsolute(program) && isExecutable(program)) return { file: program, args }
    const name = Path.basename(program)
    const substitute = substitutes[name]
    const file = (yield* current(name)) ?? (substitute === undefined ? undefined : yield* current(substitute))
    return file === undefined
      ? yield* new InterpreterError({ script, reason: new NotInstalled({ program }) })
      : { file, args }
  })

  const resolve: Interpreter["Service"]["resolve"] = Effect.fnUntraced(function*({ root, file, python }) {
    const script = Path.basename(file)
    const orPrepared = (program: string, args: ReadonlyArray<string>) =>
      python !== undefined && /^python3?$/.test(Path.basename(program))
        ? Effect.succeed({ file: python, args })
        : named(script, program, args)
    const program = programs[Path.extname(file).toLowerCase()]
    if (program === "python3") {
      const own = OwnEnvironment.pythonOf(root)
      if (isExecutable(own)) return { file: own, args: [] }
    }
    if (program !== undefined) return yield* orPrepared(program, [])
    const [first, ...rest] = readShebang(file) ?? []
    if (first === undefined) return yield* new InterpreterError({ script, reason: new Unknown() })
    if (Path.basename(first) !== "env") return yield* orPrepared(first, rest)
    const [target, ...args] = rest[0] === "-S" ? rest.slice(1) : rest
    if (target === undefined) return yield* new InterpreterError({ script, reason: new Unknown() })
    return /^-|=/.test(target) ? yield* named(script, "env", rest) : yield* orPrepared(target, args)
  })

  const pathWith = (python: string | undefined) => {
    const own = [...python === undefined ? [] : [Path.dirname(python)], Path.dirname(process.execPath)]
    return [...new Set([...own, ...path.split(Path.delimiter).filter((folder) => folder !== "")])].join(Path.delimiter)
  }
  let made: { readonly python: string | undefined; readonly path: string } | undefined
  const searchPath = Effect.map(current("python3"), (python) => {
    if (made === undefined || made.python !== python) made = { python, path: pathWith(python) }
    return made.path
  })

  return Interpreter.of({ resolve, searchPath })
})

/**
 * Finds interpreters in the server's `PATH`. The usual ones are looked for at once, so that no call waits for it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Interpreter, never, Executor.Executor> = Layer.effect(
  Interpreter,
  Effect.tap(make(), ({ searchPath }) => Effect.forkScoped(searchPath))
)
