/** What clients keep in their configuration: how to start this program with its flags, or where it serves. */
import * as MetricsServer from "@skillscale/core/MetricsServer"
import * as Settings from "@skillscale/core/Settings"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import * as Exit from "./exit.ts"
import type { Input, Served } from "./mcp.ts"
import * as McpCommand from "./mcpCommand.ts"

const duration = Schema.encodeSync(Settings.duration("millis"))

/** Also what came from variables, which the client may not have. */
const argumentsOf = Effect.fnUntraced(function*({ maxOutput, noSkillTools, skills, timeout, xpub, xsub }: Input) {
  const level = yield* References.MinimumLogLevel
  return [
    ...["mcp", "--proxy-xsub", xsub, "--proxy-xpub", xpub, "--timeout", duration(timeout)],
    ...skills === "all" ? [] : ["--skills", skills.join(",")],
    ...maxOutput === McpCommand.maxOutput ? [] : ["--max-output", String(maxOutput)],
    ...noSkillTools ? ["--no-skill-tools"] : [],
    ...level === "Info" ? [] : ["--log-level", level.toLowerCase()]
  ]
})

const locationOf = Effect.fnUntraced(function*({ host, port, token }: Served) {
  if (port === 0) return yield* Exit.usage("--print-config has to name the port: give --http another than 0")
  return {
    type: "http",
    url: `http://${MetricsServer.reachable(host)}:${port}/mcp`,
    ...token === undefined ? {} : { headers: { Authorization: "Bearer ${SKILLSCALE_MCP_TOKEN}" } }
  }
})

/** The token is not in it: where it belongs there is the name of its variable, which many clients replace. */
export const of = Effect.fnUntraced(function*(input: Input, served: Served | undefined) {
  const skillscale = served === undefined
    ? { command: process.execPath, args: [Fs.realpathSync(process.argv[1] ?? ""), ...yield* argumentsOf(input)] }
    : yield* locationOf(served)
  return { mcpServers: { skillscale } }
})
