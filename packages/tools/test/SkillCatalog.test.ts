import * as NodeServices from "@effect/platform-node/NodeServices"
import * as ClientError from "@skillscale/client/ClientError"
import * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Stack from "../../../test/support/stack.ts"

const skill = (name: string, more: Partial<SkillCatalog.Skill> = {}): SkillCatalog.Skill => ({
  name,
  description: `Does ${name}.`,
  category: "a",
  topic: "TOPIC_A",
  digest: `sha256:${"0".repeat(64)}`,
  entry: "scripts/run.sh",
  scripts: ["scripts/run.sh"],
  env: [],
  servers: ["s"],
  ...more
})

const failed = (reason: ClientError.Reason) => new ClientError.ClientError({ operation: "catalog", reason })
const digest = (digit: string) => `sha256:${digit.repeat(64)}`

/** A catalog that tells what the test puts in, and which skills it was asked to read. */
const scripted = Effect.fnUntraced(function*(
  bodies: Readonly<Record<string, string>> = {},
  options?: SkillCatalog.Options
) {
  const told = yield* Queue.unbounded<ReadonlyArray<SkillCatalog.Skill>, ClientError.ClientError>()
  const read: Array<string> = []
  const made = SkillCatalog.make({
    changes: Stream.fromEffectRepeat(Queue.take(told)),
    describe: (asked) =>
      Effect.suspend(() => {
        read.push(asked.name)
        const instructions = bodies[asked.name]
        return instructions === undefined
          ? Effect.fail(failed(new ClientError.NoServer({ topic: asked.topic })))
          : Effect.succeed({ skill: asked, instructions, resources: [] })
      }),
    resource: () => Effect.die("not asked")
  }, options)
  return { told, read, made }
})

const names = (skills: ReadonlyArray<{ readonly name: string }>) => skills.map(({ name }) => name)

describe("SkillCatalog", () => {
  it.effect("has one version of each skill of each topic: the one that most servers have", () =>
    Effect.gen(function*() {
      const { made, told } = yield* scripted()
      yield* Queue.offer(told, [
        skill("b", { servers: ["s1"], digest: digest("1") }),
        skill("b", { servers: ["s2", "s3"], digest: digest("2") }),
        skill("a", { servers: ["s1"], digest: digest("4") }),
        skill("a", { servers: ["s2"], digest: digest("3") }),
        skill("a", { topic: "TOPIC_B" })
      ])
      const catalog = yield* made
      const skills = yield* catalog.skills
      assert.deepStrictEqual(
        skills.map(({ digest, name, topic }) => [name, topic, digest.slice(7, 8)]),
        [["a", "TOPIC_A", "3"], ["a", "TOPIC_B", "0"], ["b", "TOPIC_A", "2"]]
      )
      assert.strictEqual((yield* catalog.find("a")).topic, "TOPIC_A")
      assert.strictEqual((yield* catalog.find("a", "TOPIC_B")).topic, "TOPIC_B")
      const missing = yield* Effect.flip(catalog.find("aa"))
      assert.deepStrictEqual([missing.near[0], missing.available], ["a", ["a", "b"]])
    }).pipe(Effect.scoped))

  it.effect("has the skills that are wanted, by name or by what they are", () =>
    Effect.gen(function*() {
      const all = [skill("a"), skill("b", { topic: "TOPIC_B" }), skill("c")]
      const cases: ReadonlyArray<readonly [SkillCatalog.Options["skills"], Array<string>]> = [
        [["a", "c", "x"], ["a", "c"]],
        [({ topic }) => topic === "TOPIC_B", ["b"]]
      ]
      for (const [skills, expected] of cases) {
        const { made, told } = yield* scripted({}, { skills })
        yield* Queue.offer(told, all)
        assert.deepStrictEqual(names(yield* (yield* made).skills), expected)
      }
    }).pipe(Effect.scoped))

  it.effect("fails when there is none at first, and follows it anew when it breaks later", () =>
    Effect.gen(function*() {
      const unreachable = failed(new ClientError.Unreachable({ detail: "no proxy" }))
      const none = yield* SkillCatalog.make({
        changes: Stream.fail(unreachable),
        describe: () => Effect.never,
        resource: () => Effect.never
      }).pipe(Effect.result)
      assert.strictEqual(Result.isFailure(none) && none.failure.reason._tag, "Unreachable")
      let followed = 0
      const catalog = yield* SkillCatalog.make({
        changes: Stream.suspend(() =>
          ++followed === 1
            ? Stream.concat(Stream.make([skill("a")]), Stream.fail(unreachable))
            : Stream.concat(Stream.make([skill("b")]), Stream.never)
        ),
        describe: () => Effect.never,
        resource: () => Effect.never
      })
      const next = yield* Stream.runHead(Stream.filter(catalog.changes, ([first]) => first?.name === "b")).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      assert.deepStrictEqual(names(yield* catalog.skills), ["a"])
      yield* Effect.yieldNow
      yield* TestClock.adjust("2 seconds")
      assert.isDefined(next.pollUnsafe())
      assert.deepStrictEqual(names(yield* catalog.skills), ["b"])
    }).pipe(Effect.scoped))

  it.effect("finds skills by their name, description and instructions, the best first", () =>
    Effect.gen(function*() {
      const { made, read, told } = yield* scripted({
        "pdf-tools": "Splits and merges documents.",
        "csv-analyzer": "Statistics of tables. Also reads pdf tables when it must.",
        "image-resizer": "Nothing about paper."
      })
      yield* Queue.offer(told, [
        skill("pdf-tools"),
        skill("csv-analyzer"),
        skill("image-resizer", { description: "Makes pictures smaller; takes a PDF, too." })
      ])
      const catalog = yield* made
      yield* catalog.indexed
      assert.deepStrictEqual([...read].sort(), ["csv-analyzer", "image-resizer", "pdf-tools"])
      const found = (query: string, limit?: number) =>
        Effect.map(catalog.search(query, { limit }), (all) => all.map(({ skill }) => skill.name))
      assert.deepStrictEqual(yield* found("pdf"), ["pdf-tools", "image-resizer", "csv-analyzer"])
      assert.deepStrictEqual(yield* found("pdf", 1), ["pdf-tools"])
      assert.deepStrictEqual(yield* found("stat"), ["csv-analyzer"], "the beginning of a word")
      assert.deepStrictEqual(yield* found("documnets"), ["pdf-tools"], "letters wrong")
      assert.deepStrictEqual(yield* found("CsvAnalyzer"), ["csv-analyzer"], "words of another spelling")
      for (const query of ["", "   ", "---", "\u0000", "x".repeat(100_000), "__proto__", "constructor"]) {
        assert.deepStrictEqual(yield* found(query), [])
      }
    }).pipe(Effect.scoped))

  it.effect("finds words of languages that write no spaces between them", () =>
    Effect.gen(function*() {
      const { made, told } = yield* scripted({
        rates: "货币转换工具。",
        weather: "今天的天气预报。",
        thai: "แปลงสกุลเงิน"
      })
      yield* Queue.offer(told, [skill("rates"), skill("weather"), skill("thai")])
      const catalog = yield* made
      yield* catalog.indexed
      const found = (query: string) => Effect.map(catalog.search(query), (all) => names(all.map(({ skill }) => skill)))
      assert.deepStrictEqual(yield* found("货币"), ["rates"])
      assert.deepStrictEqual(yield* found("天气"), ["weather"])
      assert.deepStrictEqual(yield* found("แปลง"), ["thai"])
    }).pipe(Effect.scoped))

  it.effect("finds what is there now, and reads only what changed", () =>
    Effect.gen(function*() {
      const bodies: Record<string, string> = { one: "walrus", two: "penguin" }
      const { made, read, told } = yield* scripted(bodies)
      yield* Queue.offer(told, [skill("one"), skill("two")])
      const catalog = yield* made
      const seen = yield* Stream.toQueue(catalog.changes, { capacity: 16 })
      yield* catalog.indexed
      const found = (query: string) => Effect.map(catalog.search(query), (all) => all.map(({ skill }) => skill.name))
      assert.deepStrictEqual(yield* found("walrus"), ["one"])
      yield* Queue.take(seen)
      bodies["two"] = "ostrich"
      read.length = 0
      yield* Queue.offer(told, [skill("two", { digest: digest("7") }), skill("three")])
      yield* Queue.take(seen)
      while ((yield* found("ostrich")).length === 0) yield* Effect.yieldNow
      yield* catalog.indexed
      assert.deepStrictEqual([...read].sort(), ["three", "two"])
      assert.deepStrictEqual(yield* found("walrus"), [])
      assert.deepStrictEqual(yield* found("penguin"), [])
      assert.deepStrictEqual(yield* found("three"), ["three"], "though it cannot be read")
    }).pipe(Effect.scoped))

  it.effect("can be that of a folder, which needs no server", () =>
    Effect.gen(function*() {
      const catalog = yield* SkillCatalog.SkillCatalog
      const [found] = yield* catalog.skills
      assert.strictEqual(found?.topic, "TOPIC_DATA")
      if (found === undefined) return
      const { frontMatter, instructions, resources } = yield* catalog.describe(found)
      assert.strictEqual(instructions.trim(), "Read the walrus.")
      assert.deepStrictEqual(frontMatter, { name: "reader", description: "Reads." })
      assert.deepStrictEqual(resources.map(({ path }) => path), ["scripts/run.sh"])
      assert.strictEqual(Buffer.from(yield* catalog.resource(found, "scripts/run.sh")).toString(), "echo\n")
      const missing = yield* Effect.flip(catalog.resource(found, "../other"))
      assert.include(missing.message, "cannot read \"../other\": it does not exist")
      const changed = yield* Effect.flip(catalog.describe({ ...found, digest: digest("f") }))
      assert.strictEqual(changed.reason._tag, "SkillChanged")
      yield* catalog.indexed
      assert.deepStrictEqual((yield* catalog.search("walrus")).map(({ skill }) => skill.name), ["reader"])
    }).pipe(
      Effect.provide(
        SkillCatalog.layerFolder().pipe(
          Layer.provide(SkillDiscovery.layerMemory({
            "data/reader": {
              "SKILL.md": "---\nname: reader\ndescription: Reads.\n---\nRead the walrus.\n",
              "scripts/run.sh": "echo\n"
            }
          }))
        )
      )
    ))

  it.live("of a folder gives nothing of a version that it does not have any more", () =>
    Effect.gen(function*() {
      const fixture = { category: "data", name: "reader", files: { "references/more.md": "More.\n" } }
      const directory = yield* Stack.writeSkills([fixture])
      const folder = SkillDiscovery.layer({ directory, watch: false, rescan: "1 hour" })
      const context = yield* Layer.build(SkillCatalog.layerFolder().pipe(Layer.provide(folder)))
      const catalog = yield* Effect.provide(SkillCatalog.SkillCatalog, context)
      const found = yield* catalog.find("reader")
      assert.strictEqual((yield* catalog.describe(found)).instructions, "Instructions of reader.\n")
      for (const path of ["", ".", "../../data/reader/SKILL.md"]) {
        const { message } = yield* Effect.flip(catalog.resource(found, path))
        assert.include(message, `cannot read ${JSON.stringify(path)}: it is not a path inside the skill`)
        assert.notInclude(message, directory)
      }
      for (const path of ["SKILL.md", "references/more.md"]) {
        Fs.appendFileSync(Path.join(directory, "data", "reader", path), "Edited.\n")
        assert.strictEqual((yield* Effect.flip(catalog.resource(found, path))).reason._tag, "SkillChanged", path)
      }
      assert.strictEqual((yield* Effect.flip(catalog.describe(found))).reason._tag, "SkillChanged")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})
