/** What tests of agents have on the other side: a proxy and a server with skills that do what such tests look at. */
import { it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import { connect, type ConnectOptions, type Toolbox } from "@skillscale/tools/PromiseTools"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Stack from "./stack.ts"

const skill = (name: string, script: string, more: Readonly<Record<string, string>> = {}): Stack.Fixture => ({
  category: "testing",
  name,
  files: { "scripts/run.sh": script, ...more }
})

const topic = "TOPIC_TESTING"

const fixtures: ReadonlyArray<Stack.Fixture> = [
  skill("shout", "tr a-z A-Z\n"),
  skill("failing", "echo some output; echo 'the disk is on fire' >&2; exit 3\n"),
  skill(
    "drawing",
    "mkdir -p out; printf 'a,b\\n1,2\\n' > out/table.csv; printf '\\211PNG\\r\\n\\032\\n' > out/picture.png; echo drawn\n"
  ),
  skill("talking", "echo '::progress:: 1 of 2' >&2; echo one; echo '::progress:: 2 of 2' >&2; echo two\n"),
  skill("long", "head -c 200000 /dev/zero | tr '\\0' x\n"),
  {
    category: "testing",
    name: "adding",
    files: {
      "SKILL.md": "---\nname: adding\ndescription: Adds two numbers.\nmetadata:\n  skillscale.input: input.json\n" +
        "  skillscale.output: output.json\n---\nGive it two numbers.\n",
      "input.json": JSON.stringify({
        type: "object",
        properties: { a: { type: "number" }, b: { type: "number" } },
        required: ["a", "b"],
        additionalProperties: false
      }),
      "output.json": JSON.stringify({
        type: "object",
        properties: { sum: { type: "number" } },
        required: ["sum"]
      }),
      "scripts/run.py": "import json, sys\nd = json.load(sys.stdin)\nprint(json.dumps({'sum': d['a'] + d['b']}))\n"
    }
  }
]

export const addSkill = (directory: string, name: string, script: string): void => {
  const root = Path.join(directory, "testing", name)
  Fs.mkdirSync(Path.join(root, "scripts"), { recursive: true })
  Fs.writeFileSync(Path.join(root, "scripts", "run.sh"), script)
  Fs.writeFileSync(Path.join(root, "SKILL.md"), `---\nname: ${name}\ndescription: Tests as ${name}.\n---\n`)
}

export interface World {
  /** The folder with the skills. */
  readonly directory: string
  readonly connect: (options?: ConnectOptions) => Promise<Toolbox>
  readonly addresses: { readonly xsub: string; readonly xpub: string }
  /** How many processes run the skill `endless` now. */
  readonly endless: () => number
}

/** How many of the processes that `endless` left its id of are there. */
const running = (pids: string): number =>
  Fs.readFileSync(pids, "utf8").split("\n").filter((pid) => pid !== "" && Fs.existsSync(`/proc/${pid}`)).length

/** A proxy and a server with the skills of the suite. */
export const world = Effect.gen(function*() {
  const directory = yield* Stack.writeSkills(fixtures)
  const pids = Path.join(directory, "pids")
  Fs.writeFileSync(pids, "")
  addSkill(directory, "endless", `echo $$ >> ${pids}; echo begun; while :; do sleep 0.05; done\n`)
  const proxy = yield* Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false })
  const bus = Layer.effect(Bus.Bus, ZmqBus.make(proxy))
  // What is tested is on this side of the server.
  yield* Layer.build(Stack.serverFrom(bus, { directory }, { topic, workers: 4 }, { sandbox: "off" }))
  const addresses = { xsub: proxy.xsub, xpub: proxy.xpub }
  return {
    directory,
    addresses,
    connect: (options) => connect({ ...addresses, ...options }),
    endless: () => running(pids)
  } satisfies World
})

export const eventually = async (
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 15_000
): Promise<void> => {
  const until = performance.now() + ms
  while (!(await condition())) {
    if (performance.now() > until) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Runs a test in a world of its own. */
export const inWorld = (name: string, test: (world: World) => Promise<void>) =>
  it.live(name, () =>
    Effect.flatMap(world, (made) => Effect.promise(() => test(made))).pipe(
      Effect.scoped,
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.provide(NodeServices.layer)
    ), 60_000)
