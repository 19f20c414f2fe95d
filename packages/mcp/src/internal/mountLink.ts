/**
 * One connection to an external server: from the handshake, of whichever generation the server understands, until it is lost. It
 * knows the tools, and asks for them again when the server says that they changed, and from time to time.
 */
import type { CallToolResult, Transport } from "@modelcontextprotocol/client"
import { Client } from "@modelcontextprotocol/client"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as MountFailure from "./mountFailure.ts"
import * as MountTool from "./mountTool.ts"

/** How old the server is, as far as that is known from an earlier connection. */
export type Era = "legacy" | "modern"

/** What to connect with. */
export interface Options {
  readonly version: string
  readonly transport: Transport
  /** Runs before the connection ends. */
  readonly farewell: Effect.Effect<void>
  readonly era: Era | undefined
  /** For the handshake and the first list of tools together. */
  readonly startTimeout: Duration.Duration
  /** How often the tools are asked for although nothing was told. */
  readonly refresh: Duration.Duration
  readonly onTools: (tools: ReadonlyArray<unknown>) => Effect.Effect<void>
}

/** A call of a tool. */
export interface Call {
  readonly tool: MountTool.Tool
  readonly arguments: Readonly<Record<string, unknown>>
  readonly traceparent: string | undefined
  readonly onProgress: ((text: string) => void) | undefined
}

/** A connection. */
export interface Link {
  readonly era: Era
  readonly call: (call: Call) => Effect.Effect<CallToolResult, MountFailure.Failure>
  /** Why it ended. */
  readonly lost: Effect.Effect<string>
}

const maxPages = 64
/** How many tools of a server become skills. */
export const maxTools = 1000
/** The longest that a timer of Node waits. The time of a call is its caller's affair. */
const never = 2 ** 31 - 1
const listTimeoutMs = 30_000
/** A server that tells of changes without end is not asked without end. */
const listGap = "100 millis"

const pageSchema = Schema.toStandardSchemaV1(MountTool.Page)

const ask = <A>(request: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, MountFailure.Failure> =>
  Effect.tryPromise({ try: request, catch: MountFailure.from })

/** Makes an effect that lists the tools, and warns of those that are left out, once as long as that is so. */
const lister = (client: Client) => {
  let told: string | undefined

  const warn = (why: string | undefined, taken: number) => {
    if (why === told) return Effect.void
    told = why
    return why === undefined ? Effect.void : Effect.annotateLogs(Effect.logWarning(why), { taken })
  }

  return Effect.gen(function*() {
    if (client.getServerCapabilities()?.tools === undefined) return []
    const tools: Array<unknown> = []
    const seen = new Set<string>()
    let cursor: string | undefined
    let problem: string | undefined
    for (let page = 1;; page++) {
      const params = cursor === undefined ? {} : { cursor }
      const result = yield* ask((signal) =>
        client.request({ method: "tools/list", params }, pageSchema, { signal, timeout: listTimeoutMs })
      )
      const room = maxTools - tools.length
      for (const tool of result.tools.slice(0, room)) tools.push(tool)
      cursor = result.nextCursor
      const isMore = result.tools.length > room ||
        cursor !== undefined && (page === maxPages || tools.length === maxTools)
      if (isMore) problem = "the external server has more tools than are taken"
      else if (cursor !== undefined && seen.has(cursor)) problem = "the external server lists its tools without end"
      if (cursor === undefined || problem !== undefined) break
      seen.add(cursor)
    }
    yield* warn(problem, tools.length)
    return tools
  })
}

const textOfProgress = ({ message, progress, total }: {
  readonly message?: string | undefined
  readonly progress: number
  readonly total?: number | undefined
}): string => {
  const amount = total === undefined ? String(progress) : `${progress}/${total}`
  return message === undefined || message === "" ? amount : `${amount} ${message.replaceAll(/\s+/g, " ")}`
}

const callWith = (client: Client, call: Call): Effect.Effect<CallToolResult, MountFailure.Failure> => {
  const { onProgress, tool, traceparent } = call
  return ask((signal) =>
    client.callTool(
      {
        name: tool.name,
        arguments: { ...call.arguments },
        ...traceparent === undefined ? {} : { _meta: { traceparent } }
      },
      {
        signal,
        timeout: never,
        // What it writes is checked by the server of the skill, so that the library need not.
        toolDefinition: { name: tool.name, inputSchema: { type: "object", ...tool.inputSchema } },
        ...onProgress === undefined ? {} : { onprogress: (progress) => onProgress(textOfProgress(progress)) }
      }
    )
  )
}

const makeClient = ({ era, startTimeout, version }: Options): Client =>
  new Client({ name: "skillscale", version }, {
    capabilities: {},
    inputRequired: { autoFulfill: false },
    versionNegotiation: {
      mode: era === "legacy" ? "legacy" : "auto",
      // A program that is silent for so long is taken for one that does not know the question.
      probe: { timeoutMs: Math.max(1, Math.floor(Duration.toMillis(startTimeout) / 3)) }
    }
  })

/** Asks a modern server to tell of changes, again and again: what it answers to that ends when it wants. */
const listen = (client: Client, onChange: () => void) =>
  ask((signal) => client.listen({ toolsListChanged: true }, { signal })).pipe(
    Effect.flatMap((subscription) => Effect.promise(() => subscription.closed)),
    Effect.tap(() => Effect.sync(onChange)),
    Effect.catch((error) => Effect.logDebug("the external server tells no changes", error.message)),
    Effect.repeat(Schedule.spaced("5 seconds"))
  )

/** Connects, and lists the tools for the first time. The connection ends with the scope. */
export const make = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Link, MountFailure.Failure, Scope.Scope> {
    const { onTools, startTimeout, transport } = options
    const client = makeClient(options)
    const lost = Deferred.makeUnsafe<string>()
    const changes = yield* Queue.sliding<void>(1)
    const onChange = () => void Queue.offerUnsafe(changes, undefined)
    client.onclose = () => Deferred.doneUnsafe(lost, Effect.succeed("the connection ended"))
    client.setNotificationHandler("notifications/tools/list_changed", onChange)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(options.farewell, Effect.ignore(Effect.tryPromise(() => client.close())))
    )
    const timeout = Duration.toMillis(startTimeout)
    const listTools = lister(client)
    const first = yield* ask((signal) => client.connect(transport, { signal, timeout })).pipe(
      Effect.andThen(listTools),
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () =>
          Effect.fail(
            new MountFailure.Lost({
              detail: `it did not finish the handshake of MCP within ${Duration.format(startTimeout)}`,
              isUnsent: true,
              isGone: true
            })
          )
      })
    )
    yield* onTools(first)
    const lose = (why: string) => Effect.asVoid(Deferred.succeed(lost, why))
    const again = listTools.pipe(
      Effect.retry({
        times: 2,
        schedule: Schedule.spaced("1 second"),
        while: (error) => error._tag === "Lost" && !error.isGone
      }),
      Effect.flatMap(onTools),
      Effect.catchTag("Refused", (error) => Effect.logWarning("cannot list the tools again", error.message)),
      Effect.catchTag("Lost", (error) => lose(error.message))
    )
    yield* Effect.raceFirst(Queue.take(changes), Effect.sleep(options.refresh)).pipe(
      Effect.andThen(again),
      Effect.andThen(Effect.sleep(listGap)),
      Effect.forever,
      Effect.forkScoped
    )
    const era = client.getProtocolEra() ?? "legacy"
    if (era === "modern" && client.getServerCapabilities()?.tools?.listChanged === true) {
      yield* Effect.forkScoped(listen(client, onChange))
    }
    const call = (call: Call) =>
      Effect.tapError(
        callWith(client, call),
        // Other calls may go on; whether the server is lost is seen when it is asked for its tools.
        (error) => error._tag !== "Lost" ? Effect.void : error.isGone ? lose(error.message) : Effect.sync(onChange)
      )
    return { era, call, lost: Deferred.await(lost) }
  }
)
