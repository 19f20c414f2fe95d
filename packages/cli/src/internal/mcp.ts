import * as SkillClient from "@skillscale/client/SkillClient"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as McpHttp from "@skillscale/mcp/McpHttp"
import * as McpServer from "@skillscale/mcp/McpServer"
import * as McpStdio from "@skillscale/mcp/McpStdio"
import * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as SkillTools from "@skillscale/tools/SkillTools"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import { isIP } from "node:net"
import * as Cli from "../Cli.ts"
import type * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import { hold } from "./hold.ts"
import * as Io from "./io.ts"
import * as McpConfig from "./mcpConfig.ts"

export interface Input extends Connection.Options {
  readonly http: Option.Option<number>
  readonly host: Option.Option<string>
  readonly tokenFile: Option.Option<string>
  readonly allowHost: ReadonlyArray<string>
  readonly skills: ReadonlyArray<string> | "all"
  readonly maxOutput: number
  readonly noSkillTools: boolean
  readonly printConfig: boolean
}

/** Shorter ones can be guessed. */
const minToken = 16

const readToken = (file: string): Effect.Effect<Redacted.Redacted, Exit.Failed> =>
  Effect.try({
    try: () => Redacted.make(Fs.readFileSync(file, "utf8").trim()),
    catch: (error) => Exit.usage(`cannot read the token: ${error instanceof Error ? error.message : String(error)}`)
  })

const tokenOf = Effect.fnUntraced(function*({ tokenFile }: Input) {
  const token = Option.isSome(tokenFile)
    ? yield* readToken(tokenFile.value)
    : Option.getOrUndefined(
      yield* Effect.mapError(
        Config.option(Config.Redacted("SKILLSCALE_MCP_TOKEN")),
        (error) => Exit.usage(Exit.explainConfig(error))
      )
    )
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(Redacted.value(token))) {
    return yield* Exit.usage("the token has to be one line of letters, digits and signs, without spaces")
  }
  if (token !== undefined && Redacted.value(token).length < minToken) {
    return yield* Exit.usage(`the token is shorter than ${minToken} characters, so that it could be guessed`)
  }
  return token
})

/** What HTTP is served with. */
export interface Served {
  readonly port: number
  readonly host: string
  readonly names: ReadonlyArray<string>
  readonly token: Redacted.Redacted | undefined
}

/** Tells what of the flags for HTTP cannot be used, before the proxy is looked for, which may take its time. */
const servedOf = Effect.fnUntraced(function*(input: Input, port: number) {
  const token = yield* tokenOf(input)
  const host = Option.getOrElse(input.host, () => "127.0.0.1").replace(/^\[(.*)\]$/, "$1")
  yield* Effect.mapError(
    McpHttp.checkToken(host, token),
    ({ message }) => Exit.usage(`${message}: --token-file or SKILLSCALE_MCP_TOKEN`)
  )
  if (isIP(host) === 0) {
    yield* Effect.mapError(McpHttp.checkNames([host]), ({ message }) => Exit.usage(`--host: ${message}`))
  }
  const names = yield* Effect.mapError(
    McpHttp.checkNames(input.allowHost),
    ({ message }) => Exit.usage(`--allow-host: ${message}`)
  )
  return { port, host, names, token } satisfies Served
})

/** Warns of names that no server serves, which may be wrong, or of skills that are still to come. */
const warnOfNobody = ({ skills }: Input) =>
  Layer.effectDiscard(Effect.gen(function*() {
    if (skills === "all") return
    const { skills: current } = yield* SkillCatalog.SkillCatalog
    const known = new Set((yield* current).map(({ name }) => name))
    const missing = skills.filter((name) => !known.has(name))
    if (missing.length === 0) return
    yield* Effect.logWarning("no server serves these of --skills now; they are offered once one does").pipe(
      Effect.annotateLogs({ skills: missing.join(",") })
    )
  }))

const skillsOf = (input: Input) =>
  Layer.merge(McpServer.layer({ version: Cli.version }), warnOfNobody(input)).pipe(
    Layer.provide(
      SkillTools.layer({
        maxOutput: input.maxOutput,
        schemas: "verbatim",
        ...input.noSkillTools ? { maxSkillTools: false as const } : {}
      })
    ),
    Layer.provide(
      SkillCatalog.layer(input.skills === "all" ? {} : { skills: input.skills }).pipe(
        Exit.layerOr(Exit.fromClientError)
      )
    ),
    Layer.provide(SkillClient.layer({ timeout: input.timeout }).pipe(Exit.layerOr(Exit.fromClientError))),
    Layer.provide(Exit.layerOrUnavailable(ZmqBus.layerFailover({ xsub: input.xsub, xpub: input.xpub })))
  )

const announce = Layer.effectDiscard(
  Effect.flatMap(McpHttp.McpHttp, ({ url }) => Effect.logInfo("MCP is ready").pipe(Effect.annotateLogs({ url })))
)

const overHttp = (input: Input, { token, ...served }: Served) =>
  announce.pipe(
    Layer.provide(
      Exit.layerOrUnavailable(McpHttp.layer({ ...served, ...token === undefined ? {} : { token } }))
    ),
    Layer.provide(skillsOf(input))
  )

const telemetry = Telemetry.layer({ serviceName: "skillscale-mcp" })

/** What says nothing to a client on standard input. */
const onlyHttp: ReadonlyArray<readonly [string, (input: Input) => boolean]> = [
  ["--host", ({ host }) => Option.isSome(host)],
  ["--token-file", ({ tokenFile }) => Option.isSome(tokenFile)],
  ["--allow-host", ({ allowHost }) => allowHost.length > 0]
]

export const mcp = Effect.fnUntraced(function*(input: Input) {
  yield* Exit.checkedProxies(input)
  const ofHttp = Option.isNone(input.http) ? onlyHttp.filter(([, isGiven]) => isGiven(input)) : []
  if (ofHttp.length > 0) return yield* Exit.usage(`${ofHttp.map(([flag]) => flag).join(", ")}: give --http, too`)
  const served = Option.isSome(input.http) ? yield* servedOf(input, input.http.value) : undefined
  if (input.printConfig) return yield* Io.line(JSON.stringify(yield* McpConfig.of(input, served), null, 2))
  if (served !== undefined) return yield* hold(Layer.provide(overHttp(input, served), telemetry))
  if (process.stdin.isTTY) {
    yield* Io.note("waiting for an MCP client on standard input; --http serves many, Ctrl-C ends it")
  }
  const overStdio = Effect.mapError(McpStdio.serve(), ({ message }) => new Exit.Failed({ code: 1, message }))
  return yield* hold(Layer.provide(skillsOf(input), telemetry), Effect.scoped(overStdio))
})
