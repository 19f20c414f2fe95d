/**
 * Checks what entry points read and write against the schemas of their skills.
 *
 * What takes next to no time is checked at once. What does not, and schemas of which something lately did not, goes to a thread, so
 * that neither the regular expressions of a skill nor the data of a caller hold the server up; there callers take turns.
 */
import * as JsonSchema from "@skillscale/core/JsonSchema"
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Path from "node:path"
import { Worker } from "node:worker_threads"
import * as Admission from "../Admission.ts"
import type * as SkillRunner from "../SkillRunner.ts"
import * as Answer from "./answer.ts"
import type * as SchemaThread from "./schemaThread.ts"

export interface Options {
  /** Inputs that wait for the thread. */
  readonly maxWaiting: number
  /** What the thread runs. By default `schemaThread`. */
  readonly module?: URL | undefined
  /** The thread is not well when it is silent for so long. By default 10 s. */
  readonly silenceMs?: number | undefined
}

/** Whose input it is, and how long that caller waits: in all, and from now on. */
export interface Terms {
  readonly caller: string
  readonly budgetMs: number
  readonly leftMs: number
  /** Runs before the call waits. */
  readonly onWait: Effect.Effect<void>
}

export interface SchemaChecks {
  /** Fails for a call of the entry point that must not start. */
  readonly input: (
    skill: SkillDiscovery.Skill,
    data: Uint8Array,
    terms: Terms
  ) => Effect.Effect<void, Answer.Refusal>
  /** Tells where the output of the entry point does not fit. */
  readonly output: (
    skill: SkillDiscovery.Skill,
    result: SkillRunner.RunResult
  ) => Effect.Effect<Answer.Issues>
}

/** What is checked at once is no larger, and takes no longer. */
const quickBytes = 64 * 1024
const quickMs = 10
/** For how long nothing of a schema is checked at once when something took longer. */
const slowMs = 60_000
const defaultSilenceMs = 10_000
const threadMegabytes = 256

const unfinished: JsonSchema.Verdict = { _tag: "Unfinished" }

const extension = Path.extname(import.meta.filename)
const ownModule = new URL(`./schemaThread${extension}`, import.meta.url)

/** A thread that begins with the first question, and anew after its end. */
const makeThread = Effect.fnUntraced(function*(
  { module = ownModule, silenceMs = defaultSilenceMs }: Pick<Options, "module" | "silenceMs">
): Effect.fn.Return<
  (schema: Schema.JsonObject, data: Uint8Array) => Effect.Effect<JsonSchema.Verdict>,
  never,
  Scope.Scope
> {
  const log = Effect.runForkWith(yield* Effect.context<never>())
  const waiting = new Map<number, (verdict: JsonSchema.Verdict) => void>()
  let count = 0
  let worker: Worker | undefined

  const stop = (): void => {
    void worker?.terminate()
    worker = undefined
    // Who hears it may ask anew at once.
    const lost = Array.from(waiting.values())
    waiting.clear()
    for (const settle of lost) settle(unfinished)
  }

  const start = (): Worker => {
    const made = new Worker(module, {
      env: {},
      execArgv: extension === ".ts" ? ["--conditions=skillscale"] : [],
      resourceLimits: { maxOldGenerationSizeMb: threadMegabytes }
    })
    made.unref()
    const onEnd = (): void => worker === made ? stop() : undefined
    made.on("message", ({ id, verdict }: SchemaThread.Answer) => {
      const settle = waiting.get(id)
      waiting.delete(id)
      settle?.(verdict)
    })
    made.on("error", (cause) => {
      log(Effect.logError("the thread that checks data ended and begins anew", cause))
      onEnd()
    })
    made.on("exit", onEnd)
    return made
  }

  yield* Effect.addFinalizer(() => Effect.sync(stop))
  return (schema, data) =>
    Effect.callback<JsonSchema.Verdict>((resume) => {
      const id = count++
      waiting.set(id, (verdict) => resume(Effect.succeed(verdict)))
      worker ??= start()
      const copy = new Uint8Array(data)
      const question: SchemaThread.Question = {
        id,
        schema: JSON.stringify(schema),
        data: copy,
        limitMs: JsonSchema.limitMs
      }
      worker.postMessage(question, [copy.buffer])
      return Effect.sync(() => waiting.delete(id))
    }).pipe(
      Effect.timeoutOrElse({ duration: silenceMs, orElse: () => Effect.as(Effect.sync(stop), unfinished) })
    )
})

const issuesOf = (verdict: JsonSchema.Verdict): Answer.Issues => {
  switch (verdict._tag) {
    case "Fits":
      return []
    case "Misfits":
      return verdict.issues
    case "Unfinished":
      return [{
        path: "",
        message: `takes longer than ${JsonSchema.limitMs} ms to check, so it may not fit; make it smaller`
      }]
  }
}

export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<SchemaChecks, never, Scope.Scope> {
  const inThread = yield* makeThread(options)
  const turns = Admission.make({ workers: 1, queue: options.maxWaiting })
  const slowUntil = new WeakMap<Schema.JsonObject, number>()

  /** Nothing when that takes too long. */
  const quick = Effect.fnUntraced(function*(schema: Schema.JsonObject, data: Uint8Array) {
    const now = yield* Monotonic.millis
    const isLarge = data.byteLength > quickBytes && data.byteLength <= JsonSchema.maxDataBytes
    if (isLarge || (slowUntil.get(schema) ?? 0) > now) return undefined
    // Discovery has compiled it.
    const verdict = Result.getOrThrowWith(JsonSchema.compile(schema), (why) => new Error(why)).check(data, quickMs)
    if (verdict._tag === "Fits" || verdict._tag === "Misfits" && verdict.isWhole) return verdict
    slowUntil.set(schema, now + slowMs)
    return undefined
  })

  return {
    input: Effect.fnUntraced(function*(skill, data, { budgetMs, caller, leftMs, onWait }) {
      if (Option.isSome(skill.refusal)) return yield* Effect.fail(Answer.notCallable(skill, skill.refusal.value))
      if (Option.isNone(skill.input)) return
      const schema = skill.input.value
      const verdict = (yield* quick(schema, data)) ?? (yield* Effect.andThen(
        onWait,
        turns.admit(() => inThread(schema, data), { caller, patienceMs: leftMs })
      ).pipe(
        Effect.catchTags({
          Overloaded: ({ queued }) =>
            Effect.fail(Answer.overloaded(`the input of ${queued} calls waits to be checked; try again later`)),
          Impatient: () => Effect.fail(Answer.budgetGone(budgetMs))
        })
      ))
      const issues = issuesOf(verdict)
      if (issues.length > 0) return yield* Effect.fail(Answer.invalidInput(skill, issues))
    }),
    output: Effect.fnUntraced(function*(skill, { stdout, stdoutTruncated }) {
      if (Option.isNone(skill.output)) return []
      if (stdoutTruncated) return [{ path: "", message: `was cut at ${stdout.byteLength} bytes` }]
      const schema = skill.output.value
      return issuesOf((yield* quick(schema, stdout)) ?? (yield* inThread(schema, stdout)))
    })
  }
})
