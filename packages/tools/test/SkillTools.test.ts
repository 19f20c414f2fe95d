/** The tools of real skills, through a real proxy and server. */
import * as PromiseTools from "@skillscale/tools/PromiseTools"
import * as SkillTools from "@skillscale/tools/SkillTools"
import { ToolError } from "@skillscale/tools/ToolError"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { failure, inWorld } from "./support/toolsWorld.ts"

describe("SkillTools", () => {
  it.live("has the vocabulary, and a tool for each skill with what it takes", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      const all = yield* tools.tools
      assert.deepStrictEqual(all.map(({ name }) => name), [
        ...["list_skills", "search_skills", "load_skill", "read_skill_resource", "run_skill_script", "read_artifact"],
        ...[
          "binary",
          "celsius",
          "failing",
          "files",
          "guide",
          "long",
          "shout",
          "silent",
          "talking",
          "tools",
          "waiting",
          "warning"
        ],
        "word"
      ])
      const of = (name: string) => all.find((tool) => tool.name === name)
      const properties = (name: string) => Object.keys(Object(of(name)?.inputSchema["properties"]))
      assert.deepStrictEqual(properties("shout"), ["input", "args", "files"])
      assert.deepStrictEqual(properties("tools"), ["script", "input", "args", "files"])
      assert.deepStrictEqual(of("tools")?.inputSchema["required"], ["script"])
      assert.deepStrictEqual(properties("guide"), [])
      assert.strictEqual(of("shout")?.description, "Tests the stack as shout.")
      assert.strictEqual(of("shout")?.title, "Shout")
      assert.deepStrictEqual(of("shout")?.hints, {
        readOnly: true,
        destructive: false,
        idempotent: true,
        openWorld: false
      })
      for (const tool of all) assert.strictEqual(tool.inputSchema.type, "object")
    })))

  it.live("writes schemas as the APIs of models take them, and gives the skill what its own says", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      for (const { description, inputSchema, name } of yield* tools.tools) {
        assert.isObject(inputSchema["properties"], name)
        for (const key of Object.keys(Object(inputSchema["properties"]))) {
          assert.match(key, /^[a-zA-Z0-9_.-]{1,64}$/, name)
        }
        assert.isAtMost(description.length, 1024, name)
        for (const keyword of ["allOf", "anyOf", "oneOf", "not", "enum"]) assert.notProperty(inputSchema, keyword, name)
      }
      const given = yield* tools.call("word", { input: { other: "b" } })
      assert.strictEqual(given.text, JSON.stringify({ other: "b" }))
      const named = yield* tools.call("celsius", { input: { "größe in cm": 3 } })
      assert.strictEqual(named.text, JSON.stringify({ "größe in cm": 3 }))
      const described = (yield* tools.tools).find(({ name }) => name === "celsius")?.description
      assert.strictEqual(described, `${"Warm. ".repeat(171).slice(0, 1023).trimEnd()}…`)
      assert.include((yield* tools.call("load_skill", { skill: "celsius" })).text, `Warm. end\n\nGo.\n`)
    })))

  it.live("writes schemas as skills declare them where that is wanted", () =>
    inWorld(
      Effect.fnUntraced(function*({ tools }) {
        const word = (yield* tools.tools).find(({ name }) => name === "word")
        assert.deepStrictEqual(word?.inputSchema["anyOf"], [{ required: ["one"] }, { required: ["other"] }])
        const given = yield* tools.call("word", { other: "b" })
        assert.strictEqual(given.text, JSON.stringify({ other: "b" }))
        const celsius = (yield* tools.tools).find(({ name }) => name === "celsius")
        assert.deepStrictEqual(celsius?.inputSchema["properties"], { "größe in cm": {}, $filter: {} })
      }),
      { schemas: "verbatim" }
    ))

  it.live("runs skills with input, arguments and files, and gives out what they make", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      const shouted = yield* tools.call("shout", { input: "hello\n", args: ["a b", "$(id)"] })
      assert.deepStrictEqual(shouted, { text: "HELLO\n[a b]\n[$(id)]", structured: undefined, artifacts: [] })

      const made = yield* tools.call("files", { files: [{ path: "in/given.txt", text: "given" }] })
      assert.deepStrictEqual(made.artifacts.map(({ mime, path, size }) => [path, mime, size]), [
        ["out/copied.txt", "text/plain", 5],
        ["out/raw.bin", "application/octet-stream", 2]
      ])
      const [copied] = made.artifacts
      assert.strictEqual(made.text.split("\n")[0], "given")
      assert.include(made.text, `- "out/copied.txt" (text/plain, 5 bytes): artifact ${copied?.id}`)

      const again = yield* tools.call("run_skill_script", {
        skill: "files",
        script: "scripts/run.sh",
        files: [{ path: "in/given.txt", artifact: copied?.id }]
      })
      assert.include(JSON.stringify(again.structured), `"exit_code":0,"stdout":"given"`)
      const base64 = yield* tools.call("files", { files: [{ path: "in/given.txt", base64: "aGk=" }] })
      assert.strictEqual(base64.text.split("\n")[0], "hi")
      assert.strictEqual((yield* tools.call("tools", { script: "scripts/second.sh", args: ["x"] })).text, "second x")
      assert.strictEqual((yield* tools.call("silent", {})).text, "(no output)")
      assert.strictEqual((yield* tools.call("silent", undefined)).text, "(no output)")
      assert.strictEqual((yield* tools.call("warning", {})).text, "Standard error:\ncareful")
      const binary = yield* tools.call("binary", {})
      assert.match(binary.text, /^\[standard output is not text \(3 bytes\): artifact [0-9a-f]{16}\]$/)
      assert.deepStrictEqual(Array.from(binary.artifacts[0]?.data ?? []), [255, 254, 0])
    })))

  it.live("tells what is wrong with a call in words for the model", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      const failed = yield* failure(tools.call("failing", {}))
      assert.strictEqual(failed.reason._tag, "SkillFailed")
      assert.strictEqual(
        failed.text,
        "The script exited with 7.\n\nStandard error:\nno such file\n\nStandard output:\npartial"
      )
      const reasons: ReadonlyArray<readonly [string, unknown, string, string]> = [
        ["shoutt", {}, "ToolNotFound", "did you mean shout?"],
        ["shout", { args: "a" }, "BadArguments", "args"],
        ["shout", { inputs: "a" }, "BadArguments", "inputs"],
        ["shout", [], "BadArguments", "not valid"],
        ["shout", { files: [{ path: "a" }] }, "BadArguments", "0 contents"],
        ["shout", { files: [{ path: "a", text: "", base64: "" }] }, "BadArguments", "2 contents"],
        ["shout", { files: [{ path: "a", base64: "?" }] }, "BadArguments", "base64"],
        ["shout", { files: [{ path: "a", text: "1" }, { path: "a", text: "2" }] }, "BadArguments", "two files"],
        ["shout", { files: [{ path: "../a", text: "1" }] }, "BadRequest", "../a"],
        ["shout", { files: [{ path: "__proto__", artifact: "nope" }] }, "ArtifactNotFound", "nope"],
        ["tools", {}, "BadArguments", "script"],
        ["load_skill", { skill: "shoot" }, "SkillNotFound", "did you mean shout?"],
        ["read_skill_resource", { skill: "guide", path: "/etc/passwd" }, "BadRequest", "not a path inside the skill"],
        ["run_skill_script", { skill: "tools", script: "scripts/none.sh" }, "ScriptNotFound", "scripts/first.sh"],
        [
          "run_skill_script",
          { skill: "shout", digest: `sha256:${"0".repeat(64)}` },
          "SkillChanged",
          "look at it again"
        ],
        ["load_skill", { skill: "shout", topic: "TOPIC_B" }, "BadArguments", "it is on TOPIC_TESTING"],
        ["run_skill_script", { skill: "shout", timeout: 0 }, "BadArguments", "timeout"],
        ["read_artifact", { artifact: "0123" }, "ArtifactNotFound", "0123"]
      ]
      for (const [name, input, tag, part] of reasons) {
        const error = yield* failure(tools.call(name, input))
        assert.strictEqual(error.reason._tag, tag, JSON.stringify(input))
        assert.include(error.text, part)
        assert.isAtMost(error.text.length, 30_000)
      }
      assert.strictEqual((yield* tools.call("shout", { input: "on" })).text, "ON", "the next call works")
    })))

  it.live("lists, finds and reads skills", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      const listed = yield* tools.call("list_skills", { limit: 2, offset: 2 })
      assert.strictEqual(
        listed.text,
        "- failing: Tests the stack as failing.\n- files: Tests the stack as files.\n[2 of 13; the next begin at offset 4]"
      )
      assert.deepInclude(listed.structured, { total: 13 })
      assert.match((yield* tools.call("search_skills", { query: "shout" })).text, /^- shout: /)
      assert.include((yield* tools.call("search_skills", { query: "zebra" })).text, "No skill matches \"zebra\"")
      const loaded = yield* tools.call("load_skill", { skill: "tools" })
      assert.match(loaded.text, /^<skill_content name="tools" digest="sha256:[0-9a-f]{64}">\nInstructions of tools\.\n/)
      assert.include(
        loaded.text,
        "<file>scripts/first.sh</file>\n<file>scripts/second.sh</file>\n</skill_resources>\n</skill_content>"
      )
      assert.strictEqual(
        (yield* tools.call("guide", {})).text,
        (yield* tools.call("load_skill", { skill: "guide" })).text
      )
      const read = yield* tools.call("read_skill_resource", { skill: "guide", path: "references/more.md" })
      assert.strictEqual(read.text, "More.\n")
      const document = yield* tools.call("read_skill_resource", { skill: "guide", path: "SKILL.md", offset: 4 })
      assert.isTrue(document.text.startsWith("name: guide\n"))
    })))

  it.live("caps what the model reads, and lets it read all of it", () =>
    inWorld(
      Effect.fnUntraced(function*({ tools }) {
        const { artifacts, text } = yield* tools.call("long", {})
        assert.isAtMost(text.length, 2000)
        const [whole] = artifacts
        const all = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join("")
        assert.strictEqual(Buffer.from(whole?.data ?? []).toString(), all)
        assert.isTrue(text.startsWith("1\n2\n3\n"))
        let read = all.slice(0, Number(/from offset (\d+)/.exec(text)?.[1]))
        while (read.length < all.length) {
          const part = (yield* tools.call("read_artifact", { artifact: whole?.id, offset: read.length })).text
          assert.isAtMost(part.length, 2000)
          read += part.replace(/\n\[characters .*\]$/, "")
        }
        assert.strictEqual(read, all)
        const prompt = yield* tools.prompt({ budget: 1000 })
        assert.isAtMost(prompt.length, 1000)
      }),
      { maxOutput: 2000 }
    ))

  it.live("tells what happens while a script runs, whole characters at a time", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      const seen: Array<SkillTools.Progress> = []
      const { text } = yield* tools.call("talking", {}, {
        onProgress: (progress) => Effect.sync(() => void seen.push(progress))
      })
      assert.strictEqual(text, "one\ntwo ä")
      assert.strictEqual(seen[0]?._tag, "Accepted")
      assert.deepInclude(seen, { _tag: "Progress", message: "half" })
      const stdout = seen.flatMap((event) => event._tag === "Output" && event.stream === "stdout" ? [event.text] : [])
      assert.strictEqual(stdout.join(""), "one\ntwo ä\n")
      assert.isAbove(stdout.length, 1)
    })))

  it.live("ends the run on the server when a call is interrupted", () =>
    inWorld(Effect.fnUntraced(function*({ tools }) {
      // One more than the server has workers: each of them would be taken for a minute.
      for (let call = 0; call < 5; call++) {
        const begun = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(tools.call("waiting", {}, {
          onProgress: ({ _tag }) => _tag === "Output" ? Effect.asVoid(Deferred.succeed(begun, undefined)) : Effect.void
        }))
        yield* Deferred.await(begun)
        yield* Fiber.interrupt(fiber)
      }
      assert.strictEqual((yield* tools.call("shout", { input: "free" })).text, "FREE")
    })))

  it.live("has none for skills when there are too many, and none of the vocabulary that is not wanted", () =>
    inWorld(
      Effect.fnUntraced(function*({ tools }) {
        assert.deepStrictEqual((yield* tools.tools).map(({ name }) => name), ["load_skill"])
        assert.strictEqual((yield* failure(tools.call("shout", {}))).reason._tag, "ToolNotFound")
      }),
      { maxSkillTools: 10, vocabulary: ["load_skill"] }
    ))

  it.live("pins the version that a tool is of, when it should", () =>
    inWorld(
      Effect.fnUntraced(function*({ directory, tools }) {
        const before = (yield* tools.tools).find(({ name }) => name === "shout")
        Fs.writeFileSync(Path.join(directory, "testing", "shout", "scripts", "run.sh"), "echo other\n")
        for (;;) {
          const after = (yield* tools.tools).find(({ name }) => name === "shout")
          if (after?.skill?.digest !== before?.skill?.digest) break
          yield* Effect.sleep("5 millis")
        }
        assert.strictEqual((yield* tools.call("shout", {})).text, "other")
        if (before === undefined) return
        assert.strictEqual((yield* failure(before.call({}))).reason._tag, "SkillChanged")
      }),
      { pin: true }
    ))
})

describe("PromiseTools", () => {
  it.live("is the same for programs without Effect", () =>
    inWorld(Effect.fnUntraced(function*({ directory, proxy }) {
      yield* Effect.promise(async () => {
        await using skills = await PromiseTools.connect({ xsub: proxy.xsub, xpub: proxy.xpub })
        const before = skills.tools()
        assert.strictEqual(skills.tools(), before, "the same until they change")
        assert.strictEqual((await skills.call("shout", { input: "hi" })).text, "HI")
        assert.strictEqual((await before.find(({ name }) => name === "shout")?.call({ input: "yo" }))?.text, "YO")
        assert.include(skills.prompt(), "shout")
        const { prompt } = await Effect.runPromise(Effect.provideContext(SkillTools.SkillTools, skills.context))
        assert.strictEqual(await Effect.runPromise(prompt()), skills.prompt())
        assert.deepStrictEqual((await skills.search("shout", { limit: 1 })).map(({ skill }) => skill.name), ["shout"])
        const error: unknown = await skills.call("failing", {}).catch((reason: unknown) => reason)
        assert.isTrue(error instanceof ToolError && error.text.includes("no such file"))
        const aborted: unknown = await skills.call("shout", {}, { signal: AbortSignal.abort(new Error("left")) }).catch(
          (e: unknown) => e
        )
        assert.strictEqual(String(aborted), "Error: left")
        skills.onChange(() => {
          throw new Error("one listener fails, and the others hear of it all the same")
        })
        const found = new Promise<ReadonlyArray<string>>((resolve) => {
          const stop = skills.onChange((tools) => {
            if (!tools.some(({ name }) => name === "zebra")) return
            stop()
            void skills.search("zebra").then((some) => resolve(some.map(({ skill }) => skill.name)))
          })
        })
        const zebra = Path.join(directory, "testing", "zebra")
        Fs.mkdirSync(zebra)
        Fs.writeFileSync(Path.join(zebra, "SKILL.md"), "---\nname: zebra\ndescription: Striped.\n---\nGo.\n")
        assert.deepStrictEqual(await found, ["zebra"], "it is found when its tool is there")
        const changed = new Promise<ReadonlyArray<PromiseTools.Tool>>((resolve) => {
          const stop = skills.onChange((tools) => {
            stop()
            resolve(tools)
          })
        })
        Fs.rmSync(Path.join(directory, "testing", "shout"), { recursive: true })
        assert.isFalse((await changed).some(({ name }) => name === "shout"))
        assert.strictEqual(skills.tools(), await changed)
      })
    })))

  it.live("takes the skills of a folder, and runs them on servers", () =>
    inWorld(Effect.fnUntraced(function*({ directory, proxy }) {
      yield* Effect.promise(async () => {
        const at = { xsub: proxy.xsub, xpub: proxy.xpub }
        await using skills = await PromiseTools.connect({ ...at, folder: directory, skills: ["shout"] })
        assert.deepStrictEqual(skills.skills().map(({ name, servers }) => [name, servers]), [["shout", []]])
        assert.strictEqual((await skills.call("shout", { input: "hi" })).text, "HI")
        const missing: unknown = await PromiseTools.connect({ ...at, folder: `${directory}/none` }).catch((
          e: unknown
        ) => e)
        assert.include(String(missing), "does not exist")
      })
    })))

  it.live("takes the skills of a copy that lies elsewhere, on the topic that it is told, and logs no change", () =>
    inWorld(Effect.fnUntraced(function*({ directory, proxy }) {
      const copy = Path.join(directory, "..", `${Path.basename(directory)}-copy`)
      yield* Effect.acquireRelease(
        Effect.sync(() => Fs.cpSync(Path.join(directory, "testing"), copy, { recursive: true })),
        () => Effect.sync(() => Fs.rmSync(copy, { recursive: true }))
      )
      const logged: Array<unknown> = []
      const logger = Logger.layer([Logger.make(({ message }) => void logged.push(message))])
      const at = { xsub: proxy.xsub, xpub: proxy.xpub, folder: copy }
      const wrong = yield* Layer.build(PromiseTools.layer(at))
      const failed = yield* failure(Context.get(wrong, SkillTools.SkillTools).call("shout", { input: "hi" }))
      assert.strictEqual(failed.reason._tag, "NoServer")
      const context = yield* Layer.build(PromiseTools.layer({ ...at, topic: "TOPIC_TESTING" })).pipe(
        Effect.provide(logger),
        Effect.provideService(References.MinimumLogLevel, "Info")
      )
      const tools = Context.get(context, SkillTools.SkillTools)
      assert.strictEqual((yield* tools.call("shout", { input: "hi" })).text, "HI")
      Fs.mkdirSync(Path.join(copy, "later"))
      Fs.writeFileSync(Path.join(copy, "later", "SKILL.md"), "---\nname: later\ndescription: Later.\n---\n")
      Fs.mkdirSync(Path.join(copy, "wrong"))
      Fs.writeFileSync(Path.join(copy, "wrong", "SKILL.md"), "no front matter")
      const isThere = Effect.map(tools.tools, (all) => all.some(({ name }) => name === "later"))
      while (!(yield* isThere)) yield* Effect.sleep("10 millis")
      while (logged.length === 0) yield* Effect.sleep("10 millis")
      assert.notInclude(JSON.stringify(logged), "skills changed")
    })))

  it.live("rejects when there is no proxy", () =>
    Effect.promise(async () => {
      const error: unknown = await PromiseTools.connect({
        xsub: "tcp://127.0.0.1:1",
        xpub: "tcp://127.0.0.1:2",
        connectTimeout: 300
      }).catch((e: unknown) => e)
      assert.include(String(error), "cannot connect")
    }))
})
