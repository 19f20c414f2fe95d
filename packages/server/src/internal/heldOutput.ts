/**
 * Output on its way to a caller, held back for a moment: what is written together is sent together, and what a run printed right
 * before its end comes with its final response alone. A message costs as much as half of a warm run.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as SkillRunner from "../SkillRunner.ts"

/** For how many milliseconds, from the first that is held. */
export const holdMs = 3
/** How much is held at most, unless less is asked for, in the bytes of `Protocol.chargeOf`; more waits until that is sent. */
export const maxHeldBytes = 32 * 1024

export type Item = SkillRunner.Output | { readonly _tag: "Progress"; readonly content: string }

export interface HeldOutput {
  /** Takes in what is to be sent, in order. Waits while there is too much. */
  readonly add: (item: Item) => Effect.Effect<void>
  /** Sends what is held; of a run that has a result, whose final response has its standard output, without that. */
  readonly finish: (hasResult: boolean) => Effect.Effect<void>
}

const sizeOf = (item: Item): number => item._tag === "Progress" ? Buffer.byteLength(item.content) : item.data.byteLength

/** What holding it costs: pieces of a byte are many. */
const chargeOf = (item: Item): number => Protocol.chargeOf(sizeOf(item))

const sum = (items: ReadonlyArray<Item>): number => items.reduce((charge, item) => charge + chargeOf(item), 0)

/** Pieces of one stream that came one after the other are one, unless that were larger than what is held. */
const joined = (items: ReadonlyArray<Item>, maxBytes: number): ReadonlyArray<Item> => {
  const all: Array<Item> = []
  let pieces: Array<Uint8Array> = []
  let bytes = 0
  for (const [index, item] of items.entries()) {
    if (item._tag === "Progress") {
      all.push(item)
      continue
    }
    pieces.push(item.data)
    bytes += item.data.byteLength
    const next = items[index + 1]
    if (next?._tag === item._tag && bytes + sizeOf(next) <= maxBytes) continue
    all.push({ _tag: item._tag, data: pieces.length === 1 ? item.data : Buffer.concat(pieces) })
    pieces = []
    bytes = 0
  }
  return all
}

export const make = Effect.fnUntraced(function*(
  send: (item: Item) => Effect.Effect<void>,
  maxBytes = maxHeldBytes
): Effect.fn.Return<HeldOutput, never, Scope.Scope> {
  const timer = yield* FiberHandle.make<void>()
  const lock = yield* Semaphore.make(1)
  let held: Array<Item> = []
  let charge = 0

  const flush = (isSent: (item: Item) => boolean = () => true) =>
    lock.withPermit(Effect.suspend(() => {
      const items = joined(held.filter(isSent), maxBytes)
      charge -= sum(held) - sum(items)
      held = []
      // What waits to be sent is held as well.
      return Effect.forEach(items, (item) => Effect.andThen(send(item), Effect.sync(() => charge -= chargeOf(item))), {
        discard: true
      })
    }))

  const later = Effect.andThen(Effect.sleep(holdMs), flush())

  return {
    add: (item) =>
      Effect.suspend(() => {
        held.push(item)
        charge += chargeOf(item)
        return charge > maxBytes
          ? flush()
          : Effect.asVoid(FiberHandle.run(timer, later, { onlyIfMissing: true }))
      }),
    finish: (hasResult) => flush((item) => !hasResult || item._tag !== "Stdout")
  }
})
