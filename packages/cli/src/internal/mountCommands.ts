import * as Settings from "@skillscale/core/Settings"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Flags from "./flags.ts"

const Category = Schema.String.check(
  Schema.makeFilter((name) =>
    /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && name.length <= 64 ||
    "at most 64 lower-case letters, digits and single hyphens between them"
  )
)

const mcp = Command.make("mcp", {
  name: Argument.String("NAME").pipe(
    Argument.withSchema(Category),
    Argument.withDescription("Category of the skills; notes becomes TOPIC_NOTES")
  ),
  command: Argument.String("COMMAND").pipe(
    Argument.variadic(),
    Argument.withDescription("The server's program and its arguments, after --")
  ),
  url: Flag.String("url").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription("The server's address, in place of a program"),
    Flag.optional
  ),
  headers: Flag.String("header").pipe(
    Flag.withMetavar("'NAME: VALUE'"),
    Flag.withDescription("A header of every request; others may see it in the list of processes. May be repeated"),
    Flag.atLeast(0)
  ),
  headerFile: Flags.path("header-file", "PATH").pipe(
    Flag.withDescription("A file with one header on each line, which nobody else sees (SKILLSCALE_MOUNT_HEADERS)"),
    Flag.optional
  ),
  env: Flag.String("env").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription(
      "A variable that the program gets besides PATH, HOME, USER, LANG and their like; may be repeated"
    ),
    Flag.atLeast(0)
  ),
  startTimeout: Flag.String("start-timeout").pipe(
    Flag.withSchema(Settings.duration("seconds")),
    Flag.withMetavar("DURATION"),
    Flag.withDescription("How long the server may take to start and to answer for the first time (60s)"),
    Flag.withDefault(Duration.seconds(60))
  ),
  workers: Flags.workers,
  queue: Flags.queue,
  timeout: Flags.serverTimeout,
  xpub: Flags.xpub,
  xsub: Flags.xsub,
  host: Flags.metricsHost,
  metricsPort: Flags.serverMetricsPort
}, (input) => Effect.flatMap(Effect.promise(() => import("./mount.ts")), (module) => module.mountMcp(input))).pipe(
  Command.withDescription(
    "Serve the tools of an MCP server as skills. The server is a program, which is started, or a URL. It may start before " +
      "the proxy. Ctrl-C or SIGTERM drains (calls in hand may finish, 10 s at most), ends the program and exits with 0"
  ),
  Command.withShortDescription("Serve the tools of an MCP server as skills"),
  Command.withExamples([
    {
      command: "skillscale mount mcp files -- npx -y @modelcontextprotocol/server-filesystem .",
      description: "Start a server and serve its tools on TOPIC_FILES"
    },
    {
      command: "skillscale mount mcp notes --url https://notes.example.com/mcp --header-file token.txt",
      description: "Serve the tools of a server elsewhere on TOPIC_NOTES"
    }
  ])
)

export const mount = Command.make("mount").pipe(
  Command.withDescription("Serve as skills what is none"),
  Command.withSubcommands([mcp])
)
