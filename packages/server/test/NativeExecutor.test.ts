import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as NodeExecutor from "@skillscale/server/NodeExecutor"
import { suite } from "./executorSuite.ts"

suite("NativeExecutor", NativeExecutor.layer(), NativeExecutor.capabilities)

const withoutAddon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const before = process.env["SKILLSCALE_NATIVE_DIR"]
      process.env["SKILLSCALE_NATIVE_DIR"] = "/does/not/exist"
      return before
    }),
    () => effect,
    (before) =>
      Effect.sync(() => {
        if (before === undefined) delete process.env["SKILLSCALE_NATIVE_DIR"]
        else process.env["SKILLSCALE_NATIVE_DIR"] = before
      })
  )

describe("NativeExecutor layers", () => {
  const truth: Executor.Spec = { file: "/bin/true", cwd: "/" }

  it.live("closing the scope ends what runs and refuses what comes later", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const executor = Context.get(
        yield* Layer.buildWithScope(NativeExecutor.layer({ concurrency: 1 }), scope),
        Executor.Executor
      )
      const sleep: Executor.Spec = { file: "/bin/sleep", args: ["1000"], cwd: "/" }
      const fibers = yield* Effect.forEach([1, 2], () =>
        Effect.flip(executor.run(sleep)).pipe(Effect.forkChild({ startImmediately: true })))
      yield* Scope.close(scope, Exit.void)
      for (const fiber of fibers) {
        assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "Rejected")
      }
      assert.strictEqual((yield* Effect.flip(executor.run(truth))).reason._tag, "Rejected")
    }))

  it.live("refuses sizes that cannot work, instead of waiting for ever", () =>
    Effect.gen(function*() {
      for (
        const options of [{ concurrency: 0 }, { warm: 0 }, { concurrency: Number.NaN }, { idle: -1 }, {
          windowBytes: 0
        }]
      ) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(NativeExecutor.layer(options))))
        assert.include(error.message, "must be a whole number")
      }
    }), 10_000)

  it.live("fails when the addon is required and missing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(withoutAddon(Effect.scoped(Layer.build(NativeExecutor.layer()))))
      assert.strictEqual(error._tag, "ExecutorUnavailable")
      assert.include(error.message, "/does/not/exist/skillscale.node")
    }))

  it.live("layerOrNode prefers the addon and falls back with a warning that names the reason", () =>
    Effect.gen(function*() {
      const warnings: Array<string> = []
      const logger = Logger.make((options) => {
        if (options.logLevel === "Warn") warnings.push(JSON.stringify(Logger.formatStructured.log(options)))
      })
      const name = Effect.gen(function*() {
        const executor = yield* Executor.Executor
        assert.strictEqual((yield* executor.run(truth)).exitCode, 0)
        return executor.capabilities.name
      }).pipe(
        Effect.provide(
          NativeExecutor.layerOrNode().pipe(Layer.provide(NodeServices.layer), Layer.provide(Logger.layer([logger])))
        )
      )
      assert.strictEqual(yield* name, NativeExecutor.capabilities.name)
      assert.deepStrictEqual(warnings, [])
      assert.strictEqual(yield* withoutAddon(name), NodeExecutor.capabilities.name)
      assert.strictEqual(warnings.length, 1)
      assert.include(warnings[0], "/does/not/exist/skillscale.node")
    }))
})
