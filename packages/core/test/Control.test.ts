import * as Control from "@skillscale/core/Control"
import * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const utf8 = (text: string) => new TextEncoder().encode(text)
const json = (value: unknown) => [utf8(JSON.stringify(value))]

const get = <A, E>(result: Result.Result<A, E>): A => Result.getOrThrowWith(result, (error) => error)

const failure = <A>(result: Result.Result<A, Protocol.ProtocolError>): Protocol.ProtocolError => {
  if (Result.isSuccess(result)) throw new Error("expected a failure")
  return result.failure
}

const digest = `sha256:${"0".repeat(64)}`
const address = { request_id: "a1b2", reply_to: "AGENT_REPLY_1" }

describe("Control", () => {
  it.prop("every message survives a round trip", [Schema.toType(Control.Control)], ([control]) => {
    assert.deepStrictEqual(get(Control.decode([get(Control.encode(control))])), control)
  })

  it.prop("no bytes crash the decoder", [Schema.Array(Schema.Uint8Array)], ([frames]) => {
    assert.isTrue(Result.isFailure(Control.decode(frames)))
  })

  it.prop("no JSON crashes the decoder", [Schema.Json], ([value]) => {
    assert.isBoolean(Result.isFailure(Control.decode(json(value))))
    for (const kind of ["describe", value]) {
      assert.isBoolean(Result.isFailure(Control.decode(json({ ...address, kind, skill: value, path: value }))))
    }
  })

  it("is written as described", () => {
    const messages: ReadonlyArray<readonly [Control.Control, object]> = [
      ...(["cancel", "catalog", "topology"] as const).map((kind) =>
        [{ kind, requestId: "a1b2", replyTo: "AGENT_REPLY_1" }, { kind, ...address }] as const
      ),
      [
        { kind: "describe", requestId: "a1b2", replyTo: "AGENT_REPLY_1", skill: "a" },
        { kind: "describe", ...address, skill: "a" }
      ],
      [
        { kind: "resource", requestId: "a1b2", replyTo: "AGENT_REPLY_1", skill: "a", path: "b/c" },
        { kind: "resource", ...address, skill: "a", path: "b/c" }
      ],
      [
        { kind: "resource", requestId: "a1b2", replyTo: "AGENT_REPLY_1", skill: "a", path: "b/c", digest },
        { kind: "resource", ...address, skill: "a", path: "b/c", digest }
      ]
    ]
    for (const [control, wire] of messages) {
      assert.deepStrictEqual(JSON.parse(Buffer.from(get(Control.encode(control))).toString()), wire)
    }
  })

  it("keeps the sender's address when the rest is wrong", () => {
    for (
      const frames of [
        json({ ...address, kind: "restart" }),
        json({ ...address, kind: "describe" }),
        json({ ...address, kind: "resource", skill: "a", path: 7 }),
        json({ ...address, kind: "describe", skill: "a", digest: "latest" }),
        [...json({ ...address, kind: "catalog" }), utf8("extra")]
      ]
    ) {
      const error = failure(Control.decode(frames))
      assert.instanceOf(error, Protocol.ProtocolError)
      assert.deepStrictEqual([error.requestId, error.replyTo], ["a1b2", "AGENT_REPLY_1"])
    }
  })

  it("does not answer to a skill topic or a control topic", () => {
    for (const reply_to of ["TOPIC_X", "@SERVERS", "", "a\nb"]) {
      assert.isUndefined(failure(Control.decode(json({ ...address, kind: "catalog", reply_to }))).replyTo)
    }
  })

  it("bounds a message", () => {
    const skill = "x".repeat(Protocol.maxBytes)
    const control = { kind: "describe", requestId: "a", replyTo: "b", skill } as const
    assert.strictEqual(failure(Control.encode(control)).reason, "TooLarge")
    assert.strictEqual(failure(Control.decode([new Uint8Array(Protocol.maxBytes + 1)])).reason, "TooLarge")
  })

  const rewritten = <A>(schema: Schema.Codec<A, unknown>, value: A): void => {
    const text = Schema.encodeSync(Schema.fromJsonString(schema))(value)
    const read = Schema.decodeSync(Schema.fromJsonString(schema))(text)
    assert.strictEqual(Schema.encodeSync(Schema.fromJsonString(schema))(read), text)
  }

  it.prop("every reply survives a round trip", {
    catalog: Schema.toType(Control.CatalogReply),
    skill: Schema.toType(Control.SkillReply),
    resource: Schema.toType(Control.ResourceReply),
    topology: Schema.toType(Control.TopologyReply)
  }, ({ catalog, resource, skill, topology }) => {
    rewritten(Control.CatalogReply, catalog)
    rewritten(Control.SkillReply, skill)
    rewritten(Control.ResourceReply, resource)
    rewritten(Control.TopologyReply, topology)
  })

  it("reads the replies that are described", () => {
    const info = {
      name: "a",
      description: "d",
      category: "c",
      topic: "TOPIC_C",
      digest: "x",
      scripts: [],
      env: ["KEY"]
    }
    const skills = [{ ...info, entry: null }, { ...info, entry: "run.sh" }]
    const catalog = { server: "s", topic: "TOPIC_C", skills }
    assert.deepStrictEqual(Schema.decodeUnknownSync(Control.CatalogReply)(catalog), catalog)
    assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(Control.CatalogReply)({ ...catalog, skills: [info] })))
    const { data } = Schema.decodeUnknownSync(Control.ResourceReply)({ path: "a", data: "aGk=" })
    assert.strictEqual(Buffer.from(data).toString(), "hi")
  })

  it("reads replies of servers that tell less, and of those that tell more", () => {
    const info = {
      ...{ name: "a", description: "d", category: "c", topic: "TOPIC_C", digest, entry: null, scripts: [], env: [] }
    }
    const old = { skill: info, instructions: "# A", resources: [] }
    assert.deepStrictEqual(Schema.decodeUnknownSync(Control.SkillReply)(old), old)
    const told = {
      skill: {
        ...info,
        input: JSON.parse(`{"type":"object","properties":{"__proto__":{"const":1}}}`),
        output: {},
        hints: { readOnly: true, destructive: false, idempotent: true, openWorld: false }
      },
      instructions: "# A",
      resources: [],
      frontMatter: { name: "a", version: 1.5, tags: ["x", null], nested: { on: true } },
      document: { path: "SKILL.md", size: 3, sha256: "0".repeat(64) }
    }
    const read = Schema.decodeUnknownSync(Control.SkillReply)({ ...told, later: 1, skill: { ...told.skill, later: 1 } })
    assert.deepStrictEqual(read, told)
    assert.strictEqual(JSON.stringify(read.skill.input), JSON.stringify(told.skill.input))
    for (const wrong of [{ input: [] }, { output: "x" }, { hints: { readOnly: true } }, { input: null }]) {
      const skill = { ...info, ...wrong }
      assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(Control.SkillInfo)(skill)), JSON.stringify(wrong))
    }
  })
})
