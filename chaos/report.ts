/** What a storm is judged by. */
import type { Outcome, Skill, Wanted } from "./call.ts"

export interface Call {
  readonly wanted: Wanted
  /** Which of the agents made it. */
  readonly agent: number
  /** None when its agent ended. */
  outcome: Outcome | undefined
}

export interface Fault {
  readonly what: string
  /** Whether replicas are lost with it. */
  readonly isOfReplica: boolean
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
  readonly tallies: Readonly<Record<Skill, Tally>>
  /**
   * Calls that were not answered with what their script wrote, but those that fail with their replica: such as must not run twice,
   * or whose output was passed on in part, may end with `ReplicaLost` when something was wrong with a replica meanwhile.
   */
  readonly lost: number
  /** Calls that must not run twice and did. */
  readonly duplicated: number
  /**
   * Of calls that may run twice, and were under way at the last of several faults, so that nothing else went wrong for
   * `calmMs`: from when it could be mended (the kill of a replica, the return of the only proxy) to the answer, less the run.
   */
  readonly recovery: Spread
  /** The same of calls that began while something was away, from their beginning, whatever else went wrong. */
  readonly meanwhile: Spread
  /** `recovery` of those with large answers. */
  readonly recoveryOfLarge: Spread
  /** `recovery` of streams. What was passed on of one binds it to its replica, so that it waits for that to come back. */
  readonly recoveryOfStreams: Spread
}

/** For so long after the end of a cut, and no longer, it may be felt: connections try again later and later. */
const afterMs = 5000

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

const isLost = ({ outcome, wanted }: Call, faults: ReadonlyArray<Fault>): boolean => {
  if (outcome === undefined) return true
  const { began, ended, outcome: how } = outcome
  if (how === "done") return false
  const mayBe = how === "ReplicaLost" && (wanted.skill === "once" || wanted.skill === "stream")
  return !mayBe ||
    !faults.some((fault) => fault.isOfReplica && fault.began < ended && began < fault.over + afterMs)
}

/** Faults in the order in which they began. */
export const judge = (
  calls: ReadonlyArray<Call>,
  faults: ReadonlyArray<Fault>,
  runs: ReadonlyMap<string, number>
): Report => {
  const of = (...skills: ReadonlyArray<Skill>) => calls.filter(({ wanted }) => skills.includes(wanted.skill))
  const answeredOf = (...skills: ReadonlyArray<Skill>) =>
    of(...skills).flatMap(({ agent, outcome, wanted }) =>
      outcome?.outcome === "done" ? [{ ...outcome, agent, runMs: wanted.runMs }] : []
    )
  const answered = answeredOf("pure")
  const recoveryOf = (answered: ReturnType<typeof answeredOf>) =>
    faults.flatMap((fault, index) => {
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
    tallies: {
      pure: tally(of("pure")),
      once: tally(of("once")),
      stream: tally(of("stream")),
      large: tally(of("large"))
    },
    lost: calls.filter((call) => isLost(call, faults)).length,
    duplicated: of("once").filter(({ wanted }) => (runs.get(wanted.name) ?? 0) > 1).length,
    recovery: spread(recoveryOf(answered)),
    meanwhile: spread(meanwhile),
    recoveryOfLarge: spread(recoveryOf(answeredOf("large"))),
    recoveryOfStreams: spread(recoveryOf(answeredOf("stream")))
  }
}
