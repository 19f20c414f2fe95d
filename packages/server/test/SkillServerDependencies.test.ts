import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Fixture from "./fixtures/dependencies.ts"
import * as Serving from "./fixtures/serving.ts"
import * as Support from "./fixtures/support.ts"

const skills = {
  needs: {
    "run.py": "",
    "scripts/run.py": "import os\nprint(os.environ.get('FAKE_ENV', 'none'))",
    "requirements.txt": "six"
  },
  plain: { "scripts/run.sh": "echo plain" }
}

const serve = Effect.fnUntraced(function*(options: Partial<Serving.Options> = {}) {
  const fake = yield* Fixture.faked()
  yield* fake.hold
  const at = yield* Serving.serve({ skills, dependencies: fake.layer, workers: 1, ...options })
  const stateOf = (name: string) =>
    Effect.map(at.ask({ kind: "catalog" }), (response) => {
      const reply: { skills: ReadonlyArray<{ name: string; state?: { status: string; detail?: string } }> } = JSON
        .parse(
          response.content
        )
      return reply.skills.find((skill) => skill.name === name)?.state
    })
  const gauge = (state: string) =>
    Effect.map(
      at.metrics,
      (lines) =>
        lines.find((line) => line.startsWith("skillscale_skill_dependencies") && line.includes(`state="${state}"`))
    )
  const until = (status: string) =>
    Effect.flatMap(stateOf("needs"), (state) => state?.status === status ? Effect.succeed(state) : Effect.fail(state))
      .pipe(
        Effect.retry(Schedule.spaced("10 millis")),
        Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error(`never: ${status}`)) }),
        Effect.orDie
      )
  return { ...fake, at, stateOf, gauge, until }
})

describe("SkillServer with Dependencies", () => {
  it.live("holds calls of a skill that is being prepared, and answers others with its only worker", () =>
    Effect.gen(function*() {
      const { at, gauge, pass, stateOf, until } = yield* serve()
      assert.strictEqual((yield* until("preparing")).status, "preparing")
      const held = yield* at.send({ skill: "needs" })
      const meant = yield* at.send({ intent: JSON.stringify({ skill: "needs", data: "" }) })
      assert.strictEqual((yield* at.call({ skill: "plain" })).content, "plain\n")
      assert.match((yield* gauge("preparing")) ?? "", / 1$/)
      const late = yield* at.call({ skill: "needs", timeout_ms: 50 })
      assert.deepInclude(late, { code: "TimedOut", retryable: true })
      assert.match(late.error, /skill needs is still being prepared .*not started within 50 ms/)
      assert.deepStrictEqual(at.finals(held), [])
      const leased = yield* at.send({ skill: "needs", accept: ["accepted"], timeout_ms: 5000 })
      yield* Support.eventually(
        "it is acknowledged",
        () => at.replies.some(({ event, requestId }) => requestId === leased && event === "accepted")
      )
      yield* at.control({ kind: "cancel", request_id: leased })
      yield* pass
      for (const id of [held, meant]) {
        const { content, status } = yield* at.final(id)
        assert.deepStrictEqual([status, /\/environments\/python-\w+$/.test(content.trim())], ["success", true], content)
      }
      assert.deepStrictEqual(yield* stateOf("needs"), { status: "ready" })
      assert.match((yield* gauge("ready")) ?? "", / 2$/)
    }))

  it.live("refuses calls beyond those that may wait", () =>
    Effect.gen(function*() {
      const { at, pass, until } = yield* serve({ queue: 1 })
      yield* until("preparing")
      const held = yield* at.send({ skill: "needs" })
      assert.deepInclude(yield* at.call({ skill: "needs" }), { code: "Overloaded", retryable: true })
      yield* pass
      assert.strictEqual((yield* at.final(held)).status, "success")
    }))

  it.live("tells why a skill cannot be prepared, and prepares it when it is changed", () =>
    Effect.gen(function*() {
      const { at, breaks, gauge, pass, until } = yield* serve()
      yield* breaks(true)
      yield* pass
      const { detail } = yield* until("failed")
      assert.match(detail ?? "", /uv pip install exited with 2: .*no network/)
      const refused = yield* at.call({ skill: "needs" })
      assert.deepInclude(refused, { status: "error", code: "Rejected", retryable: false })
      assert.match(refused.error, /^skill needs: its dependencies cannot be prepared: uv .*no network/)
      assert.match((yield* gauge("failed")) ?? "", / 1$/)
      yield* breaks(false)
      Fs.writeFileSync(Path.join(at.directory, "testing/needs/requirements.txt"), "six==1.16")
      yield* until("ready")
      assert.strictEqual((yield* at.call({ skill: "needs" })).status, "success")
    }))
})
