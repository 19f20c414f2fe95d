import * as Settings from "@skillscale/core/Settings"
import * as Topic from "@skillscale/core/Topic"
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Exit from "./exit.ts"

const fromEnvironment = <A>(config: Config.Config<A>) =>
  Effect.mapError(config, (error) => new CliError.ValidationError({ message: Exit.explainConfig(error) }))

/** Takes the environment's value where the flag is absent. */
const or = <A>(config: Config.Config<A>) => (flag: Flag.Flag<A>): Flag.Flag<A> =>
  flag.pipe(
    Flag.optional,
    Flag.mapEffect(Option.match({
      onNone: () => fromEnvironment(config),
      onSome: (value): Effect.Effect<A, CliError.CliError> => Effect.succeed(value)
    }))
  )

/** A path may not be empty: that is a variable of a script that was not set, not the current folder. */
export const path = (name: string, metavar: string) =>
  Flag.String(name).pipe(Flag.withSchema(Schema.NonEmptyString), Flag.withMetavar(metavar))

export const skill = Argument.String("SKILL").pipe(Argument.withDescription("Name of the skill"))

export const xsub = Flag.String("proxy-xsub").pipe(
  Flag.withSchema(Settings.Endpoints),
  Flag.withMetavar("ADDRESS[,ADDRESS…]"),
  Flag.withDescription("Where the proxies take messages (SKILLSCALE_PROXY_XSUB, tcp://127.0.0.1:5444)"),
  or(Settings.proxyXsub)
)

export const xpub = Flag.String("proxy-xpub").pipe(
  Flag.withSchema(Settings.Endpoints),
  Flag.withMetavar("ADDRESS[,ADDRESS…]"),
  Flag.withDescription("Where the proxies give messages (SKILLSCALE_PROXY_XPUB, tcp://127.0.0.1:5555)"),
  or(Settings.proxyXpub)
)

export const topic = Flag.String("topic").pipe(
  Flag.withSchema(Topic.Topic),
  Flag.withMetavar("TOPIC"),
  Flag.withDescription("Topic that serves the skill; asked of the servers when absent"),
  Flag.optional
)

export const servedTopic = Flag.String("topic").pipe(
  Flag.withMetavar("TOPIC"),
  Flag.withDescription("Topic to serve (SKILLSCALE_TOPIC), such as TOPIC_DATA_PROCESSING"),
  Flag.optional,
  Flag.mapEffect(
    Option.match({
      onNone: () => fromEnvironment(Settings.topic),
      onSome: (topic): Effect.Effect<Option.Option<string>, CliError.CliError> => Effect.succeedSome(topic)
    })
  )
)

export const clientTimeout = Flag.String("timeout").pipe(
  Flag.withSchema(Settings.duration("seconds")),
  Flag.withMetavar("DURATION"),
  Flag.withDescription("How long to wait for the answer: 30s, 1500ms or seconds (SKILLSCALE_TIMEOUT, 30s)"),
  or(Settings.clientTimeout)
)

export const serverTimeout = Flag.String("timeout").pipe(
  Flag.withSchema(Settings.duration("millis")),
  Flag.withMetavar("DURATION"),
  Flag.withDescription("Longest run of a call: 30s, 1500ms or milliseconds (SKILLSCALE_TIMEOUT, 30000)"),
  or(Settings.serverTimeout)
)

export const skillsDir = (name: "skills" | "skills-dir") =>
  path(name, "DIR").pipe(
    Flag.withAlias(name === "skills" ? "skills-dir" : "skills"),
    Flag.withDescription("Folder with the skills (SKILLSCALE_SKILLS_DIR, ./skills)"),
    or(Settings.skillsDir)
  )

export const workers = Flag.String("workers").pipe(
  Flag.withSchema(Settings.Workers),
  Flag.withMetavar("N"),
  Flag.withDescription("Calls that run at a time, for each topic (SKILLSCALE_WORKERS, 4)"),
  or(Settings.workers)
)

const Queue = Schema.FiniteFromString.check(
  Schema.makeFilter((n) => Number.isInteger(n) && n >= 0 && n <= 100_000 || "a whole number of 0–100000")
)

export const queue = Flag.String("queue").pipe(
  Flag.withSchema(Queue),
  Flag.withMetavar("N"),
  Flag.withDescription("Calls that wait for a worker before further ones are refused (64)"),
  Flag.withDefault(64)
)

const interfaceOf = (what: string) =>
  Flag.String("host").pipe(
    Flag.withMetavar("HOST"),
    Flag.withDescription(`Interface of ${what}; 0.0.0.0 for all (127.0.0.1)`)
  )

export const host = interfaceOf("the ports").pipe(Flag.withDefault("127.0.0.1"))

export const metricsHost = interfaceOf("the metrics port").pipe(Flag.withDefault("127.0.0.1"))

const port = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withSchema(Settings.ListenPort),
    Flag.withMetavar("PORT"),
    Flag.withDescription(description)
  )

export const xsubPort = port("xsub-port", "Port that takes messages; 0 for a free one (SKILLSCALE_XSUB_PORT, 5444)")
  .pipe(
    or(Settings.xsubPort)
  )

export const xpubPort = port("xpub-port", "Port that gives messages; 0 for a free one (SKILLSCALE_XPUB_PORT, 5555)")
  .pipe(
    or(Settings.xpubPort)
  )

export const metricsPort = port(
  "metrics-port",
  "HTTP port of /metrics; 0 for a free one (SKILLSCALE_METRICS_PORT, 9100)"
)
  .pipe(or(Settings.metricsPort))

export const serverMetricsPort = port("metrics-port", "HTTP port of /metrics; 0 for a free one; none when absent").pipe(
  Flag.optional
)

export const httpPort = port("http", "Serve HTTP on this port; 0 for a free one")

export const httpHost = interfaceOf("--http").pipe(Flag.withSchema(Schema.NonEmptyString), Flag.optional)

/** Not every skill that loads has a name that is valid, but none has one like a path, as `--skills` of a server is. */
const OfferedSkills = Settings.SkillNames.check(
  Schema.makeFilter((names) =>
    names === "all" || names.length > 0 && !names.some((name) => /^[.~]|[/\\]/.test(name)) ||
    "names of skills, separated by commas, or all; the folder with the skills is for up and server"
  )
)

export const offeredSkills = Flag.String("skills").pipe(
  Flag.withSchema(OfferedSkills),
  Flag.withMetavar("SKILL,…"),
  Flag.withDescription("Names of the skills to offer, or all (all)"),
  Flag.withDefault("all" as const)
)

export const requireNative = Flag.Boolean("require-native").pipe(
  Flag.withDescription("Refuse to start without the native executor"),
  Flag.withDefault(false)
)

const sandbox = Flag.Literals("sandbox", ["on", "off"]).pipe(
  Flag.withDescription("Confine skills; off lets them do all that the server can (SKILLSCALE_SANDBOX, on)"),
  or(Settings.sandbox)
)

const requireSandbox = Flag.Boolean("require-sandbox").pipe(
  Flag.withDescription("Refuse to start where a mechanism that confines skills is missing; see skillscale doctor"),
  Flag.withDefault(false)
)

const allowNetwork = Flag.String("allow-network").pipe(
  Flag.withSchema(Settings.SkillNames),
  Flag.withMetavar("SKILL,…"),
  Flag.withDescription("Skills that may use the network when they ask for it, or all (SKILLSCALE_ALLOW_NETWORK, none)"),
  or(Settings.allowNetwork)
)

const most = (name: string, schema: Schema.Codec<number, string>, description: string, config: Config.Config<number>) =>
  Flag.String(name).pipe(Flag.withSchema(schema), Flag.withMetavar("N"), Flag.withDescription(description), or(config))

const readable = path("readable", "PATH").pipe(
  Flag.withDescription(
    "A file or folder that skills may read besides the system; may be repeated (SKILLSCALE_READABLE)"
  ),
  Flag.atLeast(0),
  Flag.mapEffect((paths) => paths.length > 0 ? Effect.succeed(paths) : fromEnvironment(Settings.readable))
)

/** What skills may do and use. */
export const confinement = {
  sandbox,
  requireSandbox,
  allowNetwork,
  maxMemory: most(
    "max-memory",
    Settings.Bytes,
    "Most memory of a run, all of its processes together (SKILLSCALE_MAX_MEMORY, 4GiB)",
    Settings.maxMemory
  ),
  maxDisk: most(
    "max-disk",
    Settings.Bytes,
    "Most that a run may write to files (SKILLSCALE_MAX_DISK, 1GiB)",
    Settings.maxDisk
  ),
  maxProcesses: most(
    "max-processes",
    Settings.Processes,
    "Most processes and threads of a run (SKILLSCALE_MAX_PROCESSES, 512)",
    Settings.maxProcesses
  ),
  readable,
  warm: Flag.Literals("warm", ["on", "standard", "off"]).pipe(
    Flag.withDescription(
      "Start runs warm; standard leaves out Python skills with packages of their own (SKILLSCALE_WARM, on)"
    ),
    or(Settings.warm)
  ),
  prestart: most(
    "prestart",
    Settings.Prestart,
    "Node processes that are started ahead, about 50 MiB each; 0 for none (SKILLSCALE_PRESTART, 4)",
    Settings.prestart
  )
}

/** How to reach the proxy, and how long to wait. */
export const connection = { timeout: clientTimeout, xsub, xpub }

export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print the whole answer as JSON"),
  Flag.withDefault(false)
)
