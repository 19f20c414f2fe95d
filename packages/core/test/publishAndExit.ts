import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Effect from "effect/Effect"

const [, , xsub = "", xpub = ""] = process.argv

const program = Effect.gen(function*() {
  const bus = yield* ZmqBus.make({ xsub, xpub, linger: "20 seconds" })
  yield* Effect.forEach(
    Array.from({ length: 1000 }, (_, index) => index),
    (index) => bus.publish("TOPIC_A", Buffer.alloc(50_000, String(index))),
    { discard: true }
  )
})

await Effect.runPromise(Effect.scoped(program))
process.exit(0)
