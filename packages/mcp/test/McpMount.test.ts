/** Tools of real external servers as skills, of both generations, over standard input and output and over HTTP. */
import { assert, describe, it } from "@effect/vitest"
import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { failure, invoke, library, odd, ofCommand, ofUrl, until, urlOf } from "./mountStack.ts"
import * as Mount from "./mountStack.ts"

const live = <A, E, E2, R>(
  name: string,
  layer: Layer.Layer<SkillClient.SkillClient, E2, R>,
  test: Effect.Effect<A, E, SkillClient.SkillClient>
) => it.live(name, () => Effect.provide(test, layer as Layer.Layer<SkillClient.SkillClient, E2>))

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-mount-test-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const linesOf = (file: string) => Fs.existsSync(file) ? Fs.readFileSync(file, "utf8").trim().split("\n") : []

const names = Effect.gen(function*() {
  const client = yield* SkillClient.SkillClient
  return (yield* client.catalog).map(({ name }) => name)
})

const reasonOf = <A, R>(effect: Effect.Effect<A, ClientError.ClientError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

/** What holds for every server on the library, whatever its transport and its generation. */
const calls = Effect.gen(function*() {
  const client = yield* SkillClient.SkillClient
  const catalog = yield* client.catalog
  const add = catalog.find(({ name }) => name === "add-numbers")
  assert.deepInclude(add, {
    description: "Adds two numbers.",
    category: "external",
    topic: "TOPIC_EXTERNAL",
    entry: "tool.json",
    scripts: [],
    hints: { readOnly: false, destructive: false, idempotent: true, openWorld: false }
  })
  assert.deepInclude(add?.input, { type: "object", required: ["a", "b"] })
  assert.deepInclude(add?.output, { type: "object", required: ["sum"] })

  assert.strictEqual((yield* invoke("echo", { text: "hello" })).content, "echo: hello")
  const sum = yield* invoke("add-numbers", { a: 1, b: 2 }, {})
  assert.deepEqual(JSON.parse(sum.content), { sum: 3 })

  const failed = yield* reasonOf(invoke("failing", ""))
  assert.deepInclude(failed, { _tag: "SkillFailed", exitCode: 1, stderr: "it went wrong", content: "" })

  const drawn = yield* client.run({ skill: "image" })
  assert.strictEqual(Buffer.from(drawn.stdout).toString(), "a pixel")
  assert.deepEqual(
    drawn.artifacts.map(({ mime, path, size }) => [path, mime, size]),
    [
      ["image-1.png", "image/png", 70],
      ["image-2.png", "image/png", 70],
      ["audio-1.wav", "audio/wav", 4],
      ["notes.txt", "text/plain", 5],
      ["notes-2.txt", "text/plain", 3],
      ["resource-links.json", "application/json", drawn.artifacts[5]?.size]
    ]
  )

  const events = yield* Effect.scoped(Effect.gen(function*() {
    const file = Path.join(yield* folder, "notes")
    const stdin = JSON.stringify({ file, ms: 200 })
    return yield* Stream.runCollect(client.stream({ skill: "slow", stdin }))
  }))
  const progress = events.flatMap((event) => event._tag === "Progress" ? [event] : [])
  assert.isAtLeast(progress.length, 2)
  assert.include(JSON.stringify(progress[0]), "1/10 step 1")
})

/** Interrupting a call is heard by the server, whatever the way it is told. */
const cancels = Effect.scoped(Effect.gen(function*() {
  const file = Path.join(yield* folder, "notes")
  const call = yield* Effect.forkScoped(invoke("slow", { file }))
  yield* until(Effect.sync(() => linesOf(file).includes("began") || undefined))
  yield* Fiber.interrupt(call)
  yield* until(Effect.sync(() => linesOf(file).includes("cancelled") || undefined))
  assert.deepEqual(linesOf(file), ["began", "cancelled"])
}))

const timesOut = Effect.scoped(Effect.gen(function*() {
  const client = yield* SkillClient.SkillClient
  const file = Path.join(yield* folder, "notes")
  const stdin = JSON.stringify({ file })
  const reason = yield* reasonOf(client.run({ skill: "slow", stdin, timeout: "500 millis" }))
  assert.strictEqual(reason._tag, "Timeout")
  yield* until(Effect.sync(() => linesOf(file).includes("cancelled") || undefined))
}))

const grows = Effect.gen(function*() {
  assert.notInclude(yield* names, "late")
  yield* invoke("grow", "")
  yield* until(Effect.map(names, (found) => found.includes("late") || undefined))
  assert.strictEqual((yield* invoke("late", "")).content, "late")
  yield* invoke("grow", "")
  yield* until(Effect.map(names, (found) => !found.includes("late") || undefined))
  assert.strictEqual((yield* reasonOf(invoke("late", "", { topic: "TOPIC_EXTERNAL" })))._tag, "SkillNotFound")
})

describe.each(["legacy", "modern"] as const)("a program of the %s generation", (era) => {
  live("answers calls, with files, progress and failures", ofCommand(library(era)), calls)
  live("hears that its call was cancelled", ofCommand(library(era)), cancels)
  live("hears that the time of its call is over", ofCommand(library(era)), timesOut)
  live("is followed when its tools change", ofCommand(library(era)), grows)
})

describe.each(["legacy", "both", "modern"] as const)("a URL that speaks %s", (era) => {
  const withUrl = <A, E>(name: string, test: Effect.Effect<A, E, SkillClient.SkillClient>) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const { port } = yield* Mount.http(era)
        return yield* Effect.provide(test, ofUrl({ url: urlOf(port) }))
      }))
  withUrl("answers calls, with files, progress and failures", calls)
  withUrl("hears that its call was cancelled", cancels)
  withUrl("hears that the time of its call is over", timesOut)
  withUrl("is followed when its tools change", grows)
})

describe("what does not fit", () => {
  live(
    "refuses what a tool has no use for",
    ofCommand(odd("")),
    Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      // It has no schema that would be checked before.
      const refusal = (request: Omit<SkillClient.RunRequest, "skill">) =>
        Effect.flip(client.run({ skill: "large-schema", ...request }))
      for (
        const request of [
          { args: ["x"] },
          { files: { "a.txt": Buffer.from("x") } },
          { env: { A: "x" } },
          { script: "scripts/run.py" },
          { stdin: "no json" },
          { stdin: "[1]" }
        ]
      ) {
        const { message, reason } = yield* refusal(request)
        assert.strictEqual(reason._tag, "BadRequest", JSON.stringify(request))
        assert.include(message, "give the arguments as one JSON object")
      }
      assert.strictEqual((yield* client.run({ skill: "large-schema", script: "tool.json" })).exitCode, 0)
    })
  )

  live(
    "checks what a tool is given and gives against its schemas",
    ofCommand(odd("")),
    Effect.gen(function*() {
      assert.strictEqual((yield* reasonOf(invoke("whole", { n: "one" })))._tag, "InvalidInput")
      assert.strictEqual((yield* reasonOf(invoke("whole", "no json")))._tag, "InvalidInput")
      assert.strictEqual((yield* reasonOf(invoke("promising", { structured: { n: "many" } })))._tag, "InvalidOutput")
      const lacking = yield* Effect.flip(invoke("promising", {}))
      assert.deepInclude(lacking.reason, failure)
      assert.include(
        lacking.message,
        "the MCP server failed: it answered without the structured content that the tool's outputSchema promises"
      )
      assert.strictEqual((yield* invoke("promising", { structured: { n: 1 } })).content, `{"n":1}`)
    })
  )

  live(
    "bounds what a tool says",
    ofCommand(library("both")),
    Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const result = yield* client.run({ skill: "huge", stdin: JSON.stringify({ bytes: 17 * 1024 * 1024 }) })
      assert.deepEqual(result.truncated, ["stdout"])
      assert.strictEqual(result.stdout.byteLength, 16 * 1024 * 1024)
    })
  )

  live(
    "offers its server nothing of a caller",
    ofCommand(library("legacy")),
    Effect.gen(function*() {
      assert.strictEqual((yield* reasonOf(invoke("ask", "")))._tag, "SkillFailed")
    })
  )

  live(
    "refuses to be asked for input",
    ofCommand(library("modern")),
    Effect.gen(function*() {
      const { message, reason } = yield* Effect.flip(invoke("require", ""))
      assert.deepInclude(reason, failure)
      assert.include(message, "the MCP server failed: ")
    })
  )

  live(
    "goes on with what else there is where tools are odd",
    ofCommand(odd("")),
    Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const catalog = yield* client.catalog
      assert.deepEqual(catalog.map(({ name }) => name), [
        "empty-description",
        "large-schema",
        "no-schema",
        "promising",
        "same-name-0f0c17",
        "same-name-c10465",
        "whole"
      ])
      const infoOf = (skill: string) => catalog.find(({ name }) => name === skill)
      assert.strictEqual(
        infoOf("empty-description")?.description,
        `The tool "empty-description" of the MCP server external.`
      )
      assert.isUndefined(infoOf("no-schema")?.input)
      assert.isUndefined(infoOf("large-schema")?.input)
      assert.deepInclude(infoOf("whole")?.input, { properties: { n: { type: "integer" } } })
      assert.strictEqual((yield* invoke("same-name-0f0c17", "")).content.replace(/\d+/, "pid"), "pid")
      assert.strictEqual((yield* invoke("same-name-c10465", "")).content, "called same_name")
      const { instructions } = yield* client.describe("large-schema")
      assert.include(instructions, "The JSON Schema of the arguments is in `tool.json`")

      const refused = yield* Effect.flip(invoke("whole", { n: 1 }))
      assert.strictEqual(refused.reason._tag, "BadRequest")
      assert.include(refused.message, "n is not what it should be")
      const broken = yield* Effect.flip(invoke("no-schema", ""))
      assert.deepInclude(broken.reason, failure)
      assert.include(broken.message, "the MCP server failed: it answered with error -32603: inside")
    })
  )

  live(
    "tells what a tool is, and pins it",
    ofCommand(odd("")),
    Effect.gen(function*() {
      const client = yield* SkillClient.SkillClient
      const { document, frontMatter, instructions, resources, skill } = yield* client.describe("same-name-0f0c17")
      assert.deepInclude(frontMatter, {
        name: "same-name-0f0c17",
        metadata: { "mcp-server": "external", "mcp-tool": "same name" }
      })
      assert.include(instructions, `Calls the tool "same name" of the MCP server external.`)
      assert.deepEqual(resources.map(({ path }) => path), ["tool.json"])
      const text = Buffer.from(yield* client.resource(skill.name, "SKILL.md")).toString()
      assert.strictEqual(Buffer.byteLength(text), document?.size)
      const tool = JSON.parse(Buffer.from(yield* client.resource(skill.name, "tool.json")).toString())
      assert.deepEqual(tool, { description: "One.", inputSchema: { type: "object" }, name: "same name" })
      assert.strictEqual((yield* Effect.flip(client.resource(skill.name, "scripts/run.py"))).reason._tag, "BadRequest")
      assert.strictEqual((yield* invoke(skill.name, "", { digest: skill.digest })).content.replace(/\d+/, "pid"), "pid")
      const digest = `sha256:${"0".repeat(64)}`
      assert.strictEqual((yield* reasonOf(invoke(skill.name, "", { digest })))._tag, "SkillChanged")
    })
  )
})
