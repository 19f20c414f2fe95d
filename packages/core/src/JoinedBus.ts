/**
 * Several buses as one: what comes on any of them is heard, and what is published goes to all of them.
 *
 * It is for servers that several proxies lead to. Every message has `reply`, which publishes through the bus by which it came
 * and nowhere else. A publish succeeds with the first bus that accepts the message; to the others it is still on its way,
 * at most 1,000 messages or 64 MiB of them to each, and further ones are dropped for that bus alone. It fails when every bus
 * fails it.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Bus from "./Bus.ts"

const maxUnderWay = 1000
const maxBytesUnderWay = 64 * 1024 * 1024
/** Messages that were taken from a bus and not by the consumer. Further ones wait where they came from. */
const capacity = 16

const closed = (operation: Bus.BusError["operation"]) => new Bus.BusError({ operation, reason: new Bus.Closed() })

/**
 * Joins buses, which stay their owner's to close. One alone is returned as it is.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  first: Bus.Bus["Service"],
  ...others: ReadonlyArray<Bus.Bus["Service"]>
): Effect.fn.Return<Bus.Bus["Service"], never, Scope.Scope> {
  if (others.length === 0) return first
  const members = [first, ...others].map((bus) => ({ bus, underWay: 0, bytesUnderWay: 0 }))
  const scope = yield* Effect.scope
  const run = yield* FiberSet.makeRuntime<never, void>()
  let isOpen = true
  yield* Effect.addFinalizer(() => Effect.sync(() => isOpen = false))

  const publish: Bus.Publish = (topic, payload, options) =>
    Effect.suspend(() => {
      if (!isOpen) return Effect.fail(closed("publish"))
      const accepted = Deferred.makeUnsafe<void, Bus.BusError>()
      let refused = 0
      const refuse = (error: Bus.BusError): void => {
        refused += 1
        if (refused === members.length) Deferred.doneUnsafe(accepted, Effect.fail(error))
      }
      for (const member of members) {
        if (member.underWay >= maxUnderWay || member.bytesUnderWay >= maxBytesUnderWay) {
          refuse(new Bus.BusError({ operation: "publish", reason: new Bus.Backpressure({ timeoutMs: 0 }) }))
          continue
        }
        member.underWay += 1
        member.bytesUnderWay += payload.byteLength
        run(
          member.bus.publish(topic, payload, options).pipe(
            Effect.match({
              onSuccess: () => void Deferred.doneUnsafe(accepted, Effect.void),
              onFailure: refuse
            }),
            Effect.ensuring(Effect.sync(() => {
              member.underWay -= 1
              member.bytesUnderWay -= payload.byteLength
            }))
          )
        )
      }
      return Deferred.await(accepted)
    })

  const subscription: Bus.Bus["Service"]["subscription"] = Effect.fnUntraced(function*(topics) {
    if (!isOpen) return yield* closed("subscribe")
    const own = yield* Scope.fork(scope)
    yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
    const queue = yield* Queue.bounded<Bus.Message, Bus.BusError>(capacity)
    const end = (error: Bus.BusError) => Queue.fail(queue, error)
    yield* Scope.addFinalizer(own, end(closed("subscribe")))
    let open = members.length
    for (const { bus } of members) {
      const messages = yield* Scope.provide(bus.subscription(topics), own)
      yield* messages.pipe(
        Stream.runForEach((message) => Queue.offer(queue, { ...message, reply: bus.publish })),
        Effect.catch((error) => --open === 0 ? end(error) : Effect.void),
        Effect.forkIn(own, { startImmediately: true })
      )
    }
    return Stream.fromEffectRepeat(Queue.take(queue))
  })

  return Bus.make({
    publish,
    subscription,
    restored: Stream.mergeAll(members.map(({ bus }) => bus.restored), { concurrency: "unbounded" })
  })
})
