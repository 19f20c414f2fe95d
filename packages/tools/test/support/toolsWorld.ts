/** A proxy and a server with skills for what tools do, and the tools of these skills. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import * as SkillTools from "@skillscale/tools/SkillTools"
import type { ToolError } from "@skillscale/tools/ToolError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import * as Stack from "../../../../test/support/stack.ts"

const topic = "TOPIC_TESTING"
export const shell = (name: string, script: string, more: Stack.Fixture["files"] = {}): Stack.Fixture => ({
  category: "testing",
  name,
  files: { "scripts/run.sh": script, ...more }
})

const fixtures: ReadonlyArray<Stack.Fixture> = [
  shell("shout", "tr a-z A-Z; for a in \"$@\"; do echo \"[$a]\"; done\n"),
  shell("files", "cat in/given.txt; mkdir -p out; cp in/given.txt out/copied.txt; printf '\\000\\377' > out/raw.bin\n"),
  shell("binary", "printf '\\377\\376\\000'\n"),
  shell("silent", "true\n"),
  shell("warning", "echo careful >&2\n"),
  shell("failing", "echo partial; echo 'no such file' >&2; exit 7\n"),
  shell("long", "seq 1 20000\n"),
  shell("waiting", "echo begun; exec sleep 60\n"),
  shell(
    "talking",
    "echo '::progress:: half' >&2; echo one; sleep 0.2; printf 'two \\303'; sleep 0.2; printf '\\244\\n'\n"
  ),
  {
    category: "testing",
    name: "tools",
    files: { "scripts/first.sh": "echo first\n", "scripts/second.sh": "echo second $1\n" }
  },
  shell("word", "cat\n", {
    "SKILL.md":
      "---\nname: word\ndescription: Takes one or the other.\nmetadata:\n  skillscale.input: input.json\n---\n",
    "input.json": JSON.stringify({
      type: "object",
      properties: { one: { $ref: "#/$defs/word" }, other: { $ref: "#/$defs/word" } },
      anyOf: [{ required: ["one"] }, { required: ["other"] }],
      $defs: { word: { type: "string" } }
    })
  }),
  shell("celsius", "cat\n", {
    "SKILL.md": `---\nname: celsius\ndescription: ${
      "Warm. ".repeat(300)
    }end\nmetadata:\n  skillscale.input: input.json\n---\nGo.\n`,
    "input.json": JSON.stringify({ type: "object", properties: { "größe in cm": {}, $filter: {} } })
  }),
  { category: "testing", name: "guide", files: { "references/more.md": "More.\n" } }
]

interface World {
  readonly directory: string
  readonly proxy: Proxy.Proxy["Service"]
  readonly tools: SkillTools.SkillTools["Service"]
}

export const inWorld = <E>(
  test: (world: World) => Effect.Effect<void, E, Scope.Scope>,
  options: PromiseTools.ConnectOptions = {},
  more: ReadonlyArray<Stack.Fixture> = []
) =>
  Effect.gen(function*() {
    const directory = yield* Stack.writeSkills([...fixtures, ...more])
    const proxy = yield* Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false })
    const bus = Layer.effect(Bus.Bus, ZmqBus.make(proxy))
    yield* Layer.build(Stack.serverFrom(bus, { directory }, { topic }))
    const context = yield* Layer.build(PromiseTools.layer({ xsub: proxy.xsub, xpub: proxy.xpub, ...options }))
    const tools = yield* Effect.provide(SkillTools.SkillTools, context)
    yield* test({ directory, proxy, tools })
  }).pipe(
    Effect.scoped,
    Effect.provideService(References.MinimumLogLevel, "None"),
    Effect.provide(NodeServices.layer)
  )

export const failure = <A>(call: Effect.Effect<A, ToolError>) => Effect.flip(call)
