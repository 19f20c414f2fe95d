/**
 * Makes the tools of an external MCP server skills: provides the discovery and the runner from which a `SkillServer` serves them as
 * it serves skills of a folder, with the same catalog, limits, metrics, cancellation and errors.
 *
 * The server is a program, which is run and ended with the mount, or a URL. Both generations of the protocol are spoken. When it is
 * lost it is started or connected again, after 200 ms, then twice as long each time up to 30 s; calls wait for that within their
 * time. It is given no capability of its caller: what it asks, such as input of a user, is refused.
 *
 * @since 0.1.0
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Executor from "@skillscale/server/Executor"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { createRequire } from "node:module"
import * as MountDiscovery from "./internal/mountDiscovery.ts"
import type * as MountFailure from "./internal/mountFailure.ts"
import * as MountKeeper from "./internal/mountKeeper.ts"
import * as MountRunner from "./internal/mountRunner.ts"
import * as MountTarget from "./internal/mountTarget.ts"

/**
 * A server that is a program, which speaks MCP over its standard input and output.
 *
 * @category models
 * @since 0.1.0
 */
export interface Command {
  /** A path, or a name that is looked for in `PATH` of `env`. There is no shell. */
  readonly command: string
  readonly args: ReadonlyArray<string>
  /** The whole environment, with `secrets`. Nothing is inherited. */
  readonly env: Readonly<Record<string, string>>
  /** Variables that are taken out of what the program says of itself. */
  readonly secrets?: Readonly<Record<string, Redacted.Redacted>> | undefined
  /** Default: the folder of this process. */
  readonly cwd?: string | undefined
}

/**
 * A server at a URL, which speaks MCP over HTTP. Redirects are followed to its own origin only.
 *
 * @category models
 * @since 0.1.0
 */
export interface Url {
  readonly url: URL
  /** What every request has, such as `Authorization`. */
  readonly headers?: Readonly<Record<string, Redacted.Redacted>> | undefined
}

/**
 * How a server is mounted.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The category of the skills, of lower-case letters, digits and single hyphens between them, 64 at most. */
  readonly name: string
  /** How long the start of a connection may take, with the first list of tools. Default: 1 minute. */
  readonly startTimeout?: Duration.Input | undefined
  /** How often the tools are asked for although the server told of no change. Default: 1 minute. */
  readonly refresh?: Duration.Input | undefined
  /** How long the skills stay in the catalog while there is no connection. Default: 1 minute. */
  readonly keep?: Duration.Input | undefined
  /** From the end of a program's input to SIGTERM, and from that to SIGKILL. Default: 2 seconds. */
  readonly grace?: Duration.Input | undefined
}

/**
 * There is no such program, or it cannot be run.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotStarted extends Schema.TaggedError<NotStarted>()("NotStarted", {
  detail: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * The server cannot be reached, ended at once, or does not answer.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", { detail: Schema.String }) {}

/**
 * The server answers, but not as MCP has it, or refuses what it was asked.
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { detail: Schema.String }) {}

/**
 * The only error of this module; `reason` says why there is no mount.
 *
 * @category errors
 * @since 0.1.0
 */
export class McpMountError extends Schema.TaggedError<McpMountError>()("McpMountError", {
  name: Schema.String,
  reason: Schema.Union([NotStarted, Unreachable, Refused])
}) {
  override readonly cause = this.reason
  override get message() {
    return `cannot mount ${this.name}: ${this.reason.detail}`
  }
}

/**
 * What a `SkillServer` needs to serve the tools.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mount {
  readonly discovery: SkillDiscovery.SkillDiscovery["Service"]
  readonly runner: SkillRunner.SkillRunner["Service"]
}

const { version }: { readonly version: string } = createRequire(import.meta.url)("../package.json")

const reasonOf = (failure: MountFailure.Failure | MountFailure.NotStarted, redact: (text: string) => string) => {
  const detail = redact(failure.message)
  switch (failure._tag) {
    case "NotStarted":
      return new NotStarted({ detail, cause: failure.cause })
    case "Lost":
      return new Unreachable({ detail })
    case "Refused":
      return new Refused({ detail })
  }
}

const mount = Effect.fnUntraced(function*(
  options: Options,
  target: MountTarget.Target
): Effect.fn.Return<Mount, McpMountError, Scope.Scope> {
  const { name } = options
  const keeper = yield* MountKeeper.make({
    name,
    version,
    target,
    startTimeout: Duration.fromInputUnsafe(options.startTimeout ?? "1 minute"),
    refresh: Duration.fromInputUnsafe(options.refresh ?? "1 minute"),
    keep: Duration.fromInputUnsafe(options.keep ?? "1 minute")
  }).pipe(Effect.mapError((failure) => new McpMountError({ name, reason: reasonOf(failure, target.redact) })))
  return {
    discovery: MountDiscovery.make(keeper.mounts),
    runner: MountRunner.make({ name, keeper, redact: target.redact })
  }
})

/**
 * Runs a program with the executor and mounts it, as long as the scope is open. What it started ends with it, and with this process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeCommand = Effect.fnUntraced(function*(
  options: Options & { readonly server: Command }
): Effect.fn.Return<Mount, McpMountError, Executor.Executor | Scope.Scope> {
  const executor = yield* Executor.Executor
  return yield* mount(options, MountTarget.ofCommand(options.server, executor, options.grace ?? "2 seconds"))
})

/**
 * Mounts the server at a URL, as long as the scope is open.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUrl = (
  options: Options & { readonly server: Url }
): Effect.Effect<Mount, McpMountError, Scope.Scope> => mount(options, MountTarget.ofUrl(options.server))

const contextOf = ({ discovery, runner }: Mount) =>
  Context.make(SkillDiscovery.SkillDiscovery, discovery).pipe(Context.add(SkillRunner.SkillRunner, runner))

/**
 * Provides what a `SkillServer` serves of a program, which it runs.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCommand = (
  options: Options & { readonly server: Command }
): Layer.Layer<SkillDiscovery.SkillDiscovery | SkillRunner.SkillRunner, McpMountError, Executor.Executor> =>
  Layer.effectContext(Effect.map(makeCommand(options), contextOf))

const nothing = (file: string) =>
  new Executor.ExecutorError({
    file,
    reason: new Executor.Rejected({ detail: "nothing is run here: the skills are tools of a server elsewhere" }),
    stderr: new Uint8Array()
  })

const runsNothing = Executor.Executor.of({
  capabilities: {
    name: "mcp",
    limits: false,
    wholeTree: false,
    outlivesNothing: true,
    usage: false,
    confines: false
  },
  canOverlay: () => false,
  canShow: () => false,
  run: ({ file }) => Effect.fail(nothing(file)),
  stream: ({ file }) => Stream.fail(nothing(file))
})

/**
 * Provides what a `SkillServer` serves of a URL, with an executor that runs nothing.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerUrl = (
  options: Options & { readonly server: Url }
): Layer.Layer<Executor.Executor | SkillDiscovery.SkillDiscovery | SkillRunner.SkillRunner, McpMountError> =>
  Layer.effectContext(
    Effect.map(makeUrl(options), (mounted) => Context.add(contextOf(mounted), Executor.Executor, runsNothing))
  )
