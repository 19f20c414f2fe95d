import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as HeldOutput from "../../src/internal/heldOutput.ts"

const out = (text: string): HeldOutput.Item => ({ _tag: "Stdout", data: Buffer.from(text) })
const err = (text: string): HeldOutput.Item => ({ _tag: "Stderr", data: Buffer.from(text) })
const progress = (content: string): HeldOutput.Item => ({ _tag: "Progress", content })

const told = (item: HeldOutput.Item) =>
  item._tag === "Progress" ? item.content : `${item._tag} ${Buffer.from(item.data)}`

const begun = Effect.gen(function*() {
  const sent: Array<string> = []
  const gate = { open: Effect.void as Effect.Effect<void> }
  const held = yield* HeldOutput.make((item) =>
    Effect.andThen(Effect.suspend(() => gate.open), Effect.sync(() => void sent.push(told(item))))
  )
  return { sent, held, gate }
})

describe("held output", () => {
  it.effect("is sent together a moment after its first, pieces of one stream as one, in order", () =>
    Effect.gen(function*() {
      const { held, sent } = yield* begun
      for (const item of [out("a"), out("b"), err("c"), progress("d"), err("e"), err("f"), out("g")]) {
        yield* held.add(item)
      }
      yield* TestClock.adjust(HeldOutput.holdMs - 1)
      assert.deepStrictEqual(sent, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sent, ["Stdout ab", "Stderr c", "d", "Stderr ef", "Stdout g"])
      yield* held.add(out("h"))
      yield* TestClock.adjust(HeldOutput.holdMs)
      assert.strictEqual(sent.at(-1), "Stdout h")
    }).pipe(Effect.scoped))

  it.effect("is sent in pieces no larger than what is held, unless they were", () =>
    Effect.gen(function*() {
      const { held, sent } = yield* begun
      const half = HeldOutput.maxHeldBytes / 2
      for (const length of [half, half, half, 4 * half]) yield* held.add(out("x".repeat(length)))
      yield* held.finish(false)
      assert.deepStrictEqual(sent.map((text) => (text.length - 7) / half), [2, 1, 4])
    }).pipe(Effect.scoped))

  it.effect("of a run that has a result is what its final response does not have", () =>
    Effect.gen(function*() {
      const { held, sent } = yield* begun
      for (const item of [out("a"), progress("b"), err("c"), out("d")]) yield* held.add(item)
      yield* held.finish(true)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(sent, ["b", "Stderr c"])
    }).pipe(Effect.scoped))

  it.effect("of a run that has none is all of it", () =>
    Effect.gen(function*() {
      const { held, sent } = yield* begun
      for (const item of [out("a"), progress("b")]) yield* held.add(item)
      yield* held.finish(false)
      assert.deepStrictEqual(sent, ["Stdout a", "b"])
    }).pipe(Effect.scoped))

  it.effect("is bounded: more waits until it is sent", () =>
    Effect.gen(function*() {
      const { gate, held, sent } = yield* begun
      const opened = yield* Deferred.make<void>()
      gate.open = Deferred.await(opened)
      yield* held.add(out("x".repeat(HeldOutput.maxHeldBytes - 256)))
      const full = yield* Effect.forkChild(held.add(out("y")), { startImmediately: true })
      const more = yield* Effect.forkChild(held.add(out("z".repeat(HeldOutput.maxHeldBytes + 1))), {
        startImmediately: true
      })
      yield* TestClock.adjust(100)
      assert.isUndefined(full.pollUnsafe())
      assert.isUndefined(more.pollUnsafe())
      yield* Deferred.succeed(opened, undefined)
      yield* TestClock.adjust(100)
      assert.isDefined(more.pollUnsafe())
      assert.deepStrictEqual(sent.map((text) => text.length), [
        HeldOutput.maxHeldBytes - 256 + 8,
        HeldOutput.maxHeldBytes + 8
      ])
    }).pipe(Effect.scoped))

  it.effect("that is being sent when the run ends comes before what is left", () =>
    Effect.gen(function*() {
      const { gate, held, sent } = yield* begun
      const opened = yield* Deferred.make<void>()
      gate.open = Deferred.await(opened)
      yield* held.add(out("a"))
      yield* TestClock.adjust(HeldOutput.holdMs)
      yield* held.add(err("b"))
      const finishing = yield* Effect.forkChild(held.finish(true), { startImmediately: true })
      yield* TestClock.adjust(100)
      assert.isUndefined(finishing.pollUnsafe())
      yield* Deferred.succeed(opened, undefined)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(sent, ["Stdout a", "Stderr b"])
    }).pipe(Effect.scoped))
})
