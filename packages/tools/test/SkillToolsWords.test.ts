/** What tools take from models besides what their schemas say, and which tools their words name. */
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as VocabularyNames from "../src/internal/vocabularyNames.ts"
import { failure, inWorld, shell } from "./support/toolsWorld.ts"

describe("arguments of tools", () => {
  it.live("takes keys that are undefined, and null where nothing needs to be said, for nothing", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      for (const nothing of [undefined, null]) {
        const topics = { skill: "guide", topic: nothing }
        assert.include((yield* tools.call("load_skill", topics)).text, "skill_content")
        const given = { path: "in/given.txt", text: "given", base64: nothing, artifact: nothing }
        const made = yield* tools.call("files", { input: nothing, args: nothing, files: [given] })
        assert.strictEqual(made.text.split("\n")[0], "given")
        assert.strictEqual((yield* tools.call("silent", { files: nothing })).text, "(no output)")
        const required = yield* failure(tools.call("load_skill", { skill: nothing }))
        assert.include(required.text, "skill")
        const inFile = yield* failure(tools.call("files", { files: [{ path: nothing, text: "given" }] }))
        assert.strictEqual(inFile.reason._tag, "BadArguments")
        assert.strictEqual((yield* failure(tools.call("shout", { input: [nothing] }))).reason._tag, "BadArguments")
      }
      assert.include((yield* failure(tools.call("shout", { inputs: null }))).text, "inputs")
      const word = yield* tools.call("word", { input: { one: undefined, other: "b" } })
      assert.strictEqual(word.text, JSON.stringify({ other: "b" }))
    })))

  it.live("refuses arguments that are not JSON", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      const cyclic: { self?: unknown } = {}
      cyclic.self = cyclic
      const thrower = {
        get input(): never {
          throw new Error("no such luck")
        }
      }
      const wrong: ReadonlyArray<unknown> = [
        1n,
        { input: 1n },
        { input: cyclic },
        cyclic,
        thrower,
        Symbol("a"),
        () => 1
      ]
      for (const [index, input] of wrong.entries()) {
        for (const name of ["word", "shout", "run_skill_script"]) {
          const error = yield* failure(tools.call(name, input))
          assert.strictEqual(error.reason._tag, "BadArguments", `${name} ${index}`)
        }
      }
      assert.include((yield* failure(tools.call("word", thrower))).text, "no such luck")
    })))
})

describe("words of tools", () => {
  for (const vocabulary of [false, ["load_skill"], ["search_skills"]] as const) {
    it.live(`names no tool that it has not, with ${JSON.stringify(vocabulary)} of the vocabulary`, () =>
      inWorld(
        Effect.fnUntraced(function*({ tools }) {
          const offered = (yield* tools.tools).map(({ name }) => name)
          const told = [
            yield* tools.prompt(),
            yield* tools.prompt({ budget: 1000 }),
            (yield* tools.call("long", {})).text,
            (yield* tools.call("guide", {})).text,
            (yield* failure(tools.call("failing-long", {}))).text,
            ...vocabulary === false ? [] : vocabulary[0] === "load_skill"
              ? [(yield* tools.call("load_skill", { skill: "shout" })).text]
              : [(yield* tools.call("search_skills", { query: "zebra" })).text],
            JSON.stringify((yield* tools.tools).map(({ description, inputSchema }) => [description, inputSchema]))
          ].join("\n")
          assert.include(told, "of 108,894 characters; artifact")
          for (const name of VocabularyNames.names) {
            if (!offered.includes(name)) assert.notInclude(told, name)
          }
          assert.include(told, "with the tool of its name")
        }),
        { vocabulary, maxOutput: 2000 },
        [shell("failing-long", "seq 1 20000; seq 1 3000 >&2; exit 1\n")]
      ))
  }

  it.live("says in its prompt that there is no tool for each skill", () =>
    inWorld(
      Effect.fnUntraced(function*({ tools }) {
        const prompt = yield* tools.prompt()
        assert.notInclude(prompt, "the tool of its name")
        assert.include(prompt, "run its scripts with run_skill_script.")
      }),
      { maxSkillTools: false }
    ))

  it.live("refuses a vocabulary that has a name which is no tool's", () =>
    inWorld(Effect.fnUntraced(function*({ proxy }) {
      // What a program that nobody checked the types of may give.
      const vocabulary = ["load_skil"] as unknown as ReadonlyArray<SkillTools.VocabularyName>
      const refused = yield* Effect.promise(() =>
        PromiseTools.connect({ xsub: proxy.xsub, xpub: proxy.xpub, vocabulary }).catch((error: unknown) => error)
      )
      assert.include(String(refused), "there is no tool \"load_skil\" in the vocabulary; did you mean load_skill?")
    })))

  it.live("tells that what is larger than all that is kept cannot be read", () =>
    inWorld(
      Effect.fnUntraced(function*({ tools }) {
        const { artifacts, text } = yield* tools.call("long", {})
        assert.strictEqual(artifacts[0]?.size, 108_894)
        assert.include(text, "of 108,894 characters; there is no room to keep the rest]")
        const made = yield* tools.call("files", { files: [{ path: "in/given.txt", text: "g".repeat(1001) }] })
        assert.include(made.text, "- \"out/copied.txt\" (text/plain, 1,001 bytes), not kept for want of room")
        assert.match(made.text, /"out\/raw.bin" .*: artifact [0-9a-f]{16}/)
        const binary = yield* tools.call("binary", {})
        assert.match(binary.text, /3 bytes\): artifact/)
      }),
      { maxOutput: 2000, artifacts: { maxBytes: 1000 } }
    ))
})
