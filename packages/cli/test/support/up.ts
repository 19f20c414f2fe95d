import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "node:path"
import * as Stack from "../../../../test/support/stack.ts"
import * as Cli from "./cli.ts"

const skill = (name: string, scripts: Readonly<Record<string, string>>): Stack.Fixture => ({
  category: "testing",
  name,
  files: Object.fromEntries(Object.entries(scripts).map(([path, text]) => [`scripts/${path}`, text]))
})

/** Skills that do what the tests look at. */
export const fixtures: ReadonlyArray<Stack.Fixture> = [
  skill("echo", { "run.sh": "cat\n" }),
  skill("warn", { "run.sh": "cat >/dev/null\nprintf done\nprintf '\\033[1mcareful' >&2\n" }),
  skill("fail", { "run.sh": "echo partial\necho 'why it failed' >&2\nexit 3\n" }),
  // Both take the name of a file for their process id: as input, or as the first argument.
  skill("wait", {
    "run.sh": "read -r file\necho $$ > \"$file\"\nexec sleep 600\n",
    "arg.sh": "echo $$ > \"$1\"\nexec sleep 600\n"
  }),
  // Ends when its file is removed.
  skill("brief", {
    "run.sh": "read -r file\necho $$ > \"$file\"\nwhile [ -e \"$file\" ]; do sleep 0.02; done\necho finished\n"
  }),
  skill("tools", {
    "run.sh": "echo entry\n",
    "args.py": "import json, sys\nprint(json.dumps(sys.argv[1:]))\n",
    "binary.py": "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 4)\n",
    "cat.sh": "cat\n",
    "endless.sh": "echo $$ > \"$1\"\nexec yes\n",
    "files.sh": "mkdir -p a/b\nprintf one > a/b/one.txt\nprintf two > two.txt\ncat in.txt > copy.txt\n",
    "ls.sh": "ls\n",
    "fail.sh": "echo out\necho err >&2\nexit 7\n"
  })
]

/** The stack that `skillscale up` runs, and how to reach it. */
export class Up extends Context.Service<Up, {
  readonly env: Readonly<Record<string, string>>
  readonly skills: string
  readonly http: string
  /** An empty folder of the test. */
  readonly folder: Effect.Effect<string>
}>()("@skillscale/cli/test/Up") {}

const ports = ["--xsub-port", "0", "--xpub-port", "0", "--metrics-port", "0"]

/** Skills of these tests tell their process ids through files of the host, which confined ones do not see. */
export const unconfined = { SKILLSCALE_SANDBOX: "off" }

/** Starts `skillscale up` and waits until it is ready. */
export const start = Effect.fnUntraced(function*(skills: string, env: Readonly<Record<string, string>> = {}) {
  const program = yield* Cli.launch(["up", "--skills", skills, ...ports], { env: { ...unconfined, ...env } })
  const ready = yield* Cli.logged(program, "skillscale is ready")
  const find = (name: string) => new RegExp(` ${name}=(\\S+)`).exec(ready)?.[1] ?? ""
  return {
    ...program,
    http: find("http"),
    env: { SKILLSCALE_PROXY_XSUB: find("xsub"), SKILLSCALE_PROXY_XPUB: find("xpub") }
  }
})

/** A folder that goes with the scope. */
export const folder = Effect.gen(function*() {
  const fileSystem = yield* FileSystem.FileSystem
  return yield* fileSystem.makeTempDirectoryScoped({ prefix: "skillscale-cli-" })
}).pipe(Effect.orDie)

export const layer = Layer.effect(
  Up,
  Effect.gen(function*() {
    const skills = yield* Stack.writeSkills(fixtures)
    const { env, http } = yield* start(skills)
    const root = yield* folder
    const fileSystem = yield* FileSystem.FileSystem
    let count = 0
    const next = Effect.suspend(() => {
      const path = Path.join(root, String(count++))
      return Effect.as(Effect.orDie(fileSystem.makeDirectory(path)), path)
    })
    return Up.of({ env, skills, http, folder: next })
  })
).pipe(Layer.provide(NodeServices.layer))
