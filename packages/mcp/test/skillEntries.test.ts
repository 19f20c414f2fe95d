import { assert, describe, it } from "@effect/vitest"
import * as ClientError from "@skillscale/client/ClientError"
import type * as Control from "@skillscale/core/Control"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as SkillEntries from "../src/internal/skillEntries.ts"

const skill: SkillCatalog.Skill = {
  name: "some-skill",
  description: "Does something.",
  category: "some",
  topic: "TOPIC_SOME",
  digest: `sha256:${"1".repeat(64)}`,
  entry: null,
  scripts: [],
  env: [],
  servers: ["one", "two", "three", "four"]
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex")

const reply: Control.SkillReply = {
  skill,
  instructions: "Do it.",
  frontMatter: {
    name: "some-skill",
    description: "Does something.",
    "allowed-tools": "Bash",
    nested: { a: [1, null] }
  },
  document: { path: "SKILL.md", size: 4, sha256: sha256("text") },
  resources: [{ path: "b/c.txt", size: 2, sha256: sha256("c!") }]
}

const fails = new ClientError.ClientError({
  operation: "describe",
  skill: "some-skill",
  reason: new ClientError.NoServer({ topic: "TOPIC_SOME" })
})

const entryFor = (change: Partial<Control.SkillReply>, named: Partial<SkillCatalog.Skill> = {}) =>
  SkillEntries.make({
    describe: () => Effect.succeed({ ...reply, ...change }),
    resource: () => Effect.die("nobody reads")
  }).describe({ ...skill, ...named }).pipe(Effect.map(({ entry }) => entry))

describe("entries of the skills extension", () => {
  it.effect("tell the front matter as it is, and every file in order", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* entryFor({}), {
        uri: "skill://some/some-skill/SKILL.md",
        frontmatter: { ...reply.frontMatter, name: "some-skill", description: "Does something." },
        resources: [
          { uri: "skill://some/some-skill/SKILL.md", digest: `sha256:${sha256("text")}`, size: 4 },
          { uri: "skill://some/some-skill/b/c.txt", digest: `sha256:${sha256("c!")}`, size: 2 }
        ],
        _meta: { "skillscale/digest": skill.digest }
      })
    }))

  it.effect("are not made of skills that hosts have to refuse", () =>
    Effect.gen(function*() {
      const files = (count: number, size: number) =>
        Array.from({ length: count }, (_, index) => ({ path: `${index}`, size, sha256: sha256("") }))
      const frontMatter = (change: Record<string, unknown>) => ({
        frontMatter: JSON.parse(JSON.stringify({ ...reply.frontMatter, ...change }))
      })
      const { frontMatter: told, instructions, resources } = reply
      const withoutDocument = { skill, instructions, resources, ...told === undefined ? {} : { frontMatter: told } }
      assert.isDefined(yield* entryFor({ resources: files(511, 1) }))
      assert.isUndefined(yield* entryFor({ resources: files(512, 1) }))
      assert.isDefined(yield* entryFor({ resources: files(1, 16 * 1024 * 1024 - 4) }))
      assert.isUndefined(yield* entryFor({ resources: files(1, 16 * 1024 * 1024 - 3) }))
      assert.isUndefined(yield* entryFor(frontMatter({ name: "another" })))
      assert.isUndefined(yield* entryFor(frontMatter({ name: "Some_Skill" }), { name: "Some_Skill" }))
      assert.isUndefined(yield* entryFor(frontMatter({ description: "" })))
      assert.isDefined(yield* entryFor(frontMatter({ description: "😀".repeat(1024) })))
      assert.isUndefined(yield* entryFor(frontMatter({ description: "x".repeat(1025) })))
      assert.isUndefined(yield* entryFor(frontMatter({ compatibility: 7 })))
      assert.isUndefined(yield* entryFor(frontMatter({ metadata: { a: 1 } })))
      const old = SkillEntries.make({
        describe: () => Effect.succeed(withoutDocument),
        resource: () => Effect.succeed(Buffer.from("text"))
      })
      assert.isUndefined((yield* old.describe(skill)).entry)
      assert.strictEqual(Buffer.from((yield* old.read(skill, "SKILL.md")) ?? []).toString(), "text")
    }))

  it.effect("are asked for once, of another replica when one does not answer", () =>
    Effect.gen(function*() {
      const asked: Array<string | undefined> = []
      const entries = SkillEntries.make({
        describe: ({ servers }) => {
          asked.push(servers[0])
          return servers[0] === "three" ? Effect.succeed(reply) : Effect.fail(fails)
        },
        resource: () => Effect.fail(fails)
      })
      assert.isUndefined(entries.known(skill))
      yield* entries.describe(skill)
      yield* entries.describe(skill)
      assert.deepStrictEqual(asked, ["one", "two", "three"])
      assert.isDefined(entries.known(skill))
      assert.strictEqual((yield* Effect.flip(entries.read(skill, "b/c.txt"))).reason._tag, "NoServer")
      assert.isUndefined(entries.known({ ...skill, digest: `sha256:${"2".repeat(64)}` }))
    }))

  it.effect("are forgotten when there are too many, what was not asked for first", () =>
    Effect.gen(function*() {
      const resources = Array.from({ length: 511 }, (_, index) => ({ path: `${index}`, size: 0, sha256: sha256("") }))
      const entries = SkillEntries.make({
        describe: () => Effect.succeed({ ...reply, resources }),
        resource: () => Effect.die("nobody reads")
      })
      const of = (index: number) => ({ ...skill, digest: `sha256:${String(index).padStart(64, "0")}` })
      for (let index = 0; index < 250; index++) {
        yield* entries.describe(of(index))
        entries.known(of(0))
      }
      assert.isDefined(entries.known(of(0)))
      assert.isUndefined(entries.known(of(1)))
      assert.isDefined(entries.known(of(249)))
    }))

  it.effect("are held against what a server gives out", () =>
    Effect.gen(function*() {
      const giving = (text: string) =>
        SkillEntries.make({ describe: () => Effect.succeed(reply), resource: () => Effect.succeed(Buffer.from(text)) })
      assert.strictEqual(Buffer.from((yield* giving("c!").read(skill, "b/c.txt")) ?? []).toString(), "c!")
      assert.strictEqual((yield* Effect.flip(giving("c?").read(skill, "b/c.txt"))).reason._tag, "ProtocolError")
      assert.isUndefined(yield* giving("c!").read(skill, "b/d.txt"))
    }))
})
