import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Cli from "./support/cli.ts"
import * as Up from "./support/up.ts"

const initialize = {
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "0" } }
}

const initialized = { jsonrpc: "2.0", method: "notifications/initialized" }

const callOf = (name: string, input: string) => ({
  jsonrpc: "2.0",
  id: 2,
  method: "tools/call",
  params: { name, arguments: { input } }
})

const bin = Path.join(import.meta.dirname, "../src/bin.ts")

/** `skillscale mcp` with a client's ends of its pipes. */
const desktop = (env: Readonly<Record<string, string>>, args: ReadonlyArray<string> = []) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(process.execPath, ["--conditions=skillscale", bin, "mcp", ...args], {
        env: { PATH: process.env["PATH"], ...env }
      })
      let stdout = ""
      let stderr = ""
      child.stdout.on("data", (data: Buffer) => {
        stdout += data.toString()
      })
      child.stderr.on("data", (data: Buffer) => {
        stderr += data.toString()
      })
      const ended = new Promise<number | NodeJS.Signals | null>((resolve) =>
        child.once("close", (code, signal) => resolve(code ?? signal))
      )
      return {
        child,
        ended: Effect.promise(() => ended),
        say: (...messages: ReadonlyArray<unknown>) =>
          Effect.sync(() => void child.stdin.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(""))),
        lines: () => stdout.split("\n").filter((line) => line !== "").map((line): unknown => JSON.parse(line)),
        stderr: () => stderr
      }
    }),
    ({ child, ended }) => Effect.andThen(Effect.sync(() => child.kill("SIGKILL")), ended)
  )

const waiting = Effect.fnUntraced(function*(ends: Readonly<Record<string, string>>, file: string) {
  const program = yield* desktop(ends)
  yield* program.say(initialize, initialized, callOf("wait", `${file}\n`))
  return { program, pid: yield* Cli.pidIn(file) }
})

layer(Up.layer, { excludeTestServices: true, timeout: "60 seconds" })("skillscale mcp", (it) => {
  it.effect("writes nothing but messages to standard output", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const program = yield* desktop(env, ["--log-level", "debug"])
      yield* program.say(initialize, initialized, callOf("warn", "x"))
      yield* Effect.sync(() => void program.child.stdin.write("this is no message\n"))
      yield* Cli.until(() => program.lines().length >= 2 ? true : undefined)
      assert.deepInclude(program.lines()[1], { jsonrpc: "2.0", id: 2 })
      assert.include(JSON.stringify(program.lines()[1]), "done")
    }))

  it.effect("says of lines that are no messages once, and ends with a message that is too large", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const program = yield* desktop(env)
      yield* program.say(initialize)
      yield* Effect.sync(() => void program.child.stdin.write("\n\r\n"))
      yield* program.say(initialized)
      yield* Cli.until(() => program.lines()[0])
      assert.strictEqual(program.stderr(), "")
      yield* Effect.sync(() => void program.child.stdin.write("{\"jsonrpc\": \nthis is no message\n"))
      yield* program.say([initialized], callOf("warn", "x"))
      yield* Cli.until(() => program.lines()[1])
      assert.strictEqual(program.stderr().match(/is no message of the protocol/g)?.length, 1, program.stderr())
      program.child.stdin.on("error", () => undefined)
      yield* Effect.sync(() => void program.child.stdin.write("x".repeat(17 * 1024 * 1024)))
      assert.strictEqual(yield* program.ended, 1)
      assert.match(program.stderr(), /skillscale: the client sent a message of more than 16777216 bytes[^\n]*\n$/)
    }))

  it.effect("ends with its input, and cancels what runs", () =>
    Effect.gen(function*() {
      const { env, folder } = yield* Up.Up
      const { pid, program } = yield* waiting(env, Path.join(yield* folder, "pid"))
      yield* Effect.sync(() => program.child.stdin.end())
      assert.strictEqual(yield* program.ended, 0)
      yield* Cli.gone(pid)
      assert.strictEqual(program.lines().length, 1)
    }))

  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    it.effect(`ends on ${signal}, and cancels what runs`, () =>
      Effect.gen(function*() {
        const { env, folder } = yield* Up.Up
        const { pid, program } = yield* waiting(env, Path.join(yield* folder, "pid"))
        yield* Effect.sync(() => program.child.kill(signal))
        assert.strictEqual(yield* program.ended, 0)
        yield* Cli.gone(pid)
      }))
  }

  it.effect("ends when nobody reads its output any more", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const program = yield* desktop(env)
      yield* Effect.sync(() => program.child.stdout.destroy())
      yield* program.say(initialize)
      assert.strictEqual(yield* program.ended, 0)
    }))

  it.effect("offers only the skills that are named, and no tool for each where that is wanted", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const list = { jsonrpc: "2.0", id: 2, method: "tools/list" }
      const names = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
        const program = yield* desktop(env, args)
        yield* program.say(initialize, initialized, list)
        yield* Cli.until(() => program.lines()[1])
        return Array.from(JSON.stringify(program.lines()[1]).matchAll(/"name":"([^"]+)"/g), ([, name]) => name)
      })
      const vocabulary = yield* names("--no-skill-tools")
      assert.notInclude(vocabulary, "echo")
      assert.deepStrictEqual(yield* names("--skills", "echo,warn"), [...vocabulary, "echo", "warn"])
    }))

  it.effect("warns of skills that nobody serves", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const program = yield* desktop(env, ["--skills", "echo,ecko"])
      yield* Cli.until(() => /no server serves these of --skills.* skills=ecko\n/.exec(program.stderr()) ?? undefined)
    }))

  it.effect("serves HTTP until a signal", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const program = yield* Cli.launch(["mcp", "--http", "0"], { env })
      const url = / url=(\S+)/.exec(yield* Cli.logged(program, "MCP is ready"))?.[1] ?? ""
      const response = yield* Effect.promise(() => fetch(new URL("/healthz", url)))
      assert.strictEqual(response.status, 200)
      yield* program.signal("SIGTERM")
      const { code, stdout } = yield* program.ended
      assert.deepStrictEqual([code, stdout], [0, ""])
    }))

  it.effect("tells what is missing or wrong before it serves", () =>
    Effect.gen(function*() {
      const { env, folder } = yield* Up.Up
      const taken = yield* Effect.acquireRelease(
        Effect.promise(() =>
          new Promise<Net.Server>((resolve) => {
            const server = Net.createServer().listen(0, "127.0.0.1", () => resolve(server))
          })
        ),
        (server) => Effect.sync(() => server.close())
      )
      const address = taken.address()
      const port = typeof address === "object" && address !== null ? String(address.port) : ""
      const file = Path.join(yield* folder, "token")
      Fs.writeFileSync(file, "short\n")
      const wrong = Effect.fnUntraced(
        function*(args: ReadonlyArray<string>, more: Readonly<Record<string, string>>, code: number, stderr: RegExp) {
          const ended = yield* Cli.run(["mcp", ...args], { env: { ...env, ...more } })
          assert.deepStrictEqual([ended.code, ended.stdout], [code, ""], ended.stderr)
          assert.match(ended.stderr, stderr)
        }
      )
      yield* wrong(["--http", port], {}, 4, new RegExp(`port ${port} is taken`))
      yield* wrong(["--host", "0.0.0.0", "--token-file", file], {}, 2, /--host, --token-file: give --http, too/)
      yield* wrong(["--allow-host", "skills.example"], {}, 2, /--allow-host: give --http, too/)
      yield* wrong(["--http", "0", "--host", "0.0.0.0"], {}, 2, /0\.0\.0\.0.*--token-file or SKILLSCALE_MCP_TOKEN/)
      yield* wrong(["--http", "0", "--token-file", file], {}, 2, /shorter than 16 characters/)
      yield* wrong(["--http", "0"], { SKILLSCALE_MCP_TOKEN: "two words are too many" }, 2, /one line/)
      yield* wrong(["--http", "0", "--token-file", `${file}s`], {}, 2, /cannot read the token/)
      yield* wrong(["--host", "127.0.0.1"], {}, 2, /--host: give --http, too/)
      yield* wrong(["--http", "0", "--allow-host", "https://a.example"], {}, 2, /--allow-host: "https:\/\/a\.example"/)
      yield* wrong(["--skills", "./skills"], {}, 2, /expected names of skills/)
      yield* wrong(["--skills", ""], {}, 2, /expected names of skills/)
      yield* wrong(["--print-config", "--http", "0"], {}, 2, /--print-config has to name the port/)
      yield* wrong(
        ["--http", "0", "--allow-host", "a.example,b.example"],
        {},
        2,
        /--allow-host: "a\.example,b\.example"/
      )
      yield* wrong(
        ["--http", "80", "--host", "http://a.example"],
        { SKILLSCALE_MCP_TOKEN: "0123456789abcdef" },
        2,
        /--host: "http:\/\/a\.example"/
      )
      yield* wrong(["--print-config", "--http", "80", "--host", "::"], {}, 2, /SKILLSCALE_MCP_TOKEN/)
      yield* wrong(["--print-config", "--http", "80", "--token-file", `${file}s`], {}, 2, /cannot read the token/)
      yield* wrong(["--print-config", "--token-file", file], {}, 2, /--token-file: give --http, too/)
      const nobody = { SKILLSCALE_PROXY_XSUB: "tcp://127.0.0.1:9", SKILLSCALE_PROXY_XPUB: "tcp://127.0.0.1:9" }
      yield* wrong([], nobody, 4, /^skillscale: [^\n]*127\.0\.0\.1:9[^\n]*\n$/)
      yield* wrong(["--http", "0"], nobody, 4, /^skillscale: [^\n]*127\.0\.0\.1:9[^\n]*\n$/)
    }), 60_000)

  it.effect("prints what a desktop client has to be told, with every flag", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const flags = ["--skills", "echo,warn", "--timeout", "5s", "--max-output", "2000", "--no-skill-tools"]
      const { stdout } = yield* Cli.run(["mcp", "--print-config", "--log-level", "error", ...flags], { env })
      const { mcpServers: { skillscale: { args, command } } } = JSON.parse(stdout)
      assert.includeMembers(args, [
        "--skills",
        "echo,warn",
        "5000ms",
        "2000",
        "--no-skill-tools",
        "--log-level",
        "error"
      ])
      const program = yield* Effect.sync(() =>
        ChildProcess.spawnSync(command, ["--conditions=skillscale", ...args], {
          input: `${JSON.stringify(initialize)}\n`,
          env: { PATH: process.env["PATH"] }
        })
      )
      assert.strictEqual(program.status, 0, program.stderr.toString())
      const again = yield* Cli.run([...args.slice(1), "--print-config"])
      assert.strictEqual(again.stdout, stdout)
    }))

  it.effect("prints where it serves, and never the token", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const token = "0123456789abcdef-secret"
      const printed = Effect.fnUntraced(
        function*(more: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) {
          const { stdout } = yield* Cli.run(["mcp", "--print-config", "--http", "8080", ...args], {
            env: { ...env, ...more }
          })
          return JSON.parse(stdout).mcpServers.skillscale
        }
      )
      assert.deepStrictEqual(yield* printed({}), { type: "http", url: "http://127.0.0.1:8080/mcp" })
      const headers = { Authorization: "Bearer ${SKILLSCALE_MCP_TOKEN}" }
      for (
        const [host, name] of [["0.0.0.0", "127.0.0.1"], ["::", "[::1]"], ["2001:db8::1", "[2001:db8::1]"], [
          "[::1]",
          "[::1]"
        ]] as const
      ) {
        assert.deepStrictEqual(yield* printed({ SKILLSCALE_MCP_TOKEN: token }, "--host", host), {
          type: "http",
          url: `http://${name}:8080/mcp`,
          headers
        })
      }
    }), 30_000)
})
