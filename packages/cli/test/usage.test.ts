import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Cli from "./support/cli.ts"

interface Case {
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** What the one line on standard error holds. */
  readonly says: ReadonlyArray<string>
}

const wrong: ReadonlyArray<Case> = [
  { args: ["invok"], says: ["no command \"invok\"", "did you mean invoke?", "see skillscale --help"] },
  { args: ["skills", "lst"], says: ["no command \"lst\"", "did you mean list?", "see skillscale skills --help"] },
  { args: ["invoke"], says: ["SKILL is missing", "see skillscale invoke --help"] },
  { args: ["run", "x"], says: ["SCRIPT is missing"] },
  { args: ["invoke", "x", "--dta", "1"], says: ["no flag --dta", "did you mean --data?"] },
  { args: ["run", "x", "y", "--foo"], says: ["no flag --foo", "arguments of the script go after --"] },
  { args: ["invoke", "x", "--wizard"], says: ["no flag --wizard"] },
  { args: ["topics", "extra"], says: ["nothing is expected at \"extra\""] },
  { args: ["invoke", "x", "--timeout"], says: ["--timeout has no value"] },
  { args: ["invoke", "x", "--timeout", "5parsecs"], says: ["--timeout \"5parsecs\"", "1500ms, 30s, 2m, 1h"] },
  { args: ["proxy", "--xsub-port", "99999"], says: ["--xsub-port \"99999\"", "0–65535"] },
  { args: ["up", "--queue", "-1"], says: ["--queue \"-1\"", "0–100000"] },
  { args: ["invoke", "x", "--proxy-xsub", "localhost"], says: ["--proxy-xsub \"localhost\"", "tcp://127.0.0.1:5444"] },
  ...[["invoke", "x"], ["server", "--topic", "TOPIC_A"]].map((args) => ({
    args: [...args, "--proxy-xsub", "tcp://a:1,tcp://b:1", "--proxy-xpub", "tcp://a:2"],
    says: ["2 to publish to (tcp://a:1,tcp://b:1)", "1 to subscribe to (tcp://a:2)"]
  })),
  {
    args: ["server", "--topic", "TOPIC_A"],
    env: { SKILLSCALE_WORKERS: "many" },
    says: ["SKILLSCALE_WORKERS: expected a whole number of 1–1024, got \"many\"", "unset it"]
  },
  {
    args: ["invoke", "x"],
    env: { SKILLSCALE_TIMEOUT: "soon" },
    says: ["SKILLSCALE_TIMEOUT: expected a duration", "got \"soon\""]
  },
  {
    args: ["invoke", "x"],
    env: { SKILLSCALE_PROXY_XPUB: "localhost:1" },
    says: ["SKILLSCALE_PROXY_XPUB: expected tcp://host:port", "got \"localhost:1\""]
  },
  { args: ["proxy"], env: { SKILLSCALE_XSUB_PORT: "-1" }, says: ["SKILLSCALE_XSUB_PORT", "got \"-1\""] },
  { args: ["server"], says: ["no topic to serve", "--topic or SKILLSCALE_TOPIC", "TOPIC_DATA_PROCESSING"] },
  { args: ["server", "--topic", "foo"], says: ["topic \"foo\": expected TOPIC_"] },
  { args: ["up", "--skills", "/nope"], says: ["cannot scan /nope", "it does not exist"] },
  { args: ["up", "--skills", "/etc/passwd"], says: ["cannot scan /etc/passwd"] },
  { args: ["invoke", "x", "--topic", ""], says: ["--topic has no value"] },
  { args: ["run", "x", "y", "--out", ""], says: ["--out has no value"] },
  { args: ["invoke", "x", "--data", "a", "--file", "b"], says: ["--data and --file exclude each other"] },
  { args: ["invoke", "x", "--file", "/nope"], says: ["cannot read /nope: it does not exist"] },
  { args: ["invoke", "x", "--file", "/etc"], says: ["cannot read /etc: it is a folder"] },
  { args: ["invoke", "x", "--file", "/dev/zero"], says: ["/dev/zero is larger than the 50331648 bytes"] },
  { args: ["run", "x", "y", "--file", "/etc/passwd=../a"], says: ["--file /etc/passwd=../a", "without . or .."] },
  { args: ["run", "x", "y", "--file", "/etc/hosts", "--file", "/etc/hosts"], says: ["hosts is sent twice"] },
  { args: ["run", "x", "y", "--out", "/etc/passwd/d"], says: ["cannot write /etc/passwd/d", "a file is where"] },
  { args: ["run", "x", "y", "--out", "/proc/nope"], says: ["cannot write /proc/nope"] }
]

const oneLine = /^skillscale: [^\n]+\n$/

describe("wrong usage exits with 2 and one line", () => {
  for (const { args, env, says } of wrong) {
    const title = [...Object.entries(env ?? {}).map((entry) => entry.join("=")), ...args].join(" ")
    it.live(title, () =>
      Effect.gen(function*() {
        const { code, stderr, stdout } = yield* Cli.run(args, { env })
        assert.strictEqual(stdout, "")
        assert.match(stderr, oneLine)
        for (const part of says) assert.include(stderr, part)
        assert.strictEqual(code, 2)
      }))
  }
})

describe("help and version", () => {
  it.live("print on standard output and exit with 0", () =>
    Effect.gen(function*() {
      const manifest: { readonly version: string } = JSON.parse(
        readFileSync(new URL("../package.json", import.meta.url), "utf8")
      )
      const version = yield* Cli.run(["--version"])
      assert.deepStrictEqual([version.code, version.stdout, version.stderr], [
        0,
        `skillscale v${manifest.version}\n`,
        ""
      ])
      const help = yield* Cli.run(["run", "--help"])
      assert.strictEqual(help.code, 0)
      assert.include(help.stdout, "--out DIR")
      assert.notInclude(help.stdout, "--wizard")
      assert.strictEqual(help.stderr, "")
    }))

  it.live("a command that lacks its subcommand gets the help on standard error, and 2", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* Cli.run(["skills"])
      assert.deepStrictEqual([code, stdout], [2, ""])
      assert.include(stderr, "validate")
    }))

  it.live("fail with 2 where the output cannot be written, and not where its reader is gone", () =>
    Effect.gen(function*() {
      const full = yield* Cli.shell("skillscale --help > /dev/full")
      assert.strictEqual(full.code, 2)
      assert.include(full.stderr, "the disk is full")
      const closed = yield* Cli.shell("skillscale --help | head -0; echo ${PIPESTATUS[0]}")
      assert.deepStrictEqual([closed.stdout, closed.stderr], ["0\n", ""])
    }))

  it.live("have colour on a terminal alone, and not with NO_COLOR", () =>
    Effect.gen(function*() {
      const onTerminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
      const program = `python3 -c '${onTerminal}' $NODE --conditions=skillscale $BIN skills --help </dev/null`
      const env = { TERM: "xterm", NODE: process.execPath, BIN: new URL("../src/bin.ts", import.meta.url).pathname }
      const coloured = yield* Cli.shell(program, { env })
      assert.include(coloured.stdout, "\u001b[1m")
      assert.strictEqual(coloured.code, 0)
      const plain = yield* Cli.shell(program, { env: { ...env, NO_COLOR: "1" } })
      assert.include(plain.stdout, "validate")
      assert.notInclude(plain.stdout, "\u001b[")
    }))
})

describe("a proxy that is not there", () => {
  const nowhere = { SKILLSCALE_PROXY_XSUB: "tcp://127.0.0.1:1", SKILLSCALE_PROXY_XPUB: "tcp://127.0.0.1:1" }
  const calls = [["invoke", "x", "--data", "a"], ["run", "x", "y"], ["topics"]]
  it.live("ends every call with 4 within the time to connect", () =>
    Effect.gen(function*() {
      const start = performance.now()
      const all = yield* Effect.forEach(calls, (args) => Cli.run(args, { env: nowhere }), { concurrency: "unbounded" })
      for (const { code, stderr, stdout } of all) {
        assert.deepStrictEqual([code, stdout], [4, ""])
        assert.match(stderr, oneLine)
        assert.include(stderr, "tcp://127.0.0.1:1 cannot be reached; check that the proxy runs")
      }
      assert.isBelow(performance.now() - start, 15_000)
    }))
})
