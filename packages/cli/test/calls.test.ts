import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import * as Path from "node:path"
import * as Cli from "./support/cli.ts"
import * as Up from "./support/up.ts"

interface Case {
  readonly title: string
  readonly args: ReadonlyArray<string>
  readonly stdin?: string
  readonly code: number
  readonly stdout?: string
  /** What standard error is; by default empty. */
  readonly stderr?: string | RegExp
}

const cases: ReadonlyArray<Case> = [
  { title: "takes --data", args: ["invoke", "echo", "--data", "héllo\n"], code: 0, stdout: "héllo\n" },
  { title: "ends its output with a newline", args: ["invoke", "echo", "--data", "x"], code: 0, stdout: "x\n" },
  { title: "takes a pipe", args: ["invoke", "echo"], stdin: "piped\n", code: 0, stdout: "piped\n" },
  { title: "takes - as a pipe", args: ["invoke", "echo", "--file", "-"], stdin: "a\n", code: 0, stdout: "a\n" },
  { title: "prefers --data to a pipe", args: ["invoke", "echo", "--data", "d"], stdin: "p", code: 0, stdout: "d\n" },
  {
    title: "passes on the diagnostics of a skill",
    args: ["invoke", "warn", "--data", "x"],
    code: 0,
    stdout: "done\n",
    stderr: "\u001b[1mcareful\n"
  },
  {
    title: "passes on what a failed skill wrote, once",
    args: ["invoke", "fail", "--data", "x"],
    code: 1,
    stdout: "partial\n",
    stderr: "why it failed\nskillscale: skill fail failed with exit code 3\n"
  },
  {
    title: "suggests the name of a skill",
    args: ["invoke", "ehco", "--data", "x"],
    code: 2,
    stderr: /^skillscale: [^\n]*there is no skill "ehco"; did you mean echo\?[^\n]*\n$/
  },
  {
    title: "lists skills for a wrong one on a named topic",
    args: ["invoke", "nope", "--data", "x", "--topic", "TOPIC_TESTING"],
    code: 2,
    stderr: /^skillscale: [^\n]*nope[^\n]*echo[^\n]*\n$/
  },
  {
    title: "names a topic that nobody serves",
    args: ["invoke", "echo", "--data", "x", "--topic", "TOPIC_NONE"],
    code: 4,
    stderr: /^skillscale: [^\n]*TOPIC_NONE[^\n]*start one[^\n]*\n$/
  },
  {
    title: "gives up in time",
    args: ["invoke", "wait", "--data", "/dev/null", "--timeout", "300ms"],
    code: 3,
    // The server may tell it before the client does, of the time that it was given.
    stderr: /^skillscale: cannot invoke "wait": [^\n]*(?:300|2\d\d) ms[^\n]*\n$/
  },
  {
    title: "lists the scripts for a wrong one",
    args: ["run", "tools", "scripts/nope.py"],
    code: 2,
    stderr: /^skillscale: cannot run "tools": [^\n]*scripts\/nope\.py[^\n]*scripts\/args\.py[^\n]*\n$/
  },
  {
    title: "passes arguments on as they are",
    args: ["run", "tools", "scripts/args.py", "--", "--help", "--json", "-x", "", "a b", "$HOME;`id`", "ü✓", "--"],
    code: 0,
    stdout: "[\"--help\", \"--json\", \"-x\", \"\", \"a b\", \"$HOME;`id`\", \"\\u00fc\\u2713\", \"--\"]\n"
  },
  { title: "streams a pipe to a script", args: ["run", "tools", "scripts/cat.sh"], stdin: "in", code: 0, stdout: "in" },
  {
    title: "tells the exit code of a script",
    args: ["run", "tools", "scripts/fail.sh"],
    code: 1,
    stdout: "out\n",
    stderr: "err\nskillscale: scripts/fail.sh of skill tools failed with exit code 7\n"
  }
]

const parse = (text: string): Readonly<Record<string, unknown>> => JSON.parse(text)

layer(Up.layer, { excludeTestServices: true, timeout: 60_000 })("calls", (it) => {
  for (const { args, code, stderr = "", stdin, stdout = "", title } of cases) {
    it.effect(title, () =>
      Effect.gen(function*() {
        const { env } = yield* Up.Up
        const ended = yield* Cli.run(args, { env, stdin })
        if (typeof stderr === "string") assert.strictEqual(ended.stderr, stderr)
        else assert.match(ended.stderr, stderr)
        assert.strictEqual(ended.stdout, stdout)
        assert.strictEqual(ended.code, code)
      }))
  }

  it.effect("print the whole answer with --json, also that of a failure", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const done = parse((yield* Cli.run(["invoke", "echo", "--data", "x", "--json"], { env })).stdout)
      assert.deepStrictEqual([done["status"], done["content"], done["exit_code"]], ["success", "x", 0])
      const failed = yield* Cli.run(["invoke", "fail", "--data", "x", "--json"], { env })
      assert.strictEqual(failed.code, 1)
      const answer = parse(failed.stdout)
      assert.deepStrictEqual(
        [answer["status"], answer["code"], answer["exit_code"], answer["stderr"], answer["content"]],
        ["error", "SkillFailed", 3, "why it failed\n", "partial\n"]
      )
      const run = yield* Cli.run(["run", "tools", "scripts/fail.sh", "--json"], { env })
      const result = parse(run.stdout)
      assert.strictEqual(run.code, 1)
      assert.deepStrictEqual([result["exit_code"], result["stdout"], result["stderr"]], [7, "out\n", "err\n"])
    }))

  it.effect("give back every byte", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const every = Buffer.from(Array.from({ length: 1024 }, (_, index) => index % 256))
      const binary = yield* Cli.run(["run", "tools", "scripts/binary.py"], { env })
      assert.isTrue(binary.bytes.equals(every))
      const invoked = yield* Cli.run(["invoke", "echo"], { env, stdin: every })
      assert.isTrue(invoked.bytes.equals(every))
      const large = Buffer.alloc(10 * 1024 * 1024, every)
      const echoed = yield* Cli.run(["run", "tools", "scripts/cat.sh"], { env, stdin: large })
      assert.strictEqual(echoed.stderr, "")
      assert.strictEqual(echoed.bytes.length, large.length)
      assert.isTrue(echoed.bytes.equals(large))
    }), 60_000)

  it.effect("send files, and receive those that the script wrote, in their folders", () =>
    Effect.gen(function*() {
      const { env, folder } = yield* Up.Up
      const home = yield* folder
      writeFileSync(Path.join(home, "local.txt"), "sent")
      const args = ["run", "tools", "scripts/files.sh", "--file", "local.txt=in.txt"]
      const ended = yield* Cli.run([...args, "--out", "new/out"], { env, cwd: home })
      assert.strictEqual(ended.code, 0, ended.stderr)
      const read = (path: string) => readFileSync(Path.join(home, "new/out", path), "utf8")
      assert.deepStrictEqual([read("a/b/one.txt"), read("two.txt"), read("copy.txt")], ["one", "two", "sent"])
      assert.include(ended.stderr, "wrote new/out/two.txt (3 bytes)")
      writeFileSync(Path.join(home, "in.txt=x"), "of that name")
      const named = yield* Cli.run(["run", "tools", "scripts/ls.sh", "--file", "in.txt=x"], { env, cwd: home })
      assert.include(named.stdout.split("\n"), "in.txt=x", named.stderr)
      const unkept = yield* Cli.run(args, { env, cwd: home })
      assert.match(unkept.stderr, /^the script wrote .*two\.txt.*--out DIR\n$/)
    }))

  it.effect("fail where files cannot be written", () =>
    Effect.gen(function*() {
      const { env, folder } = yield* Up.Up
      const home = yield* folder
      mkdirSync(Path.join(home, "out/two.txt"), { recursive: true })
      writeFileSync(Path.join(home, "file"), "")
      writeFileSync(Path.join(home, "in.txt"), "")
      const args = ["run", "tools", "scripts/files.sh", "--file", "in.txt", "--out"]
      const taken = yield* Cli.run([...args, "out"], { env, cwd: home })
      assert.strictEqual(taken.code, 2)
      assert.include(taken.stderr, "skillscale: cannot write out/two.txt: it is a folder\n")
      const blocked = yield* Cli.run([...args, "file/out"], { env, cwd: home })
      assert.deepStrictEqual([blocked.code, blocked.stdout], [2, ""])
      assert.match(blocked.stderr, /^skillscale: cannot write file\/out: a file is where a folder should be\n$/)
    }))

  it.effect("fail where the disk is full, and end quietly where the reader is gone", () =>
    Effect.gen(function*() {
      const { env, folder } = yield* Up.Up
      const full = yield* Cli.shell("skillscale invoke echo --data x > /dev/full", { env })
      assert.deepStrictEqual([full.code, full.stderr], [
        2,
        "skillscale: cannot write standard output: the disk is full\n"
      ])
      const file = Path.join(yield* folder, "pid")
      const script = `skillscale run tools scripts/endless.sh -- '${file}' | head -n 1; echo "\${PIPESTATUS[0]}"`
      const closed = yield* Cli.shell(script, { env })
      assert.deepStrictEqual([closed.stdout, closed.stderr], ["y\n0\n", ""])
      yield* Cli.gone(yield* Cli.pidIn(file))
      const failed = yield* Cli.shell("skillscale invoke fail --data x | head -n 0; echo ${PIPESTATUS[0]}", { env })
      assert.strictEqual(failed.stdout, "1\n")
      const kept = yield* Cli.shell(
        "skillscale run tools scripts/files.sh --file /etc/hosts=in.txt --out out | head -n 0; cat out/two.txt",
        { env, cwd: yield* folder }
      )
      assert.strictEqual(kept.stdout, "two")
    }))

  it.effect("have no input from a terminal or from /dev/null, and say when they wait for a pipe", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const none = yield* Cli.shell("skillscale run tools scripts/cat.sh </dev/null", { env })
      assert.deepStrictEqual([none.code, none.stdout, none.stderr], [0, "", ""])
      const onTerminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
      const asked = yield* Cli.shell(
        `python3 -c '${onTerminal}' $NODE --conditions=skillscale $BIN run tools scripts/cat.sh </dev/null; echo "ended $?"`,
        { env: { ...env, NODE: process.execPath, BIN: new URL("../src/bin.ts", import.meta.url).pathname } }
      )
      assert.strictEqual(asked.stdout, "ended 0\n")
      const waiting = yield* Cli.launch(["run", "tools", "scripts/cat.sh"], { env, stdin: "inherit" })
      yield* Cli.logged(waiting, "waiting for standard input")
      yield* waiting.signal("SIGINT")
      assert.strictEqual((yield* waiting.ended).code, 130)
    }).pipe(Effect.scoped))

  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    it.effect(`${signal} ends a call with ${code}, and its process on the server`, () =>
      Effect.gen(function*() {
        const { env, folder } = yield* Up.Up
        const home = yield* folder
        const [a, b] = [Path.join(home, "a"), Path.join(home, "b")]
        const invoked = yield* Cli.launch(["invoke", "wait", "--data", `${a}\n`], { env })
        const ran = yield* Cli.launch(["run", "wait", "scripts/arg.sh", "--", b], { env })
        const pids = yield* Effect.forEach([a, b], Cli.pidIn)
        yield* Effect.forEach([invoked, ran], (program) => program.signal(signal))
        for (const { ended } of [invoked, ran]) {
          const { code: actual, stderr, stdout } = yield* ended
          assert.deepStrictEqual([actual, stdout, stderr], [code, "", ""])
        }
        yield* Effect.forEach(pids, Cli.gone)
      }).pipe(Effect.scoped))
  }

  it.effect("topics lists what is served", () =>
    Effect.gen(function*() {
      const { env } = yield* Up.Up
      const text = yield* Cli.run(["topics"], { env })
      assert.deepStrictEqual([text.code, text.stderr], [0, ""])
      assert.match(text.stdout, /^TOPIC_TESTING {2}1 replica\n( {2}\S+ {2}sha256:\S+ {2}Tests the stack as \S+\n){6}$/)
      const [row]: ReadonlyArray<Readonly<Record<string, unknown>>> = JSON.parse(
        (yield* Cli.run(["topics", "--json"], { env })).stdout
      )
      assert.deepStrictEqual([row?.["topic"], row?.["replicas"]], ["TOPIC_TESTING", 1])
    }))

  it.effect("skills new makes a skill that runs at once, without a restart", () =>
    Effect.gen(function*() {
      const { env, skills } = yield* Up.Up
      const made = yield* Cli.run(["skills", "new", "word-count", "--skills", skills])
      assert.deepStrictEqual([made.code, made.stderr], [0, ""])
      const root = made.stdout.trim()
      assert.strictEqual(root, Path.join(skills, "general/word-count"))
      assert.isTrue(existsSync(Path.join(root, "scripts/run.py")))
      const valid = yield* Cli.run(["skills", "validate", root])
      assert.deepStrictEqual([valid.code, valid.stdout, valid.stderr], [0, "1 of 1 skill is valid\n", ""])
      const attempt: Effect.Effect<Cli.Ended> = Effect.flatMap(
        Cli.run(["invoke", "word-count", "--data", "one two\nthree"], { env }),
        (ended) => ended.code === 2 || ended.code === 4 ? attempt : Effect.succeed(ended)
      )
      const { code, stderr, stdout } = yield* attempt
      assert.deepStrictEqual([code, stdout, stderr], [0, "2 lines, 3 words\n", ""])
      const again = yield* Cli.run(["skills", "new", "word-count", "--skills", skills])
      assert.strictEqual(again.code, 2)
      assert.include(again.stderr, "exists already")
      assert.deepStrictEqual(readdirSync(root).sort(), ["SKILL.md", "scripts"])
    }))
})
