import { assert, describe, it } from "@effect/vitest"
import type * as Bus from "@skillscale/core/Bus"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as SkillClient from "@skillscale/client/SkillClient"
import { answerTo, busLayer, type Json, send, serve, skill, Wire } from "./support/fakes.ts"

const everyone = "@SERVERS"
const announcements = "@CATALOG"
const topic = "TOPIC_A"
const worker = (server: string) => `@worker/${topic}/${server}`

interface Server {
  revision: string | undefined
  skills: ReadonlyArray<Json>
  /** Whether it answers. */
  isUp: boolean
}

const fleet = (servers: Record<string, Server>, options: { readonly isCounted?: boolean } = {}) => {
  const reply = (name: string, { revision, skills }: Server) => ({
    server: name,
    content: JSON.stringify({ server: name, topic, ...revision === undefined ? {} : { revision }, skills })
  })
  return serve([everyone, ...Object.keys(servers).map(worker)], (request, on) =>
    Effect.gen(function*() {
      const up = Object.entries(servers).filter(([name, server]) =>
        server.isUp && (on === everyone || on === worker(name))
      )
      if (options.isCounted !== false) yield* answerTo(request, { event: "fanout", content: String(up.length) })
      yield* Effect.forEach(up, ([name, server]) => answerTo(request, reply(name, server)), { discard: true })
    }))
}

const announce = (server: string, revision?: string) =>
  send(announcements, { server, topic, ...revision === undefined ? {} : { revision } })

const named = (...names: ReadonlyArray<string>) => names.map((name) => skill(name, topic))

/** Follows the catalog and offers each one as the names of its skills. */
const followed = Effect.gen(function*() {
  const client = yield* SkillClient.SkillClient
  const seen = yield* Queue.unbounded<ReadonlyArray<string>>()
  yield* Stream.runForEach(
    client.changes,
    (skills) => Queue.offer(seen, skills.map(({ name, servers }) => `${name}@${servers.join("+")}`))
  ).pipe(
    Effect.forkScoped({ startImmediately: true })
  )
  return seen
})

const settle = Effect.repeat(Effect.yieldNow, { times: 50 })

/** Moves the clock in small steps, so that answers are heard between them. */
const pass = (ms: number, step = 20) =>
  Effect.gen(function*() {
    for (let at = 0; at < ms; at += step) {
      yield* settle
      yield* TestClock.adjust(Math.min(step, ms - at))
    }
    yield* settle
  })

const questions = (on: string) =>
  Effect.map(Wire, (wire) => wire.on(on).filter(({ body }) => body["kind"] === "catalog").length)

const withClient = <A, E>(effect: Effect.Effect<A, E, SkillClient.SkillClient | Bus.Bus | Wire | Scope.Scope>) =>
  effect.pipe(Effect.provide(Layer.provideMerge(SkillClient.layer(), busLayer)))

describe("SkillClient.changes", () => {
  it.effect("emits the catalog, and asks the one server that announces another revision", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      const two: Server = { revision: "q1", skills: named("b"), isUp: true }
      yield* fleet({ one, two })
      const seen = yield* followed
      yield* pass(40)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one", "b@two"]])

      yield* announce("one", "r1")
      yield* announce("two", "q1")
      yield* pass(100)
      assert.strictEqual(yield* questions(worker("one")), 0)

      Object.assign(one, { revision: "r2", skills: named("a", "c") })
      yield* announce("one", "r2")
      yield* pass(100)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one", "b@two", "c@one"]])
      assert.strictEqual(yield* questions(worker("one")), 1)
      assert.strictEqual(yield* questions(worker("two")), 0)
      assert.strictEqual(yield* questions(everyone), 1)
    })))

  it.effect("takes in a server that comes, lets one go that takes leave, and emits nothing for what is the same", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      const two: Server = { revision: "r1", skills: named("a"), isUp: false }
      yield* fleet({ one, two })
      const seen = yield* followed
      yield* pass(40)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one"]])
      two.isUp = true
      yield* announce("two", "r1")
      yield* pass(100)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one+two"]])
      yield* announce("two")
      yield* pass(100)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one"]])
      yield* announce("two")
      yield* announce("one", "r1")
      yield* pass(100)
      assert.strictEqual(yield* Queue.size(seen), 0)
    })))

  it.effect("asks again a server that does not answer, and never the others for it", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      const two: Server = { revision: "r1", skills: named("b"), isUp: false }
      yield* fleet({ one, two })
      const seen = yield* followed
      yield* pass(40)
      yield* announce("two", "r1")
      yield* pass(1000)
      assert.isAbove(yield* questions(worker("two")), 1)
      assert.isBelow(yield* questions(worker("two")), 6)
      two.isUp = true
      yield* pass(1000)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one"], ["a@one", "b@two"]])
      assert.strictEqual(yield* questions(everyone), 1)
    })))

  it.effect("drops a server that is silent for 15 s when nobody else knows of it either", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      const two: Server = { revision: "r1", skills: named("b"), isUp: true }
      yield* fleet({ one, two })
      const seen = yield* followed
      yield* pass(40)
      yield* announce("one", "r1")
      yield* announce("two", "r1")
      yield* pass(40)
      yield* Queue.takeAll(seen)
      two.isUp = false
      for (let second = 0; second < 14; second++) {
        yield* pass(1000, 500)
        if (second % 5 === 0) yield* announce("one", "r1")
      }
      assert.strictEqual(yield* Queue.size(seen), 0)
      yield* pass(2000, 100)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one"]])
    })))

  it.effect("keeps what it knows while nobody can be asked", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      yield* fleet({ one }, { isCounted: false })
      const seen = yield* followed
      yield* pass(3000, 100)
      yield* announce("one", "r1")
      yield* pass(100)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one"]])
      one.isUp = false
      yield* pass(120_000, 1000)
      assert.strictEqual(yield* Queue.size(seen), 0)
    })))

  it.effect("asks servers that announce nothing once a minute", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: undefined, skills: named("a"), isUp: true }
      yield* fleet({ one })
      const seen = yield* followed
      yield* pass(40)
      one.skills = named("a", "b")
      yield* pass(59_000, 500)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one"]])
      yield* pass(2000, 100)
      assert.deepStrictEqual(yield* Queue.takeAll(seen), [["a@one", "b@one"]])
    })))

  it.effect("takes no harm from announcements that are none, or too many", () =>
    withClient(Effect.gen(function*() {
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      yield* fleet({ one })
      const seen = yield* followed
      yield* pass(40)
      yield* announce("one", "r1")
      for (const body of ["{", "[]", { server: "a/b", topic, revision: "1" }, { server: "x".repeat(2000), topic }]) {
        yield* send(announcements, body)
      }
      for (let server = 0; server < 5000; server++) yield* announce(`s${server}`, "r1")
      yield* pass(100)
      const wire = yield* Wire
      const asked = new Set(wire.published.map((message) => message.topic).filter((on) => on.startsWith("@worker/")))
      assert.isAtMost(asked.size, 4096)
      one.revision = "r2"
      one.skills = named("b")
      yield* announce("one", "r2")
      yield* Queue.takeAll(seen)
      const next = yield* Effect.forkChild(Queue.take(seen))
      while (next.pollUnsafe() === undefined) yield* pass(100)
      assert.deepStrictEqual(yield* Fiber.join(next), ["b@one"])
      // Those that were only said to be there make room.
      yield* pass(16_000, 1000)
      yield* announce("one", "r2")
      yield* announce("late", "r1")
      while ((yield* questions(worker("late"))) === 0) yield* pass(100)
    })))

  it.effect("fails when the client is closed, and leaves nothing pending", () =>
    Effect.scoped(Effect.gen(function*() {
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(SkillClient.make(), scope)
      const one: Server = { revision: "r1", skills: named("a"), isUp: true }
      yield* fleet({ one })
      const ended = yield* Stream.runDrain(client.changes).pipe(
        Effect.exit,
        Effect.forkScoped({ startImmediately: true })
      )
      yield* pass(100)
      assert.strictEqual(yield* client.pending, 0)
      yield* Scope.close(scope, Exit.void)
      yield* pass(100)
      const exit = yield* Fiber.join(ended)
      assert.include(JSON.stringify(exit), "Closed")
    })).pipe(Effect.provide(busLayer)))
})
