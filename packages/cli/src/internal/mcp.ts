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
import * as Cli from "../Cli.ts"
import type * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import { hold } from "./hold.ts"
import * as Io from "./io.ts"

export interface Input extends Connection.Options {
  readonly http: Option.Option<number>
  readonly host: string
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

const skillsOf = ({ maxOutput, noSkillTools, skills, timeout, xpub, xsub }: Input) =>
  McpServer.layer({ version: Cli.version }).pipe(
    Layer.provide(
      SkillTools.layer({ maxOutput, schemas: "verbatim", ...noSkillTools ? { maxSkillTools: false as const } : {} })
    ),
    Layer.provide(
      SkillCatalog.layer(skills === "all" ? {} : { skills }).pipe(Exit.layerOr(Exit.fromClientError))
    ),
    Layer.provide(SkillClient.layer({ timeout }).pipe(Exit.layerOr(Exit.fromClientError))),
    Layer.provide(Exit.layerOrUnavailable(ZmqBus.layerFailover({ xsub, xpub })))
  )

const announce = Layer.effectDiscard(
  Effect.flatMap(McpHttp.McpHttp, ({ url }) => Effect.logInfo("MCP is ready").pipe(Effect.annotateLogs({ url })))
)

const overHttp = Effect.fnUntraced(function*(input: Input, port: number) {
  const token = yield* tokenOf(input)
  const http = McpHttp.layer({
    port,
    host: input.host,
    names: input.allowHost,
    ...token === undefined ? {} : { token }
  })
  // Before the proxy is looked for, which may take its time.
  yield* Effect.mapError(
    McpHttp.checkToken(input.host, token),
    ({ message }) => Exit.usage(`${message}: --token-file or SKILLSCALE_MCP_TOKEN`)
  )
  return announce.pipe(
    Layer.provide(Exit.layerOrUnavailable(http)),
    Layer.provide(skillsOf(input))
  )
})

const telemetry = Telemetry.layer({ serviceName: "skillscale-mcp" })

/** What desktop clients keep in their configuration: how to start this program. */
const configOf = ({ host, http, xpub, xsub }: Input) => ({
  mcpServers: {
    skillscale: Option.isSome(http)
      ? { type: "http", url: `http://${host}:${http.value}/mcp` }
      : {
        command: process.execPath,
        args: [Fs.realpathSync(process.argv[1] ?? ""), "mcp", "--proxy-xsub", xsub, "--proxy-xpub", xpub]
      }
  }
})

/** What says nothing to a client on standard input. */
const onlyHttp: ReadonlyArray<readonly [string, (input: Input) => boolean]> = [
  ["--host", ({ host }) => host !== "127.0.0.1"],
  ["--token-file", ({ tokenFile }) => Option.isSome(tokenFile)],
  ["--allow-host", ({ allowHost }) => allowHost.length > 0]
]

export const mcp = Effect.fnUntraced(function*(input: Input) {
  if (input.printConfig) return yield* Io.line(JSON.stringify(configOf(input), null, 2))
  yield* Exit.checkedProxies(input)
  const ofHttp = Option.isNone(input.http) ? onlyHttp.filter(([, isGiven]) => isGiven(input)) : []
  if (ofHttp.length > 0) return yield* Exit.usage(`${ofHttp.map(([flag]) => flag).join(", ")}: give --http, too`)
  if (Option.isSome(input.http)) {
    return yield* hold(Layer.provide(yield* overHttp(input, input.http.value), telemetry))
  }
  if (process.stdin.isTTY) {
    yield* Io.note("waiting for an MCP client on standard input; --http serves many, Ctrl-C ends it")
  }
  return yield* hold(Layer.provide(skillsOf(input), telemetry), Effect.scoped(McpStdio.serve()))
})
