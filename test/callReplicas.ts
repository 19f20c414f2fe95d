/** Calls to several replicas, which die, are cut off and are full. */
import { assert } from "@effect/vitest"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Wire from "./support/wire.ts"
import type { Harness } from "./callSuite.ts"
import {
  controlsOf,
  eventually,
  heard,
  idle,
  isRunning,
  patient,
  type Replica,
  requests,
  type Skill,
  start
} from "./support/calls.ts"

/** Calls until the call runs, and tells where. */
const running = Effect.fnUntraced(function*(
  at: Effect.Success<ReturnType<typeof start>>,
  name: string,
  skill: Skill
) {
  const calling = yield* Effect.forkScoped(Effect.exit(at.run(name, { skill, gate: "open" })))
  yield* at.begun(name)
  // Where every replica gets every request, the caller has one of them end it: not the one that it granted, or heard of first.
  const { request_id } = requests(at.wire).at(-1) ?? assert.fail()
  const granted = () => controlsOf(at.wire, "grant").find(({ message }) => message["request_id"] === request_id)
  const accepted = () =>
    at.wire.seen.find(({ message }) => message["event"] === "accepted" && message["request_id"] === request_id)
  const holder = () => granted()?.topic.split("/").at(-1) ?? accepted()?.message["server"]
  const isAlive = () =>
    at.wire.seen.some(({ message }) => message["event"] === "alive" && message["server"] === holder())
  yield* eventually("a sign of life", isAlive)
  return { calling, replica: at.by(String(holder())) }
})

export const replicas = ({ capabilities, test }: Harness): void => {
  test(
    "is run by one of several replicas",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 3, client: patient })
      const names = Array.from({ length: 30 }, (_, index) => `call-${index}`)
      const results = yield* Effect.forEach(names, (name) => at.run(name), { concurrency: 10 })
      for (const name of names) assert.lengthOf(at.runs(name), 1, name)
      assert.sameMembers([...new Set(results.map(({ server }) => server))], ["r0", "r1", "r2"])
    }),
    capabilities.replicas
  )

  test(
    "that must not run twice is run by one of several replicas",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 3 })
      const names = Array.from({ length: 15 }, (_, index) => `call-${index}`)
      const outputs = yield* Effect.forEach(names, (name) => at.call(name, { skill: "once" }), { concurrency: 5 })
      assert.deepStrictEqual(outputs, names.map((name) => `done ${name}\n`))
      for (const name of names) assert.lengthOf(at.runs(name), 1, name)
    })
  )

  test(
    "that may run twice goes on at another replica when its own dies",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2, client: patient })
      const { calling, replica } = yield* running(at, "moved", "pure")
      const [process] = at.runs("moved")
      const before = at.runs("moved").length
      yield* replica.kill
      yield* at.begun("moved", before + 1)
      yield* at.open("open")
      const { server, stdout } = yield* yield* Fiber.join(calling)
      assert.strictEqual(Buffer.from(stdout).toString(), "done moved\n")
      assert.notStrictEqual(server, replica.id)
      assert.isFalse(isRunning(process ?? 0))
    })
  )

  test(
    "that must not run twice fails with ReplicaLost when its replica dies, and is run by no other",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2, client: patient })
      const { calling, replica } = yield* running(at, "lost", "once")
      yield* replica.kill
      const error = yield* Effect.flip(yield* Fiber.join(calling))
      assert.deepInclude(error.reason, { _tag: "ReplicaLost", server: replica.id })
      // What the other replica had of it would have begun by then.
      yield* Effect.forEach(["a", "b", "c"], (name) => at.call(name, { skill: "once" }))
      assert.lengthOf(at.runs("lost"), 1)
    })
  )

  test(
    "that may run twice goes on elsewhere when its replica is cut off, and what that says later changes nothing",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2 })
      const { calling, replica } = yield* running(at, "moved", "pure")
      const before = at.runs("moved").length
      replica.wire.freeze()
      yield* at.begun("moved", before + 1)
      yield* at.open("open")
      const { server } = yield* yield* Fiber.join(calling)
      assert.notStrictEqual(server, replica.id)
      const { request_id } = requests(at.wire).at(-1) ?? assert.fail()
      const finals = () => heard(at.wire, request_id).filter((sign) => sign === "final").length
      assert.strictEqual(finals(), 1)
      // Else the caller may hear that it runs, and cancel it.
      yield* idle(replica)
      yield* replica.wire.thaw
      yield* eventually("its late answer", () => finals() > 1)
      assert.strictEqual(yield* at.call("next"), "done next\n")
      assert.strictEqual(yield* at.client.pending, 0)
    })
  )

  test(
    "that must not run twice is not started by a replica that was cut off while another got it",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2 })
      const frozen: Array<Replica> = []
      for (const replica of at.replicas) {
        replica.wire.rule = ({ message, way }) => {
          if (way === "out" && message["event"] === "offer" && frozen.length === 0) {
            frozen.push(replica)
            replica.wire.freeze()
          }
          return 1
        }
      }
      const calling = yield* Effect.forkScoped(at.run("fenced", { skill: "once", gate: "open" }))
      yield* at.begun("fenced")
      const [first] = frozen
      if (first === undefined) return assert.fail("nobody offered it")
      yield* first.wire.thaw
      yield* eventually("it is told that another has it", () => controlsOf(first.wire, "cancel").length > 0)
      yield* at.open("open")
      assert.notStrictEqual((yield* Fiber.join(calling)).server, first.id)
      yield* idle(first)
      assert.lengthOf(at.runs("fenced"), 1)
      assert.lengthOf(controlsOf(first.wire, "grant"), 0)
    })
  )

  test(
    "that must not run twice is not started by a grant that comes after the lease, but offered again",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const [replica] = at.replicas
      if (replica === undefined) return assert.fail()
      const { wire } = replica
      const isGrant = ({ message }: Wire.Passing) => message["kind"] === "grant"
      wire.rule = (passing) => {
        if (isGrant(passing) && controlsOf(wire, "grant").length === 1) wire.freeze()
        return 1
      }
      const calling = yield* Effect.forkScoped(at.call("late", { skill: "once" }))
      yield* eventually("a grant", () => controlsOf(wire, "grant").length === 1)
      yield* idle(replica)
      assert.lengthOf(at.runs("late"), 0)
      yield* wire.thaw
      assert.strictEqual(yield* Fiber.join(calling), "done late\n")
      assert.lengthOf(at.runs("late"), 1)
      assert.isAbove(controlsOf(wire, "grant").length, 1)
    })
  )

  test(
    "that must not run twice is not started once its caller was told that it is lost",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net)
      const [replica] = at.replicas
      if (replica === undefined) return assert.fail()
      const { wire } = replica
      wire.rule = ({ message }) => {
        if (message["kind"] === "grant") wire.freeze()
        return 1
      }
      const reason = yield* at.failure("fenced", { skill: "once" })
      assert.strictEqual(reason._tag, "ReplicaLost")
      yield* wire.thaw
      wire.rule = () => 1
      assert.strictEqual(yield* at.call("next", { skill: "once" }), "done next\n")
      yield* idle(replica)
      assert.lengthOf(at.runs("fenced"), 0)
    })
  )

  test(
    "that a full replica refuses is run by another",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2, server: { workers: 2, queue: 0 }, client: patient })
      // So that the proxy does not know which is full.
      for (const { wire } of at.replicas) wire.rule = ({ topic }) => topic.startsWith(Topic.loadPrefix) ? 0 : 1
      const held = yield* Effect.forkScoped(
        Effect.forEach(["a", "b", "c"], (name) => at.call(name, { gate: "open" }), { concurrency: "unbounded" })
      )
      yield* Effect.forEach(["a", "b", "c"], (name) => at.begun(name), { discard: true })
      const names = Array.from({ length: 10 }, (_, index) => `call-${index}`)
      const outputs = yield* Effect.forEach(names, (name) => at.call(name))
      assert.deepStrictEqual(outputs, names.map((name) => `done ${name}\n`))
      const refusals = at.wire.seen.filter(({ message, way }) => way === "in" && message["code"] === "Overloaded")
      assert.isNotEmpty(refusals)
      for (const name of names) assert.lengthOf(at.runs(name), 1)
      yield* at.open("open")
      assert.lengthOf(yield* Fiber.join(held), 3)
    }),
    capabilities.replicas
  )

  test(
    "goes on when its proxy ends, and so do the next ones",
    Effect.fnUntraced(function*(net) {
      const at = yield* start(net, { replicas: 2 })
      const calling = yield* Effect.forEach(
        ["pure", "once"] as const,
        (skill) => Effect.forkScoped(at.call(skill, { skill, gate: "open" }))
      )
      yield* Effect.forEach(["pure", "once"], (name) => at.begun(name), { discard: true })
      yield* Effect.orDie(net.disturb ?? Effect.void)
      yield* at.open("open")
      for (const [index, name] of ["pure", "once"].entries()) {
        assert.strictEqual(yield* Fiber.join(calling[index] ?? assert.fail()), `done ${name}\n`)
      }
      assert.lengthOf(at.runs("once"), 1)
      const names = Array.from({ length: 10 }, (_, index) => `next-${index}`)
      yield* Effect.forEach(names, (name) => at.call(name, { skill: "once" }), { concurrency: "unbounded" })
      for (const name of names) assert.lengthOf(at.runs(name), 1)
    }),
    capabilities.survivesProxy
  )
}
