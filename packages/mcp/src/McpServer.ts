/**
 * Skills over the Model Context Protocol: their tools, their files as resources, their instructions as prompts, and the skills
 * extension (SEP-2640) with digests of everything, so that a client verifies what it reads and pins what it runs.
 *
 * It speaks the revision of 2026-07-28 and the ones before with their handshake. How messages travel is left to `McpStdio` and
 * `McpHttp`, what the tools are to `SkillTools`. `allowed-tools` of a skill is told as it is and honoured nowhere.
 *
 * @since 0.1.0
 */
import * as Sdk from "@modelcontextprotocol/server"
import { SkillsExtension } from "@modelcontextprotocol/server/ext/skills"
import * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as SkillTools from "@skillscale/tools/SkillTools"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Changes from "./internal/changes.ts"
import * as Completion from "./internal/completion.ts"
import * as Prompts from "./internal/prompts.ts"
import * as Resources from "./internal/resources.ts"
import * as Served from "./internal/served.ts"
import * as SkillEntries from "./internal/skillEntries.ts"
import * as SkillSource from "./internal/skillSource.ts"
import * as ToolCalls from "./internal/toolCalls.ts"

/**
 * How the server calls itself, and its bounds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** By default `skillscale`. */
  readonly name?: string | undefined
  readonly version: string
  /** What a host may tell its model of this server. By default how to use skills. */
  readonly instructions?: string | undefined
  /** Items on a page of a list. By default 250. */
  readonly pageSize?: number | undefined
  /** The largest file that an answer contains, in bytes; there is a link to a larger one. By default 64 KiB. */
  readonly maxEmbedded?: number | undefined
  /** The largest image or sound that an answer contains, in bytes. By default 1 MiB. */
  readonly maxMedia?: number | undefined
}

/**
 * Serves skills.
 *
 * @category services
 * @since 0.1.0
 */
export class McpServer extends Context.Service<McpServer, {
  /** Makes what serves one request and hears of nothing else. */
  readonly request: Sdk.McpServerFactory
  /** Makes what serves one connection, and tells its client when tools, prompts or resources change. */
  readonly connection: Sdk.McpServerFactory
  /** Emits what changes, for subscriptions that outlive requests. */
  readonly events: Sdk.ServerEventBus
  /** Cancels all requests in hand on the servers, whose clients get the error that this one is ending. */
  readonly cancel: Effect.Effect<void>
}>()("@skillscale/mcp/McpServer") {}

const instructions =
  "Skills are instructions, and scripts that run on a server. Before a task, find the skill for it with " +
  "search_skills or list_skills, read its instructions with load_skill, and run its scripts with run_skill_script or with the tool " +
  "of its name. Nothing of a skill has to be installed, and none of its scripts has to run where you are."

/** Schemas of skills are strangers' data, which is checked where the skills are; nothing here makes code of it. */
const noValidator: Sdk.jsonSchemaValidator = {
  getValidator: () => {
    throw new Error("nothing is asked of a client")
  }
}

const maxWarned = 1000

class Protocol extends Sdk.McpServer {
  readonly #schemaOf: (tool: string) => Record<string, unknown> | undefined

  constructor(options: Options, schemaOf: (tool: string) => Record<string, unknown> | undefined) {
    super({ name: options.name ?? "skillscale", version: options.version }, {
      instructions: options.instructions ?? instructions,
      jsonSchemaValidator: noValidator
    })
    this.#schemaOf = schemaOf
  }

  /** Tells which arguments have to be repeated in headers. */
  override toolInputSchemaJson(name: string): Record<string, unknown> | undefined {
    return this.#schemaOf(name)
  }
}

/** An end of the connection on which the answer would travel is an end of the request, which is so by itself since 2026-07-28. */
const signalOf = ({ http, mcpReq: { envelope, signal } }: Sdk.ServerContext): AbortSignal =>
  http?.req === undefined || envelope !== undefined ? signal : AbortSignal.any([signal, http.req.signal])

/** Whether a schema of a skill says that arguments are repeated in headers. */
const hasHeaders = (() => {
  const known = new WeakMap<SkillTools.ObjectSchema, boolean>()
  return (schema: SkillTools.ObjectSchema): boolean => {
    const has = known.get(schema) ?? JSON.stringify(schema).includes("\"x-mcp-header\"")
    known.set(schema, has)
    return has
  }
})()

const hidden = (cause: Cause.Cause<unknown>) =>
  Cause.hasInterruptsOnly(cause)
    ? Effect.interrupt
    : Effect.andThen(
      Effect.logError("a request failed").pipe(Effect.annotateLogs({ cause: Cause.pretty(cause) })),
      Effect.fail(Served.internal("Internal error"))
    )

/** The skills extension. Of a skill that it refuses it warns once. */
const extensionOf = (served: Served.Served, warn: (warning: Effect.Effect<void>) => void): SkillsExtension => {
  const warned = new Set<string>()
  return new SkillsExtension({
    source: SkillSource.make(served),
    onWarning: ({ message, path }) => {
      if (warned.has(path) || warned.size >= maxWarned) return
      warned.add(path)
      warn(Effect.logWarning("a skill is refused").pipe(Effect.annotateLogs({ skill: path, problem: message })))
    }
  })
}

/** Makes the next one while its predecessor is at work, so that no request waits for that. */
const ahead = <A>(make: () => A): () => A => {
  let next: A | undefined
  const prepare = () => {
    next ??= make()
  }
  return () => {
    const made = next ?? make()
    next = undefined
    setImmediate(prepare)
    return made
  }
}

const register = (mcp: Sdk.McpServer, served: Served.Served): void => {
  let level: Sdk.LoggingLevel | undefined
  mcp.server.registerCapabilities({
    tools: { listChanged: true },
    prompts: { listChanged: true },
    resources: { listChanged: true, subscribe: true },
    completions: {},
    logging: {}
  })
  mcp.server.setRequestHandler("logging/setLevel", ({ params }) => {
    level = params.level
    return {}
  })
  ToolCalls.register(mcp, served, () => level)
  Resources.register(mcp, served)
  Prompts.register(mcp, served)
  Completion.register(mcp, served)
}

/**
 * Makes a server.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<McpServer["Service"], never, SkillCatalog.SkillCatalog | SkillTools.SkillTools | Scope.Scope> {
  const catalog = yield* SkillCatalog.SkillCatalog
  const tools = yield* SkillTools.SkillTools
  const requests = yield* FiberSet.make()
  const fork = yield* FiberSet.runtimePromise(requests)()
  let isEnding = false
  const entries = SkillEntries.make(catalog)
  const served: Served.Served = {
    catalog,
    tools,
    entries,
    pageSize: options.pageSize ?? 250,
    content: {
      file: options.maxEmbedded ?? 64 * 1024,
      media: options.maxMedia ?? 1024 * 1024,
      total: 4 * 1024 * 1024,
      count: 50
    },
    run: (effect, context) =>
      fork(
        Effect.catchCause(effect, (cause) => {
          const error = Cause.findErrorOption(cause)
          return error._tag === "Some" ? Effect.fail(error.value) : hidden(cause)
        }),
        { signal: signalOf(context) }
      ).catch((error: unknown) => {
        throw isEnding && !(error instanceof Sdk.ProtocolError) ? Served.ending() : error
      })
  }
  const services = yield* Effect.context<never>()
  const schemaOf = (name: string) => {
    const schema = Effect.runSyncWith(services)(tools.tools).find((tool) => tool.name === name)?.inputSchema
    return schema === undefined || !hasHeaders(schema) ? undefined : schema
  }
  const extension = extensionOf(served, (warning) => void fork(warning))
  const changes = yield* Changes.make({ catalog, entries })

  const create = (hasSubscriptions: boolean): Sdk.McpServer => {
    const mcp = new Protocol(options, schemaOf)
    extension.attach(mcp)
    register(mcp, served)
    if (hasSubscriptions) changes.follow(mcp)
    return mcp
  }

  return McpServer.of({
    request: ahead(() => create(false)),
    connection: () => create(true),
    events: changes.events,
    cancel: Effect.suspend(() => {
      isEnding = true
      return FiberSet.clear(requests)
    })
  })
})

/**
 * Provides a server.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options
): Layer.Layer<McpServer, never, SkillCatalog.SkillCatalog | SkillTools.SkillTools> =>
  Layer.effect(McpServer, make(options))
