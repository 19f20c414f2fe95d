/** `skillscale mount mcp`, with real servers. */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import * as Path from "node:path"
import * as Cli from "./support/cli.ts"
import * as Up from "./support/up.ts"

const fixture = (name: string) => Path.join(import.meta.dirname, "../../mcp/test/fixtures", name)

const program = (name: string, ...args: ReadonlyArray<string>) => ["--", process.execPath, fixture(name), ...args]

const mount = (args: ReadonlyArray<string>, options: Cli.Options = {}) => Cli.run(["mount", "mcp", ...args], options)

/** A mount that serves. */
const serve = Effect.fnUntraced(function*(name: string, args: ReadonlyArray<string>, env: Cli.Options["env"] = {}) {
  const up = yield* Up.Up
  const running = yield* Cli.launch(["mount", "mcp", name, ...args], { env: { ...up.env, ...env } })
  yield* Cli.logged(running, "serving")
  const invoke = (skill: string, data = "{}") =>
    Cli.run(["invoke", skill, "--topic", `TOPIC_${name.toUpperCase()}`, "--data", data], { env: up.env })
  yield* Cli.until(() => running.log().includes("connected to the external server") || undefined)
  return { ...running, invoke }
})

describe("skillscale mount mcp", () => {
  layer(Up.layer, { excludeTestServices: true })((it) => {
    it.effect("warns where there is no proxy after a while", () =>
      Effect.gen(function*() {
        const nobody = `tcp://127.0.0.1:${yield* Cli.closedPort}`
        const env = { SKILLSCALE_PROXY_XSUB: nobody, SKILLSCALE_PROXY_XPUB: nobody }
        const alone = yield* Cli.launch(["mount", "mcp", "alone", ...program("mountServer.ts", "stdio", "both")], {
          env
        })
        yield* Cli.logged(alone, "serving")
        yield* Cli.logged(alone, "there is no proxy yet")
        assert.include(alone.log(), nobody)
      }), 60_000)

    it.effect("takes no skills for tools, so that it names none again and again", () =>
      Effect.gen(function*() {
        const { env } = yield* Up.Up
        const bin = Path.join(import.meta.dirname, "../src/bin.ts")
        const addresses = [
          ...["--proxy-xsub", env["SKILLSCALE_PROXY_XSUB"] ?? ""],
          ...["--proxy-xpub", env["SKILLSCALE_PROXY_XPUB"] ?? ""]
        ]
        const self = yield* serve("self", ["--", process.execPath, "--conditions=skillscale", bin, "mcp", ...addresses])
        yield* Cli.until(() => self.log().includes("they are skills of a stack already") || undefined)
        const { stderr } = yield* self.invoke("nothing")
        const left = "list-skills, load-skill, read-artifact, read-skill-resource, run-skill-script, search-skills"
        assert.match(stderr, new RegExp(`TOPIC_SELF has ${left}\\s*$`))
      }), 60_000)

    it.effect("says what is wrong with how it is called", () =>
      Effect.gen(function*() {
        const cases: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
          [["notes"], "name the server's program after --, or its address with --url, and not both"],
          [["notes", "--url", "http://127.0.0.1:1/", "--", "cat"], "and not both"],
          [["Notes", "--", "cat"], "lower-case letters, digits and single hyphens"],
          [["notes", "--", "no-such-program"], `there is no program "no-such-program" that can be run`],
          [["notes", "--", "./no-such-program"], "that can be run"],
          [["notes", "--env", "NO_SUCH_VARIABLE", "--", "cat"], "--env NO_SUCH_VARIABLE: there is no such variable"],
          [["notes", "--header", "A: b", "--", "cat"], "--header and --header-file are for a server at a URL"],
          [["notes", "--url", "file:///etc/passwd"], "begins with https:// or http://"],
          [["notes", "--url", "http://me:hunter22@127.0.0.1:1/"], "use --header-file"],
          [["notes", "--url", "http://127.0.0.1:1/", "--header", "hunter22"], "--header: expected a header"],
          [["notes", "--url", "http://127.0.0.1:1/", "--env", "PATH"], "--env is for a program"]
        ]
        const results = yield* Effect.forEach(cases, ([args]) => mount(args), { concurrency: 2 })
        for (const [index, [args, expected]] of cases.entries()) {
          assert.include(results[index]?.stderr, expected, args.join(" "))
          assert.notInclude(results[index]?.stderr, "hunter22")
          assert.strictEqual(results[index]?.code, 2, args.join(" "))
          assert.strictEqual(results[index]?.stdout, "")
        }
      }), 120_000)

    it.effect("says why there is no server", () =>
      Effect.gen(function*() {
        const cases: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
          [["notes", "--", "false"], "the program ended with exit code 1 before the handshake of MCP was done"],
          [["notes", "--url", `http://127.0.0.1:${yield* Cli.closedPort}/mcp`], "ECONNREFUSED"],
          [
            ["notes", "--start-timeout", "1500ms", ...program("oddServer.ts", "mute")],
            "did not finish the handshake of MCP within 1s 500ms"
          ]
        ]
        for (const [args, expected] of cases) {
          const { code, stderr, stdout } = yield* mount(args)
          assert.include(stderr, expected)
          assert.strictEqual(code, 4)
          assert.strictEqual(stdout, "")
        }
      }), 60_000)

    it.effect("serves a program's tools, and ends with it at Ctrl-C", () =>
      Effect.gen(function*() {
        const up = yield* Up.Up
        const running = yield* serve("adding", program("mountServer.ts"))
        const sum = yield* running.invoke("add-numbers", `{"a":2,"b":3}`)
        assert.strictEqual(sum.stdout.trim(), `{"sum":5}`)
        const failed = yield* running.invoke("failing")
        assert.strictEqual(failed.code, 1)
        assert.include(failed.stderr, "it went wrong")
        const topics = yield* Cli.run(["topics"], { env: up.env })
        assert.include(topics.stdout, "TOPIC_ADDING")
        assert.include(topics.stdout, "add-numbers")
        const pid = Number((yield* running.invoke("pid")).stdout)
        yield* running.signal("SIGINT")
        assert.strictEqual((yield* running.ended).code, 0)
        yield* Cli.gone(pid)
      }).pipe(Effect.scoped), 60_000)

    it.effect("leaves nothing of a program when it is killed", () =>
      Effect.gen(function*() {
        const running = yield* serve("killing", program("mountServer.ts"))
        const pid = Number((yield* running.invoke("pid")).stdout)
        const child = Number((yield* running.invoke("child")).stdout)
        yield* running.signal("SIGKILL")
        yield* Cli.gone(pid)
        yield* Cli.gone(child)
      }).pipe(Effect.scoped), 60_000)

    it.effect("gives a program the variables that it needs, and tells no secret", () =>
      Effect.gen(function*() {
        const secrets = { FIXTURE_SECRET: "hunter2222", OTHER_SECRET: "hidden3333", LANG: "C.UTF-8" }
        const running = yield* serve("secrets", ["--env", "FIXTURE_SECRET", ...program("mountServer.ts")], secrets)
        const names = (yield* running.invoke("variables")).stdout.trim().split(" ")
        assert.includeMembers(names, ["FIXTURE_SECRET", "LANG", "PATH"])
        assert.notIncludeMembers(names, ["OTHER_SECRET", "SKILLSCALE_PROXY_XSUB"])
        const line = yield* Cli.logged(running, "secret is")
        assert.include(line, "secret is [redacted]")
        assert.notInclude(running.log(), "hunter2222")
      }).pipe(Effect.scoped), 60_000)

    it.effect(
      "serves a server elsewhere, with headers from a file, and follows it when it comes back",
      () =>
        Effect.gen(function*() {
          const up = yield* Up.Up
          const token = "hunter4444"
          const start = (port: number) =>
            Cli.launchNode([fixture("mountServer.ts"), "http", "both", String(port)], { env: { FIXTURE_TOKEN: token } })
          const first = yield* start(0)
          const port = Number(yield* Cli.until(() => first.output().trim() || undefined))
          const url = ["--url", `http://127.0.0.1:${port}/mcp`]

          const refused = yield* mount(["web", ...url, "--header", `Authorization: Bearer not-${token}`], {
            env: up.env
          })
          assert.strictEqual(refused.code, 4)
          assert.include(refused.stderr, "it wants other credentials (HTTP 401)")
          assert.notInclude(refused.stderr, token)

          const file = Path.join(yield* up.folder, "headers")
          writeFileSync(file, `Authorization: Bearer ${token}\n`)
          const running = yield* serve("web", [...url, "--header-file", file, "--timeout", "1s"])
          assert.strictEqual((yield* running.invoke("echo", `{"text":"x"}`)).stdout.trim(), "echo: x")
          yield* first.signal("SIGKILL")
          yield* first.ended
          const away = yield* running.invoke("echo", `{"text":"x"}`)
          assert.strictEqual(away.code, 4)
          assert.include(away.stderr, "the MCP server web is away and did not come back in time")
          yield* start(port)
          yield* Cli.until(() => running.log().split("connected to the external server").length > 2 || undefined)
          assert.strictEqual((yield* running.invoke("echo", `{"text":"y"}`)).stdout.trim(), "echo: y")
          assert.notInclude(running.log(), token)
        }).pipe(Effect.scoped),
      60_000
    )
  })
})
