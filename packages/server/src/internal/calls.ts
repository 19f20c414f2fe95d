/**
 * The work of a call: waits until its skill is prepared, finds the skill, has the call admitted and runs it, up to the final
 * response or the refusal. Whether that is sent is left to others.
 */
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Protocol from "@skillscale/core/Protocol"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as SkillManifest from "@skillscale/core/SkillManifest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Admission from "../Admission.ts"
import type * as Dependencies from "../Dependencies.ts"
import * as SkillRunner from "../SkillRunner.ts"
import * as Answer from "./answer.ts"
import * as Credits from "./credits.ts"
import * as HeldOutput from "./heldOutput.ts"
import * as IntentMatch from "./intentMatch.ts"
import type { Leases } from "./leases.ts"
import type { Offers } from "./offers.ts"
import type { AnswerParts, Parts } from "./parts.ts"
import * as Progress from "./progress.ts"
import type { Replies } from "./replies.ts"
import type { SchemaChecks } from "./schemaChecks.ts"
import type { ServerMetrics } from "./serverMetrics.ts"

/** What calls are answered from. */
export interface Options {
  readonly id: string
  readonly topic: string
  readonly limitMs: number
  /** Calls that may wait at a time for skills that are being prepared. */
  readonly maxWaiting: number
  readonly skills: Effect.Effect<Served>
  readonly dependencies: Dependencies.Dependencies["Service"] | undefined
  readonly discovery: SkillDiscovery.SkillDiscovery["Service"]
  readonly runner: SkillRunner.SkillRunner["Service"]
  readonly admission: Admission.Admission
  readonly metrics: ServerMetrics
  readonly replies: Replies
  readonly leases: Leases
  readonly offers: Offers
  readonly credits: Credits.Credits
  readonly parts: AnswerParts
  readonly checks: SchemaChecks
  /** What is sent in the end. */
  readonly toFinal: (request: Protocol.Request, response: Protocol.Response) => Effect.Effect<Protocol.Response>
}

/**
 * What a call ended with, and whether that is still to be sent, or was in parts, of which the caller confirmed the last or not; then
 * it is without its content.
 */
export interface Outcome {
  readonly response: Protocol.Response
  readonly delivery: "open" | "confirmed" | "unconfirmed"
}

type Served = ReadonlyArray<SkillDiscovery.Skill>

const accepts = (request: Protocol.Request, event: Protocol.Event) => (request.accept ?? []).includes(event)

/** A request that took so long to come, by the clocks of its caller and of this server, may be one that nobody waits for. */
const lateMs = 1000

/** Whether the clocks say so. They may differ, which costs a question and no more. */
const isLate = ({ timestamp }: Protocol.Request, arrivedAt: number): boolean =>
  timestamp !== undefined && Math.abs(arrivedAt - timestamp * 1000) > lateMs

/** Finds the skill that the request or its intent names, else the one that the intent clearly asks for. */
const targetOf = (
  { intent, skill }: Protocol.Request,
  named: string | undefined,
  served: Served
) => {
  const name = skill ?? named
  return name === undefined
    ? IntentMatch.match(intent, served)
    : served.find((candidate) => candidate.name === name)
}

/**
 * Holds calls of skills that are being prepared, before they take a worker: preparing takes minutes, and other skills of the
 * server go on meanwhile. A call waits within its own time, and goes on with the skills that are served then. What else is
 * wrong with it is left to the call itself.
 */
const preparation = (
  dependencies: Dependencies.Dependencies["Service"],
  { limitMs, maxWaiting, skills }: Pick<Options, "limitMs" | "maxWaiting" | "skills">
) => {
  let waiting = 0

  const stillPreparing = (skill: SkillDiscovery.Skill, budget: number) => {
    const { detail } = dependencies.state(skill)
    return `skill ${skill.name} is still being prepared${
      detail === undefined ? "" : ` (${detail})`
    } and was not started within ${budget} ms; try again later`
  }

  const wait = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, budget: number, arrived: number) {
    if (waiting >= maxWaiting) {
      return yield* Effect.fail(
        Answer.overloaded(`skill ${skill.name} is being prepared, and ${waiting} calls wait for that; try again later`)
      )
    }
    waiting += 1
    const left = budget - ((yield* Monotonic.millis) - arrived)
    yield* Effect.ignore(dependencies.prepare(skill)).pipe(
      Effect.timeoutOrElse({
        duration: Math.max(0, left),
        orElse: () => Effect.fail({ ...Answer.budgetGone(budget), error: stillPreparing(skill, budget) })
      }),
      Effect.ensuring(Effect.sync(() => waiting -= 1))
    )
  })

  return (
    request: Protocol.Request,
    arrived: number,
    served: Served,
    onWait: Effect.Effect<unknown>
  ): Effect.Effect<Served, Answer.Refusal> => {
    // The usual case: nothing is being prepared.
    if (served.every((skill) => dependencies.state(skill).status !== "preparing")) return Effect.succeed(served)
    const intent = Protocol.parseIntent(request.intent)
    const skill = targetOf(request, Result.isSuccess(intent) ? intent.success.skill : undefined, served)
    if (skill === undefined || dependencies.state(skill).status !== "preparing") return Effect.succeed(served)
    const budget = Math.min(request.timeoutMs ?? Number.POSITIVE_INFINITY, limitMs)
    return onWait.pipe(Effect.andThen(wait(skill, budget, arrived)), Effect.andThen(skills))
  }
}

/** Sends large answers in parts, when the call has given back its worker. */
const partly = ({ parts, toFinal }: Pick<Options, "parts" | "toFinal">) => {
  const deliver = (
    request: Protocol.Request,
    response: Protocol.Response,
    encoded: Parts,
    leftMs: number
  ): Effect.Effect<Outcome> => {
    const light = { ...response, content: "", stdout: new Uint8Array(), artifacts: [] }
    const delivered = parts.deliver(request, encoded)
    const inTime = Number.isFinite(leftMs) ? Effect.timeoutOption(delivered, leftMs) : Effect.asSome(delivered)
    return Effect.map(inTime, (isConfirmed) => ({
      response: light,
      delivery: Option.getOrElse(isConfirmed, () => false) ? "confirmed" : "unconfirmed"
    }))
  }

  /** Returns what is left to do without the worker. `leftMs` is how long the caller waits. */
  return Effect.fnUntraced(function*(
    request: Protocol.Request,
    response: Protocol.Response,
    leftMs: number
  ): Effect.fn.Return<Effect.Effect<Outcome>, never, Scope.Scope> {
    const open: Outcome = { response, delivery: "open" }
    if (!accepts(request, "part") || !accepts(request, "accepted")) return Effect.succeed(open)
    // What cannot be encoded is told in place of the response, as one message.
    const encoded = yield* Effect.orElseSucceed(
      Effect.flatMap(toFinal(request, response), (final) => parts.encode(request.replyTo, final)),
      () => undefined
    )
    if (encoded === undefined) return Effect.succeed(open)
    yield* parts.keep(encoded)
    return deliver(request, response, encoded, leftMs)
  })
}

/** Whether the schemas of a skill are about this call. A caller that names a script knows what that reads and writes. */
const isOfEntry = (request: Protocol.Request, { entry, input, output, refusal }: SkillDiscovery.Skill): boolean =>
  (Option.isSome(input) || Option.isSome(output) || Option.isSome(refusal)) && request.script === undefined &&
  Option.isSome(entry)

/** Hears how far a call has come. */
export interface Watch {
  /** It is known which skill it is. */
  readonly onSkill: (name: string) => void
  /** Its process is being started, and whether it may be again. */
  readonly onStart: (isIdempotent: boolean) => void
}

/** How long a run that has no result waits for its caller to read the rest of its output. */
const lastOutputMs = 100

/** Makes the work of calls. */
export const make = (options: Options) => {
  const { admission, checks, credits, dependencies, discovery, id, leases, limitMs, metrics, offers, replies, runner } =
    options
  const { skills, topic } = options
  const prepared = dependencies === undefined ? undefined : preparation(dependencies, options)
  const inParts = partly(options)

  const find = Effect.fnUntraced(function*(request: Protocol.Request, served: Served) {
    const intent = yield* Effect.mapError(Effect.fromResult(Protocol.parseIntent(request.intent)), Answer.badRequest)
    const skill = targetOf(request, intent.skill, served)
    if (skill !== undefined) return { skill, data: intent.data }
    return yield* Effect.fail(Answer.skillNotFound(request.skill ?? intent.skill, topic, served))
  })

  /** What sends the output of a call to its caller while it is produced, if that wants to see it. */
  const passOn = Effect.fnUntraced(function*(request: Protocol.Request) {
    const { replyTo, requestId, window } = request
    const hasChunks = accepts(request, "chunk")
    const hasProgress = accepts(request, "progress")
    if (!hasChunks && !hasProgress) return undefined
    const take = window === undefined ? Credits.unbounded() : yield* credits.begin(request, window)
    const progressIn = Progress.make()
    const streamed = { stdout: 0, stderr: 0, progress: 0 }
    const send = (bytes: number, make: (seq: number) => Protocol.Response) =>
      Effect.flatMap(
        take(Protocol.chargeOf(bytes), (seq) => Answer.ofAttempt(request, make(seq))),
        (event) => event === undefined ? Effect.void : Effect.asVoid(replies.send(replyTo, event))
      )
    const held = yield* HeldOutput.make(
      (item) =>
        item._tag === "Progress"
          ? send(Buffer.byteLength(item.content), (seq) => Answer.progress(requestId, id, seq, item.content))
          : send(item.data.byteLength, (seq) => Answer.chunk(requestId, id, seq, item)),
      Math.min(HeldOutput.maxHeldBytes, (window ?? Number.POSITIVE_INFINITY) / 4)
    )
    const tellProgress = (stderr: Uint8Array): Effect.Effect<void> => {
      const said = progressIn(stderr)
      streamed.progress += said.length
      return Effect.forEach(said, (content) => held.add({ _tag: "Progress", content }), { discard: true })
    }
    const onOutput = (output: SkillRunner.Output): Effect.Effect<void> => {
      streamed[output._tag === "Stdout" ? "stdout" : "stderr"] += output.data.byteLength
      const progress = hasProgress && output._tag === "Stderr" ? tellProgress(output.data) : Effect.void
      return hasChunks ? Effect.andThen(held.add(output), progress) : progress
    }
    return { onOutput, onUnkept: hasProgress ? tellProgress : undefined, streamed, finish: held.finish }
  })

  const run = Effect.fnUntraced(function*(
    request: Protocol.Request,
    skill: SkillDiscovery.Skill,
    data: string,
    { isLate, leftMs, onStart, queueMs, started }: {
      /** Its caller may wait no more. */
      readonly isLate: boolean
      readonly leftMs: number
      readonly onStart: Watch["onStart"]
      readonly queueMs: number
      readonly started: number
    }
  ) {
    if (Option.isNone(skill.entry) && request.script === undefined && skill.scripts.length === 0) {
      const content = yield* Effect.mapError(discovery.instructions(skill), Answer.unreadable("SKILL.md"))
      return Answer.instructions(request.requestId, content)
    }
    const text = data === "" ? undefined : Buffer.from(data)
    const own = Option.getOrElse(SkillManifest.timeout(skill.manifest), () => Duration.infinity)
    const passing = yield* passOn(request)
    const isIdempotent = runner.isIdempotent(skill)
    const granted = accepts(request, "offer") && (!isIdempotent || isLate)
      ? yield* offers.begin(request, isIdempotent)
      : Effect.void
    const result = yield* runner.run(skill, {
      script: request.script,
      args: request.args,
      stdin: request.stdin ?? text,
      env: request.env,
      files: request.files,
      digest: request.digest,
      timeout: Math.min(leftMs, limitMs, Duration.toMillis(own))
    }, {
      onOutput: passing?.onOutput,
      onUnkept: passing?.onUnkept,
      beforeStart: Effect.map(granted, () => onStart(isIdempotent))
    }).pipe(
      // A refusal has nothing of the output; a caller that does not read goes without the last of it.
      Effect.tapError(() => Effect.timeoutOption(passing?.finish(false) ?? Effect.void, lastOutputMs)),
      Effect.mapError((error) => error instanceof SkillRunner.SkillRunError ? Answer.fromRunError(error) : error)
    )
    metrics.started(result.warm)
    const execMs = (yield* Monotonic.millis) - started
    const ended = Answer.fromResult(request.requestId, skill.name, result, { queueMs, execMs })
    const issues = ended.status === "success" && isOfEntry(request, skill) ? yield* checks.output(skill, result) : []
    const answer = issues.length === 0 ? ended : Answer.invalidOutput(ended, skill.name, issues)
    if (passing === undefined) return answer
    yield* passing.finish(answer.code === undefined || answer.code === "SkillFailed")
    return { ...answer, streamed: passing.streamed }
  }, Effect.scoped)

  return Effect.fnUntraced(function*(request: Protocol.Request, arrived: number, { onSkill, onStart }: Watch) {
    const hasComeLate = isLate(request, yield* Clock.currentTimeMillis)
    const isStreamed = accepts(request, "chunk") || accepts(request, "progress")
    const hold = accepts(request, "accepted") ? leases.hold(request, isStreamed) : Effect.void
    const served = yield* skills
    const { data, skill } = yield* find(
      request,
      prepared === undefined ? served : yield* prepared(request, arrived, served, hold)
    )
    onSkill(skill.name)
    yield* Effect.annotateCurrentSpan({ skill: skill.name })
    if (request.digest !== undefined && request.digest !== skill.digest) {
      return yield* Effect.fail(Answer.skillChanged(skill, request.digest))
    }
    const budget = request.timeoutMs ?? Number.POSITIVE_INFINITY
    if (isOfEntry(request, skill)) {
      const leftMs = budget - ((yield* Monotonic.millis) - arrived)
      const terms = { caller: request.replyTo, budgetMs: budget, leftMs, onWait: hold }
      const given = request.stdin ?? Buffer.from(data)
      const input = given.byteLength === 0 ? runner.emptyInput?.(skill) ?? given : given
      yield* checks.input(skill, input, terms)
    }
    const start = Effect.fnUntraced(function*(queueMs: number) {
      metrics.queued(queueMs / 1000)
      const started = yield* Monotonic.millis
      const leftMs = budget - (started - arrived)
      if (leftMs <= 0) return yield* Effect.fail(Answer.budgetGone(budget))
      const from = { isLate: hasComeLate || leases.wasPaused(started), leftMs, onStart, queueMs, started }
      const response = yield* run(request, skill, data, from).pipe(Effect.ensuring(
        Effect.map(Monotonic.millis, (now) => metrics.executed(skill.name, (now - started) / 1000))
      ))
      return yield* inParts(request, response, budget - ((yield* Monotonic.millis) - arrived))
    })
    const rest = yield* admission.admit(start, { caller: request.replyTo, onAccepted: hold, patienceMs: budget }).pipe(
      Effect.catchTags({
        Overloaded: (error) => Effect.fail(Answer.overloaded(error.message)),
        Impatient: () => Effect.fail(Answer.budgetGone(budget))
      })
    )
    return yield* rest
  }, Effect.scoped)
}
