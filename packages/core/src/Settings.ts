/**
 * The settings that SkillScale reads from its environment, with their defaults, and the text forms that they share with
 * the command line. A variable that is unset, empty or blank takes its default. Nothing is read before a program asks for
 * it, so that a wrong value concerns only the piece that uses it.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Topic from "./Topic.ts"

/**
 * The unit of a duration that is written without one.
 *
 * @category models
 * @since 0.1.0
 */
export type DefaultUnit = "millis" | "seconds"

/**
 * The longest duration that a setting may have: 24 days, just below what a Node timer can hold (2³¹ − 1 ms).
 *
 * @category models
 * @since 0.1.0
 */
export const maxDuration: Duration.Duration = Duration.days(24)

type Parser<A> = (text: string) => Result.Result<A, string>

const got = (expected: string, text: string): string => `expected ${expected}, got ${JSON.stringify(text)}`

const codec = <A>(
  to: Schema.Codec<A>,
  expected: string,
  parse: Parser<A>,
  encode: (value: A) => string
): Schema.Codec<A, string> =>
  Schema.String.pipe(Schema.decodeTo(
    to,
    SchemaTransformation.transformEffect<A, string>({
      decode: (text, options) =>
        Effect.mapError(
          Effect.fromResult(parse(text)),
          () => new SchemaIssue.InvalidValue({ expected }, text, options)
        ),
      encode: (value) => Effect.succeed(encode(value))
    })
  ))

const setting = <A>(name: string, schema: Schema.Codec<A, string>, fallback: A): Config.Config<A> =>
  Config.String(name).pipe(
    Config.withDefault(""),
    Config.mapEffect((text) =>
      text.trim() === ""
        ? Effect.succeed(fallback)
        : Effect.mapError(
          Schema.decodeEffect(schema, { reportInput: true })(text.trim()),
          ({ issue }) => new Config.ConfigError(new Schema.SchemaError(new SchemaIssue.Pointer([name], issue)))
        )
    )
  )

const millisPer = (unit: string): number => {
  switch (unit) {
    case "h":
      return 3_600_000
    case "m":
      return 60_000
    case "s":
    case "seconds":
      return 1_000
    default:
      return 1
  }
}

const expectedDuration = (unit: DefaultUnit): string =>
  `a duration above 0 and of at most 24 days, as a number of ${
    unit === "millis" ? "milliseconds" : "seconds"
  } or with one of the units ms, s, m, h (such as 1500ms, 30s, 2m, 1h)`

/**
 * Reads a duration such as `1500ms`, `30s`, `2m`, `1.5h`, or a bare number in `unit`. Fails with a message that tells the
 * accepted forms and the value.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parseDuration = (text: string, unit: DefaultUnit): Result.Result<Duration.Duration, string> => {
  const [matched, digits, suffix = unit] = /^(\d{1,16}(?:\.\d{1,16})?) ?(ms|s|m|h)?$/.exec(text.trim()) ?? []
  const millis = matched === undefined ? 0 : Number(digits) * millisPer(suffix)
  return millis > 0 && millis <= Duration.toMillis(maxDuration)
    ? Result.succeed(Duration.millis(millis))
    : Result.fail(got(expectedDuration(unit), text))
}

/**
 * Decodes the text forms of `parseDuration`; encodes to milliseconds with their unit.
 *
 * @category schemas
 * @since 0.1.0
 */
export const duration = (unit: DefaultUnit): Schema.Codec<Duration.Duration, string> =>
  codec(
    Schema.Duration,
    expectedDuration(unit),
    (text) => parseDuration(text, unit),
    (value) => `${Duration.toMillis(value)}ms`
  )

const expectedEndpoint =
  "tcp://host:port with a port of 1–65535, or ipc://path with a path of at most 107 bytes (such as tcp://127.0.0.1:5444)"

/**
 * Reads the address of a proxy: `tcp://host:port`, where the host is a name, an IPv4 address or an IPv6 address in
 * brackets, or `ipc://path` with a path of at most 107 bytes (what the kernel allows). Fails with a message that tells the
 * accepted forms and the value.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parseEndpoint = (text: string): Result.Result<string, string> => {
  const endpoint = text.trim()
  const tcp = /^tcp:\/\/(?:\[[\dA-Fa-f:.]+(?:%[\w.-]+)?\]|\w(?:[\w.-]*\w)?):(\d{1,5})$/.exec(endpoint)
  const port = Number(tcp?.[1] ?? 0)
  const path = /^ipc:\/\/(\P{Cc}+)$/u.exec(endpoint)?.[1]
  return port >= 1 && port <= 65_535 || path !== undefined && Buffer.byteLength(path) <= 107
    ? Result.succeed(endpoint)
    : Result.fail(got(expectedEndpoint, text))
}

/**
 * The address of a proxy, in the forms of `parseEndpoint`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Endpoint: Schema.Codec<string, string> = codec(
  Schema.String,
  expectedEndpoint,
  parseEndpoint,
  (value) => value
)

/**
 * The most proxies that one program uses.
 *
 * @category models
 * @since 0.1.0
 */
export const maxProxies = 16

/**
 * The addresses of one proxy or of up to 16, each in the forms of `parseEndpoint`, with commas between them.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Endpoints: Schema.Codec<string, string> = codec(
  Schema.String,
  `${expectedEndpoint}, or up to ${maxProxies} of them with commas between them`,
  (text) =>
    Result.flatMap(Result.all(text.split(",").map(parseEndpoint)), (endpoints) =>
      endpoints.length <= maxProxies
        ? Result.succeed(endpoints.join(","))
        : Result.fail(got(`at most ${maxProxies} addresses`, text))),
  (value) => value
)

/**
 * Where one proxy takes messages, and where it gives them.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProxyAddress {
  readonly xsub: string
  readonly xpub: string
}

/**
 * Puts together the addresses that belong to one proxy: the first of one list and the first of the other, and so on. Both
 * have the form of `Endpoints`. Fails with a message when one has more than the other.
 *
 * @category constructors
 * @since 0.1.0
 */
export const proxies = (
  { xpub, xsub }: ProxyAddress
): Result.Result<readonly [ProxyAddress, ...ReadonlyArray<ProxyAddress>], string> => {
  const [publish, subscribe] = [xsub.split(","), xpub.split(",")]
  const pairs = publish.flatMap((xsub, index) => {
    const xpub = subscribe[index]
    return xpub === undefined ? [] : [{ xsub, xpub }]
  })
  const [first, ...others] = pairs
  return first === undefined || publish.length !== subscribe.length
    ? Result.fail(
      `proxies have two addresses each, but there are ${publish.length} to publish to (${xsub}) and ` +
        `${subscribe.length} to subscribe to (${xpub})`
    )
    : Result.succeed([first, ...others])
}

const integer = (min: number, max: number): Schema.Codec<number, string> =>
  codec(
    Schema.Int,
    `a whole number of ${min}–${max}`,
    (text) => {
      const value = /^\d{1,9}$/.test(text.trim()) ? Number(text) : Number.NaN
      return value >= min && value <= max ? Result.succeed(value) : Result.fail(text)
    },
    String
  )

/**
 * A port to listen on: 0–65535, where 0 takes a free one.
 *
 * @category schemas
 * @since 0.1.0
 */
export const ListenPort: Schema.Codec<number, string> = integer(0, 65_535)

/**
 * How many skills one server runs at the same time: 1–1024.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Workers: Schema.Codec<number, string> = integer(1, 1_024)

const bytesPer: Readonly<Record<string, number>> = { "": 1, B: 1, KIB: 1024, MIB: 1024 ** 2, GIB: 1024 ** 3 }

const expectedBytes = "a number of bytes such as 512MiB, 2GiB or 1048576"

/**
 * A number of bytes, at least 1, with or without a unit: `1048576`, `512MiB`, `2GiB`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Bytes: Schema.Codec<number, string> = codec(
  Schema.Natural,
  expectedBytes,
  (text) => {
    const [matched, digits, unit = ""] = /^(\d{1,15}) ?(B|KiB|MiB|GiB)?$/i.exec(text.trim()) ?? []
    const bytes = Number(digits) * (bytesPer[unit.toUpperCase()] ?? Number.NaN)
    return matched !== undefined && Number.isSafeInteger(bytes) && bytes >= 1
      ? Result.succeed(bytes)
      : Result.fail(got(expectedBytes, text))
  },
  String
)

/**
 * How many processes and threads a run may have: 1–1,000,000.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Processes: Schema.Codec<number, string> = integer(1, 1_000_000)

/**
 * The CPU time that each process of a run may use, in seconds: 1–999,999,999.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CpuSeconds: Schema.Codec<number, string> = integer(1, 999_999_999)

/**
 * `true` or `false`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const YesNo: Schema.Codec<boolean, string> = codec(
  Schema.Boolean,
  "true or false",
  (text) => text === "true" || text === "false" ? Result.succeed(text === "true") : Result.fail(text),
  String
)

/**
 * How many processes wait ahead of their runs: 0–4096.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Prestart: Schema.Codec<number, string> = integer(0, 4096)

/**
 * Names of skills, separated by commas or spaces, or `all`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SkillNames: Schema.Codec<ReadonlyArray<string> | "all", string> = codec(
  Schema.Union([Schema.Array(Schema.String), Schema.Literal("all")]),
  "names of skills, separated by commas, or all",
  (text) =>
    text.trim() === "all"
      ? Result.succeed("all")
      : Result.succeed(text.split(/[\s,]+/).filter((name) => name !== "")),
  (names) => names === "all" ? names : names.join(",")
)

/**
 * Whether skills are confined: `SKILLSCALE_SANDBOX`, `on` or `off`, by default `on`.
 *
 * @category settings
 * @since 0.1.0
 */
export const sandbox: Config.Config<"on" | "off"> = setting("SKILLSCALE_SANDBOX", Schema.Literals(["on", "off"]), "on")

/**
 * Whether runs may start warm: `SKILLSCALE_WARM`, `on`, `standard` (not Python skills with packages) or `off`, by default `on`.
 *
 * @category settings
 * @since 0.1.0
 */
export const warm: Config.Config<"on" | "standard" | "off"> = setting(
  "SKILLSCALE_WARM",
  Schema.Literals(["on", "standard", "off"]),
  "on"
)

/**
 * The skills that may use the network when they ask for it: `SKILLSCALE_ALLOW_NETWORK`, by default none.
 *
 * @category settings
 * @since 0.1.0
 */
export const allowNetwork: Config.Config<ReadonlyArray<string> | "all"> = setting(
  "SKILLSCALE_ALLOW_NETWORK",
  SkillNames,
  []
)

/**
 * The most memory of a run, all of its processes together: `SKILLSCALE_MAX_MEMORY`, by default 4 GiB.
 *
 * @category settings
 * @since 0.1.0
 */
export const maxMemory: Config.Config<number> = setting("SKILLSCALE_MAX_MEMORY", Bytes, 4 * 1024 ** 3)

/**
 * The most that a run may write to files: `SKILLSCALE_MAX_DISK`, by default 1 GiB.
 *
 * @category settings
 * @since 0.1.0
 */
export const maxDisk: Config.Config<number> = setting("SKILLSCALE_MAX_DISK", Bytes, 1024 ** 3)

/**
 * The most processes and threads of a run: `SKILLSCALE_MAX_PROCESSES`, by default 512.
 *
 * @category settings
 * @since 0.1.0
 */
export const maxProcesses: Config.Config<number> = setting("SKILLSCALE_MAX_PROCESSES", Processes, 512)

/**
 * How many Node processes are started ahead and wait for runs: `SKILLSCALE_PRESTART`, 0 to 4096, by default 4.
 *
 * @category settings
 * @since 0.1.0
 */
export const prestart: Config.Config<number> = setting("SKILLSCALE_PRESTART", Prestart, 4)

/**
 * What skills may read besides the system, separated by colons: `SKILLSCALE_READABLE`, by default nothing.
 *
 * @category settings
 * @since 0.1.0
 */
export const readable: Config.Config<ReadonlyArray<string>> = Config.map(
  setting("SKILLSCALE_READABLE", Schema.String, ""),
  (text) => text.split(":").filter((path) => path !== "")
)

/**
 * Whether servers prepare what skills depend on: `SKILLSCALE_DEPENDENCIES`, `on` or `off`, by default `on`.
 *
 * @category settings
 * @since 0.1.0
 */
export const dependencies: Config.Config<"on" | "off"> = setting(
  "SKILLSCALE_DEPENDENCIES",
  Schema.Literals(["on", "off"]),
  "on"
)

/**
 * Where prepared dependencies are kept: `SKILLSCALE_CACHE_DIR`, by default `skillscale` in `XDG_CACHE_HOME` when that is an
 * absolute path, else in `~/.cache`.
 *
 * @category settings
 * @since 0.1.0
 */
export const cacheDir: Config.Config<string> = Config.map(
  Config.all([setting("SKILLSCALE_CACHE_DIR", Schema.String, ""), setting("XDG_CACHE_HOME", Schema.String, "")]),
  ([own, shared]) =>
    own === ""
      ? Path.join(Path.isAbsolute(shared) ? shared : Path.join(Os.homedir(), ".cache"), "skillscale")
      : Path.resolve(own)
)

/**
 * The most that prepared dependencies take on disk, all together: `SKILLSCALE_MAX_CACHE`, by default 10 GiB.
 *
 * @category settings
 * @since 0.1.0
 */
export const maxCache: Config.Config<number> = setting("SKILLSCALE_MAX_CACHE", Bytes, 10 * 1024 ** 3)

/**
 * Whether installing dependencies may run code of packages: `SKILLSCALE_INSTALL_SCRIPTS`, `on` or `off`, by default `off`.
 *
 * @category settings
 * @since 0.1.0
 */
export const installScripts: Config.Config<"on" | "off"> = setting(
  "SKILLSCALE_INSTALL_SCRIPTS",
  Schema.Literals(["on", "off"]),
  "off"
)

/**
 * The longest that installing the dependencies of a skill may take: `SKILLSCALE_PREPARE_TIMEOUT`, in seconds unless it has a
 * unit, by default 10 minutes.
 *
 * @category settings
 * @since 0.1.0
 */
export const prepareTimeout: Config.Config<Duration.Duration> = setting(
  "SKILLSCALE_PREPARE_TIMEOUT",
  duration("seconds"),
  Duration.minutes(10)
)

/**
 * The memory of one program that installs dependencies, with all that it starts: `SKILLSCALE_PREPARE_MEMORY`, by default 2 GiB.
 *
 * @category settings
 * @since 0.1.0
 */
export const prepareMemory: Config.Config<number> = setting("SKILLSCALE_PREPARE_MEMORY", Bytes, 2 * 1024 ** 3)

/**
 * Its processes and threads at a time: `SKILLSCALE_PREPARE_PROCESSES`, by default 256.
 *
 * @category settings
 * @since 0.1.0
 */
export const prepareProcesses: Config.Config<number> = setting("SKILLSCALE_PREPARE_PROCESSES", Processes, 256)

/**
 * Its CPU time: `SKILLSCALE_PREPARE_CPU`, in seconds unless it has a unit, by default 10 minutes.
 *
 * @category settings
 * @since 0.1.0
 */
export const prepareCpu: Config.Config<Duration.Duration> = setting(
  "SKILLSCALE_PREPARE_CPU",
  duration("seconds"),
  Duration.minutes(10)
)

/**
 * The largest file that it may write: `SKILLSCALE_PREPARE_FILE`, by default 4 GiB.
 *
 * @category settings
 * @since 0.1.0
 */
export const prepareFile: Config.Config<number> = setting("SKILLSCALE_PREPARE_FILE", Bytes, 4 * 1024 ** 3)

/**
 * Where messages are published: `SKILLSCALE_PROXY_XSUB`, by default `tcp://127.0.0.1:5444`. Several proxies have commas
 * between them.
 *
 * @category settings
 * @since 0.1.0
 */
export const proxyXsub: Config.Config<string> = setting("SKILLSCALE_PROXY_XSUB", Endpoints, "tcp://127.0.0.1:5444")

/**
 * Where messages are subscribed to: `SKILLSCALE_PROXY_XPUB`, by default `tcp://127.0.0.1:5555`. Several proxies have commas
 * between them, in the order of `proxyXsub`.
 *
 * @category settings
 * @since 0.1.0
 */
export const proxyXpub: Config.Config<string> = setting("SKILLSCALE_PROXY_XPUB", Endpoints, "tcp://127.0.0.1:5555")

/**
 * The topic that a server serves: `SKILLSCALE_TOPIC`, by default none.
 *
 * @category settings
 * @since 0.1.0
 */
export const topic: Config.Config<Option.Option<string>> = Config.map(
  setting("SKILLSCALE_TOPIC", Schema.Union([Topic.Topic, Schema.Literal("")]), ""),
  Option.liftPredicate((topic) => topic !== "")
)

/**
 * The folder that holds the skills: `SKILLSCALE_SKILLS_DIR`, by default `./skills`.
 *
 * @category settings
 * @since 0.1.0
 */
export const skillsDir: Config.Config<string> = setting("SKILLSCALE_SKILLS_DIR", Schema.String, "./skills")

/**
 * How many skills one server runs at the same time: `SKILLSCALE_WORKERS`, by default 4.
 *
 * @category settings
 * @since 0.1.0
 */
export const workers: Config.Config<number> = setting("SKILLSCALE_WORKERS", Workers, 4)

/**
 * How long a server lets a skill run: `SKILLSCALE_TIMEOUT`, in milliseconds unless it has a unit, by default 30 s.
 *
 * @category settings
 * @since 0.1.0
 */
export const serverTimeout: Config.Config<Duration.Duration> = setting(
  "SKILLSCALE_TIMEOUT",
  duration("millis"),
  Duration.seconds(30)
)

/**
 * How long a client waits for an answer: `SKILLSCALE_TIMEOUT`, in seconds unless it has a unit, by default 30 s.
 *
 * @category settings
 * @since 0.1.0
 */
export const clientTimeout: Config.Config<Duration.Duration> = setting(
  "SKILLSCALE_TIMEOUT",
  duration("seconds"),
  Duration.seconds(30)
)

/**
 * The port on which the proxy takes messages: `SKILLSCALE_XSUB_PORT`, by default 5444.
 *
 * @category settings
 * @since 0.1.0
 */
export const xsubPort: Config.Config<number> = setting("SKILLSCALE_XSUB_PORT", ListenPort, 5_444)

/**
 * The port on which the proxy hands messages out: `SKILLSCALE_XPUB_PORT`, by default 5555.
 *
 * @category settings
 * @since 0.1.0
 */
export const xpubPort: Config.Config<number> = setting("SKILLSCALE_XPUB_PORT", ListenPort, 5_555)

/**
 * The port on which the proxy serves `/metrics`, `/healthz`, `/readyz` and `/topology`: `SKILLSCALE_METRICS_PORT`, by
 * default 9100.
 *
 * @category settings
 * @since 0.1.0
 */
export const metricsPort: Config.Config<number> = setting("SKILLSCALE_METRICS_PORT", ListenPort, 9_100)
