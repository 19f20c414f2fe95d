import * as Protocol from "@skillscale/core/Protocol"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as SkillManifest from "@skillscale/core/SkillManifest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Admission from "../Admission.ts"
import type * as SkillRunner from "../SkillRunner.ts"
import * as Answer from "./answer.ts"
import * as IntentMatch from "./intentMatch.ts"
import type { Replies } from "./replies.ts"
import type { ServerMetrics } from "./serverMetrics.ts"

/** What calls are answered from. */
export interface Options {
  readonly id: string
  readonly topic: string
  readonly limitMs: number
  readonly skills: Effect.Effect<ReadonlyArray<SkillDiscovery.Skill>>
  readonly discovery: SkillDiscovery.SkillDiscovery["Service"]
  readonly runner: SkillRunner.SkillRunner["Service"]
  readonly admission: Admission.Admission
  readonly metrics: ServerMetrics
  readonly replies: Replies
}

const accepts = (request: Protocol.Request, event: Protocol.Event) => (request.accept ?? []).includes(event)

/** Makes the work of a call: from the request to the final response or the refusal. Whether it is sent is left to others. */
export const make = ({ admission, discovery, id, limitMs, metrics, replies, runner, skills, topic }: Options) => {
  const updateLoad = Effect.flatMap(admission.load, metrics.load)

  const find = Effect.fnUntraced(function*(request: Protocol.Request) {
    const served = yield* skills
    const intent = yield* Effect.mapError(Effect.fromResult(Protocol.parseIntent(request.intent)), Answer.badRequest)
    const name = request.skill ?? intent.skill
    const skill = name === undefined
      ? IntentMatch.match(request.intent, served)
      : served.find((candidate) => candidate.name === name)
    if (skill !== undefined) return { skill, data: intent.data }
    return yield* Effect.fail(Answer.skillNotFound(name, topic, served))
  })

  const run = Effect.fnUntraced(function*(
    request: Protocol.Request,
    skill: SkillDiscovery.Skill,
    data: string,
    leftMs: number
  ) {
    if (Option.isNone(skill.entry) && request.script === undefined && skill.scripts.length === 0) {
      const content = yield* Effect.mapError(discovery.instructions(skill), Answer.unreadable)
      return Answer.instructions(request.requestId, content)
    }
    const text = data === "" ? undefined : Buffer.from(data)
    const own = Option.getOrElse(SkillManifest.timeout(skill.manifest), () => Duration.infinity)
    let seq = 0
    const onOutput = (output: SkillRunner.Output) =>
      Effect.suspend(() => replies.send(request.replyTo, Answer.chunk(request.requestId, id, seq++, output)))
    const result = yield* runner.run(skill, {
      script: request.script,
      args: request.args,
      stdin: request.stdin ?? text,
      env: request.env,
      files: request.files,
      digest: request.digest,
      timeout: Math.min(leftMs, limitMs, Duration.toMillis(own))
    }, accepts(request, "chunk") ? onOutput : undefined).pipe(Effect.mapError(Answer.fromRunError))
    yield* metrics.started(result.warm)
    return Answer.fromResult(request.requestId, skill.name, result)
  })

  /** `onSkill` hears which skill it is as soon as that is known. */
  return Effect.fnUntraced(function*(request: Protocol.Request, arrived: number, onSkill: (name: string) => void) {
    const { data, skill } = yield* find(request)
    onSkill(skill.name)
    yield* Effect.annotateCurrentSpan({ skill: skill.name })
    if (request.digest !== undefined && request.digest !== skill.digest) {
      return yield* Effect.fail(Answer.skillChanged(skill, request.digest))
    }
    const budget = request.timeoutMs ?? Number.POSITIVE_INFINITY
    const start = Effect.fnUntraced(function*(queueMs: number) {
      yield* updateLoad
      yield* Metric.update(metrics.queueSeconds, queueMs / 1000)
      const started = yield* Clock.currentTimeMillis
      const left = budget - (started - arrived)
      if (left <= 0) return yield* Effect.fail(Answer.budgetGone(budget))
      const response = yield* run(request, skill, data, left).pipe(Effect.ensuring(
        Effect.flatMap(Clock.currentTimeMillis, (now) => metrics.executed(skill.name, (now - started) / 1000))
      ))
      const ended = yield* Clock.currentTimeMillis
      return Answer.withTimes(response, { queueMs, execMs: ended - started })
    })
    const event = accepts(request, "accepted")
      ? replies.send(request.replyTo, Answer.accepted(request.requestId, id))
      : Effect.void
    return yield* admission.admit(start, { onAccepted: Effect.andThen(updateLoad, event), patienceMs: budget }).pipe(
      Effect.ensuring(updateLoad),
      Effect.catchTags({
        Overloaded: (error) => Effect.fail(Answer.overloaded(error.message)),
        Impatient: () => Effect.fail(Answer.budgetGone(budget))
      })
    )
  })
}
