/** A short storm over real processes; `npm run chaos` is the long one. */
import { assert, describe, it } from "@effect/vitest"
import { chaos } from "../chaos/chaos.ts"
import { randomFrom } from "../chaos/random.ts"

describe("while replicas and proxies are killed and stopped", () => {
  for (const [proxies, seed] of [[1, 7], [2, 8]] as const) {
    it(`no call is lost, and none runs twice that must not, with ${proxies} of the latter`, async () => {
      const report = await chaos({
        seconds: 12,
        proxies,
        replicas: 3,
        clients: 2,
        inFlight: 2,
        random: randomFrom(seed)
      })
      assert.deepStrictEqual([report.lost, report.duplicated], [0, 0], JSON.stringify(report))
      assert.isAbove(report.pure.outcomes["done"] ?? 0, 0)
      assert.isAbove(report.once.outcomes["done"] ?? 0, 0)
      assert.isAbove(Object.values(report.faults).reduce((sum, count) => sum + count, 0), 3)
    }, 120_000)
  }
})
