/** Clients that follow the catalog of real servers through a real proxy. */
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, describe, it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Stack from "./support/stack.ts"

const topic = "TOPIC_TESTING"
const quiet = Effect.provideService(References.MinimumLogLevel, "None")
const startProxy = (at = { xsubPort: 0, xpubPort: 0 }) =>
  Proxy.make({ host: "127.0.0.4", metricsPort: false, xsubPort: at.xsubPort, xpubPort: at.xpubPort })
const busOf = (proxy: Proxy.Proxy["Service"]) => Layer.effect(Bus.Bus, ZmqBus.make(proxy))

const addSkill = (directory: string, name: string, says = name) => {
  const root = Path.join(directory, "testing", name)
  Fs.mkdirSync(root, { recursive: true })
  Fs.writeFileSync(Path.join(root, "SKILL.md"), `---\nname: ${name}\ndescription: Says ${says}.\n---\n`)
}

/** Each catalog that a client emits: its skills, and what they say. */
const follow = Effect.fnUntraced(function*(proxy: Proxy.Proxy["Service"]) {
  const client = yield* SkillClient.make().pipe(Effect.provideService(Bus.Bus, yield* ZmqBus.make(proxy)))
  const seen = yield* Queue.unbounded<ReadonlyArray<string>>()
  yield* Stream.runForEach(
    client.changes,
    (skills) => Queue.offer(seen, skills.map(({ description, name }) => `${name}: ${description}`))
  ).pipe(Effect.forkScoped)
  return { seen, client }
})

/** Waits for the catalog, whatever comes before it. */
const until = (seen: Queue.Dequeue<ReadonlyArray<string>>, expected: ReadonlyArray<string>) =>
  Effect.repeat(Queue.take(seen), {
    until: (skills) => JSON.stringify(skills) === JSON.stringify(expected)
  }).pipe(Effect.timeout("20 seconds"))

const serve = (proxy: Proxy.Proxy["Service"], directory: string, options: { readonly topic?: string } = {}) =>
  Layer.build(Stack.serverFrom(busOf(proxy), { directory }, { topic, ...options }))

describe("a client that follows the catalog", () => {
  it.live("hears of skills that are added, changed and removed while their server runs", () =>
    Effect.gen(function*() {
      const directory = yield* Stack.writeSkills([])
      addSkill(directory, "one")
      const proxy = yield* startProxy()
      yield* serve(proxy, directory)
      const { seen } = yield* follow(proxy)
      yield* until(seen, ["one: Says one."])
      addSkill(directory, "two")
      yield* until(seen, ["one: Says one.", "two: Says two."])
      addSkill(directory, "one", "something else")
      yield* until(seen, ["one: Says something else.", "two: Says two."])
      Fs.rmSync(Path.join(directory, "testing", "two"), { recursive: true })
      yield* until(seen, ["one: Says something else."])
    }).pipe(Effect.scoped, quiet, Effect.provide(NodeServices.layer)))

  it.live("hears of servers that come and go, and of nobody first", () =>
    Effect.gen(function*() {
      const directory = yield* Stack.writeSkills([])
      addSkill(directory, "one")
      const proxy = yield* startProxy()
      const { seen } = yield* follow(proxy)
      assert.deepStrictEqual(yield* Queue.take(seen), [])
      const scope = yield* Scope.make()
      yield* Scope.provide(serve(proxy, directory), scope)
      yield* until(seen, ["one: Says one."])
      const began = performance.now()
      yield* Scope.close(scope, Exit.void)
      yield* until(seen, [])
      assert.isBelow(performance.now() - began, 5000, "it took leave")
    }).pipe(Effect.scoped, quiet, Effect.provide(NodeServices.layer)))

  it.live("keeps the catalog while the proxy is away, and goes on with the next one", () =>
    Effect.gen(function*() {
      const directory = yield* Stack.writeSkills([])
      addSkill(directory, "one")
      const ending = yield* Scope.make()
      const first = yield* Scope.provide(startProxy(), ending)
      yield* serve(first, directory)
      const { client, seen } = yield* follow(first)
      yield* until(seen, ["one: Says one."])
      yield* Scope.close(ending, Exit.void)
      addSkill(directory, "two")
      yield* Effect.retry(startProxy(first), Schedule.spaced("10 millis")).pipe(Effect.timeout("10 seconds"))
      yield* until(seen, ["one: Says one.", "two: Says two."])
      assert.strictEqual(yield* Queue.size(seen), 0)
      assert.strictEqual(yield* client.pending, 0)
    }).pipe(Effect.scoped, quiet, Effect.provide(NodeServices.layer)))

  it.live("is a loop for programs without Effect, which ends when it is left, or aborted", () =>
    Effect.gen(function*() {
      const directory = yield* Stack.writeSkills([])
      addSkill(directory, "one")
      const proxy = yield* startProxy()
      yield* serve(proxy, directory)
      const seen = yield* Effect.promise(async () => {
        await using client = await PromiseClient.connect(proxy)
        const seen: Array<ReadonlyArray<string>> = []
        for await (const skills of client.changes()) {
          seen.push(skills.map(({ name }) => name))
          if (skills.some(({ name }) => name === "two")) break
          addSkill(directory, "two")
        }
        const aborting = new AbortController()
        const aborted = (async () => {
          for await (const skills of client.changes({ signal: aborting.signal })) {
            aborting.abort(new Error(`enough of ${skills.length}`))
          }
        })()
        seen.push([await aborted.then(() => "ended", (error) => String(error))])
        return seen
      })
      assert.deepStrictEqual(seen, [["one"], ["one", "two"], ["Error: enough of 2"]])
    }).pipe(Effect.scoped, quiet, Effect.provide(NodeServices.layer)))
})
