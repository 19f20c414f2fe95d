/** Judges what came of the conformance suite, and writes it as a table. */
import * as Scenarios from "./scenarios.ts"
import type { Check, Outcome } from "./suite.ts"

export interface Verdict extends Outcome {
  readonly result: "passed" | "FAILED" | "does not apply"
  readonly counted: { readonly passed: number; readonly failed: number; readonly warned: number }
  readonly why: string
  /** What is wrong, where something is. */
  readonly problem: string | undefined
}

const applies = ({ id }: Check): boolean => Scenarios.checksNotApplying[id] === undefined

/** This one checks the form of what was sent, whatever it was. */
const isAboutForm = ({ id }: Check): boolean => id === "wire-schema-valid"

const count = (checks: ReadonlyArray<Check>, status: Check["status"]): number =>
  checks.filter((check) => check.status === status).length

/** Whether it says of itself that all is as it should be, and there was something to see. */
const isPassed = (checks: ReadonlyArray<Check>): boolean =>
  count(checks, "FAILURE") === 0 && checks.some((check) => check.status === "SUCCESS" && !isAboutForm(check))

const single = (checks: ReadonlyArray<Check>): { readonly why: string; readonly rotten: ReadonlyArray<string> } => {
  const left = checks.filter((check) => !applies(check))
  const reasons = new Set(left.map(({ id }) => Scenarios.checksNotApplying[id]))
  return {
    why: left.length === 0 ? "" : `${left.length} checks do not apply: ${Array.from(reasons).join("; ")}`,
    rotten: left.filter(({ status }) => status === "SUCCESS").map(({ id }) => id)
  }
}

export const judge = (outcome: Outcome): Verdict => {
  const { checks, scenario } = outcome
  const applying = checks.filter(applies)
  const counted = {
    passed: count(applying, "SUCCESS"),
    failed: count(applying, "FAILURE"),
    warned: count(applying, "WARNING")
  }
  const reason = Scenarios.notApplying[scenario]
  const passed = isPassed(applying)
  if (reason !== undefined) {
    const problem = passed && counted.warned === 0 ? "it is listed as not applying, and passes" : undefined
    return { ...outcome, counted, result: problem === undefined ? "does not apply" : "FAILED", why: reason, problem }
  }
  const { rotten, why } = single(checks)
  const failed = applying.filter(({ status }) => status === "FAILURE")
  const problem = rotten.length > 0
    ? `checks are listed as not applying, and pass: ${rotten.join(", ")}`
    : passed
    ? undefined
    : failed.map(({ errorMessage = "", id }) => `${id}: ${errorMessage}`).join("; ") || "nothing was checked"
  const note = Scenarios.forwarded.includes(scenario) ? "a file of a skill, under the name of the fixture" : why
  return {
    ...outcome,
    counted,
    result: problem === undefined ? "passed" : "FAILED",
    why: Scenarios.remarks[scenario] ?? note,
    problem
  }
}

/** Names in our lists that the suite does not know any more. */
export const vanished = (verdicts: ReadonlyArray<Verdict>): ReadonlyArray<string> => {
  const scenarios = new Set(verdicts.map(({ scenario }) => scenario))
  const checks = new Set(verdicts.flatMap((verdict) => verdict.checks.map(({ id }) => id)))
  return [
    ...[...Object.keys(Scenarios.notApplying), ...Object.keys(Scenarios.remarks), ...Scenarios.forwarded]
      .filter((name) => !scenarios.has(name)),
    ...Object.keys(Scenarios.checksNotApplying).filter((id) => !checks.has(id))
  ]
}

export const table = (verdicts: ReadonlyArray<Verdict>): string => {
  const rows = verdicts.map(({ counted: { failed, passed, warned }, era, result, scenario, why }) => {
    const checks = result === "does not apply"
      ? ""
      : `${passed} of ${passed + failed}${warned === 0 ? "" : `, ${warned} warned`}`
    return `| ${scenario} | ${era} | ${result} | ${checks} | ${why} |`
  })
  return ["| scenario | era | result | checks | remarks |", "| --- | --- | --- | --- | --- |", ...rows].join("\n")
}
