/** What a storm is judged by. */
import type { Outcome, Wanted } from "./call.ts"

export interface Call {
  readonly wanted: Wanted
  /** Which of the agents made it. */
  readonly agent: number
  /** None when its agent ended. */
  outcome: Outcome | undefined
}

export interface Fault {
  readonly what: string
  readonly began: number
  /** From when a call could go on: at once where others took over, else when it was over. */
  mendable: number
  over: number
  /** The only agent that it concerned. */
  readonly agent: number | undefined
}

/** What became of the calls of one skill. */
export interface Tally {
  readonly calls: number
  /** How many ended how: `done`, or the reason of the failure. */
  readonly outcomes: Readonly<Record<string, number>>
}

/** In milliseconds. */
export interface Spread {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly most: number
}

export interface Report {
  readonly faults: Readonly<Record<string, number>>
  /** May run twice for one call. */
  readonly pure: Tally
  /** Must not. */
  readonly once: Tally
  /** Calls without an outcome, and such as may run twice and failed. */
  readonly lost: number
  /** Calls that must not run twice and did. */
  readonly duplicated: number
  /**
   * Of calls that may run twice and were under way at the last of several faults, so that nothing else went wrong for
   * `calmMs`: from when it could be mended (the kill of a replica, the return of the only proxy) to the answer, less the run.
   */
  readonly recovery: Spread
  /** The same of calls that began while something was away, from their beginning, whatever else went wrong. */
  readonly meanwhile: Spread
}

/** Shorter, and a call that takes longer to recover would be counted from the next fault. */
export const calmMs = 3000

const quantile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

const spread = (times: ReadonlyArray<number>): Spread => {
  const sorted = times.map((time) => Math.max(0, time)).sort((a, b) => a - b)
  return {
    count: sorted.length,
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    most: sorted.at(-1) ?? 0
  }
}

const countsOf = (names: ReadonlyArray<string>): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

const tally = (calls: ReadonlyArray<Call>): Tally => {
  return { calls: calls.length, outcomes: countsOf(calls.map(({ outcome }) => outcome?.outcome ?? "none")) }
}

/** Faults in the order in which they began. */
export const judge = (
  calls: ReadonlyArray<Call>,
  faults: ReadonlyArray<Fault>,
  runs: ReadonlyMap<string, number>
): Report => {
  const of = (skill: Wanted["skill"]) => calls.filter(({ wanted }) => wanted.skill === skill)
  const answered = of("pure").flatMap(({ agent, outcome, wanted }) =>
    outcome?.outcome === "done" ? [{ ...outcome, agent, runMs: wanted.runMs }] : []
  )
  const recovery = faults.flatMap((fault, index) => {
    const next = faults[index + 1]?.began ?? Number.POSITIVE_INFINITY
    if (next - fault.mendable < calmMs) return []
    return answered.flatMap(({ agent, began, ended, runMs }) =>
      began < fault.began && fault.began < ended && (fault.agent ?? agent) === agent
        ? [ended - Math.max(fault.mendable, began) - runMs]
        : []
    )
  })
  const meanwhile = answered.flatMap(({ agent, began, ended, runMs }) => {
    const met = faults.filter((fault) => fault.began < ended && began < fault.over && (fault.agent ?? agent) === agent)
    return met.some((fault) => fault.began < began)
      ? [ended - Math.max(began, ...met.map(({ mendable }) => mendable)) - runMs]
      : []
  })
  return {
    faults: countsOf(faults.map(({ what }) => what)),
    pure: tally(of("pure")),
    once: tally(of("once")),
    lost:
      calls.filter(({ outcome, wanted }) =>
        outcome === undefined || wanted.skill === "pure" && outcome.outcome !== "done"
      ).length,
    duplicated: of("once").filter(({ wanted }) => (runs.get(wanted.name) ?? 0) > 1).length,
    recovery: spread(recovery),
    meanwhile: spread(meanwhile)
  }
}
