/**
 * The tools of `SkillTools` for programs that do not use Effect, and for the adapters of agent frameworks.
 *
 * ```js
 * import { connect } from "@skillscale/tools/PromiseTools"
 * await using skills = await connect()
 * for (const { description, inputSchema, name } of skills.tools()) console.log(name, description, inputSchema)
 * const { text } = await skills.call("csv-analyzer", { input: "a,b\n1,2" })
 * ```
 *
 * Rejections are `ToolError`s, except that a call whose `AbortSignal` fires rejects with the signal's reason, after the server
 * was told, and one whose `onProgress` throws with what that threw.
 *
 * @since 0.1.0
 */
import * as ClientError from "@skillscale/client/ClientError"
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Promises from "@skillscale/core/Promises"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import type * as Artifacts from "./Artifacts.ts"
import * as CatalogPrompt from "./CatalogPrompt.ts"
import * as VocabularyNames from "./internal/vocabularyNames.ts"
import * as SkillCatalog from "./SkillCatalog.ts"
import * as SkillTools from "./SkillTools.ts"

/**
 * Where the proxy is, which skills there are, and which tools.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions extends PromiseClient.ConnectOptions, SkillCatalog.Options, SkillTools.Options {
  /** How long a call that does not say itself may take. By default 30 seconds. */
  readonly timeout?: SkillTools.Options["timeout"]
  /** Takes the skills from this folder, which is watched, instead of asking the servers. They run on servers all the same. */
  readonly folder?: string | undefined
  /**
   * The topic that servers run the skills of `folder` on, as `TOPIC_DATA_PROCESSING`. Without, it is that of the folder which holds the
   * skill's, as for the servers (`data-processing`).
   */
  readonly topic?: SkillCatalog.FolderOptions["topic"]
}

/**
 * What a call may ask for besides its arguments.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallOptions {
  /** Ends the call, also on the server. */
  readonly signal?: AbortSignal | undefined
  /** Sees what happens while the tool runs. The script waits for what it returns, as long as the call may take; the call ends with what it throws. */
  readonly onProgress?: ((progress: SkillTools.Progress) => void | Promise<void>) | undefined
}

/**
 * A tool.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tool extends Omit<SkillTools.Tool, "call"> {
  /** Calls the tool with arguments as a model gives them. */
  readonly call: (input: unknown, options?: CallOptions) => Promise<SkillTools.Output>
}

/**
 * What a toolbox is made of.
 *
 * @category models
 * @since 0.1.0
 */
export type Services = SkillCatalog.SkillCatalog | SkillTools.SkillTools | SkillClient.SkillClient

/**
 * The tools of one connection. Its functions need no `this`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Toolbox extends AsyncDisposable {
  /** The tools now, the same array until the skills differ. */
  readonly tools: () => ReadonlyArray<Tool>
  /**
   * Calls a function with the tools whenever the skills differ from now on. Returns the function that ends that. What it throws is
   * logged.
   */
  readonly onChange: (listener: (tools: ReadonlyArray<Tool>) => void) => () => void
  /** Calls a tool by its name. */
  readonly call: (name: string, input: unknown, options?: CallOptions) => Promise<SkillTools.Output>
  /** What to tell a model of the skills at first. */
  readonly prompt: (options?: CatalogPrompt.Options) => string
  /** The skills now. */
  readonly skills: () => ReadonlyArray<SkillCatalog.Skill>
  /** Finds skills by words, the best first, by default 10. */
  readonly search: (query: string, options?: { readonly limit?: number }) => Promise<ReadonlyArray<SkillCatalog.Found>>
  /** Settles when the instructions of all skills are found by `search`, too. */
  readonly indexed: () => Promise<void>
  /** Reads a skill's instructions, its front matter and the list of its files. */
  readonly describe: (skill: SkillCatalog.Skill) => ReturnType<PromiseClient.PromiseClient["describe"]>
  /** Reads one file of a skill. */
  readonly resource: (skill: SkillCatalog.Skill, path: string) => Promise<Uint8Array>
  /** Runs a script with nothing made of what it leaves. */
  readonly run: (request: SkillClient.RunRequest, options?: PromiseClient.Abortable) => Promise<SkillClient.RunResult>
  /** Looks up what a tool gave out. */
  readonly artifact: (id: string) => Promise<Artifacts.Artifact | undefined>
  /** The services behind it, for parts of a program that use Effect. They end with the toolbox. */
  readonly context: Context.Context<Services>
  /** Disconnects. Calls that still wait are cancelled on the server. */
  readonly close: () => Promise<void>
}

/** What servers tell of their skills when these differ is not for the output of an agent; what is wrong with one is. */
const quiet = Layer.effect(
  References.MinimumLogLevel,
  Effect.map(References.MinimumLogLevel, (level) => LogLevel.isGreaterThan(level, "Warn") ? level : "Warn" as const)
)

const catalogOf = (
  { folder, skills, topic }: ConnectOptions
): Layer.Layer<SkillCatalog.SkillCatalog, ClientError.ClientError, SkillClient.SkillClient> =>
  folder === undefined
    ? SkillCatalog.layer({ skills })
    : SkillCatalog.layerFolder({ skills, topic }).pipe(
      Layer.provide(SkillDiscovery.layer({ directory: folder })),
      Layer.provide(quiet),
      Layer.catchTag("SkillDiscoveryError", ({ message }) => {
        const reason = new ClientError.BadRequest({ detail: message })
        return Layer.effectContext(Effect.fail(new ClientError.ClientError({ operation: "catalog", reason })))
      })
    )

/**
 * Provides what `connect` makes, for programs with Effect.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: ConnectOptions = {}): Layer.Layer<Services, ClientError.ClientError> =>
  SkillTools.layer({ ...options, timeout: options.timeout ?? "30 seconds" }).pipe(
    Layer.provideMerge(catalogOf(options)),
    Layer.provideMerge(PromiseClient.layer(withTimeout(options)))
  )

const withTimeout = ({ timeout, ...options }: ConnectOptions): PromiseClient.ConnectOptions => ({
  ...options,
  ...timeout === undefined ? {} : { timeout }
})

const asPromise = ({ call, ...tool }: SkillTools.Tool): Tool => ({
  ...tool,
  call: (input, options) => Promises.run(call(input, callOptions(options)), options?.signal)
})

const callOptions = ({ onProgress }: CallOptions = {}): SkillTools.CallOptions =>
  onProgress === undefined
    ? {}
    : { onProgress: (progress) => Effect.promise(async () => onProgress(progress)) }

/**
 * Makes a toolbox of services that live at least as long.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromContext = async (
  context: Context.Context<Services>,
  close: () => Promise<void> = async () => {}
): Promise<Toolbox> => {
  const tools = Context.get(context, SkillTools.SkillTools)
  const catalog = Context.get(context, SkillCatalog.SkillCatalog)
  const client = Context.get(context, SkillClient.SkillClient)
  const listeners = new Set<(tools: ReadonlyArray<Tool>) => void>()
  let current: ReadonlyArray<Tool> = []
  let skills: ReadonlyArray<SkillCatalog.Skill> = []
  const refresh = Effect.gen(function*() {
    const now = yield* catalog.skills
    if (now === skills) return
    skills = now
    current = (yield* tools.tools).map(asPromise)
    for (const listener of listeners) {
      yield* Effect.catchDefect(
        Effect.sync(() => listener(current)),
        (defect) => Effect.logWarning("a listener of tools failed", defect)
      )
    }
  })
  await Effect.runPromise(refresh)
  const following = Effect.runFork(Stream.runForEach(catalog.changes, () => refresh))
  const end = async () => {
    following.interruptUnsafe()
    await close()
  }
  return {
    tools: () => current,
    onChange: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    call: (name, input, options) => Promises.run(tools.call(name, input, callOptions(options)), options?.signal),
    prompt: (options) => {
      const isThere = (name: string) => current.some((tool) => tool.skill === undefined && tool.name === name)
      const vocabulary = VocabularyNames.names.filter(isThere)
      const skillTools = current.some(({ skill }) => skill !== undefined)
      return CatalogPrompt.catalogPrompt(skills, { vocabulary, skillTools, ...options })
    },
    skills: () => skills,
    search: (query, options) => Promises.run(catalog.search(query, options)),
    indexed: () => Promises.run(catalog.indexed),
    describe: (skill) => Promises.run(catalog.describe(skill)),
    resource: (skill, path) => Promises.run(catalog.resource(skill, path)),
    run: (request, options) => Promises.run(client.run(request), options?.signal),
    artifact: (id) =>
      Promises.run(Effect.map(tools.artifact(id), (found) => found._tag === "Some" ? found.value : undefined)),
    context,
    close: end,
    [Symbol.asyncDispose]: end
  }
}

/**
 * Connects to the proxy and makes the tools of its skills. Rejects when the proxy or the catalog cannot be reached.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = async (
  options: ConnectOptions & PromiseClient.Abortable = {}
): Promise<Toolbox> => {
  const runtime = ManagedRuntime.make(layer(options))
  const close = () => runtime.dispose()
  try {
    return await fromContext(await Promises.run(runtime.contextEffect, options.signal), close)
  } catch (error) {
    await close()
    throw error
  }
}
