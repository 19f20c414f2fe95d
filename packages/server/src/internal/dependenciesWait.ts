/**
 * Holds calls of skills that are being prepared, before they take a worker: preparing takes minutes, and other skills of the
 * server go on meanwhile. A call waits within its own time, and not more of them than may wait for a worker.
 */
import * as Protocol from "@skillscale/core/Protocol"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Dependencies from "../Dependencies.ts"
import * as Answer from "./answer.ts"
import * as IntentMatch from "./intentMatch.ts"

export interface Options {
  readonly dependencies: Dependencies.Dependencies["Service"]
  readonly skills: Effect.Effect<ReadonlyArray<SkillDiscovery.Skill>>
  readonly limitMs: number
  readonly maxWaiting: number
}

const targetOf = (request: Protocol.Request, skills: ReadonlyArray<SkillDiscovery.Skill>) => {
  const intent = Protocol.parseIntent(request.intent)
  const name = request.skill ?? (Result.isSuccess(intent) ? intent.success.skill : undefined)
  return name === undefined
    ? IntentMatch.match(request.intent, skills)
    : skills.find((skill) => skill.name === name)
}

/** Waits while the skill of a request is being prepared. What else is wrong with the request is left to the call itself. */
export const make = ({ dependencies, limitMs, maxWaiting, skills }: Options) => {
  let waiting = 0

  const wait = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, budget: number, arrived: number) {
    if (waiting >= maxWaiting) {
      return yield* Effect.fail(
        Answer.overloaded(`skill ${skill.name} is being prepared, and ${waiting} calls wait for that; try again later`)
      )
    }
    waiting += 1
    const left = budget - ((yield* Clock.currentTimeMillis) - arrived)
    yield* Effect.ignore(dependencies.prepare(skill)).pipe(
      Effect.timeoutOrElse({
        duration: Math.max(0, left),
        orElse: () => Effect.fail({ ...Answer.budgetGone(budget), error: stillPreparing(skill, budget) })
      }),
      Effect.ensuring(Effect.sync(() => waiting -= 1))
    )
  })

  const stillPreparing = (skill: SkillDiscovery.Skill, budget: number) => {
    const { detail } = dependencies.state(skill)
    return `skill ${skill.name} is still being prepared${
      detail === undefined ? "" : ` (${detail})`
    } and was not started within ${budget} ms; try again later`
  }

  return (request: Protocol.Request, arrived: number): Effect.Effect<void, Answer.Refusal> =>
    Effect.flatMap(skills, (served) => {
      // The usual case: nothing is being prepared.
      if (served.every((skill) => dependencies.state(skill).status !== "preparing")) return Effect.void
      const skill = targetOf(request, served)
      if (skill === undefined || dependencies.state(skill).status !== "preparing") return Effect.void
      return wait(skill, Math.min(request.timeoutMs ?? Number.POSITIVE_INFINITY, limitMs), arrived)
    })
}
