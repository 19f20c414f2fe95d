import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Flags from "./flags.ts"

const MaxOutput = Schema.FiniteFromString.check(
  Schema.makeFilter((n) => Number.isInteger(n) && n >= 1000 && n <= 10_000_000 || "a whole number of 1000–10000000")
)

/** The longest text of an answer where none is given. */
export const maxOutput = 30_000

const flags = {
  http: Flags.httpPort.pipe(Flag.optional),
  host: Flags.httpHost,
  tokenFile: Flags.path("token-file", "FILE").pipe(
    Flag.withDescription("File with the token that HTTP clients have to send (SKILLSCALE_MCP_TOKEN)"),
    Flag.optional
  ),
  allowHost: Flag.String("allow-host").pipe(
    Flag.withSchema(Schema.NonEmptyString),
    Flag.withMetavar("NAME"),
    Flag.withDescription("One more name under which HTTP clients and web pages may reach this server; may be repeated"),
    Flag.atLeast(0)
  ),
  skills: Flags.offeredSkills,
  maxOutput: Flag.String("max-output").pipe(
    Flag.withSchema(MaxOutput),
    Flag.withMetavar("N"),
    Flag.withDescription(`Longest text of an answer, in characters (${maxOutput})`),
    Flag.withDefault(maxOutput)
  ),
  noSkillTools: Flag.Boolean("no-skill-tools").pipe(
    Flag.withDescription("Offer no tool for each skill, only those that find, read and run skills"),
    Flag.withDefault(false)
  ),
  printConfig: Flag.Boolean("print-config").pipe(
    Flag.withDescription(
      "Print the configuration of a client for these flags, and end; with --http the one of a client of that server"
    ),
    Flag.withDefault(false)
  ),
  ...Flags.connection
}

export const mcp = Command.make(
  "mcp",
  flags,
  (input) => Effect.flatMap(Effect.promise(() => import("./mcp.ts")), (module) => module.mcp(input))
).pipe(
  Command.withDescription(
    "Serve skills over the Model Context Protocol: on standard input and output for a desktop client, which ends it, or with --http " +
      "on /mcp of a port. Beyond the loopback interface a token is needed. Ctrl-C or SIGTERM drains (requests over HTTP may " +
      "finish, 10 s at most) and exits with 0; a second one ends it at once"
  ),
  Command.withShortDescription("Serve skills over the Model Context Protocol"),
  Command.withExamples([
    { command: "skillscale mcp", description: "Serve one client, as a desktop client starts it" },
    { command: "skillscale mcp --http 8080", description: "Serve http://127.0.0.1:8080/mcp" }
  ])
)
