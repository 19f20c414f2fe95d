import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Settings from "@skillscale/core/Settings"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Dependencies from "@skillscale/server/Dependencies"
import * as NodeExecutor from "@skillscale/server/NodeExecutor"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Cache from "./cache.ts"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

const layer = Layer.unwrap(
  Effect.gen(function*() {
    const sandbox = yield* Effect.mapError(Settings.sandbox, (error) => Exit.usage(Exit.explainConfig(error)))
    return Exit.layerOrUsage(Dependencies.layerConfig(yield* Cache.directory, sandbox))
  })
).pipe(Layer.provide(NodeServices.layer))

const executor = Layer.unwrap(Effect.map(Cache.directory, (directory) => Dependencies.layerExecutor({ directory })))
  .pipe(
    Layer.provide(NodeServices.layer)
  )

/** What the cache has for skills, in their order; nothing where it cannot be looked at. */
export const inspect = (
  skills: ReadonlyArray<SkillDiscovery.Skill>
): Effect.Effect<ReadonlyArray<Dependencies.Inspection | undefined>> =>
  Effect.gen(function*() {
    const dependencies = yield* Dependencies.Dependencies
    return yield* Effect.forEach(skills, (skill) => dependencies.inspect(skill))
  }).pipe(
    // It builds nothing.
    Effect.provide(Layer.provide(layer, Layer.provide(NodeExecutor.layer, NodeServices.layer))),
    Effect.orElseSucceed(() => skills.map(() => undefined))
  )

interface Row {
  readonly skill: SkillDiscovery.Skill
  text: string
}

/** Lines of a terminal that are written again in their place; null where there is none, or it has fewer lines. */
const screen = (rows: ReadonlyArray<Row>, width: number) => {
  const out = process.stdout
  if (!out.isTTY || process.env["TERM"] === "dumb" || rows.length >= out.rows) return null
  let drawn = false
  return () => {
    const lines = rows.map(({ skill, text }) => `${skill.name.padEnd(width)}  ${text}`.slice(0, out.columns - 1))
    const back = drawn ? `\u001b[${rows.length}A` : ""
    drawn = true
    return Io.write(back + lines.map((line) => `\u001b[2K${line}\n`).join(""))
  }
}

/** Prepares skills, tells of each as it goes, and gives the reasons of those that failed. */
const prepareAll = Effect.fnUntraced(function*(skills: ReadonlyArray<SkillDiscovery.Skill>) {
  const dependencies = yield* Dependencies.Dependencies
  const width = Math.max(0, ...skills.map(({ name }) => name.length))
  const rows = skills.map((skill): Row => ({ skill, text: "waits" }))
  const draw = screen(rows, width)
  const say = (row: Row, text: string) => {
    row.text = Exit.oneLine(text)
    return draw === null ? Io.line(`${row.skill.name.padEnd(width)}  ${row.text}`) : draw()
  }
  const follow = Stream.runForEach(dependencies.changes, (states) => {
    for (const row of rows) {
      const state = states.get(row.skill.root)
      if (state?.status === "preparing" && row.text !== "ready") row.text = `${state.detail ?? "looking"} …`
    }
    return draw === null ? Effect.void : draw()
  })
  const one = Effect.fnUntraced(function*(row: Row) {
    const result = yield* Effect.result(dependencies.prepare(row.skill))
    if (Result.isSuccess(result)) {
      yield* say(row, Dependencies.isNothing(result.success) ? "ready; it needs nothing" : "ready")
      return Option.none()
    }
    yield* say(row, `failed: ${result.failure.message}`)
    return Option.some(row.skill.name)
  })
  const results = Effect.forEach(rows, one, { concurrency: 4 })
  const outcomes = draw === null
    ? yield* results
    : yield* Effect.raceFirst(results, Effect.andThen(follow, Effect.never))
  return outcomes.flatMap(Option.toArray)
})

export const prepare = Effect.fnUntraced(function*(skills: ReadonlyArray<SkillDiscovery.Skill>) {
  // What fails is said on its own line, so that the log need not.
  const failed = yield* prepareAll(skills).pipe(
    Effect.provide(Layer.provide(layer, executor)),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
  if (failed.length > 0) {
    return yield* new Exit.Failed({
      code: 1,
      message: `${failed.length} of ${skills.length} ${skills.length === 1 ? "skill" : "skills"} cannot be prepared: ${
        failed.join(", ")
      }`
    })
  }
})
