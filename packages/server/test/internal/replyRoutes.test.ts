import * as Bus from "@skillscale/core/Bus"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ReplyRoutes from "../../src/internal/replyRoutes.ts"

const make = () => {
  const sent: Array<string> = []
  const through = (name: string): Bus.Publish => (topic) => Effect.sync(() => void sent.push(`${name} ${topic}`))
  const routes = ReplyRoutes.make(Bus.make({ publish: through("all"), subscription: () => Effect.die("unused") }))
  const hear = (replyTo: string, name?: string) =>
    routes.learn(replyTo, { topic: "A", frames: [], ...name === undefined ? {} : { reply: through(name) } })
  const answer = (replyTo: string) => Effect.runSync(routes.publish(replyTo, new Uint8Array()))
  return { answer, hear, sent }
}

describe("the way of a reply", () => {
  it("is the one by which its caller was heard last, and all where none is known", () => {
    const { answer, hear, sent } = make()
    hear("one", "left")
    hear("two", "left")
    hear("two", "right")
    hear("three")
    for (const replyTo of ["one", "two", "three", "four"]) answer(replyTo)
    assert.deepStrictEqual(sent, ["left one", "right two", "all three", "all four"])
  })

  it("is forgotten for the caller that was silent longest when there are more than 10,000", () => {
    const { answer, hear, sent } = make()
    hear("oldest", "left")
    hear("old", "left")
    for (let count = 0; count < 9998; count++) hear(`${count}`, "left")
    hear("oldest", "right")
    hear("new", "left")
    for (const replyTo of ["oldest", "old", "0"]) answer(replyTo)
    assert.deepStrictEqual(sent, ["right oldest", "all old", "left 0"])
  })
})
