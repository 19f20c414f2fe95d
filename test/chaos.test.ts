/** A short storm over real processes; `npm run chaos` is the long one. */
import { assert, describe, it } from "@effect/vitest"
import { chaos } from "../chaos/chaos.ts"
import { randomFrom } from "../chaos/random.ts"

describe("while replicas and the proxy are killed and stopped", () => {
  it("no call is lost, and none runs twice that must not", async () => {
    const report = await chaos({ seconds: 12, replicas: 3, clients: 2, inFlight: 2, random: randomFrom(7) })
    assert.deepStrictEqual([report.lost, report.duplicated], [0, 0], JSON.stringify(report))
    assert.isAbove(report.pure.outcomes["done"] ?? 0, 0)
    assert.isAbove(report.once.outcomes["done"] ?? 0, 0)
    assert.isAbove(Object.values(report.faults).reduce((sum, count) => sum + count, 0), 3)
  }, 120_000)
})
