/**
 * Answers the calls of one topic: reads requests from the bus, admits them within bounds, runs the skills and publishes
 * the replies.
 *
 * Every request that tells where to answer gets exactly one final response, unless its caller cancelled it. A request that
 * is sent again while it is in hand is answered once; one that is sent again after that, by a caller that asked for
 * `accepted`, is answered with the reply that it missed. Such a caller hears four times in a lease which of its calls are in
 * hand. A call with a lease of its own ends when nothing was heard of its caller for so long. A call that must not run twice is offered before it starts, to a caller that asked for `offer`, and starts when that
 * grants it. On close the server drains: new requests are refused with
 * `ShuttingDown`, what runs may finish within the drain period, the rest is ended and answered with `ShuttingDown`. Where
 * `Dependencies` is provided, its skills are prepared as they come, and calls wait for that within their time. The proxy is
 * told how much there is in hand, so that it can give requests to servers that have less, and everybody which revision of the
 * catalog is served.
 *
 * @since 0.1.0
 */
import * as Bus from "@skillscale/core/Bus"
import * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Protocol from "@skillscale/core/Protocol"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import * as Admission from "./Admission.ts"
import * as Dependencies from "./Dependencies.ts"
import * as Executor from "./Executor.ts"
import * as Announcements from "./internal/announcements.ts"
import * as Answer from "./internal/answer.ts"
import * as Calls from "./internal/calls.ts"
import * as Controls from "./internal/controls.ts"
import * as Credits from "./internal/credits.ts"
import * as Finished from "./internal/finished.ts"
import * as Leases from "./internal/leases.ts"
import * as LoadReports from "./internal/loadReports.ts"
import * as Offers from "./internal/offers.ts"
import * as Parts from "./internal/parts.ts"
import * as Replies from "./internal/replies.ts"
import * as ReplyRoutes from "./internal/replyRoutes.ts"
import * as SchemaChecks from "./internal/schemaChecks.ts"
import * as ServerMetrics from "./internal/serverMetrics.ts"
import * as SkillRunner from "./SkillRunner.ts"

/**
 * What a server does and how much of it.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Admission.Options {
  /** The topic to serve, such as `TOPIC_DATA_PROCESSING`. */
  readonly topic: string
  /** Which skills of the catalog to serve. Default: those whose topic is `topic`. */
  readonly serves?: ((skill: SkillDiscovery.Skill) => boolean) | undefined
  /**
   * Names this replica in replies, metrics and the topics that are its own: 1 to 64 letters, digits, `.`, `_` and `-`. No two
   * replicas have the same. Default: eight random hexadecimal digits.
   */
  readonly id?: string | undefined
  /** Longest run of a call. A skill's own `skillscale.timeout` and the caller's budget can only shorten it. Default: 30 s. */
  readonly timeout?: Duration.Input | undefined
  /** How long calls in hand may go on when the server closes. Default: 10 seconds. */
  readonly drain?: Duration.Input | undefined
  /** After how much silence callers may take this server for lost. Default: 1 second. */
  readonly lease?: Duration.Input | undefined
  /** How long replies are kept for callers that did not hear them. Default: 1 minute. */
  readonly keepReplies?: Duration.Input | undefined
  /** How many bytes of such replies are kept; the oldest go first. Default: 64 MiB. */
  readonly keptReplyBytes?: number | undefined
  /**
   * Replies of more than four times as many bytes are sent in parts of so many, to callers that understand that. Default: 16 KiB.
   */
  readonly partBytes?: number | undefined
}

/**
 * A server cannot have this `id`.
 *
 * @category errors
 * @since 0.1.0
 */
export class BadServerId extends Schema.TaggedError<BadServerId>()("BadServerId", { id: Schema.String }) {
  override get message() {
    return `${JSON.stringify(this.id)} cannot name a server; give 1 to 64 letters, digits, ".", "_" and "-"`
  }
}

/**
 * Serves one topic.
 *
 * @category services
 * @since 0.1.0
 */
export class SkillServer extends Context.Service<SkillServer, {
  readonly id: string
  readonly topic: string
  readonly load: Effect.Effect<Admission.Load>
  /** The skills that are served now. */
  readonly skills: Effect.Effect<ReadonlyArray<SkillDiscovery.Skill>>
}>()("@skillscale/server/SkillServer") {}

const maxControls = 64
const idPattern = /^[\w.-]{1,64}$/
/** How many bytes of refusals are kept. */
const keptRefusalBytes = 1024 * 1024
/** While so much of answers waits for one caller, none of its calls is begun. */
const keptAnswerBytes = 64 * 1024 * 1024
/** How much of answers may wait for all callers. */
const allAnswerBytes = 256 * 1024 * 1024
/** Kept in place of a reply that the caller has. */
const confirmed = new Uint8Array()
/** What a call may end with that was offered, and did not start. */
const heldBack: ReadonlySet<string | undefined> = new Set(["NotGranted", "ShuttingDown", "Cancelled"])

/**
 * Makes a server; it answers from then on until its scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  SkillServer["Service"],
  BadServerId | Bus.BusError,
  Bus.Bus | Executor.Executor | Scope.Scope | SkillDiscovery.SkillDiscovery | SkillRunner.SkillRunner
> {
  const bus = yield* Bus.Bus
  const discovery = yield* SkillDiscovery.SkillDiscovery
  const runner = yield* SkillRunner.SkillRunner
  const executor = yield* Executor.Executor
  const dependencies = Option.getOrUndefined(yield* Effect.serviceOption(Dependencies.Dependencies))
  const { topic } = options
  const id = options.id ?? randomBytes(4).toString("hex")
  if (!idPattern.test(id)) return yield* new BadServerId({ id })
  const limit = Duration.toMillis(options.timeout ?? "30 seconds")
  const serves = options.serves ?? ((skill) => skill.topic === topic)
  const metrics = ServerMetrics.make(topic, yield* Effect.context<never>())
  const mayWork = (caller: string) => replies.hasRoom() && parts.hasRoomFor(caller)
  const admission = Admission.make({ ...options, mayWork }, (load) => {
    metrics.load(load)
    loads.load(load)
  })
  const loads = LoadReports.make({ bus, topic, id, workers: admission.workers })
  const skills = Effect.map(discovery.catalog, (catalog) => catalog.skills.filter(serves))
  const clock = yield* Clock.Clock
  const routes = ReplyRoutes.make(bus, () => Monotonic.millisOf(clock))
  const replies = Replies.make(routes, id, metrics, () => admission.reconsider())
  const { refuse } = replies
  const leaseMs = Duration.toMillis(options.lease ?? "1 second")
  const leases = yield* Leases.make({
    id,
    topic,
    leaseMs,
    replies,
    onAbandoned: (address) => end(keyOf(address), "abandoned")
  })
  const offers = Offers.make({ id, leaseMs, replies })
  const credits = Credits.make({ limitMs: limit })
  const parts = Parts.make({
    id,
    replies,
    partBytes: options.partBytes ?? 16 * 1024,
    callerBytes: keptAnswerBytes,
    totalBytes: allAnswerBytes,
    onTaken: () => admission.reconsider()
  })
  const finished = Finished.make({
    keepMs: Duration.toMillis(options.keepReplies ?? "1 minute"),
    maxBytes: options.keptReplyBytes ?? 64 * 1024 * 1024
  })
  const refused = Finished.make({
    keepMs: Duration.toMillis(options.keepReplies ?? "1 minute"),
    maxBytes: keptRefusalBytes
  })
  /** A caller that is acknowledged hears which sending of its request this answers, and how long others may be silent. */
  const toLeased = (request: Protocol.Request, response: Protocol.Response): Protocol.Response =>
    request.accept?.includes("accepted") === true ? { ...Answer.ofAttempt(request, response), leaseMs } : response
  const work = Calls.make({
    id,
    topic,
    limitMs: limit,
    maxWaiting: options.queue ?? 64,
    skills,
    dependencies,
    discovery,
    runner,
    admission,
    metrics,
    replies,
    leases,
    offers,
    credits,
    parts,
    checks: yield* SchemaChecks.make({ maxWaiting: options.queue ?? 64 }),
    toFinal: (request, response) => replies.signed(toLeased(request, response))
  })
  let draining = false

  const inHand = yield* FiberMap.make<string, void, never>()
  /** Which calls are being ended for whose sake. */
  const ending = new Map<string, "cancelled" | "abandoned">()
  /** The `attempt` of each request in hand. */
  const attempts = new Map<string, number>()
  const { keyOf } = Replies

  /**
   * Sends the final response, and keeps it for a caller that may ask again. What is worth another try says after which offers
   * it was sent; it is kept for a caller that asks, since what it granted may not have started, and not for one that tries.
   */
  const sendFinal = Effect.fnUntraced(function*(request: Protocol.Request, outcome: Protocol.Response) {
    const isLeased = request.accept?.includes("accepted") === true
    const response = isLeased ? Answer.ofAttempt(request, outcome) : outcome
    if (response.retryable === true) {
      const offer = request.accept?.includes("offer") === true ? { offer: offers.next() } : {}
      const payload = yield* replies.sendFinal(request.replyTo, { ...response, ...offer })
      if (heldBack.has(response.code)) refused.keep(keyOf(request), payload, yield* Monotonic.millis)
      return
    }
    const payload = yield* replies.sendFinal(request.replyTo, toLeased(request, outcome))
    if (isLeased) finished.keep(keyOf(request), payload, yield* Monotonic.millis)
  })

  /** Answers a call that is known here; tells whether it is. */
  const again = Effect.fnUntraced(function*(address: Replies.Address) {
    const key = keyOf(address)
    if (FiberMap.hasUnsafe(inHand, key)) {
      yield* leases.remind(address)
      parts.remind(address)
      return true
    }
    const payload = finished.find(key, yield* Monotonic.millis)
    if (payload === undefined) return false
    if (payload !== confirmed) yield* replies.publish(address, payload)
    return true
  })

  /** Only the work can be interrupted: once there is an outcome, it is sent, and only once. */
  const handle = (request: Protocol.Request, arrived: number) =>
    Effect.uninterruptibleMask((restore) => {
      let skill = ServerMetrics.unknownSkill
      let mayRepeat = true
      const finish = Effect.fnUntraced(function*(exit: Exit.Exit<Calls.Outcome, Answer.Refusal>) {
        if (Exit.isSuccess(exit)) {
          const { delivery, response } = exit.value
          metrics.request(skill, response.status === "success" ? "success" : response.code ?? "SkillFailed")
          switch (delivery) {
            case "open":
              return yield* sendFinal(request, response)
            case "confirmed":
              return finished.keep(keyOf(request), confirmed, yield* Monotonic.millis)
            case "unconfirmed":
              metrics.dropped("reply")
              return yield* Effect.logWarning("gave up an answer that its caller does not take").pipe(
                Effect.annotateLogs({ topic, requestId: request.requestId, replyTo: request.replyTo })
              )
          }
        }
        switch (ending.get(keyOf(request))) {
          case "cancelled":
            return metrics.request(skill, "Cancelled")
          case "abandoned":
            return yield* turnAway(Answer.abandoned(mayRepeat))
        }
        const refusal = Cause.findErrorOption(exit.cause)
        if (Option.isSome(refusal)) return yield* turnAway(refusal.value)
        if (Cause.hasInterruptsOnly(exit.cause)) return yield* turnAway(Answer.shuttingDown(id, mayRepeat))
        yield* Effect.logError("a call failed inside the server", exit.cause)
        return yield* turnAway(Answer.internal(Cause.squash(exit.cause)))
      })
      const turnAway = (refusal: Answer.Refusal) => {
        metrics.request(skill, refusal.code)
        return sendFinal(request, Answer.refusal(request.requestId, refusal))
      }
      const seen = {
        onSkill: (name: string) => skill = name,
        onStart: (isIdempotent: boolean) => mayRepeat = isIdempotent
      }
      return restore(work(request, arrived, seen)).pipe(
        Effect.exit,
        Effect.flatMap(finish),
        Effect.ensuring(Effect.sync(() => {
          ending.delete(keyOf(request))
          attempts.delete(keyOf(request))
          leases.release(request)
        }))
      )
    }).pipe(
      Effect.withSpan("SkillServer.handle", {
        kind: "server",
        attributes: { topic, requestId: request.requestId, server: id }
      }, { captureStackTrace: false }),
      Telemetry.withTraceparent(request.traceparent)
    )

  const onRequest = Effect.fnUntraced(function*(message: Bus.Message) {
    loads.received()
    const arrived = yield* Monotonic.millis
    const decoded = Protocol.decodeRequest(message.frames)
    if (Result.isFailure(decoded)) {
      const { requestId, replyTo } = decoded.failure
      if (replyTo !== undefined) routes.learn(replyTo, message)
      yield* Effect.logWarning("refused a message", decoded.failure.detail).pipe(
        Effect.annotateLogs({ topic, reason: decoded.failure.reason, replyTo: replyTo ?? "(unknown)" })
      )
      if (replyTo === undefined) return metrics.dropped(decoded.failure.reason)
      const refusal = Answer.badRequest(decoded.failure)
      return yield* refuse({ replyTo, requestId: requestId ?? Protocol.unknownId }, ServerMetrics.unknownSkill, refusal)
    }
    const request = decoded.success
    hear(request.replyTo, message)
    if (yield* again(request)) {
      metrics.dropped("duplicate")
      return yield* Effect.logInfo("did not run a request again that was sent again").pipe(
        Effect.annotateLogs({ topic, requestId: request.requestId, replyTo: request.replyTo })
      )
    }
    if (draining) return yield* refuse(request, ServerMetrics.unknownSkill, Answer.shuttingDown(id))
    attempts.set(keyOf(request), request.attempt ?? 0)
    yield* FiberMap.run(inHand, keyOf(request), handle(request, arrived))
  })

  const end = (key: string, why: "cancelled" | "abandoned"): void => {
    const fiber = FiberMap.getUnsafe(inHand, key)
    if (Option.isNone(fiber)) return
    ending.set(key, why)
    fiber.value.interruptUnsafe()
  }

  /** Someone was heard, through whatever this came through. */
  const hear = (replyTo: string, message: Bus.Message): void => {
    routes.learn(replyTo, message)
    leases.heard(replyTo)
  }

  const resending = yield* FiberMap.make<string, void, never>()
  /** While that waits for the bus, others are heard. */
  const sendAgain = (address: Replies.Address, events: ReadonlyArray<Protocol.Response>) =>
    events.length === 0 ? Effect.void : FiberMap.run(
      resending,
      keyOf(address),
      Effect.forEach(events, (event) => replies.send(address.replyTo, event), { discard: true }),
      { onlyIfMissing: true }
    )

  const controls = yield* Controls.make({
    id,
    topic,
    skills,
    discovery,
    dependencies,
    hints: runner.hints,
    reply: replies.sendFinal,
    maxConcurrent: maxControls
  })

  const onControl = Effect.fnUntraced(function*(message: Bus.Message) {
    const decoded = Control.decode(message.frames)
    if (Result.isFailure(decoded)) {
      const { requestId = Protocol.unknownId, replyTo } = decoded.failure
      if (replyTo !== undefined) {
        routes.learn(replyTo, message)
        return yield* replies.sendFinal(replyTo, Answer.refusal(requestId, Answer.badRequest(decoded.failure)))
      }
      yield* Effect.logWarning("dropped a control message", decoded.failure.detail)
      return metrics.dropped("control")
    }
    const control = decoded.success
    hear(control.replyTo, message)
    switch (control.kind) {
      case "cancel":
        // It may have been on its way for so long that the call has come here anew.
        if ((attempts.get(keyOf(control)) ?? 0) > (control.attempt ?? Number.POSITIVE_INFINITY)) return
        return end(keyOf(control), "cancelled")
      case "grant":
        return offers.grant(control, control.offer)
      case "read":
        return yield* sendAgain(control, credits.read(control, control, yield* Monotonic.millis))
      case "received":
        return parts.received(control, control.attempt, control.parts, yield* Monotonic.millis)
      case "waiting":
        return
      case "renew": {
        if (yield* again(control)) return
        const refusal = refused.find(keyOf(control), yield* Monotonic.millis)
        if (refusal !== undefined) return yield* replies.publish(control, refusal)
        return yield* replies.send(control.replyTo, Answer.unknown(control.requestId, id, offers.next()))
      }
      default:
        return yield* controls.ask(control)
    }
  })

  const onMessage = (message: Bus.Message) => {
    metrics.received(message.frames.reduce((sum, frame) => sum + frame.byteLength, 0))
    return Effect.catchDefect(message.topic === topic ? onRequest(message) : onControl(message), (defect) => {
      metrics.dropped("internal")
      return Effect.logError("a message failed inside the server", defect)
    })
  }

  yield* metrics.present(id, executor.capabilities.name)
  yield* Stream.runForEach(
    discovery.changes,
    () => Effect.map(skills, (served) => metrics.skills(served.length))
  ).pipe(Effect.forkScoped)

  if (dependencies !== undefined) {
    const served = Stream.map(discovery.changes, (catalog) => catalog.skills.filter(serves))
    yield* Effect.forkScoped(dependencies.follow(served))
    yield* Stream.runForEach(dependencies.changes, () =>
      Effect.map(skills, (served) => {
        const counts = { ready: 0, preparing: 0, failed: 0 }
        for (const skill of served) counts[dependencies.state(skill).status] += 1
        metrics.dependencies(counts)
      })).pipe(Effect.forkScoped)
  }

  const subscribed = yield* Scope.fork(yield* Effect.scope)
  const subscribe = bus.subscription([Topic.worker(topic, id), topic, Topic.control(topic), Topic.everyServer])
  const listen = (messages: Stream.Stream<Bus.Message, Bus.BusError>) =>
    Stream.runForEach(messages, onMessage).pipe(
      Effect.catchIf((error) => error.reason._tag === "Closed", () => Effect.void)
    )
  const reader = yield* listen(yield* Scope.provide(subscribe, subscribed)).pipe(
    Effect.catch((error) =>
      Effect.andThen(
        Effect.logError("the subscription broke and is opened again", error.message),
        Effect.retry(Effect.scoped(Effect.flatMap(subscribe, listen)), Schedule.spaced("1 second"))
      )
    ),
    Effect.ignore,
    Effect.forkScoped
  )
  yield* Effect.forkScoped(loads.run)
  const announcements = Announcements.make({
    bus,
    topic,
    id,
    revision: controls.revision,
    changes: dependencies === undefined
      ? discovery.changes
      : Stream.merge(discovery.changes, dependencies.changes)
  })
  const announcing = yield* Effect.forkScoped(announcements.run)
  yield* Effect.addFinalizer(Effect.fnUntraced(function*() {
    draining = true
    loads.retire()
    yield* Fiber.interrupt(announcing)
    yield* announcements.leave
    const finished = yield* Effect.timeoutOption(FiberMap.awaitEmpty(inHand), options.drain ?? "10 seconds")
    if (Option.isNone(finished)) {
      yield* Effect.logWarning("ending calls that did not end within the drain period")
      yield* FiberMap.clear(inHand)
    }
    // What came before the subscription ended is still read, and refused.
    yield* Scope.close(subscribed, Exit.void)
    yield* Effect.timeoutOption(Effect.andThen(Fiber.await(reader), controls.settled), "1 second")
  }))
  yield* Effect.logInfo("serving").pipe(
    Effect.annotateLogs({ topic, server: id, executor: executor.capabilities.name })
  )

  return SkillServer.of({ id, topic, load: admission.load, skills })
})

/**
 * Serves one topic for as long as the layer lives.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<
  SkillServer,
  BadServerId | Bus.BusError,
  Bus.Bus | Executor.Executor | SkillDiscovery.SkillDiscovery | SkillRunner.SkillRunner
> => Layer.effect(SkillServer, make(options))
