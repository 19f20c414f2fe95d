import * as Zmtp from "@skillscale/core/Zmtp"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

/** Everything that a decoder makes of a stream, cut into chunks. */
const decode = (chunks: ReadonlyArray<Buffer>, maxBytes = 1024 * 1024) => {
  const found: Array<string> = []
  const show = (message: Buffer, topicStart: number, topicEnd: number) => {
    const frames = Zmtp.framesOf(message)
    assert.isTrue(message.subarray(topicStart, topicEnd).equals(frames[0] ?? Buffer.alloc(1)))
    found.push(frames.map((frame) => frame.toString("latin1")).join("|"))
  }
  const decoder = new Zmtp.Decoder({
    message: (chunk, start, end, topicStart, topicEnd) =>
      show(chunk.subarray(start, end), topicStart - start, topicEnd - start),
    large: (pieces, length, topicStart, topicEnd) => show(Buffer.concat(pieces, length), topicStart, topicEnd),
    command: (name, body) => found.push(`/${name} ${body.toString("latin1")}`),
    broken: (detail) => found.push(`!${detail}`)
  }, maxBytes)
  chunks.forEach((chunk) => decoder.push(chunk))
  return found
}

const cut = (stream: Buffer, sizes: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const chunks: Array<Buffer> = []
  let at = 0
  for (let turn = 0; at < stream.length; turn++) {
    const size = 1 + Math.abs(sizes[turn % sizes.length] ?? 0) % 500
    chunks.push(stream.subarray(at, at + size))
    at += size
  }
  return chunks
}

describe("Decoder", () => {
  const messages = [["A", "x"], ["B"], ["", ""], ["C", "y".repeat(255), "z".repeat(256), ""], ["D".repeat(300), "e"]]
  const stream = Buffer.concat([
    Zmtp.encodeCommand("PING", Buffer.from("ab")),
    ...messages.map((frames) => Zmtp.encodeMessage(frames.map((frame) => Buffer.from(frame)))),
    Zmtp.encodeCommand("SUBSCRIBE", Buffer.alloc(400, "t")),
    Zmtp.encodeMessage([Buffer.from("L"), Buffer.alloc(200_000, "l")])
  ])
  const whole = decode([stream])

  it("finds messages and commands", () => {
    assert.deepStrictEqual(whole.slice(0, 6), ["/PING ab", ...messages.map((frames) => frames.join("|"))])
    assert.strictEqual(whole.length, 8)
  })

  it.prop(
    "finds the same however the stream is cut",
    [Schema.Array(Schema.Int).check(Schema.isMinLength(1))],
    ([sizes]) => {
      assert.deepStrictEqual(decode(cut(stream, sizes)), whole)
    }
  )

  it("finds the same byte by byte", () => {
    assert.deepStrictEqual(
      decode(Array.from(stream.subarray(0, 2000), (byte) => Buffer.from([byte]))).slice(0, 6),
      whole.slice(0, 6)
    )
  })

  it("breaks off at what no peer may send", () => {
    const good = Zmtp.encodeMessage([Buffer.from("A")])
    const long = Buffer.concat([Buffer.from([2, 0, 0, 1, 0, 0, 0, 0, 0]), good])
    const cases = [
      Buffer.from([8, 0]),
      Buffer.from([5, 1, 65]),
      Buffer.from([1, 1, 65, 4, 1, 65]),
      Buffer.from([4, 0]),
      long
    ]
    for (const bad of cases) {
      for (
        const chunks of [[Buffer.concat([good, bad, good])], [
          good,
          ...Array.from(bad, (byte) => Buffer.from([byte])),
          good
        ]]
      ) {
        const found = decode(chunks)
        assert.strictEqual(found[0], "A")
        assert.match(found[1] ?? "", /^!/)
        assert.strictEqual(found.length, 2)
      }
    }
  })

  it("counts all frames of a message against the limit", () => {
    const frames = Array.from({ length: 20 }, () => Buffer.alloc(100))
    assert.match(decode([Zmtp.encodeMessage(frames)], 1000)[0] ?? "", /more than 1000 bytes/)
    assert.match(decode(cut(Zmtp.encodeMessage(frames), [7]), 1000)[0] ?? "", /more than 1000 bytes/)
  })

  it("reads READY whatever its properties claim", () => {
    assert.strictEqual(Zmtp.readyProperty(Zmtp.encodeReady("XSUB").subarray(8), "socket-type"), "XSUB")
    const body = Zmtp.encodeReady("XSUB").subarray(8)
    for (let length = 0; length < body.length; length++) {
      assert.isUndefined(Zmtp.readyProperty(body.subarray(0, length), "socket-type"))
    }
  })
})
