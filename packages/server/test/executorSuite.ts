/**
 * The behaviour of an `Executor`, as one suite that every implementation passes. What its capabilities do not promise is
 * not tested.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Executor from "@skillscale/server/Executor"
import { argumentsSuite, endingsSuite, failingToStartSuite } from "./executorEndings.ts"
import { hostileSuite } from "./executorHostile.ts"
import { interruptionSuite } from "./executorInterruption.ts"
import { limitsSuite } from "./executorLimits.ts"
import { streamSuite } from "./executorStreaming.ts"
import { outputSuite, standardInputSuite } from "./executorStreams.ts"
import { endingTreeSuite } from "./executorTree.ts"
import { makeHarness, run, sh, text } from "./executorKit.ts"

export { carrying, marker, skipUnless } from "./executorKit.ts"

export const suite = (
  name: string,
  layer: Layer.Layer<Executor.Executor, unknown>,
  capabilities: Executor.Capabilities
): void => {
  const harness = makeHarness(layer, capabilities)
  const { test } = harness

  describe(name, () => {
    test("states its capabilities", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual((yield* Executor.Executor).capabilities, capabilities)
      }))

    endingsSuite(harness)
    argumentsSuite(harness)
    failingToStartSuite(harness)
    standardInputSuite(harness)
    outputSuite(harness)
    endingTreeSuite(harness)
    interruptionSuite(harness)

    test("runs 64 programs at the same time", () =>
      Effect.gen(function*() {
        const results = yield* Effect.forEach(
          Array.from({ length: 64 }, (_, index) => index),
          (index) =>
            run(
              sh(`read line; echo ${index} $line; exit ${index}`, { stdin: new TextEncoder().encode(`in${index}\n`) })
            ),
          { concurrency: "unbounded" }
        )
        results.forEach((execution, index) => {
          assert.strictEqual(execution.exitCode, index)
          assert.strictEqual(text(execution.stdout), `${index} in${index}\n`)
        })
      }))

    if (capabilities.limits) limitsSuite(harness)
    streamSuite(harness)
    hostileSuite(harness)
  })
}
