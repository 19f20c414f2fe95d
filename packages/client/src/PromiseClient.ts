/**
 * The client for programs that do not use Effect: the same names as `SkillClient`, with promises.
 *
 * ```js
 * import { connect } from "@skillscale/client/PromiseClient"
 * const client = await connect()
 * const { content } = await client.invoke({ skill: "csv-analyzer", data: "a,b\n1,2" })
 * console.log(content)
 * await client.close()
 * ```
 *
 * Rejections are `ClientError`s, except that a call whose `AbortSignal` fires rejects with the signal's reason, after the
 * server was told.
 *
 * @since 0.1.0
 */
import type * as Bus from "@skillscale/core/Bus"
import type * as Control from "@skillscale/core/Control"
import * as Promises from "@skillscale/core/Promises"
import * as Settings from "@skillscale/core/Settings"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Result from "effect/Result"
import * as ClientError from "./ClientError.ts"
import { fromBusError } from "./internal/connection.ts"
import * as SkillClient from "./SkillClient.ts"

/**
 * Where the proxy is, and the tunables of the client.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions extends SkillClient.Options {
  /**
   * Where the client publishes. By default `SKILLSCALE_PROXY_XSUB`, else `tcp://127.0.0.1:5444`. Of several proxies, with
   * commas between them, it uses one, and another one when that falls silent.
   */
  readonly xsub?: string | undefined
  /**
   * Where the client subscribes, in the order of `xsub`. By default `SKILLSCALE_PROXY_XPUB`, else
   * `tcp://127.0.0.1:5555`.
   */
  readonly xpub?: string | undefined
}

/**
 * How a call may be given up.
 *
 * @category models
 * @since 0.1.0
 */
export interface Abortable {
  /** Cancels the call, also on the server. */
  readonly signal?: AbortSignal | undefined
}

/**
 * A connected client. Its functions need no `this`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PromiseClient extends AsyncDisposable {
  /** Calls a skill and answers with what it printed. A script that exits non-zero rejects with `SkillFailed`. */
  readonly invoke: (request: SkillClient.InvokeRequest, options?: Abortable) => Promise<SkillClient.Reply>
  /** Calls skills in parallel, by default 8 at a time, and answers like `Promise.allSettled`, in order. */
  readonly invokeAll: (
    requests: ReadonlyArray<SkillClient.InvokeRequest>,
    options?: Abortable & { readonly concurrency?: number | "unbounded" | undefined }
  ) => Promise<ReadonlyArray<PromiseSettledResult<SkillClient.Reply>>>
  /** Calls skills one after the other and rejects at the first failure, whose error names the `index` of the request. */
  readonly invokeSequential: (
    requests: ReadonlyArray<SkillClient.InvokeRequest>,
    options?: Abortable
  ) => Promise<ReadonlyArray<SkillClient.Reply>>
  /** Runs a script of a skill. One that exits non-zero is a result. */
  readonly run: (request: SkillClient.RunRequest, options?: Abortable) => Promise<SkillClient.RunResult>
  /** Runs a script like `run`, with its output as it is produced. Leaving the loop cancels the run. */
  readonly stream: (request: SkillClient.RunRequest, options?: Abortable) => AsyncIterable<SkillClient.StreamEvent>
  /** Asks every server for its skills and waits for all of them, at most `catalogTimeout`. */
  readonly catalog: (options?: Abortable) => Promise<ReadonlyArray<SkillClient.CatalogEntry>>
  /** Asks like `catalog`, and tells how many of the servers answered. */
  readonly survey: (options?: Abortable) => Promise<SkillClient.Survey>
  /** The catalog now, and again whenever it differs. Leaving the loop ends it. */
  readonly changes: (options?: Abortable) => AsyncIterable<ReadonlyArray<SkillClient.CatalogEntry>>
  /** Reads a skill's instructions, its front matter and the list of its files. */
  readonly describe: (skill: string, options?: Abortable & SkillClient.QuestionOptions) => Promise<Control.SkillReply>
  /** Reads one file of a skill, also `SKILL.md`. */
  readonly resource: (
    skill: string,
    path: string,
    options?: Abortable & SkillClient.QuestionOptions
  ) => Promise<Uint8Array>
  /** Asks the proxy for the live topics. */
  readonly topology: (options?: Abortable) => Promise<Control.TopologyReply>
  /** Disconnects. Calls that still wait reject with `Closed` and are cancelled on the server. */
  readonly close: () => Promise<void>
}

const connectError = (reason: ClientError.Reason) => new ClientError.ClientError({ operation: "connect", reason })

const layerOn = (
  bus: Layer.Layer<Bus.Bus, Bus.BusError | ClientError.ClientError>,
  options: SkillClient.Options | undefined
): Layer.Layer<SkillClient.SkillClient, ClientError.ClientError> =>
  SkillClient.layer(options).pipe(
    Layer.provide(bus),
    Layer.catch((error) =>
      Layer.effectContext(Effect.fail(error._tag === "BusError" ? connectError(fromBusError(error)) : error))
    )
  )

/**
 * Makes a client over a given bus. The client owns the bus from then on.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromBus = async (
  bus: Layer.Layer<Bus.Bus, Bus.BusError | ClientError.ClientError>,
  options?: SkillClient.Options & Abortable
): Promise<PromiseClient> => {
  const runtime = ManagedRuntime.make(layerOn(bus, options))
  const close = () => runtime.dispose()
  // Not on the runtime, which interrupts what runs when it closes: the client itself ends its calls with `Closed`.
  const { run } = Promises
  try {
    const context = await run(runtime.contextEffect, options?.signal)
    const client = Context.get(context, SkillClient.SkillClient)
    return {
      invoke: (request, options) => run(client.invoke(request), options?.signal),
      invokeAll: async (requests, options) => {
        const results = await run(client.invokeAll(requests, options), options?.signal)
        return results.map(Result.match({
          onFailure: (reason): PromiseSettledResult<SkillClient.Reply> => ({ status: "rejected", reason }),
          onSuccess: (value): PromiseSettledResult<SkillClient.Reply> => ({ status: "fulfilled", value })
        }))
      },
      invokeSequential: (requests, options) => run(client.invokeSequential(requests), options?.signal),
      run: (request, options) => run(client.run(request), options?.signal),
      stream: (request, options) => Promises.iterable(client.stream(request), options?.signal),
      catalog: (options) => run(client.catalog, options?.signal),
      survey: (options) => run(client.survey, options?.signal),
      changes: (options) => Promises.iterable(client.changes, options?.signal),
      describe: (skill, options) => run(client.describe(skill, options), options?.signal),
      resource: (skill, path, options) => run(client.resource(skill, path, options), options?.signal),
      topology: (options) => run(client.topology, options?.signal),
      close,
      [Symbol.asyncDispose]: close
    }
  } catch (error) {
    await close()
    throw error
  }
}

const addresses = (options: ConnectOptions): Effect.Effect<ZmqBus.Options, ClientError.ClientError> => {
  const refuse = (detail: string) => connectError(new ClientError.BadRequest({ detail }))
  const wrong = [options.xsub, options.xpub].find((address) => address !== undefined && typeof address !== "string")
  if (wrong !== undefined) {
    return Effect.fail(refuse(`${JSON.stringify(wrong)} is no address; write tcp://127.0.0.1:5444`))
  }
  return Effect.gen(function*() {
    const xsub = options.xsub ?? (yield* Settings.proxyXsub)
    const xpub = options.xpub ?? (yield* Settings.proxyXpub)
    yield* Effect.mapError(Effect.fromResult(Settings.proxies({ xsub, xpub })), (message) => ({ message }))
    return { xsub, xpub }
  }).pipe(Effect.mapError((error) => refuse(error.message)))
}

const busOf = (options: ConnectOptions) => Layer.unwrap(Effect.map(addresses(options), ZmqBus.layerFailover))

/**
 * Provides a client that is connected as `connect` does, for programs with Effect.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: ConnectOptions = {}): Layer.Layer<SkillClient.SkillClient, ClientError.ClientError> =>
  layerOn(busOf(options), options)

/**
 * Connects to the proxy. Rejects with `Unreachable` when the client does not hear itself within `connectTimeout`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = (options: ConnectOptions & Abortable = {}): Promise<PromiseClient> =>
  fromBus(busOf(options), options)
