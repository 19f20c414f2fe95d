import * as Zmtp from "@skillscale/core/Zmtp"
import { Session } from "@skillscale/core/ZmtpSession"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { greeting } from "../../../test/support/zmtp.ts"

interface End {
  readonly session: Session
  /** What it wrote, not yet delivered. */
  readonly outgoing: Array<Buffer>
  /** What it reported. */
  readonly seen: Array<string>
}

const end = (type: Zmtp.SocketType, onReady: (end: End) => void = () => {}, maxBytes = 1024 * 1024): End => {
  const outgoing: Array<Buffer> = []
  const seen: Array<string> = []
  const show = (message: Buffer) =>
    seen.push(Zmtp.framesOf(message).map((frame) => `${frame.length}:${frame.toString("latin1", 0, 20)}`).join("|"))
  const session = new Session(type, maxBytes, {
    write: (bytes) => outgoing.push(bytes),
    ready: () => {
      seen.push(`ready ${session.hasCommands}`)
      onReady(self)
    },
    message: (chunk, start, stop) => show(chunk.subarray(start, stop)),
    large: (pieces, length) => show(Buffer.concat(pieces, length)),
    subscription: (subscribe, prefix) => seen.push(`${subscribe ? "+" : "-"}${prefix.toString("latin1")}`),
    ping: (pong) => outgoing.push(pong),
    broken: (detail) => seen.push(`!${detail}`)
  })
  const self: End = { session, outgoing, seen }
  session.open()
  return self
}

const messages = [["A", "x"], ["B"], ["", ""], ["C", "y".repeat(300), ""], ["D", "z".repeat(100_000)]]

/** A publisher that sends when it is asked, and a subscriber that asks. */
const pair = (): readonly [End, End] => [
  end("XPUB", (self) => {
    self.outgoing.push(Zmtp.encodeCommand("PING", Buffer.from("\0\nctx")))
    self.outgoing.push(...messages.map((frames) => Zmtp.encodeMessage(frames.map((frame) => Buffer.from(frame)))))
  }),
  end("SUB", (self) => {
    self.outgoing.push(self.session.encodeSubscription(true, Buffer.from("A")))
    self.outgoing.push(self.session.encodeSubscription(false, Buffer.from("A")))
  })
]

/** Carries bytes to and fro, cut into pieces of these sizes if there are any, until both ends are silent. */
const run = ([one, two]: readonly [End, End], sizes: ReadonlyArray<number> = []) => {
  let turn = 0
  const carry = (from: End, to: End) => {
    const bytes = Buffer.concat(from.outgoing.splice(0))
    for (let at = 0; at < bytes.length;) {
      const size = sizes.length === 0 ? bytes.length : 1 + Math.abs(sizes[turn++ % sizes.length] ?? 0) % 2000
      to.session.push(Buffer.from(bytes.subarray(at, at + size)))
      at += size
    }
  }
  while (one.outgoing.length + two.outgoing.length > 0) {
    carry(one, two)
    carry(two, one)
  }
  return [one.seen, two.seen]
}

describe("Session", () => {
  const whole = run(pair())

  it("shakes hands, subscribes and carries messages", () => {
    assert.deepStrictEqual(whole, [["ready true", "+A", "-A"], [
      "ready true",
      "1:A|1:x",
      "1:B",
      "0:|0:",
      "1:C|300:yyyyyyyyyyyyyyyyyyyy|0:",
      "1:D|100000:zzzzzzzzzzzzzzzzzzzz"
    ]])
  })

  it.prop(
    "reports the same however the bytes are cut",
    [Schema.Array(Schema.Int).check(Schema.isMinLength(1))],
    ([sizes]) => {
      assert.deepStrictEqual(run(pair(), sizes), whole)
    }
  )

  it("reports the same byte by byte", () => {
    assert.deepStrictEqual(run(pair(), [0]), whole)
  })

  const versions: Readonly<Record<string, readonly [greeting: Buffer, subscription: Buffer]>> = {
    "3.1": [Buffer.concat([greeting(1), Zmtp.encodeReady("SUB")]), Zmtp.encodeCommand("SUBSCRIBE", Buffer.from("A"))],
    "3.0": [Buffer.concat([greeting(0), Zmtp.encodeReady("XSUB")]), Zmtp.encodeMessage([Buffer.from("\u0001A")])],
    "2.0": [
      Buffer.concat([Zmtp.signature.subarray(0, 10), Buffer.from([1, 2, 0, 0])]),
      Zmtp.encodeMessage([Buffer.from("\u0001A")])
    ]
  }
  for (const [version, [hello, subscription]] of Object.entries(versions)) {
    it(`understands version ${version}, and is understood`, () => {
      const { outgoing, seen, session } = end("XPUB")
      for (const byte of Buffer.concat([hello, subscription])) {
        session.push(Buffer.from([byte]))
      }
      assert.deepStrictEqual(seen, [`ready ${version === "3.1"}`, "+A"])
      assert.deepStrictEqual(session.encodeSubscription(true, Buffer.from("A")), subscription)
      const said = Buffer.concat(outgoing)
      const expected = version === "2.0"
        ? Buffer.concat([Zmtp.signature, Buffer.from([9, 0, 0])])
        : Buffer.concat([Zmtp.signature, Zmtp.greetingTail, Zmtp.encodeReady("XPUB")])
      assert.deepStrictEqual(said, expected)
    })
  }

  it("answers PING with its context, cut to 16 bytes", () => {
    const { outgoing, session } = end("SUB")
    session.push(Buffer.concat([greeting(1), Zmtp.encodeReady("PUB")]))
    outgoing.splice(0)
    session.push(Zmtp.encodeCommand("PING", Buffer.from("\0\n0123456789abcdefg")))
    assert.deepStrictEqual(outgoing, [Zmtp.encodeCommand("PONG", Buffer.from("0123456789abcdef"))])
  })

  const ready = Buffer.concat([greeting(1), Zmtp.encodeReady("PUB")])
  const refused: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
    "a peer that is not ZMTP": [Buffer.from("HTTP/1.1 400 Bad Request\r\n"), /not a ZMTP peer/],
    "another mechanism": [greeting(1, "CURVE"), /mechanism "CURVE"/],
    "a socket type that is no counterpart": [
      Buffer.concat([greeting(1), Zmtp.encodeReady("XSUB")]),
      /socket type XSUB for SUB/
    ],
    "such a type in version 2.0": [
      Buffer.concat([Zmtp.signature.subarray(0, 10), Buffer.from([1, 10, 0, 0])]),
      /socket type XSUB for SUB/
    ],
    "READY without a type": [
      Buffer.concat([greeting(1), Zmtp.encodeCommand("READY", Buffer.from("\u00ffx"))]),
      /unknown/
    ],
    "a message before READY": [Buffer.concat([greeting(1), Zmtp.encodeMessage([Buffer.from("x")])]), /before READY/],
    "a command before READY": [Buffer.concat([greeting(1), Zmtp.encodeCommand("PING", Buffer.from("\0\n"))]), /PING/],
    "an error that the peer reports": [
      Buffer.concat([ready, Zmtp.encodeCommand("ERROR", Buffer.from("\u0002no"))]),
      /reported an error/
    ],
    "frames that no peer may send": [Buffer.concat([ready, Buffer.from([255, 255])]), /frame flags/],
    "a message that is too large": [
      Buffer.concat([ready, Zmtp.encodeHead([Buffer.from("A"), Buffer.alloc(1001)])]),
      /more than 1000 bytes/
    ]
  }
  for (const [what, [bytes, detail]] of Object.entries(refused)) {
    it(`refuses ${what}, once, and hears nothing after it`, () => {
      const { seen, session } = end("SUB", () => {}, 1000)
      for (const chunk of [bytes, Zmtp.encodeMessage([Buffer.from("later")]), bytes]) {
        session.push(chunk)
      }
      const events = seen.filter((event) => !event.startsWith("ready"))
      assert.strictEqual(events.length, 1, String(events))
      assert.match(events[0] ?? "", /^!/)
      assert.match(events[0] ?? "", detail)
    })
  }

  it("a publisher refuses a message that is no subscription by its size", () => {
    const { seen, session } = end("XPUB")
    session.push(Buffer.concat([greeting(1), Zmtp.encodeReady("SUB")]))
    const bytes = Zmtp.encodeMessage([Buffer.alloc(70_000)])
    session.push(bytes.subarray(0, 100))
    session.push(bytes.subarray(100))
    assert.match(seen[1] ?? "", /^!a message of 70009 bytes/)
  })

  it("ends the connection when an event throws", () => {
    const { seen, session } = end("SUB", () => {
      throw new Error("of the test")
    })
    session.push(Buffer.concat([greeting(1), Zmtp.encodeReady("PUB")]))
    assert.deepStrictEqual(seen, ["ready true", "!internal error: Error: of the test"])
  })
})
