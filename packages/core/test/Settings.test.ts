import * as Settings from "@skillscale/core/Settings"
import { assert, describe, it } from "@effect/vitest"
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const read = <A>(config: Config.Config<A>, env: Record<string, string>) => config.parse(ConfigProvider.fromEnv({ env }))

const millis = (text: string, unit: Settings.DefaultUnit) =>
  Result.getOrUndefined(Result.map(Settings.parseDuration(text, unit), Duration.toMillis))

describe("Settings.parseDuration", () => {
  it("reads numbers with and without a unit", () => {
    assert.strictEqual(millis("30000", "millis"), 30_000)
    assert.strictEqual(millis("30", "seconds"), 30_000)
    assert.strictEqual(millis("0.5", "seconds"), 500)
    for (const unit of ["millis", "seconds"] as const) {
      assert.strictEqual(millis("1500ms", unit), 1_500)
      assert.strictEqual(millis("30s", unit), 30_000)
      assert.strictEqual(millis(" 2 m ", unit), 120_000)
      assert.strictEqual(millis("1.5h", unit), 5_400_000)
      assert.strictEqual(millis("576h", unit), 2_073_600_000)
    }
  })

  it("refuses everything else", () => {
    const refused = [
      "",
      " ",
      "0",
      "0s",
      "-1",
      "+1",
      "1e3",
      ".5",
      "5.",
      "1d",
      "s",
      "30 s s",
      "30S",
      "NaN",
      "Infinity",
      "0x10",
      "577h",
      "9999999999999999",
      "1\n2",
      "٣"
    ]
    for (const text of refused) {
      assert.isUndefined(millis(text, "millis"), text)
    }
    assert.deepStrictEqual(
      Settings.parseDuration("soon", "seconds"),
      Result.fail(
        "expected a duration above 0 and of at most 24 days, as a number of seconds or with one of the units ms, s, m, h " +
          "(such as 1500ms, 30s, 2m, 1h), got \"soon\""
      )
    )
  })

  it.prop("survives any text", [Schema.String], ([text]) => {
    const parsed = millis(text, "millis")
    return parsed === undefined || parsed > 0 && parsed <= Duration.toMillis(Settings.maxDuration)
  })

  it.prop(
    "decodes what it encodes",
    [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_073_600_000 }))],
    ([value]) => {
      const codec = Settings.duration("seconds")
      return Duration.toMillis(Schema.decodeSync(codec)(Schema.encodeSync(codec)(Duration.millis(value)))) === value
    }
  )
})

describe("Settings.proxies", () => {
  const read = Schema.decodeUnknownResult(Settings.Endpoints)

  it("reads up to 16 addresses with commas between them, and puts those of one proxy together", () => {
    const [xsub, xpub] = ["tcp://a:1, ipc:///tmp/b", "tcp://a:2,ipc:///tmp/c"].map((text) =>
      Result.getOrThrow(read(text))
    )
    assert.deepStrictEqual(
      Settings.proxies({ xsub: xsub ?? "", xpub: xpub ?? "" }),
      Result.succeed([{ xsub: "tcp://a:1", xpub: "tcp://a:2" }, { xsub: "ipc:///tmp/b", xpub: "ipc:///tmp/c" }])
    )
    const many = Array.from({ length: 16 }, () => "tcp://a:1").join(",")
    assert.isTrue(Result.isSuccess(read(many)))
    for (const text of [`${many},tcp://a:1`, "tcp://a:1,", ",", "", "tcp://a:1;tcp://b:1"]) {
      assert.isTrue(Result.isFailure(read(text)), text)
    }
  })

  it("refuses one address without the other", () => {
    assert.isTrue(Result.isFailure(Settings.proxies({ xsub: "tcp://a:1,tcp://b:1", xpub: "tcp://a:2" })))
    assert.isTrue(Result.isFailure(Settings.proxies({ xsub: "tcp://a:1", xpub: "tcp://a:2,tcp://b:2" })))
  })
})

describe("Settings.parseEndpoint", () => {
  it("accepts TCP and IPC addresses", () => {
    const accepted = [
      "tcp://127.0.0.1:5444",
      "tcp://proxy:1",
      "tcp://proxy.skillscale.svc.cluster.local:65535",
      "tcp://[::1]:5444",
      "tcp://[fe80::1%eth0]:5444",
      "tcp://my_proxy:80",
      "ipc:///run/skill scale.sock",
      `ipc://${"x".repeat(107)}`
    ]
    for (const text of accepted) {
      assert.deepStrictEqual(Settings.parseEndpoint(` ${text}`), Result.succeed(text))
    }
  })

  it("refuses everything else", () => {
    const refused = [
      "",
      "127.0.0.1:5444",
      "tcp://127.0.0.1",
      "tcp://:5444",
      "tcp://*:5444",
      "tcp://a:0",
      "tcp://a:65536",
      "tcp://a:5444/",
      "tcp://a b:1",
      "tcp://::1:5444",
      "http://a:1",
      "inproc://a",
      "ipc://",
      "ipc://a\u0000b",
      `ipc://${"é".repeat(54)}`,
      "TCP://a:1",
      "tcp://a:1\ntcp://b:1",
      "tcp://-a:1"
    ]
    for (const text of refused) {
      assert.isTrue(Result.isFailure(Settings.parseEndpoint(text)), text)
    }
  })
})

describe("Settings", () => {
  const settings = {
    proxyXsub: Settings.proxyXsub,
    proxyXpub: Settings.proxyXpub,
    topic: Settings.topic,
    skillsDir: Settings.skillsDir,
    workers: Settings.workers,
    serverTimeout: Settings.serverTimeout,
    clientTimeout: Settings.clientTimeout,
    xsubPort: Settings.xsubPort,
    xpubPort: Settings.xpubPort,
    metricsPort: Settings.metricsPort
  }
  const readAll = (env: Record<string, string>) =>
    Effect.all({
      proxyXsub: read(settings.proxyXsub, env),
      proxyXpub: read(settings.proxyXpub, env),
      topic: read(settings.topic, env),
      skillsDir: read(settings.skillsDir, env),
      workers: read(settings.workers, env),
      serverTimeout: read(settings.serverTimeout, env),
      clientTimeout: read(settings.clientTimeout, env),
      xsubPort: read(settings.xsubPort, env),
      xpubPort: read(settings.xpubPort, env),
      metricsPort: read(settings.metricsPort, env)
    })
  const defaults = {
    proxyXsub: "tcp://127.0.0.1:5444",
    proxyXpub: "tcp://127.0.0.1:5555",
    topic: Option.none(),
    skillsDir: "./skills",
    workers: 4,
    serverTimeout: Duration.seconds(30),
    clientTimeout: Duration.seconds(30),
    xsubPort: 5_444,
    xpubPort: 5_555,
    metricsPort: 9_100
  }
  const names = [
    "PROXY_XSUB",
    "PROXY_XPUB",
    "TOPIC",
    "SKILLS_DIR",
    "WORKERS",
    "TIMEOUT",
    "XSUB_PORT",
    "XPUB_PORT",
    "METRICS_PORT"
  ]
    .map((name) => `SKILLSCALE_${name}`)

  it.effect("has the defaults of the architecture where a variable is unset or blank", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* readAll({}), defaults)
      assert.deepStrictEqual(yield* readAll(Object.fromEntries(names.map((name) => [name, " "]))), defaults)
    }))

  it.effect("reads the environment", () =>
    Effect.gen(function*() {
      const values = ["tcp://a:1", "ipc:///x", "TOPIC_X", "/srv/skills", "8", "45", "1", "0", "65535"]
      assert.deepStrictEqual(
        yield* readAll(Object.fromEntries(names.map((name, index) => [name, values[index] ?? ""]))),
        {
          proxyXsub: "tcp://a:1",
          proxyXpub: "ipc:///x",
          topic: Option.some("TOPIC_X"),
          skillsDir: "/srv/skills",
          workers: 8,
          serverTimeout: Duration.millis(45),
          clientTimeout: Duration.seconds(45),
          xsubPort: 1,
          xpubPort: 0,
          metricsPort: 65_535
        }
      )
    }))

  it.effect("names variable, value and accepted forms", () =>
    Effect.gen(function*() {
      const cases = [
        [Settings.serverTimeout, "SKILLSCALE_TIMEOUT", "soon", "milliseconds"],
        [Settings.clientTimeout, "SKILLSCALE_TIMEOUT", "soon", "seconds"],
        [Settings.proxyXsub, "SKILLSCALE_PROXY_XSUB", "localhost:1", "tcp://host:port"],
        [Settings.workers, "SKILLSCALE_WORKERS", "0", "1–1024"],
        [Settings.xsubPort, "SKILLSCALE_XSUB_PORT", "65536", "0–65535"],
        [Settings.topic, "SKILLSCALE_TOPIC", "a\u0007", "topic"]
      ] as const
      for (const [config, name, value, expected] of cases) {
        const effect: Effect.Effect<unknown, Config.ConfigError> = read<unknown>(config, { [name]: value })
        const { message } = yield* Effect.flip(effect)
        assert.include(message, name)
        assert.include(message, JSON.stringify(value))
        assert.include(message, expected)
      }
    }))
})
