/**
 * Calls skills over the bus: one at a time, many at once, or with their output as it is produced.
 *
 * A client owns one reply topic for as long as its layer lives. Connecting is done when the client has heard itself
 * through the proxy; nothing sleeps. A call is sent again, as the same request, when nobody acknowledges it, when its replica
 * is lost and it may run twice, and when a replica is full, as long as its time lasts. A call that is interrupted, runs out of time or whose stream is closed is cancelled
 * on the server: the interruption waits until the bus has accepted the cancellation, at most a second. Calls to a topic that
 * takes none fail at once, for a while (`CircuitOptions`). Late, duplicate,
 * foreign and malformed replies are counted and change nothing. How bytes travel is left to `Bus`, what they mean to
 * `Protocol`.
 *
 * @since 0.1.0
 */
import type * as Bus from "@skillscale/core/Bus"
import type * as Control from "@skillscale/core/Control"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Settings from "@skillscale/core/Settings"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as ClientError from "./ClientError.ts"
import * as Catalog from "./internal/catalog.ts"
import * as Connection from "./internal/connection.ts"
import * as Deliveries from "./internal/deliveries.ts"
import * as Operations from "./internal/operations.ts"
import * as Request from "./internal/request.ts"

/**
 * How to reach a skill, and for how long.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallOptions {
  /**
   * The topic that serves the skill. Without it the catalog tells; when several topics serve a skill of that name, it is
   * the first in the order of their names, or the one whose skill has the pinned digest. A server that hangs holds no call
   * up: `catalogQuiet` after the first answer that has the skill, the choice is made among the answers that are there, and
   * the others count from when they arrive. Servers of version 1 are in no catalog and need it.
   */
  readonly topic?: string | undefined
  /** How long to wait for the final answer, finding the topic included. By default that of the layer, 30 seconds. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * Which skill is asked about, of those that have its name.
 *
 * @category models
 * @since 0.1.0
 */
export interface QuestionOptions extends CallOptions {
  /** Tells of the skill with this digest (`sha256:…`, as in the catalog), otherwise fails with `SkillChanged`. */
  readonly digest?: string | undefined
  /**
   * Asks this replica alone, of the `topic`, which it needs then. Without it the first replica to answer tells, so that replicas
   * with different skills of one name tell different things: the catalog names those that have the same.
   */
  readonly server?: string | undefined
}

/**
 * A call of a skill with its data.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvokeRequest extends CallOptions {
  readonly skill: string
  /** What the skill reads on standard input. */
  readonly data?: string | Uint8Array | undefined
  /** Runs only the skill with this digest (`sha256:…`, as in the catalog), otherwise fails with `SkillChanged`. */
  readonly digest?: string | undefined
  /** How often this request was sent before, from 0. */
  readonly attempt?: number | undefined
}

/**
 * A run of one of a skill's scripts.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunRequest extends CallOptions {
  readonly skill: string
  /** A file of the skill, from its root. Without it the skill's entry point runs. */
  readonly script?: string | undefined
  readonly args?: ReadonlyArray<string> | undefined
  readonly stdin?: string | Uint8Array | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Files to place in the working directory, by their relative path. */
  readonly files?: Readonly<Record<string, Uint8Array>> | undefined
  /** Runs only the skill with this digest (`sha256:…`, as in the catalog), otherwise fails with `SkillChanged`. */
  readonly digest?: string | undefined
  /** How often this request was sent before, from 0. */
  readonly attempt?: number | undefined
}

/**
 * The answer of a skill that succeeded. `content` is what it printed, as text; `response` is the whole answer, with the
 * exact bytes in `response.stdout` when they are not UTF-8.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reply {
  readonly skill: string
  readonly topic: string
  readonly content: string
  readonly artifacts: ReadonlyArray<Protocol.Artifact>
  readonly usage: Protocol.Usage | undefined
  /** The replica that answered. */
  readonly server: string | undefined
  readonly response: Protocol.Response
}

/**
 * What became of a script that ran, whatever its exit code. Either `exitCode` or `signal` is set.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunResult {
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  readonly stdout: Uint8Array
  /** The last part of standard error. */
  readonly stderr: string
  /** What was cut at its limit. */
  readonly truncated: ReadonlyArray<"stdout" | "stderr" | "artifacts">
  readonly artifacts: ReadonlyArray<Protocol.Artifact>
  readonly usage: Protocol.Usage | undefined
  readonly server: string | undefined
}

/**
 * What may be missing of what a stream passes on.
 *
 * @category models
 * @since 0.1.0
 */
export type Missing = "stdout" | "stderr" | "progress"

/**
 * What happens during a run, in order; `Done` is the last. A server that does not stream causes `Stdout`, `Stderr` and
 * `Done` at the end, and so does a run that is over within milliseconds. What is written within 3 ms is one event; what of
 * standard output and standard error that is, tells not which of them came first.
 *
 * What is lost on its way is had again, at the latest with the final answer, and comes in its order. `missing` tells what of
 * the output could not be: events of progress, standard error before the end of it that `result` has, or standard output
 * beyond that of `result`.
 *
 * @category models
 * @since 0.1.0
 */
export type StreamEvent =
  | { readonly _tag: "Accepted"; readonly server: string | undefined }
  | { readonly _tag: "Stdout"; readonly data: Uint8Array }
  | { readonly _tag: "Stderr"; readonly data: Uint8Array }
  | { readonly _tag: "Progress"; readonly content: string }
  | { readonly _tag: "Done"; readonly result: RunResult; readonly missing: ReadonlyArray<Missing> }

/**
 * A skill of the catalog and the replicas that serve it, ordered by name.
 *
 * @category models
 * @since 0.1.0
 */
export interface CatalogEntry extends Control.SkillInfo {
  readonly servers: ReadonlyArray<string>
}

/**
 * What the servers answered to the question for their skills. With fewer answers than servers, skills may be missing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Survey {
  /** Ordered by topic, name and digest. */
  readonly skills: ReadonlyArray<CatalogEntry>
  /** How many servers answered in time, those included that this client cannot understand. */
  readonly answered: number
  /** How many servers were asked; `undefined` where no proxy counts them. */
  readonly servers: number | undefined
}

/**
 * When a client sends no more calls to a topic, for a while: they fail at once, with `CircuitOpen`. Calls that are on their
 * way go on.
 *
 * A call counts as failed when it ended with `NoServer`, `Overloaded` or `ShuttingDown` of a server, `ReplicaLost` or
 * `Unreachable`, and when its time was over before a server had it. Every other answer of a server ends the row. What was
 * interrupted, and what ran out of time while a server had it or before it was sent, counts as neither.
 *
 * @category models
 * @since 0.1.0
 */
export interface CircuitOptions {
  /** After how many failed calls in a row none is sent; 1 or more. By default 20. */
  readonly failures?: number | undefined
  /**
   * For how long, before one is sent as a trial; shortened by up to a half, at random. By default 1 second, and twice as long
   * after each trial that fails.
   */
  readonly period?: Duration.Input | undefined
  /** How long that gets at most. By default 30 seconds, or `period` if that is longer. */
  readonly longestPeriod?: Duration.Input | undefined
}

/**
 * The tunables of a client.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long connecting may take. By default 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How long a call waits for its answer when it does not say itself. By default 30 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** Without a sign of a call for so long, it is sent again, twice as long each time up to 2 seconds. By default 500 ms. */
  readonly ackTimeout?: Duration.Input | undefined
  /**
   * When nothing was heard of this client for so long, as when it was killed, servers end its calls; at least 1 second, Infinity
   * for never. By default 30 seconds. While it waits it lets them know six times within that.
   */
  readonly lease?: Duration.Input | undefined
  /** How many calls may wait for their answers at the same time. By default 10,000; more fail with `Overloaded`. */
  readonly maxPending?: number | undefined
  /**
   * How many bytes of the output of one stream may be on their way or wait to be read. While there are as many, the server
   * does not read what the script writes, so that the script waits. By default 1 MiB.
   */
  readonly window?: number | undefined
  /**
   * How many bytes of one stream may wait to be read before it fails with `Overloaded`: for servers that do not know of the
   * window. By default 64 MiB.
   */
  readonly maxBuffered?: number | undefined
  /** How long the topic of a skill is remembered. By default 10 seconds. */
  readonly catalogTtl?: Duration.Input | undefined
  /**
   * How long a call waits for the rest of the catalog once a server has its skill, and how long after the last answer the
   * catalog is complete where no proxy counts the servers. By default 100 ms.
   */
  readonly catalogQuiet?: Duration.Input | undefined
  /**
   * How long gathering the catalog may take when a server does not answer. By default 2 seconds. A call whose skill some
   * server has does not wait for it.
   */
  readonly catalogTimeout?: Duration.Input | undefined
  /** When calls to a topic whose calls fail are not sent for a while. `"off"` always sends them. */
  readonly circuit?: CircuitOptions | "off" | undefined
}

/**
 * Calls skills. Every failure is a `ClientError`.
 *
 * @category services
 * @since 0.1.0
 */
export class SkillClient extends Context.Service<SkillClient, {
  /** Calls a skill and answers with what it printed. A script that exits non-zero is the error `SkillFailed`. */
  readonly invoke: (request: InvokeRequest) => Effect.Effect<Reply, ClientError.ClientError>
  /**
   * Calls skills in parallel, by default 8 at a time, and answers with one result per request in their order, so that one
   * failure loses nothing. The time of a call starts when it is sent. Never fails.
   */
  readonly invokeAll: (
    requests: ReadonlyArray<InvokeRequest>,
    options?: { readonly concurrency?: number | "unbounded" | undefined }
  ) => Effect.Effect<ReadonlyArray<Result.Result<Reply, ClientError.ClientError>>>
  /**
   * Calls skills one after the other and stops at the first failure, whose error names the `index` of the request. To keep
   * the earlier replies then, use `invokeAll` with a concurrency of 1.
   */
  readonly invokeSequential: (
    requests: ReadonlyArray<InvokeRequest>
  ) => Effect.Effect<ReadonlyArray<Reply>, ClientError.ClientError>
  /** Runs a script of a skill. One that exits non-zero is a result; only what kept it from running to its end is an error. */
  readonly run: (request: RunRequest) => Effect.Effect<RunResult, ClientError.ClientError>
  /** Runs a script like `run`, with its output as it is produced. Closing the stream cancels the run. */
  readonly stream: (request: RunRequest) => Stream.Stream<StreamEvent, ClientError.ClientError>
  /**
   * Asks every server for its skills and waits for all of them, at most `catalogTimeout`. Always current; ordered by topic,
   * name and digest.
   */
  readonly catalog: Effect.Effect<ReadonlyArray<CatalogEntry>, ClientError.ClientError>
  /** Asks like `catalog`, and tells how many of the servers answered. */
  readonly survey: Effect.Effect<Survey, ClientError.ClientError>
  /**
   * Emits the catalog now, and again whenever it differs: a server tells of its changes at once, and every 5 seconds that it is
   * there. One that falls silent is asked for after 15 seconds, and while nobody can be asked its skills stay. Servers that tell
   * nothing are asked once a minute. Never ends by itself; fails when there is no catalog at first, and when the client is closed.
   */
  readonly changes: Stream.Stream<ReadonlyArray<CatalogEntry>, ClientError.ClientError>
  /** Reads a skill's instructions, its front matter and the list of its files. */
  readonly describe: (
    skill: string,
    options?: QuestionOptions
  ) => Effect.Effect<Control.SkillReply, ClientError.ClientError>
  /** Reads one file of a skill, also `SKILL.md`. */
  readonly resource: (
    skill: string,
    path: string,
    options?: QuestionOptions
  ) => Effect.Effect<Uint8Array, ClientError.ClientError>
  /** Asks the proxy for the live topics. */
  readonly topology: Effect.Effect<Control.TopologyReply, ClientError.ClientError>
  /** How many calls wait for their final answer. A catalog that is being gathered is one of them. */
  readonly pending: Effect.Effect<number>
}>()("@skillscale/client/SkillClient") {}

/**
 * Connects a client that lives as long as the scope. Fails with `Unreachable` when it does not hear itself in time.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<SkillClient["Service"], ClientError.ClientError, Bus.Bus | Scope.Scope> {
  const parts = Effect.gen(function*() {
    const leaseMs = yield* Request.lease(options.lease ?? "30 seconds")
    const maxBuffered = yield* Request.bound("maxBuffered", options.maxBuffered ?? 64 * 1024 * 1024)
    const window = yield* Request.bound("window", options.window ?? 1024 * 1024)
    const connection = yield* Connection.make({
      connectTimeout: yield* Request.duration(options.connectTimeout ?? "5 seconds"),
      maxPending: yield* Request.bound("maxPending", options.maxPending ?? 10_000),
      leaseMs
    })
    const catalog = yield* Catalog.make(connection, {
      ttl: yield* Request.duration(options.catalogTtl ?? "10 seconds"),
      firstAnswer: Duration.seconds(1),
      quiet: yield* Request.duration(options.catalogQuiet ?? "100 millis"),
      timeout: yield* Request.duration(options.catalogTimeout ?? "2 seconds")
    })
    const deliveries = yield* Deliveries.make(connection, {
      ackMs: Duration.toMillis(yield* Request.duration(options.ackTimeout ?? "500 millis")),
      circuit: yield* Request.circuit(options.circuit ?? {})
    })
    const timeout = yield* Request.duration(options.timeout ?? "30 seconds")
    return { connection, deliveries, catalog, timeout, leaseMs, maxBuffered, window }
  })
  const dependencies = yield* parts.pipe(
    Effect.mapError((reason) => new ClientError.ClientError({ operation: "connect", reason })),
    Effect.withSpan("SkillClient.connect")
  )
  return SkillClient.of(Operations.make(dependencies))
})

/**
 * Provides a connected client.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<SkillClient, ClientError.ClientError, Bus.Bus> =>
  Layer.effect(SkillClient, make(options))

/**
 * Provides a connected client whose calls wait as long as `SKILLSCALE_TIMEOUT` says (in seconds, or with a unit).
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<SkillClient, ClientError.ClientError | Config.ConfigError, Bus.Bus> = Layer
  .effect(
    SkillClient,
    Effect.flatMap(Settings.clientTimeout, (timeout) => make({ timeout }))
  )
