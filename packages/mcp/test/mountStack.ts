/** A proxy, a mount of a real external server and a client, over real sockets and processes. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as SkillClient from "@skillscale/client/SkillClient"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Proxy from "@skillscale/proxy/Proxy"
import type * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import type * as SkillRunner from "@skillscale/server/SkillRunner"
import * as SkillServer from "@skillscale/server/SkillServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import * as Stack from "../../../test/support/stack.ts"
import * as McpMount from "../src/McpMount.ts"

const fixture = (name: string) => Path.join(import.meta.dirname, "fixtures", name)

export type Era = "both" | "legacy" | "modern"

const environment = { PATH: process.env["PATH"] ?? "" }

/** The program of a fixture. */
export const command = (
  file: string,
  args: ReadonlyArray<string>,
  secrets: Readonly<Record<string, Redacted.Redacted>> = {}
): McpMount.Command => ({ command: process.execPath, args: [fixture(file), ...args], env: environment, secrets })

/** The fixture on the official library. */
export const library = (era: Era) => command("mountServer.ts", ["stdio", era])

/** The fixture that does one thing wrong. */
export const odd = (mode: string) => command("oddServer.ts", [mode])

export type Options = Omit<McpMount.Options, "name"> & Partial<Omit<SkillServer.Options, "topic">>

export const executor = NativeExecutor.layerOrNode({ warm: 1, idle: 1, prestart: 0, sandbox: { cells: false } }).pipe(
  Layer.provide(NodeServices.layer)
)

const topic = "TOPIC_EXTERNAL"

const client = SkillClient.layer({ timeout: "20 seconds" }).pipe(Layer.provide(Layer.fresh(Stack.bus)))

/** The proxy knows the server. */
const isReady = Layer.effectDiscard(Effect.gen(function*() {
  const proxy = yield* Proxy.Proxy
  yield* until(
    Effect.map(
      proxy.topology,
      ({ topics }) => topics.some((live) => live.topic === topic && live.replicas > 0) || undefined
    )
  )
}))

const serving = <E, R>(
  mount: Layer.Layer<Executor.Executor | SkillDiscovery.SkillDiscovery | SkillRunner.SkillRunner, E, R>,
  options: Options
) =>
  Layer.merge(client, isReady).pipe(
    Layer.provideMerge(
      SkillServer.layer({ ...options, topic }).pipe(Layer.provide(Layer.fresh(Stack.bus)), Layer.provide(mount))
    ),
    Layer.provideMerge(Stack.proxy)
  )

/** Everything for a program. */
export const ofCommand = (server: McpMount.Command, options: Options = {}) =>
  serving(Layer.provideMerge(McpMount.layerCommand({ ...options, name: "external", server }), executor), options)

/** Everything for a URL. */
export const ofUrl = (server: McpMount.Url, options: Options = {}) =>
  serving(McpMount.layerUrl({ ...options, name: "external", server }), options)

/** Starts the fixture on a port, 0 for a free one. It is killed with the scope. */
export const http = (era: Era, port = 0, env: Readonly<Record<string, string>> = {}) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly child: ChildProcess.ChildProcess; readonly port: number }>((resume) => {
      const child = ChildProcess.spawn(process.execPath, [fixture("mountServer.ts"), "http", era, String(port)], {
        env: { ...environment, ...env },
        stdio: ["ignore", "pipe", "inherit"]
      })
      child.stdout.once("data", (data) => resume(Effect.succeed({ child, port: Number(String(data)) })))
    }),
    ({ child }) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )

export const urlOf = (port: number, path = "/mcp") => new URL(`http://127.0.0.1:${port}${path}`)

/** Calls a skill with the arguments of the tool. */
export const invoke = (skill: string, data: unknown, options: Partial<SkillClient.InvokeRequest> = {}) =>
  Effect.flatMap(
    SkillClient.SkillClient,
    (client) =>
      client.invoke({ topic, skill, data: typeof data === "string" ? data : JSON.stringify(data), ...options })
  )

/** What a call has come to that the server heard and failed. */
export const failure = { _tag: "ServerError", code: "Internal", retryable: false } as const

/** Waits until something is so; the test's own deadline bounds it. */
export const until = <A, E, R>(probe: Effect.Effect<A | undefined, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    probe,
    (found) => found === undefined ? Effect.andThen(Effect.sleep("20 millis"), until(probe)) : Effect.succeed(found)
  )
