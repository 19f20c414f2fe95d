import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdirSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import * as Path from "node:path"
import * as Stack from "../../../test/support/stack.ts"
import * as Cli from "./support/cli.ts"
import * as Up from "./support/up.ts"

/** Ports that are free now. */
const freePorts = (count: number) =>
  Effect.promise(async () => {
    const servers = await Promise.all(Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      return server
    }))
    const ports = servers.map((server) => {
      const address = server.address()
      return typeof address === "object" && address !== null ? address.port : 0
    })
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    return ports
  })

const begin = Effect.gen(function*() {
  const home = yield* Up.folder
  const temporary = Path.join(home, "tmp")
  mkdirSync(temporary)
  const skills = yield* Stack.writeSkills(Up.fixtures)
  return { home, temporary, skills, file: Path.join(home, "pid") }
})

/** Calls a skill and waits until its process runs. */
const call = Effect.fnUntraced(function*(skill: string, file: string, env: Readonly<Record<string, string>>) {
  const caller = yield* Cli.launch(["invoke", skill, "--data", `${file}\n`], { env })
  return { ...caller, script: yield* Cli.pidIn(file) }
})

/** Lets the skill "brief" finish. */
const release = (file: string) => Effect.sync(() => rmSync(file))

/** Calls until the call gets through, and tells how the first call that did ended. */
const eventually = (env: Readonly<Record<string, string>>): Effect.Effect<Cli.Ended> =>
  Effect.flatMap(
    Cli.run(["invoke", "echo", "--data", "x", "--timeout", "10s"], { env }),
    (ended) => ended.code === 4 ? eventually(env) : Effect.succeed(ended)
  )

layer(NodeServices.layer, { excludeTestServices: true, timeout: 60_000 })("a process that serves", (it) => {
  for (const signals of [["SIGTERM"], ["SIGHUP"], ["SIGINT", "SIGINT"]] as const) {
    it.effect(`up drains on ${signals.join(" and at once ")}: the caller has its answer, and nothing is left`, () =>
      Effect.gen(function*() {
        const { file, skills, temporary } = yield* begin
        const up = yield* Up.start(skills, { TMPDIR: temporary })
        const caller = yield* call("brief", file, up.env)
        // As npm does, which passes on what the terminal has delivered; the kernel would merge two that are pending.
        yield* Effect.forEach(signals, (signal) => Effect.andThen(up.signal(signal), Cli.logged(up, "draining")))
        yield* release(file)
        const answer = yield* caller.ended
        assert.deepStrictEqual([answer.code, answer.stdout, answer.stderr], [0, "finished\n", ""])
        const { code, stderr, stdout } = yield* up.ended
        assert.deepStrictEqual([code, stdout], [0, ""])
        assert.include(stderr, "draining; a second signal ends it at once")
        yield* Cli.gone(caller.script)
        assert.deepStrictEqual(Cli.listing(temporary), [])
      }))
  }

  it.effect("up ends at once on a second signal, and its processes with it", () =>
    Effect.gen(function*() {
      const { file, skills } = yield* begin
      const up = yield* Up.start(skills)
      const caller = yield* call("wait", file, up.env)
      yield* up.signal("SIGTERM")
      yield* Cli.logged(up, "draining")
      // The time itself is under test: less than half a second apart they would be one signal.
      yield* Effect.sleep("600 millis")
      yield* up.signal("SIGINT")
      assert.strictEqual((yield* up.ended).code, 130)
      yield* Cli.gone(caller.script)
    }))

  it.effect("up cancels what does not end in time, and tells the caller", () =>
    Effect.gen(function*() {
      const { file, skills, temporary } = yield* begin
      const up = yield* Up.start(skills, { TMPDIR: temporary })
      const caller = yield* call("wait", file, up.env)
      yield* up.signal("SIGINT")
      const { code, stderr } = yield* caller.ended
      assert.strictEqual(code, 4)
      assert.match(stderr, /^skillscale: [^\n]*ShuttingDown[^\n]*\n$/)
      assert.strictEqual((yield* up.ended).code, 0)
      yield* Cli.gone(caller.script)
      assert.deepStrictEqual(Cli.listing(temporary), [])
    }))

  it.effect("up names the port that is taken, and exits with 4", () =>
    Effect.gen(function*() {
      const { skills } = yield* begin
      const up = yield* Up.start(skills)
      const port = new URL(up.env["SKILLSCALE_PROXY_XSUB"]).port
      const args = ["--xsub-port", port, "--xpub-port", "0", "--metrics-port", "0"]
      const [second, proxy] = yield* Effect.all([
        Cli.run(["up", "--skills", skills, ...args]),
        Cli.run(["proxy", ...args])
      ], { concurrency: 2 })
      for (const { code, stderr, stdout } of [second, proxy]) {
        assert.deepStrictEqual([code, stdout], [4, ""])
        assert.match(stderr, new RegExp(`^skillscale: [^\\n]*port ${port} is taken; [^\\n]*choose another port`, "m"))
      }
    }))

  it.effect("up follows the folder, also one without skills", () =>
    Effect.gen(function*() {
      const home = yield* Up.folder
      const up = yield* Up.start(home)
      assert.include(up.log(), "there are no skills; make one with: skillscale skills new NAME")
      yield* Cli.run(["skills", "new", "first", "--skills", home])
      yield* Cli.logged(up, "topic=TOPIC_GENERAL")
      yield* up.signal("SIGTERM")
      assert.strictEqual((yield* up.ended).code, 0)
    }))

  it.effect("topics tells how many servers answered when one hangs", () =>
    Effect.gen(function*() {
      const { skills } = yield* begin
      const up = yield* Up.start(skills)
      const other = yield* Stack.writeSkills([
        { category: "other", name: "other", files: { "scripts/run.sh": "cat\n" } }
      ])
      const server = yield* Cli.launch(["server", "--topic", "TOPIC_OTHER", "--skills-dir", other], { env: up.env })
      yield* Cli.logged(server, "message=serving")
      const complete = yield* Cli.run(["topics"], { env: up.env })
      assert.deepStrictEqual([complete.code, complete.stderr], [0, ""])
      assert.include(complete.stdout, "TOPIC_OTHER  1 replica\n  other  sha256:")
      yield* server.signal("SIGSTOP")
      const ended = yield* Cli.run(["topics"], { env: up.env })
      assert.deepStrictEqual(
        [ended.code, ended.stderr],
        [0, "1 of 2 servers answered; what only the others have is not listed\n"]
      )
      assert.match(ended.stdout, /^TOPIC_OTHER {2}1 replica\nTOPIC_TESTING {2}1 replica\n {2}brief /)
      const json = yield* Cli.run(["topics", "--json"], { env: up.env })
      assert.strictEqual(json.stderr, ended.stderr)
      assert.lengthOf(JSON.parse(json.stdout), 2)
    }))

  it.effect("server may start before the proxy, and outlives it", () =>
    Effect.gen(function*() {
      const { file, skills, temporary } = yield* begin
      const [xsub = 0, xpub = 0] = yield* freePorts(2)
      const env = {
        SKILLSCALE_PROXY_XSUB: `tcp://127.0.0.1:${xsub}`,
        SKILLSCALE_PROXY_XPUB: `tcp://127.0.0.1:${xpub}`
      }
      const topic = ["--topic", "TOPIC_TESTING"]
      const server = yield* Cli.launch(["server", ...topic, "--skills-dir", skills], {
        env: { ...env, ...Up.unconfined, TMPDIR: temporary }
      })
      yield* Cli.logged(server, "message=serving")
      const startProxy = Effect.gen(function*() {
        const args = ["--xsub-port", `${xsub}`, "--xpub-port", `${xpub}`, "--metrics-port", "0"]
        const proxy = yield* Cli.launch(["proxy", ...args])
        yield* Cli.logged(proxy, "proxy is ready")
        return proxy
      })
      const first = yield* startProxy
      assert.strictEqual((yield* eventually(env)).stdout, "x\n")
      yield* first.signal("SIGTERM")
      assert.strictEqual((yield* first.ended).code, 0)
      const second = yield* startProxy
      assert.strictEqual((yield* eventually(env)).stdout, "x\n")
      const caller = yield* call("brief", file, env)
      yield* server.signal("SIGINT")
      yield* Cli.logged(server, "draining")
      yield* release(file)
      const answer = yield* caller.ended
      assert.deepStrictEqual([answer.code, answer.stdout, answer.stderr], [0, "finished\n", ""])
      assert.strictEqual((yield* server.ended).code, 0)
      yield* Cli.gone(caller.script)
      assert.deepStrictEqual(Cli.listing(temporary), [])
      const nobody = yield* Cli.run(["invoke", "echo", "--data", "x"], { env })
      assert.strictEqual(nobody.code, 4)
      assert.match(nobody.stderr, /^skillscale: [^\n]*start a skill server[^\n]*\n$/)
      const idle = yield* Cli.run(["topics"], { env })
      assert.deepStrictEqual([idle.code, idle.stdout], [0, ""])
      assert.include(idle.stderr, "no topic is served")
      yield* second.signal("SIGINT")
      assert.strictEqual((yield* second.ended).code, 0)
    }), 60_000)

  it.effect("server says when the folder has no skill of its topic", () =>
    Effect.gen(function*() {
      const { skills } = yield* begin
      const server = yield* Cli.launch(["server", "--topic", "TOPIC_OTHER", "--skills-dir", skills])
      const line = yield* Cli.logged(server, "the folder has no skill of this topic yet")
      assert.include(line, "topics=TOPIC_TESTING")
    }))
})
