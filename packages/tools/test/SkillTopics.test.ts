/** Skills of one name on several topics, each on a real server of its own. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Bus from "@skillscale/core/Bus"
import * as Topic from "@skillscale/core/Topic"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Stack from "../../../test/support/stack.ts"

const topics = ["TOPIC_ALPHA", "TOPIC_BETA"]

const fixture = (category: string): Stack.Fixture => ({
  category,
  name: "whereami",
  files: { "scripts/run.sh": `echo ${category}\n`, "references/place.md": `It is ${category}.\n` }
})

const world = Effect.gen(function*() {
  const proxy = yield* Proxy.make({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: false })
  const bus = Layer.effect(Bus.Bus, ZmqBus.make(proxy))
  for (const category of ["alpha", "beta"]) {
    const directory = yield* Stack.writeSkills([fixture(category)])
    yield* Layer.build(
      Stack.serverFrom(bus, { directory }, { topic: Topic.fromCategory(category) }, { sandbox: "off" })
    )
  }
  return { xsub: proxy.xsub, xpub: proxy.xpub }
})

describe("skills of one name on several topics", () => {
  it.live("are all reached with the vocabulary, which names their topics", () =>
    Effect.gen(function*() {
      const at = yield* world
      yield* Effect.promise(async () => {
        await using skills = await PromiseTools.connect({ ...at, maxSkillTools: false })
        const ask = async (tool: string, input: unknown) => (await skills.call(tool, input)).text
        assert.strictEqual(
          await ask("list_skills", {}),
          topics.map((topic) => `- whereami (topic ${topic}): Tests the stack as whereami.`).join("\n")
        )
        assert.include(await ask("search_skills", { query: "whereami" }), "(topic TOPIC_BETA)")
        const skill = "whereami"
        for (const [topic, place] of [["TOPIC_ALPHA", "alpha"], ["TOPIC_BETA", "beta"], [undefined, "alpha"]]) {
          const which = { skill, ...topic === undefined ? {} : { topic } }
          assert.strictEqual(await ask("run_skill_script", which), place)
          assert.strictEqual(
            await ask("read_skill_resource", { ...which, path: "references/place.md" }),
            `It is ${place}.\n`
          )
          const found = skills.skills().find((candidate) => candidate.topic === (topic ?? "TOPIC_ALPHA"))
          assert.include(await ask("load_skill", which), `digest="${found?.digest}"`)
        }
      })
    }).pipe(
      Effect.scoped,
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.provide(NodeServices.layer)
    ))
})
