/**
 * Runs scripts both ways, cold and warm, and compares all that can be seen of them.
 */
import { assert, it } from "@effect/vitest"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Interpreter from "../src/Interpreter.ts"
import * as Secrets from "../src/Secrets.ts"
import * as SkillRunner from "../src/SkillRunner.ts"
import * as WorkingView from "../src/WorkingView.ts"
import * as Support from "./fixtures/support.ts"

export const pids = () => Fs.readdirSync("/proc").map(Number).filter((pid) => pid > 0)

const read = (path: string): string => {
  try {
    return Fs.readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

export const commandOf = (pid: number) => read(`/proc/${pid}/cmdline`).split("\0")

/** Of a process, the nearest first. */
export const parents = (pid: number): ReadonlyArray<number> => {
  const parent = Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)
  return parent === 0 ? [] : [parent, ...parents(parent)]
}

export const layer = (warm: boolean, executor = Support.executor) =>
  Layer.fresh(SkillRunner.layer({ warm: warm ? "on" : "off", grace: 300 })).pipe(
    Layer.provide(Layer.mergeAll(Interpreter.layer, WorkingView.layer(), Secrets.layer({}))),
    Layer.provide(Layer.fresh(executor))
  )

export const run = (skill: SkillDiscovery.Skill, call: SkillRunner.Call = {}) =>
  Effect.flatMap(SkillRunner.SkillRunner, (runner) => runner.run(skill, call))

/** Calls until one starts warm. */
export const warmed = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, call: SkillRunner.Call = {}) {
  const until = performance.now() + 20_000
  while (performance.now() < until) {
    const result = yield* Effect.result(run(skill, call))
    if (result._tag === "Failure" || result.success.warm) return result
  }
  return assert.fail("it never started warm")
})

const seen = (result: SkillRunner.RunResult, root: string) => ({
  exitCode: result.exitCode,
  signal: result.signal,
  stdout: Support.text(result.stdout).replaceAll(root, "ROOT"),
  stderr: Support.text(result.stderr).replaceAll(root, "ROOT"),
  artifacts: result.artifacts.map(({ path, sha256 }) => [path, sha256])
})

/** What can be seen of a run that failed. */
export const failed = (
  result: Result.Result<SkillRunner.RunResult, SkillRunner.SkillRunError | WorkingView.WorkingViewError>,
  root: string
) => {
  if (result._tag === "Success") return seen(result.success, root)
  const { message, reason } = result.failure
  const stderr = reason._tag === "ExecutorError" ? Support.text(reason.stderr).replaceAll(root, "ROOT") : ""
  return { reason: reason._tag, message: message.replaceAll(root, "ROOT"), stderr }
}

export const test = (
  title: string,
  body: () => Effect.Effect<unknown, unknown, SkillRunner.SkillRunner | Scope.Scope>
) => it.live(title, () => Effect.suspend(body).pipe(Effect.provide(layer(true)), Effect.asVoid), 60_000)

/** Runs it both ways, and finds no difference. */
export const compare = Effect.fnUntraced(function*(files: Support.Files, call: SkillRunner.Call) {
  const skill = yield* Support.skill(files)
  const cold = yield* Effect.result(Effect.provide(run(skill, call), layer(false)))
  const warm = yield* warmed(skill, call)
  if (cold._tag === "Failure" || warm._tag === "Failure") {
    return assert.deepStrictEqual(failed(warm, skill.root), failed(cold, skill.root))
  }
  assert.isFalse(cold.success.warm)
  assert.deepStrictEqual(seen(warm.success, skill.root), seen(cold.success, skill.root))
})

/**
 * Runs it without arguments until that starts warm and then with one, some times, and finds no difference to a cold start
 * with one. Returns how that failed.
 */
export const compareAtLimits = Effect.fnUntraced(function*(
  files: Support.Files,
  script: string,
  metadata?: Readonly<Record<string, string>>
) {
  const skill = yield* Support.skill(files, metadata)
  const beyond = { script, args: ["beyond"] }
  const cold = failed(yield* Effect.result(Effect.provide(run(skill, beyond), layer(false))), skill.root)
  for (let round = 0; round < 3; round++) {
    assert.strictEqual((yield* warmed(skill, { script }))._tag, "Success")
    assert.deepStrictEqual(failed(yield* Effect.result(run(skill, beyond)), skill.root), cold)
  }
  return "message" in cold ? cold.message : assert.fail(`it was not ended: ${JSON.stringify(cold)}`)
})
