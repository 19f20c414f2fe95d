import * as Telemetry from "@skillscale/core/Telemetry"
import * as Topic from "@skillscale/core/Topic"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as McpMount from "@skillscale/mcp/McpMount"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as SkillServer from "@skillscale/server/SkillServer"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Exit from "./exit.ts"
import { hold } from "./hold.ts"
import * as Io from "./io.ts"
import * as MetricsPort from "./metricsPort.ts"
import * as ProxyCheck from "./proxyCheck.ts"

export interface Input {
  readonly name: string
  readonly command: ReadonlyArray<string>
  readonly url: Option.Option<string>
  readonly headers: ReadonlyArray<string>
  readonly headerFile: Option.Option<string>
  readonly env: ReadonlyArray<string>
  readonly startTimeout: Duration.Duration
  readonly workers: number
  readonly queue: number
  readonly timeout: Duration.Duration
  readonly xsub: string
  readonly xpub: string
  readonly host: string
  readonly metricsPort: Option.Option<number>
}

/** What a program gets of this one's environment unless it is asked for: nothing that could be a secret. */
const inherited = [
  "HOME",
  "LANG",
  "LC_ALL",
  "LC_CTYPE",
  "LOGNAME",
  "PATH",
  "SHELL",
  "TERM",
  "TMPDIR",
  "TZ",
  "USER"
]

const variables = Config.option(Config.Redacted("SKILLSCALE_MOUNT_HEADERS"))

const headerOf = (from: string, line: string) => {
  const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*)$/.exec(line.trim()) ?? []
  // What is wrong may be a secret.
  return name === undefined || value === undefined || value === ""
    ? Effect.fail(Exit.usage(`${from}: expected a header such as "Authorization: Bearer …"`))
    : Effect.succeed([name, Redacted.make(value)] as const)
}

const linesOf = (text: string) => text.split(/\r?\n/).filter((line) => line.trim() !== "")

/** A flag beats the file, and that the environment. */
const headersOf = Effect.fnUntraced(function*({ headerFile, headers }: Input) {
  const fromEnvironment = Option.match(yield* Effect.orDie(variables), {
    onNone: () => [],
    onSome: (value) => linesOf(Redacted.value(value))
  })
  const fromFile = Option.isNone(headerFile)
    ? []
    : linesOf(Buffer.from(yield* Io.read(headerFile.value)).toString("utf8"))
  const all = [
    ...fromEnvironment.map((line) => headerOf("SKILLSCALE_MOUNT_HEADERS", line)),
    ...fromFile.map((line) => headerOf("--header-file", line)),
    ...headers.map((line) => headerOf("--header", line))
  ]
  return Object.fromEntries(yield* Effect.all(all))
})

const checkedUrl = (text: string) => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || url.protocol !== "http:" && url.protocol !== "https:") {
    return Effect.fail(Exit.usage("--url: expected an address that begins with https:// or http://"))
  }
  if (url.username !== "" || url.password !== "") {
    return Effect.fail(Exit.usage("--url: a user or password in it would be seen by others; use --header-file"))
  }
  return Effect.succeed(url)
}

const commandOf = Effect.fnUntraced(function*({ command: [command = "", ...args], env: names }: Input) {
  const secrets: Record<string, Redacted.Redacted> = {}
  for (const name of names) {
    const value = process.env[name]
    if (value === undefined) {
      return yield* Exit.usage(`--env ${name}: there is no such variable; give its name, and set it where this runs`)
    }
    secrets[name] = Redacted.make(value)
  }
  const env = inherited.flatMap((name) => {
    const value = process.env[name]
    return value === undefined || name in secrets ? [] : [[name, value] as const]
  })
  return { command, args, env: Object.fromEntries(env), secrets }
})

const fromMountError = ({ message, reason }: McpMount.McpMountError): Exit.Failed =>
  reason._tag === "NotStarted" ? Exit.usage(message) : Exit.unavailable({ message })

const executor = NativeExecutor.layerOrNode({ warm: 1, idle: 1, prestart: 0, sandbox: { cells: false } })

const layerOf = Effect.fnUntraced(function*(input: Input) {
  const { command, name, startTimeout, url } = input
  if (Option.isSome(url) === (command.length > 0)) {
    return yield* Exit.usage("name the server's program after --, or its address with --url, and not both")
  }
  const orFailed = Exit.layerOr(fromMountError)
  if (Option.isSome(url)) {
    if (input.env.length > 0) return yield* Exit.usage("--env is for a program; a server at a URL has its own")
    const server = { url: yield* checkedUrl(url.value), headers: yield* headersOf(input) }
    return orFailed(McpMount.layerUrl({ name, startTimeout, server }))
  }
  if (input.headers.length > 0 || Option.isSome(input.headerFile)) {
    return yield* Exit.usage(
      "--header and --header-file are for a server at a URL; give a program variables with --env"
    )
  }
  const server = yield* commandOf(input)
  return Layer.provideMerge(orFailed(McpMount.layerCommand({ name, startTimeout, server })), executor)
})

export const mountMcp = Effect.fnUntraced(function*(input: Input) {
  yield* Exit.checkedProxies(input)
  const { queue, timeout, workers, xpub, xsub } = input
  const layer = Exit.layerOrUnavailable(
    SkillServer.layer({ queue, timeout, workers, topic: Topic.fromCategory(input.name) })
  ).pipe(
    Layer.provide(Exit.layerOrUnavailable(ZmqBus.layerJoined({ xsub, xpub }))),
    Layer.provide(yield* layerOf(input)),
    Layer.merge(MetricsPort.layer(input.metricsPort, input.host)),
    Layer.provide(Telemetry.layer({ serviceName: "skillscale-mount" }))
  )
  return yield* hold(layer, Effect.andThen(ProxyCheck.warn(input), Effect.never))
})
