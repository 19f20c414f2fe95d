import { assert, describe, it } from "@effect/vitest"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import type * as Schema from "effect/Schema"
import type * as SkillRunner from "../../src/SkillRunner.ts"
import * as SchemaChecks from "../../src/internal/schemaChecks.ts"

const skill = (schemas: { readonly input?: Schema.JsonObject; readonly output?: Schema.JsonObject }) =>
  ({
    name: "a",
    input: Option.fromUndefinedOr(schemas.input),
    output: Option.fromUndefinedOr(schemas.output),
    refusal: Option.none()
  }) as SkillDiscovery.Skill

const numbers = skill({ input: { type: "array", items: { type: "number" } }, output: { type: "array" } })
/** Its checks take 100 ms. */
const bomb = skill({ input: { pattern: "^(a+)+$" } })
const fuse = Buffer.from(`"${"a".repeat(50)}!"`)

const mine: SchemaChecks.Terms = { caller: "me", budgetMs: 60_000, leftMs: 60_000, onWait: Effect.void }

/** The code of a refusal, or nothing. */
const codeOf = <A, E extends { readonly code: string }>(effect: Effect.Effect<A, E>) =>
  Effect.match(effect, { onSuccess: () => undefined, onFailure: ({ code }) => code })

describe("schema checks", () => {
  it.live("read what is large in a thread, and what is too large nowhere", () =>
    Effect.gen(function*() {
      const checks = yield* SchemaChecks.make({ maxWaiting: 4 })
      let waited = 0
      const terms = { ...mine, onWait: Effect.sync(() => void (waited += 1)) }
      const sized = (bytes: number) => Buffer.from(`[1${" ".repeat(bytes - 3)}]`)
      for (const [bytes, expected] of [[64 * 1024, 0], [64 * 1024 + 1, 1], [4 * 1024 * 1024, 2]] as const) {
        yield* checks.input(numbers, sized(bytes), terms)
        assert.strictEqual(waited, expected)
      }
      const refusal = yield* Effect.flip(checks.input(numbers, sized(4 * 1024 * 1024 + 1), terms))
      assert.match(refusal.issues?.[0]?.message ?? "", /^has 4194305 bytes, more than/)
      assert.strictEqual(waited, 2)
      const wrong = yield* Effect.flip(checks.input(numbers, Buffer.from(`[${"1,".repeat(40_000)}"x"]`), terms))
      assert.deepStrictEqual(wrong.issues, [{ path: "/40000", message: "expected number, got string \"x\"" }])
      const result = (stdout: Uint8Array, stdoutTruncated = false) =>
        ({ stdout, stdoutTruncated }) as Partial<SkillRunner.RunResult> as SkillRunner.RunResult
      assert.deepStrictEqual(yield* checks.output(numbers, result(sized(100_000))), [])
      assert.deepStrictEqual(yield* checks.output(numbers, result(sized(100), true)), [
        { path: "", message: "was cut at 100 bytes" }
      ])
    }))

  it.live("stay well when data nests deeper than the stack of the thread", () =>
    Effect.gen(function*() {
      const checks = yield* SchemaChecks.make({ maxWaiting: 4 })
      const deep = Buffer.from(`${"[".repeat(100_000)}${"]".repeat(100_000)}`)
      const recursive = skill({ input: { items: { $ref: "#" } } })
      const refusal = yield* Effect.flip(checks.input(recursive, deep, mine))
      assert.match(refusal.issues?.[0]?.message ?? "", /nested too deeply|takes longer/)
      yield* checks.input(numbers, Buffer.from(`[${"1,".repeat(40_000)}1]`), mine)
    }))

  it.live("go on after the end, or the silence, of the thread", () =>
    Effect.gen(function*() {
      // Breaks, is silent or answers by how much data there is.
      const program = `import { parentPort } from "node:worker_threads"
        parentPort.on("message", ({ data, id }) => {
          if (data.length > 300000) throw new Error("broken")
          if (data.length > 200000) process.exit(0)
          if (data.length < 100000) parentPort.postMessage({ id, verdict: { _tag: "Fits" } })
        })`
      const checks = yield* SchemaChecks.make({
        maxWaiting: 4,
        silenceMs: 3000,
        module: new URL(`data:text/javascript,${encodeURIComponent(program)}`)
      })
      const call = (bytes: number) => codeOf(checks.input(numbers, Buffer.alloc(bytes, " "), mine))
      for (const bytes of [90_000, 400_000, 90_000, 90_000, 250_000, 90_000, 150_000, 90_000]) {
        const started = performance.now()
        assert.strictEqual(yield* call(bytes), bytes === 90_000 ? undefined : "InvalidInput")
        assert.strictEqual(performance.now() - started >= 2999, bytes === 150_000, String(bytes))
      }
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None")))

  it.live("let callers take turns in the thread", () =>
    Effect.gen(function*() {
      const checks = yield* SchemaChecks.make({ maxWaiting: 20 })
      const order: Array<string> = []
      const call = (caller: string) =>
        Effect.ensuring(codeOf(checks.input(bomb, fuse, { ...mine, caller })), Effect.sync(() => order.push(caller)))
      const flood = yield* Effect.forEach(Array.from({ length: 8 }), () => Effect.forkChild(call("flood")))
      yield* Effect.yieldNow
      const codes = yield* Effect.forEach(
        [...flood, yield* Effect.forkChild(call("one")), yield* Effect.forkChild(call("two"))],
        Fiber.join
      )
      assert.deepStrictEqual(new Set(codes), new Set(["InvalidInput"]))
      assert.isAtMost(order.indexOf("one"), 3)
      assert.isAtMost(order.indexOf("two"), 4)
    }))

  it.live("refuse what cannot wait, and forget who does not", () =>
    Effect.gen(function*() {
      const checks = yield* SchemaChecks.make({ maxWaiting: 1 })
      const call = (terms: Partial<SchemaChecks.Terms> = {}) => codeOf(checks.input(bomb, fuse, { ...mine, ...terms }))
      const first = yield* Effect.forkChild(call(), { startImmediately: true })
      const second = yield* Effect.forkChild(call({ budgetMs: 500, leftMs: 20 }), { startImmediately: true })
      assert.strictEqual(yield* call(), "Overloaded")
      assert.strictEqual(yield* Fiber.join(second), "TimedOut")
      const third = yield* Effect.forkChild(call(), { startImmediately: true })
      yield* Fiber.interrupt(third)
      const fourth = yield* Effect.forkChild(call(), { startImmediately: true })
      assert.strictEqual(yield* Fiber.join(first), "InvalidInput")
      assert.strictEqual(yield* Fiber.join(fourth), "InvalidInput")
    }))
})
