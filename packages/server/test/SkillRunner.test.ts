import { assert, describe, it } from "@effect/vitest"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type * as Executor from "../src/Executor.ts"
import * as Interpreter from "../src/Interpreter.ts"
import * as Secrets from "../src/Secrets.ts"
import * as SkillRunner from "../src/SkillRunner.ts"
import * as WorkingView from "../src/WorkingView.ts"
import { carrying, marker } from "./executorSuite.ts"
import * as Support from "./fixtures/support.ts"
import { commandOf, parents, pids } from "./warmKit.ts"

const hush = "hush-hush-0451"

/** What the suite runs in: cells with an overlay of the skill, and the host's processes with a copy. */
const modes: Readonly<Record<string, SkillRunner.Options>> = {
  "in cells, over an overlay": {},
  "without a sandbox, in a copy": { sandbox: "off" }
}

const layerOf =
  (mode: SkillRunner.Options) => (options?: SkillRunner.Options, directory?: string, executor = Support.executor) =>
    SkillRunner.layer({ ...mode, ...options }).pipe(
      Layer.provide(Layer.mergeAll(
        Interpreter.layer,
        WorkingView.layer({ directory }),
        Secrets.layer({
          API_KEY: Redacted.make(hush),
          OTHER_KEY: Redacted.make("not-yours-1234"),
          PATH: Redacted.make("/evil")
        })
      )),
      Layer.provideMerge(executor)
    )

const run = (
  skill: SkillDiscovery.Skill,
  call: SkillRunner.Call = {},
  onOutput?: (output: SkillRunner.Output) => Effect.Effect<void>
) => Effect.flatMap(SkillRunner.SkillRunner, (runner) => runner.run(skill, call, { onOutput }))

const fails = (skill: SkillDiscovery.Skill, call?: SkillRunner.Call) => Effect.flip(run(skill, call))

/** Tells what a script sees, as JSON. */
const probe = `import hashlib, json, os, sys
data = sys.stdin.buffer.read()
print(json.dumps({"argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "bytes": len(data),
  "sha256": hashlib.sha256(data).hexdigest(), "files": sorted(os.listdir("."))}))`

interface Seen {
  readonly argv: ReadonlyArray<string>
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly bytes: number
  readonly sha256: string
  readonly files: ReadonlyArray<string>
}

const see = (call?: SkillRunner.Call, metadata?: Readonly<Record<string, string>>) =>
  Effect.flatMap(
    Support.skill({ "scripts/run.py": probe, "data/x.txt": "x" }, metadata),
    (skill) => seeIn(skill, call)
  )

const seeIn = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, call: SkillRunner.Call = {}) {
  const result = yield* run(skill, call)
  assert.strictEqual(result.exitCode, 0, Support.text(result.stderr))
  const seen: Seen = JSON.parse(Support.text(result.stdout))
  return seen
})

for (const [name, mode] of Object.entries(modes)) {
  describe(`SkillRunner ${name}`, () => suite(layerOf(mode), mode.sandbox === "off"))
}

describe("in a cell a skill is at its own path", () => {
  const folders = [
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    ...(Support.isRoot ? ["/root", "/srv", "/usr/share", "/var/lib"] : [])
  ]
  for (const parent of folders) {
    it.live(`below ${parent}`, () =>
      Effect.gen(function*() {
        const folder = yield* Support.folderIn(parent)
        const root = Support.writeSkill(folder, "testing/sample", { "scripts/run.py": probe })
        const skill = yield* Support.load(folder, "sample")
        const seen = yield* Effect.provide(seeIn(skill), layerOf({})({}, undefined, Support.executorFor(folder)))
        assert.strictEqual(seen.cwd, root)
      }))
  }
})

it.live("in a cell folders on the way cannot be listed, and top folders with something to read show that alone", () =>
  Effect.gen(function*() {
    const folder = yield* Support.folderIn(Support.isRoot ? "/srv" : "/tmp")
    const look = `import json, os
def see(path):
    try: return os.listdir(path)
    except OSError as error: return error.strerror
above = os.path.dirname(os.environ["SKILL_DIR"])
print(json.dumps({path: see(path) for path in ("/", "/home", "/run", "/var", os.path.dirname(above), above, "/etc", "/usr")}))`
    Support.writeSkill(folder, "testing/sample", { "scripts/run.py": look })
    const skill = yield* Support.load(folder, "sample")
    const result = yield* Effect.provide(run(skill), layerOf({})({}, undefined, Support.executorFor(folder)))
    assert.strictEqual(result.exitCode, 0, Support.text(result.stderr))
    const seen: Readonly<Record<string, unknown>> = JSON.parse(Support.text(result.stdout))
    const onTheWay = ["/", "/home", "/run", "/var", ...(Support.isRoot ? [folder, Path.join(folder, "testing")] : [])]
    for (const path of onTheWay) assert.strictEqual(seen[path], "Permission denied", path)
    assert.includeMembers(seen["/etc"] as Array<string>, ["passwd"])
    assert.notIncludeMembers(seen["/etc"] as Array<string>, ["shadow"])
    assert.sameMembers(seen["/usr"] as Array<string>, Fs.readdirSync("/usr"))
  }))

/** Why a call ended. */
const endOf = (skill: SkillDiscovery.Skill, call: SkillRunner.Call, onOutput?: () => Effect.Effect<void>) =>
  Effect.map(Effect.result(run(skill, call, onOutput)), (result) => {
    if (result._tag === "Success") return assert.fail(`it was not ended: ${Support.text(result.success.stderr)}`)
    const { reason } = result.failure
    return reason._tag === "ExecutorError" ? reason.reason : assert.fail(result.failure.message)
  })

describe("in a cell a run that never becomes clean", () => {
  it.live.skipIf(!Support.isRoot)("ends, without a result, and the next one starts", () =>
    Effect.gen(function*() {
      const [left, main] = [`10${process.pid}.1`, `10${process.pid}.2`]
      const skill = yield* Support.skill({
        "scripts/run.sh": `if [ "$1" = main ]; then exec sleep "$2"; fi
trap 'exit 0' USR1
sleep "$2" &
wait`
      })
      const tracer = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("python3", [fileURLToPath(new URL("../../../native/test/trace.py", import.meta.url))])),
        (child) => Effect.sync(() => void child.kill("SIGKILL"))
      )
      const said = createInterface({ input: tracer.stdout })[Symbol.asyncIterator]()
      const trace = (seconds: string) =>
        Effect.gen(function*() {
          const found = () => pids().find((pid) => commandOf(pid).join(" ") === `sleep ${seconds} `)
          yield* Support.eventually(`sleep ${seconds} runs`, () => found() !== undefined)
          tracer.stdin.write(`${found()}\n`)
          assert.strictEqual((yield* Effect.promise(() => said.next())).value, "traced")
          return parents(found() ?? 0)[0] ?? 0
        })
      const began = performance.now()
      const [one, other] = yield* Effect.all([
        endOf(skill, { args: ["left", left] }),
        endOf(skill, { args: ["main", main], timeout: "5 seconds" }),
        Effect.map(trace(left), (script) => process.kill(script, "SIGUSR1")).pipe(Effect.andThen(trace(main)))
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual([one._tag, other._tag], ["Killed", "TimedOut"])
      assert.isAtLeast(performance.now() - began, 10_000)
      assert.strictEqual((yield* run(skill, { args: ["main", "0"] })).exitCode, 0)
    }).pipe(Effect.provide(layerOf({})({ warm: "off", grace: 300 }))), 60_000)
})

it.live("in a cell a skill that fills its disk with extended attributes ends in DiskLimit, and one that fails beside few does not", () =>
  Effect.gen(function*() {
    const script = `import os, sys
open("/tmp/one", "w").close()
for number in range(int(sys.argv[1])): os.setxattr("/tmp/one", f"user.{number}", b"x" * 65000)
sys.exit("enough")`
    const skill = yield* Support.skill({ "scripts/run.py": script }, { "skillscale.disk": "32MiB" })
    const ends = yield* Effect.provide(endOf(skill, { args: ["100000"] }), layerOf({})())
    assert.strictEqual(ends._tag, "DiskLimit")
    const few = yield* Effect.provide(run(skill, { args: ["100"] }), layerOf({})())
    assert.deepStrictEqual([few.exitCode, Support.text(few.stderr)], [1, "enough\n"])
  }))

describe("in a cell a skill that asks for little memory", () => {
  const little = { "skillscale.memory": "256MiB" }
  const live = (
    title: string,
    body: () => Effect.Effect<unknown, unknown, SkillRunner.SkillRunner | Executor.Executor | Scope.Scope>,
    options?: SkillRunner.Options
  ) => it.live(title, () => Effect.suspend(body).pipe(Effect.provide(layerOf({})(options)), Effect.asVoid), 60_000)

  const scripts = {
    "scripts/run.py": "import json, subprocess\nsubprocess.run(['true'], check=True)\nprint('began')",
    "scripts/run.mjs":
      "import { execFileSync } from 'node:child_process'\nexecFileSync('true')\nawait WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))\nconsole.log('began')",
    "scripts/run.sh": "echo began | cat"
  }
  for (const memory of ["128MiB", "256MiB", "512MiB"]) {
    live(`of ${memory} runs with every interpreter`, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill(scripts, { "skillscale.memory": memory })
        for (const script of Object.keys(scripts)) {
          for (let round = 0; round < 3; round++) {
            const result = yield* run(skill, { script })
            assert.deepStrictEqual([result.exitCode, Support.text(result.stdout)], [0, "began\n"], script)
          }
        }
      }))
  }

  const hoarders: Readonly<Record<string, string>> = {
    "run.py": "kept = []\nwhile True: kept.append(b'x' * (1 << 20))",
    "at-once.py": "import time\nkept = bytearray(b'x') * (400 << 20)\ntime.sleep(20)",
    "spread.py": `import os, signal
for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(b"x") * (60 << 20)
        signal.pause()
signal.pause()`,
    "buffers.mjs": "const kept = []\nfor (;;) kept.push(Buffer.alloc(16 << 20, 1))",
    "heap.mjs": "const kept = []\nfor (let i = 0;; i++) kept.push({ a: [i, i, i, i, i, i, i, i] })",
    "run.sh": "x=xxxxxxxxxxxxxxxx\nwhile :; do x=$x$x; done",
    "spread.sh": "for i in 1 2 3 4 5 6 7 8; do head -c 60M /dev/zero | tail & done\nsleep 20",
    "refused.py": "kept = bytearray(b'x') * (150 << 20)\nbytearray(2 << 30)"
  }
  for (const [name, script] of Object.entries(hoarders)) {
    live(`ends in MemoryLimit when it takes more: ${name}`, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ [`scripts/${name}`]: script }, little)
        for (const onOutput of [undefined, () => Effect.void, undefined]) {
          const reason = yield* endOf(skill, { script: `scripts/${name}` }, onOutput)
          assert.deepInclude(reason, { _tag: "MemoryLimit", limitBytes: 256 * 1024 ** 2 })
        }
      }))
  }

  live("may not have much more at once, and fails of that by itself", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.py": "bytearray(1280 << 20)" }, little)
      const result = yield* run(skill)
      assert.strictEqual(result.exitCode, 1)
      assert.match(Support.text(result.stderr), /^MemoryError$/m)
    }))

  live("is held to the operator's memory when that is less", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.mjs": hoarders["buffers.mjs"] ?? "" }, little)
      const reason = yield* endOf(skill, {})
      assert.deepInclude(reason, { _tag: "MemoryLimit", limitBytes: 200 * 1024 ** 2 })
    }), { sandbox: { memoryBytes: 200 * 1024 ** 2 } })
})

function suite(layer: ReturnType<typeof layerOf>, copies: boolean): void {
  const live = (
    title: string,
    body: () => Effect.Effect<unknown, unknown, SkillRunner.SkillRunner | Executor.Executor | Scope.Scope>,
    options?: SkillRunner.Options
  ) => it.live(title, () => Effect.suspend(body).pipe(Effect.provide(layer(options)), Effect.asVoid))

  live("passes arguments exactly, after the script's path in the view", () =>
    Effect.gen(function*() {
      const args = [
        "",
        " a  b ",
        "\"q\" 'q'",
        "$HOME `id` $(id); rm -rf / | & > x",
        "--flag",
        "-",
        "--",
        "ünï😀",
        "a\nb\tc",
        "*"
      ]
      const { argv, cwd } = yield* see({ args })
      assert.deepStrictEqual(argv, [Path.join(cwd, "scripts/run.py"), ...args])
      const skill = yield* Support.skill({ "scripts/run.sh": "for a in \"$@\"; do printf '%s\\0' \"$a\"; done" })
      assert.strictEqual(Support.text((yield* run(skill, { args })).stdout), args.map((arg) => `${arg}\0`).join(""))
    }))

  live(
    "runs in the view: its own folder name, cwd, SKILL_DIR, a private HOME and TMPDIR",
    () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ "scripts/run.py": probe, "data/x.txt": "x" })
        const { cwd, env, files } = yield* seeIn(skill)
        assert.strictEqual(Path.basename(cwd), "sample")
        assert.deepInclude(env, { SKILL_DIR: cwd, CLAUDE_SKILL_DIR: cwd, HOME: env["TMPDIR"] })
        assert.isFalse((env["HOME"] ?? cwd).startsWith(cwd))
        assert.deepStrictEqual(files, ["SKILL.md", "data", "scripts"])
        if (copies) yield* Support.eventually("the view is removed", () => !Fs.existsSync(cwd))
        else assert.strictEqual(cwd, skill.root)
      })
  )

  const changer = `import os
os.makedirs("data/new", exist_ok=True)
for path, mode in (("data/x.txt", "a"), ("data/new/y.txt", "w"), ("top.txt", "w"), ("scripts/run.py", "a")):
    with open(path, mode) as file: file.write("more")
os.remove("gone.txt")
os.rename("moved.txt", "data/moved.txt")
print(sorted(os.listdir(".")))`
  const changed = { "scripts/run.py": changer, "data/x.txt": "x", "gone.txt": "g", "moved.txt": "m" }
  const listed = "['SKILL.md', 'data', 'scripts', 'top.txt']\n"

  live("may change all of its view, wherever the skill is, and nothing of the skill", () =>
    Effect.gen(function*() {
      const plain = yield* Support.skill(changed)
      const elsewhere = yield* Support.folder
      const linked = yield* Support.skill(changed)
      Fs.cpSync(linked.root, Path.join(elsewhere, "sample"), { recursive: true })
      Fs.rmSync(linked.root, { recursive: true })
      Fs.symlinkSync(Path.join(elsewhere, "sample"), linked.root)
      const mixed = yield* Support.skill(changed)
      if (process.getuid?.() === 0) {
        Fs.chownSync(Path.join(mixed.root, "data"), 1000, 1000)
        Fs.chownSync(Path.join(mixed.root, "data/x.txt"), 1000, 1000)
      }
      const versioned = yield* Support.skill(changed)
      Fs.mkdirSync(Path.join(versioned.root, ".git"))
      Fs.writeFileSync(Path.join(versioned.root, ".git/config"), "not to be seen")
      for (const skill of [plain, linked, mixed, versioned]) {
        const before = Support.snapshot(skill.root)
        const result = yield* run(skill)
        assert.deepStrictEqual([Support.text(result.stdout), Support.text(result.stderr)], [listed, ""])
        assert.sameMembers(
          result.artifacts.map(({ path }) => path),
          ["data/moved.txt", "data/new/y.txt", "data/x.txt", "scripts/run.py", "top.txt"]
        )
        assert.deepStrictEqual(Support.snapshot(skill.root), before)
      }
    }))

  live("runs the skill that is there now when its folder was replaced", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.sh": "echo old" })
      assert.strictEqual(Support.text((yield* run(skill)).stdout), "old\n")
      const directory = Path.dirname(Path.dirname(skill.root))
      Fs.renameSync(directory, `${directory}.old`)
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(`${directory}.old`, { recursive: true })))
      Support.writeSkill(directory, "testing/sample", { "scripts/run.sh": "echo new" })
      const changed = yield* Support.load(directory, "sample")
      const result = yield* run(changed, { digest: changed.digest })
      assert.strictEqual(Support.text(result.stdout), "new\n")
    }))

  live("runs no code that the digest does not cover", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.py": "import lib\nprint(lib.V)",
        "scripts/lib.py": "V = 'seen'"
      })
      const other = yield* Support.folder
      Fs.writeFileSync(Path.join(other, "lib.py"), "V = 'unseen'")
      execFileSync("python3", [
        "-c",
        `import os, py_compile, sys
os.makedirs(sys.argv[2], exist_ok=True)
tag = sys.implementation.cache_tag
py_compile.compile(sys.argv[1], cfile=f"{sys.argv[2]}/lib.{tag}.pyc", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)`,
        Path.join(other, "lib.py"),
        Path.join(skill.root, "scripts/__pycache__")
      ])
      assert.strictEqual(Support.text((yield* run(skill, { digest: skill.digest })).stdout), "seen\n")
    }))

  live("gives the environment of the contract, and nothing of the server's", () =>
    Effect.gen(function*() {
      process.env["SERVER_CANARY"] = "canary"
      yield* Effect.addFinalizer(() => Effect.sync(() => delete process.env["SERVER_CANARY"]))
      const { env } = yield* see({ env: { MODE: "fast", LANG: "de_DE.UTF-8" }, stdin: Buffer.from("hi") })
      // The interpreter itself may add LC_CTYPE and __CF_… on some platforms.
      assert.sameMembers(
        Object.keys(env).filter((name) => name !== "LC_CTYPE" && name !== "TRACEPARENT"),
        [
          "PATH",
          "HOME",
          "TMPDIR",
          "LANG",
          "PYTHONDONTWRITEBYTECODE",
          "MODE",
          "SKILL_DIR",
          "CLAUDE_SKILL_DIR",
          "SKILLSCALE_INTENT"
        ]
      )
      assert.deepInclude(env, { MODE: "fast", LANG: "de_DE.UTF-8", SKILLSCALE_INTENT: "hi" })
      assert.notInclude(JSON.stringify(env), "canary")
    }))

  live("asks for untranslated messages unless the caller asks for a language", () =>
    Effect.gen(function*() {
      const asked = yield* see({})
      assert.deepInclude(asked.env, { LANG: "C.UTF-8", LC_MESSAGES: "C" })
      for (const env of [{ LANG: "de_DE.UTF-8" }, { LANGUAGE: "de" }]) {
        assert.notProperty((yield* see({ env })).env, "LC_MESSAGES")
      }
    }))

  const kib = 1024
  for (const size of [0, 1, 95 * kib, 96 * kib - 1, 96 * kib, kib * kib, 16 * kib * kib]) {
    const inEnvironment = size > 0 && size < 96 * kib
    live(
      `delivers ${size} bytes on standard input, ${inEnvironment ? "and" : "not"} in SKILLSCALE_INTENT`,
      () =>
        Effect.gen(function*() {
          const stdin = Buffer.alloc(size, "0123456789 ünï\n")
          const text = Buffer.from(stdin.toString("utf8")).equals(stdin) ? stdin : Buffer.alloc(size, "x")
          const seen = yield* see({ stdin: text })
          assert.strictEqual(seen.bytes, size)
          assert.strictEqual(seen.env["SKILLSCALE_INTENT"], inEnvironment ? text.toString("utf8") : undefined)
        })
    )
  }

  live("leaves input that is no text out of the environment, and delivers it whole", () =>
    Effect.gen(function*() {
      for (const bytes of [Buffer.from([0xff, 0xfe]), Buffer.from("a\0b"), Buffer.from([0xed, 0xa0, 0x80])]) {
        const seen = yield* see({ stdin: bytes })
        assert.strictEqual(seen.bytes, bytes.byteLength)
        assert.notProperty(seen.env, "SKILLSCALE_INTENT")
      }
      assert.strictEqual((yield* see({ stdin: Buffer.from("\ufeffbom") })).env["SKILLSCALE_INTENT"], "\ufeffbom")
    }))

  live(
    "finds siblings, references relative to script and root, and absolute paths, and may change directory",
    () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({
          "scripts/main.py": "import helper, os, pathlib\n" +
            "print(helper.NAME, open('references/a.md').read(), (pathlib.Path(__file__).parent / '../references/a.md').read_text())\n" +
            "os.chdir('/'); print(open(os.environ['SKILL_DIR'] + '/references/a.md').read())",
          "scripts/helper.py": "NAME = 'helper'",
          "scripts/sub/run.sh": "cd \"$(dirname \"$0\")\" && . ../lib.sh && cat ../../references/a.md",
          "scripts/lib.sh": "echo lib",
          "scripts/run.mjs": "import { x } from './x.mjs'; console.log(x)",
          "scripts/x.mjs": "export const x = 'module'",
          "references/a.md": "A"
        })
        const out = (script: string) =>
          Effect.map(run(skill, { script }), ({ stderr, stdout }) => Support.text(stdout) + Support.text(stderr))
        assert.strictEqual(yield* out("scripts/main.py"), "helper A A\nA\n")
        assert.strictEqual(yield* out("scripts/sub/run.sh"), "lib\nA")
        assert.strictEqual(yield* out("scripts/run.mjs"), "module\n")
      })
  )

  const ownNames = [
    "PATH HOME TMPDIR LD_PRELOAD LD_LIBRARY_PATH PYTHONPATH PYTHONSTARTUP PYTHONHOME NODE_OPTIONS NODE_PATH BASH_ENV ENV",
    "IFS SKILL_DIR CLAUDE_SKILL_DIR SKILLSCALE_INTENT SKILLSCALE_X TRACEPARENT PERL5OPT RUBYOPT OPENSSL_CONF",
    "HTTPS_PROXY http_proxy SSL_CERT_FILE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS SSLKEYLOGFILE GIT_SSH_COMMAND",
    "TCL_LIBRARY LUA_INIT LUA_INIT_5_4 PHPRC PHP_INI_SCAN_DIR R_PROFILE_USER DOTNET_STARTUP_HOOKS ERL_AFLAGS ZDOTDIR FPATH",
    "TCLLIBPATH AWKPATH COVERAGE_PROCESS_START PERL5DB PYENV_VERSION RUSTC_WRAPPER RUSTUP_TOOLCHAIN CARGO_HOME GOFLAGS",
    "1A A-B A=B"
  ]
  live(
    "refuses variables from a caller that are the server's, or that interpreters load code by",
    () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ "scripts/run.sh": "" })
        for (const name of [...ownNames.join(" ").split(" "), ""]) {
          const { message, reason } = yield* fails(skill, { env: { [name]: "x" } })
          assert.strictEqual(reason._tag, "BadCall", name)
          assert.include(message, name)
        }
      })
  )

  live("refuses values and arguments that the kernel would cut or reject", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.sh": "echo ran" })
      const long = "x".repeat(200_000)
      for (const call of [{ env: { A: "x\0y" } }, { env: { A: long } }, { args: ["a\0b"] }, { args: ["ok", long] }]) {
        assert.strictEqual((yield* fails(skill, call)).reason._tag, "BadCall")
      }
      assert.strictEqual(
        (yield* run(skill, { env: { NODE_ENV: "x", GITHUB_TOKEN: "x" }, args: ["x".repeat(100_000)] })).exitCode,
        0
      )
    }))

  live(
    "injects exactly the secrets that the skill declares, and lets no caller replace them",
    () =>
      Effect.gen(function*() {
        const declared = { "skillscale.env": "API_KEY, MISSING_KEY PATH" }
        const { env } = yield* see({ env: { MISSING_KEY: "the caller's" } }, declared)
        assert.deepInclude(env, { API_KEY: hush, MISSING_KEY: "the caller's" })
        assert.notProperty(env, "OTHER_KEY")
        assert.notStrictEqual(env["PATH"], "/evil")
        assert.notProperty((yield* see()).env, "API_KEY")
        const skill = yield* Support.skill({ "scripts/run.sh": "" }, declared)
        const error = yield* fails(skill, { env: { API_KEY: "mine" } })
        assert.strictEqual(error.reason._tag, "BadCall")
        assert.notInclude(error.message, hush)
        assert.notInclude(JSON.stringify(skill), hush)
      })
  )

  live(
    "takes secrets out of stderr in results, errors, events and logs, and leaves stdout as it is",
    () =>
      Effect.gen(function*() {
        const declared = { "skillscale.env": "API_KEY" }
        const print = "printf '%s' \"$API_KEY\"; printf 'a %s b' \"$API_KEY\" >&2"
        const skill = yield* Support.skill({
          "scripts/run.sh": `${print}; exit 3`,
          "scripts/slow.sh": `${print}; exec sleep 60`
        }, declared)
        const result = yield* run(skill)
        assert.strictEqual(Support.text(result.stdout), hush)
        assert.strictEqual(Support.text(result.stderr), "a [redacted] b")
        const logs = Support.logs()
        for (const onOutput of [undefined, () => Effect.void]) {
          const error = yield* Effect.flip(run(skill, { script: "scripts/slow.sh", timeout: 500 }, onOutput)).pipe(
            Effect.tap((error) => Effect.logError(error)),
            Effect.provide(logs.layer)
          )
          assert.strictEqual(
            error.reason._tag === "ExecutorError" ? Support.text(error.reason.stderr) : "",
            "a [redacted] b"
          )
          assert.notInclude(JSON.stringify([error, String(error), error.stack]), hush)
        }
        assert.notInclude(logs.lines.join(), hush)
        const pieces = yield* Support.skill({
          "scripts/run.py":
            "import os, sys, time\nfor c in 'x' + os.environ['API_KEY'] + 'y':\n  os.write(2, c.encode()); time.sleep(0.005)\n"
        }, declared)
        const events: Array<string> = []
        const streamed = yield* run(pieces, {}, ({ _tag, data }) =>
          Effect.sync(() =>
            events.push(`${_tag} ${Support.text(data)}`)
          ))
        assert.strictEqual(
          events.map((event) => event.replace("Stderr ", "")).join(""),
          "x[redacted]y"
        )
        assert.strictEqual(Support.text(streamed.stderr), "x[redacted]y")
      })
  )

  live("takes out the beginning of a secret that the cap on stderr cut", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.sh": "printf '12345%s' \"$API_KEY\" >&2" }, {
        "skillscale.env": "API_KEY"
      })
      const result = yield* run(skill)
      assert.isTrue(result.stderrTruncated)
      assert.strictEqual(Support.text(result.stderr), "12345[redacted]")
    }), { stderrBytes: 10 })

  live("a script that asks for input fails at once", () =>
    Effect.gen(function*() {
      const python = yield* run(yield* Support.skill({ "scripts/run.py": "input('name? ')" }), {
        timeout: "20 seconds"
      })
      assert.notStrictEqual(python.exitCode, 0)
      assert.include(Support.text(python.stderr), "EOFError")
      assert.strictEqual((yield* run(yield* Support.skill({ "scripts/run.sh": "read -r x || exit 9" }))).exitCode, 9)
    }))

  live("runs what the caller saw, or nothing", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.sh": "echo one", "b.txt": "b" })
      assert.strictEqual(Support.text((yield* run(skill, { digest: skill.digest })).stdout), "one\n")
      // The catalog still holds the old digest; the disk has moved on.
      for (const [path, data] of [["scripts/run.sh", "echo two"], ["b.txt", "c"]] as const) {
        const before = Fs.readFileSync(Path.join(skill.root, path))
        Fs.writeFileSync(Path.join(skill.root, path), data)
        const error = yield* fails(skill, { digest: skill.digest })
        assert.deepInclude(error.reason, { _tag: "SkillChanged", expected: skill.digest })
        assert.match(error.message, /skill sample is now sha256:[0-9a-f]{64}, not sha256:/)
        Fs.writeFileSync(Path.join(skill.root, path), before)
      }
      assert.strictEqual((yield* run(skill, { digest: skill.digest })).exitCode, 0)
      Fs.writeFileSync(Path.join(skill.root, "scripts/run.sh"), "echo three")
      assert.strictEqual(Support.text((yield* run(skill)).stdout), "three\n")
    }))

  live("lists the scripts when there is no such one, and never leaves the skill", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/a.py": "", "scripts/b.sh": "" })
      for (
        const script of [
          "scripts/c.py",
          "../sample/scripts/a.py",
          "/bin/sh",
          "scripts/../scripts/a.py",
          "scripts",
          "",
          "./scripts/a.py"
        ]
      ) {
        const error = yield* fails(skill, { script })
        assert.strictEqual(error.reason._tag, "ScriptNotFound", script)
        assert.include(error.message, "it has scripts/a.py, scripts/b.sh")
      }
      assert.match((yield* fails(skill)).message, /sample has no entry point .*; name a script: it has scripts\/a\.py/)
      const none = yield* Support.skill({})
      assert.match((yield* fails(none)).message, /it has none/)
    }))

  live("returns exit codes, the signal of a crash, and binary output", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.sh": "exit \"$1\"",
        "scripts/kill.sh": "kill -SEGV $$",
        "scripts/term.sh": "kill -TERM $$",
        "scripts/bytes.py": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
        "scripts/none": "what"
      })
      for (const code of [0, 1, 42, 255]) {
        assert.strictEqual((yield* run(skill, { args: [String(code)] })).exitCode, code)
      }
      const crashed = yield* run(skill, { script: "scripts/kill.sh" })
      assert.strictEqual(crashed.signal, "SIGSEGV")
      const killed = yield* fails(skill, { script: "scripts/term.sh" })
      assert.match(killed.message, /^skill sample: .*SIGTERM/)
      assert.deepStrictEqual(
        [...(yield* run(skill, { script: "scripts/bytes.py" })).stdout],
        Array.from({ length: 256 }, (_, i) => i)
      )
      assert.strictEqual((yield* fails(skill, { script: "scripts/none" })).reason._tag, "InterpreterError")
    }))

  live(
    "returns artifacts with the output, of input files too, also when the script failed",
    () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({
          "scripts/run.sh": "mkdir out; tr a-z A-Z < in.txt > out/up.txt; rm -rf scripts; exit 1"
        })
        const result = yield* run(skill, { files: { "in.txt": Buffer.from("abc") } })
        assert.strictEqual(result.exitCode, 1)
        assert.isFalse(result.artifactsTruncated)
        assert.deepStrictEqual(result.artifacts.map(({ data, path }) => [path, Support.text(data)]), [[
          "out/up.txt",
          "ABC"
        ]])
        assert.strictEqual(
          (yield* fails(skill, { files: { "SKILL.md": Buffer.from("") } })).reason._tag,
          "WorkingViewError"
        )
      })
  )

  live(
    "ends the call at its timeout, names the time that was given, and keeps what stderr had",
    () =>
      Effect.gen(function*() {
        const mark = marker()
        const skill = yield* Support.skill({ "scripts/run.sh": "echo begun >&2; sleep 60 & sleep 60" })
        const began = performance.now()
        for (const onOutput of [undefined, () => Effect.void]) {
          const error = yield* Effect.flip(run(skill, { env: { MARK: mark }, timeout: 1500 }, onOutput))
          const reason = error.reason._tag === "ExecutorError" ? error.reason : assert.fail(error.message)
          assert.deepInclude(reason.reason, { _tag: "TimedOut", timeoutMs: 1500 })
          assert.strictEqual(Support.text(reason.stderr), "begun\n")
          assert.match(error.message, /did not end within 1500 ms/)
        }
        assert.isBelow(performance.now() - began, 10_000)
        assert.deepStrictEqual(carrying(mark), [])
      })
  )

  it.live("counts the time that the view took, so that no call is longer than it was given", () =>
    Effect.gen(function*() {
      const slow = Layer.succeed(WorkingView.WorkingView, { base: "/nowhere", open: () => Effect.never })
      const error = yield* fails(yield* Support.skill({ "scripts/run.sh": "" }), { timeout: 50 }).pipe(Effect.provide(
        SkillRunner.layer().pipe(
          Layer.provide(Layer.mergeAll(slow, Interpreter.layer, Secrets.layer({}))),
          Layer.provide(Support.executor)
        )
      ))
      assert.match(error.message, /did not end within 50 ms/)
    }))

  it.live("interruption ends the process and removes the view", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      yield* Effect.gen(function*() {
        const mark = marker()
        // The sleeps inherit what is ignored.
        const skill = yield* Support.skill({ "scripts/run.sh": "trap '' TERM; sleep 60 & sleep 60" })
        const fiber = yield* Effect.forkChild(run(skill, { env: { MARK: mark } }))
        yield* Support.eventually("it runs", () => carrying(mark).length >= 3)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(carrying(mark), [])
        const base = Path.join(directory, Fs.readdirSync(directory)[0] ?? "")
        yield* Support.eventually("the view is removed", () => !Fs.readdirSync(base).includes("1"))
        // With its grace it would outlast the test.
      }).pipe(Effect.provide(layer({ grace: "1 minute" }, directory)))
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  live("streams output as it comes, and slows the script for a slow listener", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.sh": "echo out; echo err >&2; head -c 3000000 /dev/zero" })
      let bytes = 0
      const result = yield* run(skill, {}, ({ data }) => Effect.sync(() => bytes += data.byteLength))
      assert.strictEqual(bytes, 3_000_008)
      assert.strictEqual(result.stdout.byteLength, 3_000_004)
      assert.strictEqual(Support.text(result.stderr), "err\n")
    }))

  live(
    "a full process table of arguments is an error, not a defect, and the next run works",
    () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ "scripts/run.sh": "echo $#" })
        const error = yield* fails(skill, { args: Array.from({ length: 100 }, () => "x".repeat(100_000)) })
        assert.match(error.message, /E2BIG/)
        assert.strictEqual(Support.text((yield* run(skill, { args: ["a"] })).stdout), "1\n")
      })
  )

  const writers: Readonly<Record<string, string>> = {
    "run.py": "file = open('out', 'wb')\nfor _ in range(2048): file.write(b'x' * 1024)",
    "run.mjs":
      "import * as Fs from 'node:fs'\nconst file = Fs.openSync('out', 'w')\nfor (let i = 0; i < 2048; i++) Fs.writeSync(file, 'x'.repeat(1024))",
    "run.sh": "echo begun\nhead -c 2M /dev/zero > out",
    "builtin.sh": "for i in {1..400000}; do echo xxxxxxxx; done > out",
    "sparse.sh": "echo begun\ntruncate -s 2M out"
  }
  for (const [name, script] of Object.entries(writers)) {
    live(`a file beyond its limit ends in OutputLimit: ${name}`, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ [`scripts/${name}`]: script })
        for (const onOutput of [undefined, () => Effect.void, undefined]) {
          const reason = yield* endOf(skill, { script: `scripts/${name}` }, onOutput)
          assert.deepInclude(reason, { _tag: "OutputLimit", stream: "file", limitBytes: 1024 ** 2 })
        }
      }), { limits: { fileBytes: 1024 ** 2 } })
  }

  live("the limits reach the script", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.sh": "ulimit -n" })
      assert.strictEqual(Support.text((yield* run(skill)).stdout), "64\n")
      assert.isAbove(Number(execFileSync("bash", ["-c", "ulimit -n"], { encoding: "utf8" })), 64)
    }), { limits: { openFiles: 64 } })
}
