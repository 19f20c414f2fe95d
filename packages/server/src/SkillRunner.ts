/**
 * Runs one call of a skill by the run contract: any script of the skill, arguments, standard input, input files and
 * environment in; exit code, output and artifacts out.
 *
 * It joins the working view, the interpreter, the secrets and the executor, and where `Dependencies` is provided, what it
 * prepared. Secrets of at least four characters that a
 * script prints to standard error are replaced by `[redacted]`, in results, events and errors. Whom to answer, and how many
 * calls run at a time, is left to `SkillServer`.
 *
 * @since 0.1.0
 */
import type * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Path from "node:path"
import * as Dependencies from "./Dependencies.ts"
import * as Executor from "./Executor.ts"
import * as OverlayFit from "./internal/overlayFit.ts"
import * as OwnEnvironment from "./internal/ownEnvironment.ts"
import * as RedactedRun from "./internal/redactedRun.ts"
import * as Redaction from "./internal/redaction.ts"
import * as RunEnv from "./internal/runEnv.ts"
import * as RunTerms from "./internal/runTerms.ts"
import * as WarmStart from "./internal/warmStart.ts"
import * as Interpreter from "./Interpreter.ts"
import type * as Sandbox from "./Sandbox.ts"
import * as Secrets from "./Secrets.ts"
import * as WorkingView from "./WorkingView.ts"

/**
 * One call of a skill.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  /** A file of the skill; its entry point when absent. */
  readonly script?: string | undefined
  readonly args?: ReadonlyArray<string> | undefined
  readonly stdin?: Uint8Array | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Input files by their path in the working directory. */
  readonly files?: Readonly<Record<string, Uint8Array>> | undefined
  /** What the caller saw of the skill; the call fails with `SkillChanged` when something else would run. */
  readonly digest?: string | undefined
  /** Wall time of the whole call, from its start to the end of the script. Default: none. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * What came out of a call that ran, whatever its exit code. In `stderr`, the values of the skill's secrets are replaced by
 * `[redacted]`; `stdout` is the result and stays as it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunResult extends Executor.Execution {
  readonly artifacts: ReadonlyArray<WorkingView.Artifact>
  readonly artifactsTruncated: boolean
}

/**
 * A piece of output, as it is produced.
 *
 * @category models
 * @since 0.1.0
 */
export type Output = Extract<Executor.ExecutorEvent, { readonly _tag: "Stdout" | "Stderr" }>

/**
 * The skill has no such script.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScriptNotFound extends Schema.TaggedError<ScriptNotFound>()("ScriptNotFound", {
  /** Empty when the call named no script and the skill has no entry point. */
  script: Schema.String,
  scripts: Schema.Array(Schema.String)
}) {}

/**
 * The files of the skill are not those that the caller saw.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillChanged extends Schema.TaggedError<SkillChanged>()("SkillChanged", {
  expected: Schema.String,
  actual: Schema.String
}) {}

/**
 * The call asks for what a call may not have.
 *
 * @category errors
 * @since 0.1.0
 */
export class BadCall extends Schema.TaggedError<BadCall>()("BadCall", { detail: Schema.String }) {}

/**
 * What runs the skill is not there now, went away during the call, or failed in it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {
  detail: Schema.String,
  /** Whether the call did not start, or may run again. */
  mayRepeat: Schema.Boolean
}) {}

/**
 * The only error of this module; `reason` says why the call has no result.
 *
 * @category errors
 * @since 0.1.0
 */
export class SkillRunError extends Schema.TaggedError<SkillRunError>()("SkillRunError", {
  skill: Schema.String,
  reason: Schema.Union([
    ScriptNotFound,
    SkillChanged,
    BadCall,
    Unavailable,
    Interpreter.InterpreterError,
    WorkingView.WorkingViewError,
    Executor.ExecutorError
  ])
}) {
  override readonly cause = this.reason
  override get message() {
    const { reason, skill } = this
    switch (reason._tag) {
      case "ScriptNotFound": {
        const has = reason.scripts.length === 0 ? "it has none" : `it has ${reason.scripts.join(", ")}`
        return reason.script === ""
          ? `skill ${skill} has no entry point (scripts/run.sh, .py, .mjs, .js or .ts); name a script: ${has}`
          : `skill ${skill} has no script ${JSON.stringify(reason.script)}: ${has}`
      }
      case "SkillChanged":
        return `skill ${skill} is now ${reason.actual}, not ${reason.expected}; look at it again`
      case "BadCall":
      case "Unavailable":
        return `skill ${skill}: ${reason.detail}`
      case "ExecutorError":
        return `skill ${skill}: ${Path.basename(reason.file)} ${reason.message.slice(reason.file.length + 1)}`
      default:
        return `skill ${skill}: ${reason.message}`
    }
  }
}

/**
 * Bounds and limits of every run.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Kernel limits. Default: `defaultLimits`. */
  readonly limits?: Executor.Limits | undefined
  /** Cap of standard output, in bytes. Default: 16 MiB. */
  readonly stdoutBytes?: number | undefined
  /** Cap of standard error, in bytes. Default: 1 MiB. */
  readonly stderrBytes?: number | undefined
  /** Between SIGTERM and SIGKILL. Default: 2 seconds. */
  readonly grace?: Duration.Input | undefined
  /** The same for a run that is interrupted, since nobody waits for its result. Default: 50 milliseconds. */
  readonly interruptGrace?: Duration.Input | undefined
  /**
   * Whether runs may start warm where that changes nothing but their time: `on`, `off`, or `standard`, which leaves out Python
   * skills with packages or an environment of their own, so that no code but the interpreter's runs before a call. Default: `on`.
   */
  readonly warm?: "on" | "standard" | "off" | undefined
  /** What skills may have when they ask for it, or `off` to run them with all that the server can do. Default: nothing. */
  readonly sandbox?: Sandbox.Grants | "off" | undefined
}

/**
 * The limits of a run where the operator sets none: 4 GiB of memory for each process, 1 GiB for each file, 1,024 open
 * descriptors. A confined run has the memory and the disk of its policy instead; each of its processes may reserve 1 GiB
 * more than that memory.
 *
 * @category options
 * @since 0.1.0
 */
export const defaultLimits: Executor.Limits = {
  memoryBytes: 4 * 1024 ** 3,
  fileBytes: 1024 ** 3,
  openFiles: 1024
}

const defaultInterruptGrace = "50 millis"

/**
 * What takes part in a run from outside.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hooks<E = never> {
  /** Sees the output while it is produced, and slows the script when it is slow. */
  readonly onOutput?: ((output: Output) => Effect.Effect<void>) | undefined
  /**
   * Sees, with `onOutput`, what is written to standard error beyond its cap, and kept nowhere: 32 MiB a second at most, to which
   * the script is slowed.
   */
  readonly onUnkept?: ((stderr: Uint8Array) => Effect.Effect<void>) | undefined
  /** Runs when all is prepared, right before the process is started. When it fails, none is, and the run fails so. */
  readonly beforeStart?: Effect.Effect<void, E> | undefined
}

/**
 * Runs calls.
 *
 * @category services
 * @since 0.1.0
 */
export class SkillRunner extends Context.Service<SkillRunner, {
  readonly run: <E = never>(
    skill: SkillDiscovery.Skill,
    call: Call,
    hooks?: Hooks<E>
  ) => Effect.Effect<RunResult, SkillRunError | E>
  /**
   * What a caller may expect of a run. Of one that is confined and has no network nothing is left when it ends: it only reads,
   * and is idempotent unless the skill says otherwise (`skillscale.idempotent`). Of any other one the opposite, unless the skill
   * says that it is idempotent.
   */
  readonly hints: (skill: SkillDiscovery.Skill) => Control.Hints
  /** Whether a second run of one call would do no harm: what `hints` tell as `idempotent`. */
  readonly isIdempotent: (skill: SkillDiscovery.Skill) => boolean
  /** What a skill takes an empty input for, which is then checked against its schema in place of that. Default: what it is. */
  readonly emptyInput?: ((skill: SkillDiscovery.Skill) => Uint8Array) | undefined
}>()("@skillscale/server/SkillRunner") {}

/** Why a run was not started, which is its caller's own affair. */
class Held<E> {
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}

const withoutEnvironment = new Interpreter.NotPrepared({
  detail:
    `the skill's Python environment in ${OwnEnvironment.folder} is out of reach: its folder cannot be shown to a run as ` +
    "it is, because something in it is a link or belongs to another user than the folder, or because its file system " +
    "takes no overlay; mend that, or name the packages in requirements.txt"
})

const timedOut = (file: string, timeoutMs: number) =>
  new Executor.ExecutorError({ file, reason: new Executor.TimedOut({ timeoutMs }), stderr: new Uint8Array() })

/**
 * Makes the service.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options?: Options): Effect.fn.Return<
  SkillRunner["Service"],
  never,
  Executor.Executor | Interpreter.Interpreter | Secrets.Secrets | WorkingView.WorkingView
> {
  const executor = yield* Executor.Executor
  const interpreter = yield* Interpreter.Interpreter
  const secrets = yield* Secrets.Secrets
  const views = yield* WorkingView.WorkingView
  const dependencies = Option.getOrUndefined(yield* Effect.serviceOption(Dependencies.Dependencies))
  const terms = RunTerms.make(
    executor.capabilities.confines ? options?.sandbox ?? {} : "off",
    options?.limits,
    defaultLimits
  )
  const fitOf = OverlayFit.make(executor.canOverlay, views.base)
  const warmStarts = WarmStart.make(options?.warm ?? "on")

  const secretsOf = (names: ReadonlyArray<string>) => {
    const declared: Record<string, string> = {}
    for (const name of names) {
      const secret = secrets.get(name)
      if (Option.isSome(secret)) declared[name] = Redacted.value(secret.value)
    }
    return declared
  }

  /** Waits, within the call's own time, when the skill is still being prepared. */
  const preparedFor = (
    dependencies: Dependencies.Dependencies["Service"],
    skill: SkillDiscovery.Skill,
    script: string
  ) =>
    Effect.mapError(
      dependencies.prepare(skill),
      ({ message }) =>
        new Interpreter.InterpreterError({ script, reason: new Interpreter.NotPrepared({ detail: message }) })
    )

  const environment = Effect.fnUntraced(function*(
    call: Call,
    view: WorkingView.View,
    declared: Readonly<Record<string, string>>,
    folders: ReadonlyArray<string>
  ) {
    const traceparent = yield* Telemetry.traceparent
    return {
      PATH: [...folders, yield* interpreter.searchPath].join(Path.delimiter),
      HOME: view.temp,
      TMPDIR: view.temp,
      LANG: "C.UTF-8",
      ...RunEnv.messages(call.env ?? {}),
      PYTHONDONTWRITEBYTECODE: "1",
      ...Option.match(traceparent, { onNone: () => ({}), onSome: (value) => ({ TRACEPARENT: value }) }),
      ...call.env,
      ...declared,
      SKILL_DIR: view.root,
      CLAUDE_SKILL_DIR: view.root,
      ...RunEnv.intent(call.stdin)
    }
  })

  /** Makes the view and says what to start in it, without what depends on the time that is left. */
  const prepare = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, call: Call, script: string) {
    const { limits, policy, secrets: names } = terms.of(skill)
    const declared = secretsOf(names)
    const refused = RunEnv.refuse(call.env ?? {}, declared) ?? RunEnv.refuseArgs(call.args ?? [])
    if (refused !== undefined) return yield* new BadCall({ detail: refused })
    const prepared = dependencies === undefined ? Dependencies.nothing : yield* preparedFor(dependencies, skill, script)
    yield* terms.tell(skill)
    const files = call.files ?? {}
    const { kind, root } = fitOf(skill, { isConfined: policy !== undefined, hasInputs: Object.keys(files).length > 0 })
    // An overlay shows the skill's own environment in its place; a copy leads to it.
    const own = kind === "copy" && OwnEnvironment.isThere(root)
      ? { [OwnEnvironment.folder]: Path.join(root, OwnEnvironment.folder) }
      : {}
    const view = yield* views.open({ ...skill, root }, files, kind, { ...prepared.nodeModules, ...own })
    if (call.digest !== undefined) {
      const actual = yield* view.digest
      if (actual !== call.digest) return yield* new SkillChanged({ expected: call.digest, actual })
    }
    const file = Path.join(view.root, script)
    const command = yield* interpreter.resolve({ root, file, python: prepared.python(script) })
    const isOwn = command.file === OwnEnvironment.pythonOf(root)
    if (isOwn && kind === "overlaid copy") {
      return yield* new Interpreter.InterpreterError({ script, reason: withoutEnvironment })
    }
    const packages = isOwn ? OwnEnvironment.versionOf(root) : prepared.python(script)
    const spec: Executor.Spec = {
      file: command.file,
      args: [...command.args, file, ...call.args ?? []],
      cwd: view.root,
      env: yield* environment(call, view, declared, prepared.path(script)),
      stdin: call.stdin,
      grace: options?.grace,
      interruptGrace: options?.interruptGrace ?? defaultInterruptGrace,
      stdoutBytes: options?.stdoutBytes,
      stderrBytes: options?.stderrBytes,
      limits,
      ...policy === undefined ? {} : {
        confinement: {
          network: policy.network,
          systemCalls: policy.systemCalls,
          writable: view.writable,
          readable: [root, ...prepared.readable]
        },
        overlay: view.overlay,
        warm: view.overlay === undefined
          ? undefined
          : warmStarts.of(skill, { ...call.env, ...declared }, command, file, packages)
      }
    }
    return { view, spec, redactor: Redaction.make(Object.values(declared)) }
  })

  const run = Effect.fnUntraced(function*<E>(
    skill: SkillDiscovery.Skill,
    call: Call,
    { beforeStart = Effect.void, onOutput, onUnkept }: Hooks<E>
  ) {
    const script = call.script ?? Option.getOrUndefined(skill.entry)
    if (script === undefined || !skill.files.some((file) => file.path === script)) {
      return yield* new ScriptNotFound({ script: script ?? "", scripts: skill.scripts })
    }
    const timeoutMs = call.timeout === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(call.timeout)
    const began = yield* Monotonic.millis
    const prepared = Effect.tap(
      prepare(skill, call, script),
      () => Effect.mapError(beforeStart, (error) => new Held(error))
    )
    const { redactor, spec, view } = yield* Number.isFinite(timeoutMs)
      ? Effect.timeoutOrElse(prepared, { duration: timeoutMs, orElse: () => Effect.fail(timedOut(script, timeoutMs)) })
      : prepared
    const timeout = Math.max(1, timeoutMs - ((yield* Monotonic.millis) - began))
    const execute = (limited: Executor.Spec) =>
      onOutput === undefined
        ? RedactedRun.collect(executor, limited, redactor)
        : RedactedRun.stream(executor, limited, redactor, { onOutput, onUnkept })
    const execution = yield* execute({ ...spec, timeout }).pipe(
      // The caller knows the time that it gave, not what was left of it.
      Effect.mapError((error) =>
        error.reason._tag === "TimedOut"
          ? new Executor.ExecutorError({
            file: error.file,
            reason: new Executor.TimedOut({ timeoutMs }),
            stderr: error.stderr
          })
          : error
      )
    )
    if (call.digest !== undefined && !(yield* view.kept)) {
      return yield* new SkillChanged({ expected: call.digest, actual: "changed while it ran" })
    }
    const { artifacts, truncated } = yield* view.artifacts
    if (executor.capabilities.wholeTree) yield* view.abandoned
    return { ...execution, artifacts, artifactsTruncated: truncated }
  })

  return SkillRunner.of({
    hints: (skill) => terms.of(skill).hints,
    isIdempotent: (skill) => terms.of(skill).hints.idempotent,
    run: <E>(skill: SkillDiscovery.Skill, call: Call, hooks: Hooks<E> = {}) =>
      run(skill, call, hooks).pipe(
        Effect.scoped,
        Effect.mapError((reason) =>
          reason instanceof Held ? reason.error : new SkillRunError({ skill: skill.name, reason })
        ),
        Effect.withSpan("SkillRunner.run", { attributes: { skill: skill.name, digest: skill.digest } }, {
          captureStackTrace: false
        })
      )
  })
})

/**
 * Runs calls with the given bounds.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<
  SkillRunner,
  never,
  Executor.Executor | Interpreter.Interpreter | Secrets.Secrets | WorkingView.WorkingView
> => Layer.effect(SkillRunner, make(options))
