import * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const utf8 = (text: string) => new TextEncoder().encode(text)
const json = (value: unknown) => [utf8(JSON.stringify(value))]

const plainText = (bytes: Uint8Array) => Buffer.from(bytes).toString("utf8")
const get = <A, E>(result: Result.Result<A, E>): A => Result.getOrThrowWith(result, (error) => error)

const failure = <A>(result: Result.Result<A, Protocol.ProtocolError>): Protocol.ProtocolError => {
  if (Result.isSuccess(result)) throw new Error("expected a failure")
  return result.failure
}

/** JSON has no negative zero, and decoded bytes are a Buffer. */
const plain = (value: unknown): unknown =>
  typeof value === "number"
    ? value + 0
    : value instanceof Uint8Array
    ? Buffer.from(value).toString("hex")
    : Array.isArray(value)
    ? value.map(plain)
    : typeof value === "object" && value !== null
    ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
    : value

const fails = (result: Result.Result<unknown, Protocol.ProtocolError>) => Result.isFailure(result)
const known = <A>(result: Result.Result<A, Protocol.ProtocolError>) =>
  plain(Option.getOrUndefined(Result.getSuccess(result)))

/** A message with each of its fields changed, left out and doubled in a list. */
function* variants(message: object): Generator<readonly [string, object]> {
  for (const [key, value] of Object.entries(message)) {
    const others = [
      null,
      undefined,
      1.5,
      "",
      [value],
      { value },
      -1,
      Number.NaN,
      ["a", 7],
      Object.assign([], { length: 1 })
    ]
    for (const [index, other] of others.entries()) {
      yield [`${key}, variant ${index}`, { ...message, [key]: other }]
    }
    yield [`no ${key}`, Object.fromEntries(Object.entries(message).filter(([name]) => name !== key))]
  }
}

const reader = (schema: Schema.Codec<unknown, unknown>) => (message: object) =>
  plain(Option.getOrUndefined(Schema.decodeUnknownOption(schema)(JSON.parse(JSON.stringify(message)))))
const readRequest = reader(Protocol.Request)
const readResponse = reader(Protocol.Response)
const writable = (schema: Schema.Codec<unknown, unknown>) => (message: object) =>
  Option.isSome(Schema.encodeUnknownOption(schema)(message))
const canWriteRequest = writable(Protocol.Request)
const canWriteResponse = writable(Protocol.Response)

const v1 = { request_id: "a1b2", reply_to: "AGENT_REPLY_1", intent: "hello", timestamp: 1739836800.123 }

describe("Protocol", () => {
  it.prop("every request survives a round trip", [Schema.toType(Protocol.Request)], ([request]) => {
    const wire = { ...request, v: 2 }
    const read = get(Protocol.decodeRequest([get(Protocol.encodeRequest(wire))]))
    assert.deepEqual(plain(read), plain(wire))
  })

  it.prop("every response survives a round trip", [Schema.toType(Protocol.Response)], ([response]) => {
    const wire = { ...response, v: 2 }
    const read = get(Protocol.decodeResponse([get(Protocol.encodeResponse(wire))]))
    assert.deepEqual(plain(read), plain(wire))
  })

  it.prop("every response is the same in pieces as it is whole", [Schema.toType(Protocol.Response)], ([response]) => {
    const wire = { ...response, v: 2 }
    const pieces = Array.from(get(Protocol.encodeResponsePieces(wire)))
    const whole: unknown = JSON.parse(plainText(get(Protocol.encodeResponse(wire))))
    assert.deepStrictEqual(JSON.parse(pieces.join("")), whole)
    assert.deepEqual(plain(get(Protocol.decodeParts(pieces))), plain(wire))
  })

  const nearBase64 = Schema.Array(Schema.Literals([..."Ab9+/==-_ \né\u0141\u0000😀", "AAAA", "AA", "AAA="])).pipe(
    Schema.check(Schema.isMaxLength(12))
  )
  it.prop("base64 is what its pattern says", [Schema.toType(nearBase64)], ([parts]) => {
    const text = parts.join("")
    const matches = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text)
    assert.strictEqual(Option.isSome(Schema.decodeUnknownOption(Protocol.Base64)(text)), matches, JSON.stringify(text))
  }, { arbitrary: { runs: 3000 } })

  it("a large response comes in pieces of about 64 KiB, also where a pair of surrogates is on the border", () => {
    const content = `x${"😀".repeat(100_000)}`
    const data = Buffer.alloc(200_001, 7)
    const artifacts = ["a", "b"].map((path) => ({ path, size: 1, sha256: "0".repeat(64), mime: "x/y", data }))
    const response = { requestId: "r", status: "success", content, error: "", stdout: data, artifacts, v: 2 } as const
    const pieces = Array.from(get(Protocol.encodeResponsePieces(response)))
    assert.isAbove(pieces.length, 15)
    for (const piece of pieces) assert.isAtMost(piece.length, 64 * 1024 + 1)
    assert.strictEqual(pieces.join(""), Buffer.from(pieces.join("")).toString())
    assert.deepEqual(plain(get(Protocol.decodeParts(pieces))), plain(response))
    const wrong = { ...response, artifacts: [{ ...artifacts[0], path: "/etc" }] } as never
    assert.strictEqual(failure(Protocol.encodeResponsePieces(wrong)).reason, "Invalid")
    assert.strictEqual(failure(Protocol.decodeParts(["{"])).reason, "NotJson")
  })

  it.prop("requests and responses are on the wire what their schemas say", [
    Schema.toType(Protocol.Request),
    Schema.toType(Protocol.Response)
  ], ([request, response]) => {
    const sent = { ...request, v: 2 }
    const asked = plainText(get(Protocol.encodeRequest(sent)))
    const answered = plainText(get(Protocol.encodeResponse(response)))
    assert.deepStrictEqual(JSON.parse(asked), JSON.parse(JSON.stringify(Schema.encodeSync(Protocol.Request)(sent))))
    assert.deepStrictEqual(
      JSON.parse(answered),
      JSON.parse(JSON.stringify(Schema.encodeSync(Protocol.Response)(response)))
    )
    for (const [key, changed] of variants(JSON.parse(asked))) {
      const message = { ...changed, v: 2 }
      assert.deepStrictEqual(known(Protocol.decodeRequest(json(message))), readRequest(message), key)
    }
    for (const [key, changed] of variants(JSON.parse(answered))) {
      const message = { ...changed, v: 2 }
      assert.deepStrictEqual(known(Protocol.decodeResponse(json(message))), readResponse(message), key)
    }
    // What no type allows, a program without types may send.
    for (const [key, changed] of variants(sent)) {
      assert.strictEqual(fails(Protocol.encodeRequest(changed as typeof sent)), !canWriteRequest(changed), key)
    }
    for (const [key, changed] of variants(response)) {
      assert.strictEqual(fails(Protocol.encodeResponse(changed as typeof response)), !canWriteResponse(changed), key)
    }
  })

  it("takes nothing from the prototype that a peer names", () => {
    const payload = Buffer.from(
      `{"request_id":"a","reply_to":"AGENT_REPLY_1","intent":"x","__proto__":{"v":2,"skill":"y"}}`
    )
    const read: object = get(Protocol.decodeRequest([payload]))
    assert.deepStrictEqual(read, { requestId: "a", replyTo: "AGENT_REPLY_1", intent: "x" })
    assert.strictEqual(Object.getPrototypeOf(read), Object.prototype)
  })

  it.prop("no bytes crash a decoder", [Schema.Array(Schema.Uint8Array)], ([frames]) => {
    for (const decode of [Protocol.decodeRequest, Protocol.decodeResponse]) {
      assert.isTrue(fails(decode(frames)))
    }
  })

  it.prop("no JSON crashes a decoder", [Schema.fromJsonString(Schema.Unknown), Schema.Json], ([, value]) => {
    for (const decode of [Protocol.decodeRequest, Protocol.decodeResponse]) {
      assert.isBoolean(fails(decode(json(value))))
      assert.isBoolean(fails(decode(json({ ...v1, v: 2, skill: value, files: value, status: value }))))
    }
  })

  it("writes version 1 as described", () => {
    const payload = get(Protocol.encodeRequest({
      requestId: "a1b2",
      replyTo: "AGENT_REPLY_1",
      intent: Protocol.makeIntent("csv-analyzer", "a,b"),
      timestamp: 1.5
    }))
    assert.deepStrictEqual(JSON.parse(Buffer.from(payload).toString()), {
      request_id: "a1b2",
      reply_to: "AGENT_REPLY_1",
      intent: "{\"skill\":\"csv-analyzer\",\"data\":\"a,b\"}",
      timestamp: 1.5
    })
  })

  it("reads version 2 fields only from version 2", () => {
    assert.deepStrictEqual(get(Protocol.decodeRequest(json({ ...v1, timeout_ms: "soon", skill: 7, extra: true }))), {
      requestId: "a1b2",
      replyTo: "AGENT_REPLY_1",
      intent: "hello",
      timestamp: 1739836800.123
    })
    const error = failure(Protocol.decodeRequest(json({ ...v1, v: 2, timeout_ms: "soon" })))
    assert.strictEqual(error.reason, "Invalid")
    assert.include(error.detail, "timeout_ms")
  })

  it("reads what version 1 servers answer", () => {
    const response = get(
      Protocol.decodeResponse(json({ request_id: "a", status: "success", content: "x", error: null }))
    )
    assert.strictEqual(response.content, "x")
    assert.strictEqual(response.error, "")
    assert.isTrue(Result.isFailure(Protocol.decodeResponse(json({ request_id: "a", status: "maybe", content: "x" }))))
  })

  it("reads what servers of version 1 answer who mean other things by the names of version 2", () => {
    const answer = { request_id: "a", status: "success" as const, content: "x", error: "" }
    const { request_id: requestId, ...rest } = answer
    const others = {
      code: 200,
      usage: "none",
      server: {},
      stderr: null,
      truncated: false,
      exit_code: "0",
      v: "1.0",
      seq: -1
    }
    for (const [key, value] of [...Object.entries(others), ["event", "done"], ["v", 1.5]]) {
      assert.deepStrictEqual(get(Protocol.decodeResponse(json({ ...answer, [String(key)]: value }))), {
        requestId,
        ...rest
      })
    }
    assert.strictEqual(get(Protocol.decodeResponse(json({ ...answer, code: "NoServer" }))).code, "NoServer")
    // An event is nobody's final answer, and version 2 is what it says.
    assert.isTrue(fails(Protocol.decodeResponse(json({ ...answer, event: "chunk", data: "?" }))))
    assert.isTrue(fails(Protocol.decodeResponse(json({ ...answer, v: 2, code: 200 }))))
  })

  it("keeps the sender's address when the rest is wrong", () => {
    for (
      const frames of [
        json({ ...v1, intent: 7 }),
        json({ request_id: "a1b2", reply_to: "AGENT_REPLY_1" }),
        [...json(v1), utf8("extra")],
        [utf8(""), ...json(v1)],
        [Buffer.concat([
          utf8(JSON.stringify(v1).slice(0, -1)),
          utf8(",\"x\":\""),
          new Uint8Array([0xff]),
          utf8("\"}")
        ])],
        [...json(v1), ...Array.from({ length: 5 }, () => utf8("extra"))],
        [utf8(JSON.stringify(v1).slice(0, -1))],
        // The address at either end of what is too large to be looked through.
        [Buffer.concat([utf8(`${JSON.stringify(v1).slice(0, -1)},"x":"`), Buffer.alloc(2 ** 21, 0xff)])],
        [Buffer.concat([Buffer.alloc(2 ** 21, 0xff), utf8(`",${JSON.stringify(v1).slice(1)}`)])],
        [Buffer.concat([
          utf8(`${JSON.stringify(v1).slice(0, -1)},"x":"`),
          Buffer.alloc(Protocol.maxBytes, 0x78),
          utf8("\"}")
        ])]
      ]
    ) {
      const error = failure(Protocol.decodeRequest(frames))
      assert.strictEqual(error.requestId, "a1b2")
      assert.strictEqual(error.replyTo, "AGENT_REPLY_1")
    }
  })

  it("looks for the address in 16 frames, and in 64 KiB at each end of them", () => {
    const spaces = Buffer.alloc(65_536, 0x20)
    const address = utf8(JSON.stringify(v1))
    const middle = Buffer.concat([spaces, address, spaces, utf8("{")])
    const near = Buffer.concat([spaces.subarray(address.byteLength), address, spaces, spaces, utf8("{")])
    assert.isUndefined(failure(Protocol.decodeRequest([middle])).replyTo)
    assert.strictEqual(failure(Protocol.decodeRequest([near])).replyTo, "AGENT_REPLY_1")
    const empty = Array.from({ length: 16 }, () => utf8(""))
    assert.isUndefined(failure(Protocol.decodeRequest([...empty, address])).replyTo)
    assert.strictEqual(failure(Protocol.decodeRequest([...empty.slice(1), address])).replyTo, "AGENT_REPLY_1")
  })

  it("takes no address from the text of a field", () => {
    const inner = JSON.stringify({ reply_to: "AGENT_REPLY_2", request_id: "no" })
    const broken = utf8(JSON.stringify({ x: inner, ...v1, y: 1 }).slice(0, -1))
    assert.deepInclude(failure(Protocol.decodeRequest([broken])), { requestId: "a1b2", replyTo: "AGENT_REPLY_1" })
    assert.isUndefined(failure(Protocol.decodeRequest([utf8(JSON.stringify({ intent: inner }).slice(0, -1))])).replyTo)
  })

  it("bounds request_id at 256 and paths at 1,024 characters", () => {
    const id = (length: number) => fails(Protocol.decodeRequest(json({ ...v1, request_id: "i".repeat(length) })))
    const path = (length: number) => fails(Protocol.decodeRequest(json({ ...v1, v: 2, script: "p".repeat(length) })))
    assert.deepStrictEqual([id(256), id(257), path(1024), path(1025)], [false, true, false, true])
  })

  it("does not take a skill topic or a control topic for a reply address", () => {
    for (const reply_to of ["TOPIC_X", "@SERVERS", "", "a\nb"]) {
      assert.isUndefined(failure(Protocol.decodeRequest(json({ ...v1, reply_to }))).replyTo)
    }
  })

  it("tells what is wrong", () => {
    const reasons = [[], [utf8("{")], [utf8("[]")], [utf8("null")], [new Uint8Array([0xff, 0xfe])]]
      .map((frames) => failure(Protocol.decodeRequest(frames)).reason)
    assert.deepStrictEqual(reasons, ["FrameCount", "NotJson", "Invalid", "Invalid", "NotUtf8"])
  })

  it("bounds a message", () => {
    assert.strictEqual(failure(Protocol.decodeRequest([new Uint8Array(Protocol.maxBytes + 1)])).reason, "TooLarge")
    const request = { requestId: "a", replyTo: "b", intent: "x".repeat(Protocol.maxBytes) }
    assert.strictEqual(failure(Protocol.encodeRequest(request)).reason, "TooLarge")
  })

  it("refuses paths that leave the working directory", () => {
    for (const path of ["../x", "/etc/passwd", "a/../b", "a//b", "a\\b", ".", "a\u0000"]) {
      assert.isTrue(Result.isFailure(Protocol.decodeRequest(json({ ...v1, v: 2, files: { [path]: "" } }))), path)
    }
    assert.isTrue(Result.isSuccess(Protocol.decodeRequest(json({ ...v1, v: 2, files: { "a/b.txt": "aGk=" } }))))
  })

  it("parses intents", () => {
    assert.deepStrictEqual(get(Protocol.parseIntent("{\"skill\":\"a\",\"data\":\"b\"}")), { skill: "a", data: "b" })
    assert.deepStrictEqual(get(Protocol.parseIntent("{\"skill\":\"a\",\"data\":{\"x\":1}}")), {
      skill: "a",
      data: "{\"x\":1}"
    })
    assert.deepStrictEqual(get(Protocol.parseIntent("{\"skill\":\"a\"}")), { skill: "a", data: "" })
    for (const text of ["summarize this", "{\"skill\":7}", "{", "[1]", "{\"data\":\"x\"}", ""]) {
      assert.deepStrictEqual(get(Protocol.parseIntent(text)), { skill: undefined, data: text })
    }

    const deep = `{"skill":"a","data":${"[".repeat(100_000)}${"]".repeat(100_000)}}`
    assert.strictEqual(failure(Protocol.parseIntent(deep)).reason, "Invalid")
  })
})
