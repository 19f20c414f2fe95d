/** What a skill says of its input and output, from its files to a caller: through a proxy, over TCP, with real processes. */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import * as Stack from "./support/stack.ts"

const input = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  properties: { numbers: { type: "array", items: { $ref: "#/$defs/number" }, minItems: 1 }, unit: { type: "string" } },
  required: ["numbers"],
  $defs: { number: { type: "number" } }
}
const output = { type: "object", properties: { sum: { type: "number" } }, required: ["sum"] }

const text = `---
name: sum
description: Adds numbers.
metadata:
  skillscale.input: schemas/input.json
  skillscale.output: schemas/output.json
  version: 1.5
tags: [math, 7]
---
Add them.
`

const sum: Stack.Fixture = {
  category: "testing",
  name: "sum",
  files: {
    "SKILL.md": text,
    "schemas/input.json": JSON.stringify(input, null, 2),
    "schemas/output.json": JSON.stringify(output),
    "scripts/run.sh":
      "echo adding >&2\ncase $(cat) in *unit*) echo '{\"sum\": \"1 m\"}' ;; *) echo '{\"sum\": 3.5}' ;; esac\n"
  }
}

const client = Layer.provideMerge(SkillClient.layer(), Stack.bus)

describe("the schemas of a skill", () => {
  layer(Layer.provideMerge(client, Stack.stack([sum, Stack.echo])), { excludeTestServices: true, timeout: 60_000 })(
    (it) => {
      it.effect("are in the catalog, with what may be expected of a run", () =>
        Effect.gen(function*() {
          const { catalog, describe, resource } = yield* SkillClient.SkillClient
          const [echo, entry] = yield* catalog
          assert.deepStrictEqual([echo?.name, echo?.input, echo?.output], ["echo", undefined, undefined])
          assert.deepStrictEqual([entry?.name, entry?.input, entry?.output], ["sum", input, output])
          const { hints } = entry ?? assert.fail()
          const isClosed = hints?.readOnly === true
          assert.deepStrictEqual(hints, {
            readOnly: isClosed,
            destructive: !isClosed,
            idempotent: isClosed,
            openWorld: !isClosed
          })
          const { digest, servers: [server], topic } = entry ?? assert.fail()
          const at = { topic, server, digest }
          const { document, frontMatter, resources, skill } = yield* describe("sum", at)
          assert.deepStrictEqual(skill.input, input)
          assert.deepStrictEqual(frontMatter, {
            name: "sum",
            description: "Adds numbers.",
            metadata: {
              "skillscale.input": "schemas/input.json",
              "skillscale.output": "schemas/output.json",
              version: 1.5
            },
            tags: ["math", 7]
          })
          const sha256 = createHash("sha256").update(text).digest("hex")
          assert.deepStrictEqual(document, { path: "SKILL.md", size: Buffer.byteLength(text), sha256 })
          assert.notInclude(resources.map(({ path }) => path), "SKILL.md")
          assert.strictEqual(Buffer.from(yield* resource("sum", "SKILL.md", at)).toString(), text)
          const changed = { ...at, digest: `sha256:${"0".repeat(64)}` }
          const questions = [
            Effect.asVoid(describe("sum", changed)),
            Effect.asVoid(resource("sum", "SKILL.md", changed))
          ]
          for (const question of questions) {
            assert.strictEqual((yield* Effect.flip(question)).reason._tag, "SkillChanged")
          }
          const { reason } = yield* Effect.flip(describe("sum", { topic, server: "nobody" }))
          assert.strictEqual(reason._tag, "NoServer")
        }))

      it.effect("keep what does not fit from the script, and tell where", () =>
        Effect.gen(function*() {
          const { invoke, run } = yield* SkillClient.SkillClient
          assert.strictEqual(
            (yield* invoke({ skill: "sum", data: "{\"numbers\":[1,2.5]}" })).content,
            "{\"sum\": 3.5}\n"
          )
          const error = yield* Effect.flip(invoke({ skill: "sum", data: "{\"numbers\":[1,\"2\"]}" }))
          assert.isFalse(error.isRetryable)
          assert.deepInclude({ ...error.reason }, {
            _tag: "InvalidInput",
            issues: [{ path: "/numbers/1", message: "expected number, got string \"2\"" }]
          })
          assert.include(error.message, "/numbers/1: expected number, got string \"2\"")
          const nothing = yield* Effect.flip(run({ skill: "sum" }))
          assert.deepInclude({ ...nothing.reason }, {
            _tag: "InvalidInput",
            issues: [{ path: "", message: "expected JSON, got nothing" }]
          })
          // Who names a script is not checked.
          assert.strictEqual((yield* run({ skill: "sum", script: "scripts/run.sh", stdin: "[]" })).exitCode, 0)
        }))

      it.effect("keep what does not fit from the caller, with all that there is", () =>
        Effect.gen(function*() {
          const { invoke, run, stream } = yield* SkillClient.SkillClient
          const data = "{\"numbers\":[1],\"unit\":\"m\"}"
          const expected = {
            _tag: "InvalidOutput" as const,
            issues: [{ path: "/sum", message: "expected number, got string \"1 m\"" }],
            content: "{\"sum\": \"1 m\"}\n",
            stderr: "adding\n"
          }
          const invoked = yield* Effect.flip(invoke({ skill: "sum", data }))
          assert.deepInclude({ ...invoked.reason }, expected)
          const ran = yield* Effect.flip(run({ skill: "sum", stdin: data }))
          assert.deepInclude({ ...ran.reason }, expected)
          const seen: Array<Uint8Array> = []
          const streamed = yield* Effect.flip(Stream.runForEach(
            stream({ skill: "sum", stdin: data }),
            (event) => Effect.sync(() => event._tag === "Stdout" ? seen.push(event.data) : 0)
          ))
          assert.deepInclude({ ...streamed.reason }, expected)
          assert.strictEqual(Buffer.concat(seen).toString(), expected.content)
        }))

      it.effect("count for programs without Effect, too", () =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.Proxy
          yield* Effect.promise(async () => {
            await using client = await PromiseClient.connect(proxy)
            const entry = (await client.catalog()).find(({ name }) => name === "sum") ?? assert.fail()
            const at = { topic: entry.topic, server: entry.servers[0], digest: entry.digest }
            assert.strictEqual((await client.describe("sum", at)).skill.digest, entry.digest)
            assert.strictEqual(Buffer.from(await client.resource("sum", "SKILL.md", at)).toString(), text)
            const error = await client.invoke({ skill: "sum", data: "[]" }).then(() => assert.fail(), (error) => error)
            assert.strictEqual(error.reason._tag, "InvalidInput")
          })
        }))
    }
  )
})
