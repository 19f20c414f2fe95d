/**
 * Checks data against the JSON Schemas of strangers: drafts 2020-12, 2019-09 and 07, `format` as an annotation.
 *
 * No code is made of a schema, nothing is fetched, and a check ends when its time does, also within a regular expression. What
 * becomes of data that does not fit is left to the caller.
 *
 * @since 0.1.0
 */
import { validate } from "@cfworker/json-schema"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as JsonSchemaForm from "./internal/jsonSchemaForm.ts"
import * as JsonSchemaIssues from "./internal/jsonSchemaIssues.ts"
import * as TimeLimit from "./internal/timeLimit.ts"
import type { Issue } from "./Protocol.ts"

/**
 * The largest schema, in bytes of JSON without spaces: 16 KiB. No more than 64 levels deep.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes: number = JsonSchemaForm.maxBytes

/**
 * The largest data that is checked, in bytes: 4 MiB.
 *
 * @category models
 * @since 0.1.0
 */
export const maxDataBytes = 4_194_304

/**
 * How many issues are told at most: 20.
 *
 * @category models
 * @since 0.1.0
 */
export const maxIssues: number = JsonSchemaIssues.maxIssues

/**
 * How long a check takes at most unless the caller says otherwise: 100 ms.
 *
 * @category models
 * @since 0.1.0
 */
export const limitMs = 100

/**
 * Whether data fits. `Unfinished` when the time was over before that was known, `isWhole` when all issues were found by then, or as
 * many as are told.
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict =
  | { readonly _tag: "Fits" }
  | { readonly _tag: "Misfits"; readonly issues: ReadonlyArray<Issue>; readonly isWhole: boolean }
  | { readonly _tag: "Unfinished" }

/**
 * A schema that is ready to be checked against.
 *
 * @category models
 * @since 0.1.0
 */
export interface Checker {
  /**
   * Checks that the data is JSON in UTF-8 that fits, within `limitMs` whole milliseconds. When the machine gives the thread less than
   * 70 % of these, it is checked once more, up to ten times as long. Reading JSON alone is not interrupted, and takes 10 ms for each MiB.
   */
  readonly check: (data: Uint8Array, limitMs?: number) => Verdict
}

const fits: Verdict = { _tag: "Fits" }
const unfinished: Verdict = { _tag: "Unfinished" }
const misfits = (message: string): Verdict => ({ _tag: "Misfits", issues: [{ path: "", message }], isWhole: true })

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const decoded = (data: Uint8Array): string | undefined => {
  try {
    return utf8.decode(data)
  } catch {
    return undefined
  }
}

const parsed = (text: string): Result.Result<unknown, string> => {
  try {
    return Result.succeed(JSON.parse(text))
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.slice(0, 200) : String(cause)
    return Result.fail(text.trim() === "" ? "expected JSON, got nothing" : `expected JSON: ${why}`)
  }
}

/** What the interpreter gives up at: calls that are nested too deeply, and names that are no Unicode. */
const givenUp = (cause: unknown): Verdict => {
  if (cause instanceof RangeError) return misfits("is nested too deeply, or repeats itself too often, to be checked")
  if (cause instanceof URIError) return misfits("has a name that is not Unicode: half of a surrogate pair")
  throw cause
}

/** Tells the first verdict that is reached; a later one says more. */
const judge = (form: JsonSchemaForm.Form, text: string, tell: (verdict: Verdict) => void): void => {
  const read = parsed(text)
  if (Result.isFailure(read)) return tell(misfits(read.failure))
  const data = read.success
  const { draft, lookup, root } = form
  const run = (shortCircuit: boolean): Verdict => {
    const { errors, valid } = validate(data, root, draft, lookup, shortCircuit)
    return valid
      ? fits
      : { _tag: "Misfits", issues: JsonSchemaIssues.issuesOf(errors, form, data), isWhole: !shortCircuit }
  }
  try {
    const first = run(true)
    tell(first)
    if (first._tag === "Fits") return
  } catch (cause) {
    return tell(givenUp(cause))
  }
  try {
    tell(run(false))
  } catch (cause) {
    // More is wrong than fits on the stack: the first of it is told.
    givenUp(cause)
  }
}

const makeChecker = (form: JsonSchemaForm.Form): Checker => ({
  check: (data, limit = limitMs) => {
    if (data.byteLength > maxDataBytes) {
      return misfits(`has ${data.byteLength} bytes, more than the ${maxDataBytes} that are checked`)
    }
    const text = decoded(data)
    if (text === undefined) return misfits("expected JSON in UTF-8, got other bytes")
    let verdict: Verdict = unfinished
    TimeLimit.fairlyWithin(limit, () => judge(form, text, (reached) => verdict = reached))
    return verdict
  }
})

const known = new WeakMap<Schema.JsonObject, Result.Result<Checker, string>>()

/**
 * Makes a schema ready, once for each object. Fails with what is wrong: it is no schema, is too large, or refers to what is not in it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const compile = (schema: Schema.JsonObject): Result.Result<Checker, string> => {
  const existing = known.get(schema)
  if (existing !== undefined) return existing
  const compiled = Result.map(JsonSchemaForm.form(schema), makeChecker)
  known.set(schema, compiled)
  return compiled
}

/**
 * Says in one sentence what is wrong with data.
 *
 * @category getters
 * @since 0.1.0
 */
export const explain = (issues: ReadonlyArray<Issue>): string => {
  const told = issues.slice(0, maxExplained).map(({ message, path }) => path === "" ? message : `${path}: ${message}`)
  const more = issues.length - told.length
  return `${told.join("; ")}${more > 0 ? `; and ${more} more` : ""}`
}

const maxExplained = 5
