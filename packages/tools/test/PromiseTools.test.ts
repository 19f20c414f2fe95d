import { ToolError } from "@skillscale/tools/ToolError"
import { assert, describe } from "@effect/vitest"
import { eventually, inWorld } from "../../../test/support/skillWorld.ts"

describe("PromiseTools", () => {
  inWorld("rejects with what onProgress throws, and with ToolErrors otherwise", async (world) => {
    await using skills = await world.connect()
    const thrown = new Error("nobody listens")
    const onProgress = () => {
      throw thrown
    }
    assert.strictEqual(await skills.call("talking", {}, { onProgress }).catch((error: unknown) => error), thrown)
    assert.instanceOf(await skills.call("failing", {}).catch((error: unknown) => error), ToolError)
  })

  inWorld("ends a call in its time though onProgress never does", async (world) => {
    await using skills = await world.connect({ timeout: 1000 })
    const onProgress = () => new Promise<void>(() => {})
    const error: unknown = await skills.call("endless", {}, { onProgress }).catch((thrown: unknown) => thrown)
    assert.strictEqual(error instanceof ToolError ? error.reason._tag : error, "Timeout")
    await eventually("its process is gone", () => world.endless() === 0)
  })

  inWorld("lets a model read 1,000 characters at least", async (world) => {
    for (const maxOutput of [NaN, -1, 10]) {
      await using skills = await world.connect({ maxOutput })
      assert.isAbove((await skills.call("long", {})).text.length, 800, String(maxOutput))
    }
  })
})
