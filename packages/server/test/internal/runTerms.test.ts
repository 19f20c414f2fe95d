import { assert, describe, it } from "@effect/vitest"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import type * as Sandbox from "../../src/Sandbox.ts"
import * as RunTerms from "../../src/internal/runTerms.ts"

const skill = (metadata: Readonly<Record<string, string>>) =>
  ({ name: "a", manifest: { name: "a", description: "d", metadata, extra: {} } }) as SkillDiscovery.Skill

const hints = (grants: Sandbox.Grants | "off", metadata: Readonly<Record<string, string>> = {}) =>
  RunTerms.make(grants, undefined, {}).of(skill(metadata)).hints

const closed = { readOnly: true, destructive: false, idempotent: true, openWorld: false }
const open = { readOnly: false, destructive: true, idempotent: false, openWorld: true }
const network = { "skillscale.network": "true" }

describe("what may be expected of a run", () => {
  it("that is confined and has no network, is that nothing is left of it", () => {
    assert.deepStrictEqual(hints({}), closed)
    assert.deepStrictEqual(hints({}, network), closed)
    assert.deepStrictEqual(hints({ network: ["b"] }, network), closed)
    assert.deepStrictEqual(hints({ network: "all" }), closed)
  })

  it("that has the network, or is not confined, is anything", () => {
    assert.deepStrictEqual(hints({ network: ["a"] }, network), open)
    assert.deepStrictEqual(hints("off"), open)
  })

  it("is what the skill says of running twice, and nothing else that it says", () => {
    for (const [grants, rest] of [[{}, closed], ["off", open]] as const) {
      assert.deepStrictEqual(hints(grants, { "skillscale.idempotent": "true" }), { ...rest, idempotent: true })
      assert.deepStrictEqual(hints(grants, { "skillscale.idempotent": "false" }), { ...rest, idempotent: false })
      assert.deepStrictEqual(hints(grants, { "skillscale.idempotent": "perhaps" }), rest)
    }
  })
})
