import * as Bus from "@skillscale/core/Bus"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ReplyRoutes from "../../src/internal/replyRoutes.ts"

const make = () => {
  const sent: Array<string> = []
  const through = (name: string): Bus.Publish => (topic) => Effect.sync(() => void sent.push(`${name} ${topic}`))
  const ways = { left: through("left"), right: through("right") }
  let time = 0
  const bus = Bus.make({ publish: through("all"), subscription: () => Effect.die("unused") })
  const routes = ReplyRoutes.make(bus, () => time)
  const hear = (replyTo: string, name?: keyof typeof ways) =>
    routes.learn(replyTo, { topic: "A", frames: [], ...name === undefined ? {} : { reply: ways[name] } })
  const pass = (ms: number) => time += ms
  const answer = (replyTo: string) => Effect.runSync(routes.publish(replyTo, new Uint8Array()))
  return { answer, hear, pass, sent }
}

describe("the way of a reply", () => {
  it("is the one by which its caller is heard, and all where none is known", () => {
    const { answer, hear, sent } = make()
    hear("one", "left")
    hear("one", "left")
    hear("three")
    for (const replyTo of ["one", "three", "four"]) answer(replyTo)
    assert.deepStrictEqual(sent, ["left one", "all three", "all four"])
  })

  it("is all of them for 10 s after it changed, and then the last", () => {
    const { answer, hear, pass, sent } = make()
    hear("one", "left")
    pass(60_000)
    hear("one", "right")
    answer("one")
    // What was still on its way by the first.
    pass(5000)
    hear("one", "left")
    hear("one", "right")
    pass(9999)
    answer("one")
    pass(1)
    answer("one")
    assert.deepStrictEqual(sent, ["all one", "all one", "right one"])
  })

  it("is forgotten for the caller that was silent longest when there are more than 10,000", () => {
    const { answer, hear, sent } = make()
    hear("oldest", "left")
    hear("old", "left")
    for (let count = 0; count < 9998; count++) hear(`${count}`, "left")
    hear("oldest", "left")
    hear("new", "left")
    for (const replyTo of ["oldest", "old", "0"]) answer(replyTo)
    assert.deepStrictEqual(sent, ["left oldest", "all old", "left 0"])
  })
})
