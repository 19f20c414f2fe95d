/**
 * The operations of the client: each finds the topic, sends, waits, gives its failure a name, and leaves a span and two
 * metrics behind.
 */
import * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as Protocol from "@skillscale/core/Protocol"
import * as Topic from "@skillscale/core/Topic"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import * as Answer from "./answer.ts"
import type * as Catalog from "./catalog.ts"
import type * as Connection from "./connection.ts"
import * as Deliveries from "./deliveries.ts"
import * as Following from "./following.ts"
import * as metrics from "./metrics.ts"
import * as request from "./request.ts"
import * as Streaming from "./streaming.ts"

export interface Dependencies {
  readonly connection: Connection.Connection
  readonly deliveries: Deliveries.Deliveries
  readonly catalog: Catalog.Catalog
  readonly timeout: Duration.Duration
  readonly maxBuffered: number
  readonly window: number
  readonly leaseMs: number
}

const topologyTimeout = Duration.seconds(5)
const defaultConcurrency = 8
const streamed: ReadonlyArray<Protocol.Event> = [...Deliveries.events, "progress", "chunk"]

const decodeJson = <A>(schema: Schema.Codec<A, unknown>) => {
  const decode = Schema.decodeUnknownResult(Schema.fromJsonString(schema))
  return (response: Protocol.Response): Result.Result<A, ClientError.Reason> =>
    Result.mapError(
      decode(response.content),
      (error) => new ClientError.ProtocolError({ detail: error.message.replaceAll(/\s*\n\s*/g, " ").slice(0, 500) })
    )
}

const decodeSkill = decodeJson(Control.SkillReply)
const decodeResource = decodeJson(Control.ResourceReply)
const decodeTopology = decodeJson(Control.TopologyReply)

const failed = (operation: ClientError.Operation, skill: string | undefined) => (reason: ClientError.Reason) =>
  new ClientError.ClientError({ operation, reason, ...(typeof skill === "string" && skill !== "" ? { skill } : {}) })

const outcomeOf = (exit: Exit.Exit<unknown, ClientError.Reason>): metrics.Outcome => {
  if (Exit.isSuccess(exit)) return "Success"
  const reason = Cause.findErrorOption(exit.cause)
  if (Option.isSome(reason)) return reason.value._tag
  return Cause.hasInterrupts(exit.cause) ? "Interrupted" : "Defect"
}

const observed = <A>(
  operation: ClientError.Operation,
  skill: string | undefined,
  effect: Effect.Effect<A, ClientError.Reason>
): Effect.Effect<A, ClientError.ClientError> =>
  Effect.flatMap(Monotonic.millis, (start) =>
    Effect.onExit(effect, (exit) => {
      const outcome = outcomeOf(exit)
      return Effect.flatMap(Monotonic.millis, (end) =>
        Effect.andThen(
          Effect.annotateCurrentSpan("outcome", outcome),
          metrics.ended(operation, outcome, (end - start) / 1000)
        ))
    })).pipe(
      Effect.mapError(failed(operation, skill)),
      Effect.withSpan(`SkillClient.${operation}`, {
        kind: "client",
        attributes: skill === undefined ? {} : { skill }
      }, { captureStackTrace: false })
    )

/** A topic that no catalog told. */
const named = (topic: string): Catalog.Located => ({ topic, forget: Effect.void })

const asRun = (request: SkillClient.InvokeRequest): SkillClient.RunRequest => {
  if (typeof request !== "object" || request === null) return request
  const { data, ...rest } = request
  return { ...rest, stdin: data }
}

/** What names an operation, of a request that may be anything. */
const skillOf = (request: SkillClient.InvokeRequest | SkillClient.RunRequest): string => request?.skill ?? ""

/** Like `observed`, for what goes on until its scope closes. `note` tells how it ended, if it did. */
const observedStream = <A>(
  operation: ClientError.Operation,
  skill: string,
  make: (
    note: (outcome: metrics.Outcome) => void
  ) => Effect.Effect<Stream.Stream<A, ClientError.Reason>, ClientError.Reason, Scope.Scope>
): Stream.Stream<A, ClientError.ClientError> =>
  Stream.unwrap(Effect.gen(function*() {
    const start = yield* Monotonic.millis
    const span = yield* Effect.option(Effect.currentSpan)
    let outcome: metrics.Outcome
    // Not when the scope closes: the span has ended by then and takes no attribute.
    const note = (ended: metrics.Outcome): void => {
      outcome = ended
      if (Option.isSome(span)) span.value.attribute("outcome", outcome)
    }
    note("Interrupted")
    yield* Effect.addFinalizer(() =>
      Effect.flatMap(Monotonic.millis, (end) => metrics.ended(operation, outcome, (end - start) / 1000))
    )
    return yield* Effect.tapError(make(note), (reason) => Effect.sync(() => note(reason._tag)))
  })).pipe(
    Stream.mapError(failed(operation, skill)),
    Stream.withSpan(`SkillClient.${operation}`, { kind: "client", attributes: { skill }, captureStackTrace: false })
  )

interface Pinned {
  readonly digest?: string
}

/** Checks whom a question is for: a replica is known by its topic and its name. */
const wellPlaced = ({ server, topic }: SkillClient.QuestionOptions): Effect.Effect<void, ClientError.Reason> => {
  if (server === undefined) return Effect.void
  const refuse = (detail: string) => Effect.fail(new ClientError.BadRequest({ detail }))
  if (topic === undefined) return refuse("the request names a replica without its topic; the catalog tells both")
  return typeof server === "string" && /^[\w.-]{1,64}$/.test(server)
    ? Effect.void
    : refuse(`${JSON.stringify(server)} names no replica; the catalog tells which ones there are`)
}

/** Servers that do not know of digests here tell of what they have. */
const mismatch = (actual: string | undefined, expected: string | undefined): ClientError.Reason | undefined => {
  if (expected === undefined || actual === expected) return undefined
  return actual === undefined
    ? new ClientError.Unsupported({ fields: ["digest"] })
    : new ClientError.SkillChanged({
      digest: expected,
      detail: `the skill is now ${actual}, not ${expected}; look at it again`
    })
}

const pinned = <A>(
  reply: Result.Result<A, ClientError.Reason>,
  actual: (reply: A) => string | undefined,
  expected: string | undefined
): Result.Result<A, ClientError.Reason> =>
  Result.flatMap(reply, (value) => {
    const reason = mismatch(actual(value), expected)
    return reason === undefined ? Result.succeed(value) : Result.fail(reason)
  })

export const make = (
  { catalog, connection, deliveries, leaseMs, maxBuffered, timeout, window }: Dependencies
): SkillClient.SkillClient["Service"] => {
  const locate = Effect.fnUntraced(function*(
    skill: string,
    options: SkillClient.CallOptions & { readonly digest?: string | undefined }
  ) {
    const located = options.topic === undefined ? yield* catalog.locate(skill, options.digest) : named(options.topic)
    yield* Effect.annotateCurrentSpan("topic", located.topic)
    return located
  })

  const forgetIfContradicted = ({ forget }: Catalog.Located) => (reason: ClientError.Reason): Effect.Effect<void> =>
    reason._tag === "NoServer" || reason._tag === "SkillNotFound" ? forget : Effect.void

  const call = Effect.fnUntraced(function*<A>(
    run: SkillClient.RunRequest,
    read: (response: Protocol.Response, asked: Answer.Asked) => Result.Result<A, ClientError.Reason>
  ) {
    yield* request.checked(run)
    const budget = yield* request.budget(run.timeout ?? timeout)
    const answered = Effect.flatMap(locate(run.skill, run), (located) =>
      Effect.flatMap(
        deliveries.deliver(
          request.send(run, located.topic, budget, { accept: Deliveries.events, leaseMs }),
          budget.deadline
        ),
        (response) => Effect.fromResult(read(response, request.asked(run, located.topic, budget)))
      ).pipe(Effect.tapError(forgetIfContradicted(located))))
    return yield* request.within(answered, budget)
  })

  const ask = Effect.fnUntraced(function*<A>(
    question: SkillClient.CallOptions & {
      readonly skill: string
      readonly on: Effect.Effect<Catalog.Located, ClientError.Reason>
      readonly path?: string | undefined
      readonly digest?: string | undefined
    },
    control: (address: Connection.Address) => Control.Control,
    read: (response: Protocol.Response) => Result.Result<A, ClientError.Reason>
  ) {
    const budget = yield* request.budget(question.timeout ?? timeout)
    const answered = Effect.flatMap(
      question.on,
      (located) =>
        Effect.flatMap(connection.exchange(request.command(located.topic, control, budget.deadline)), (response) => {
          const asked: Answer.Asked = {
            skill: question.skill,
            topic: located.topic,
            script: question.path ?? "",
            digest: question.digest ?? "",
            timeoutMs: budget.timeoutMs,
            fields: []
          }
          return response.status === "error"
            ? Effect.fail(Answer.reasonOf(response, asked))
            : Effect.fromResult(read(response))
        }).pipe(Effect.tapError(forgetIfContradicted(located)))
    )
    return yield* request.within(answered, budget)
  })

  const askServer = <A>(
    skill: string,
    options: SkillClient.QuestionOptions & { readonly path?: string | undefined },
    control: (address: Connection.Address & Pinned) => Control.Control,
    read: (response: Protocol.Response) => Result.Result<A, ClientError.Reason>
  ) => {
    const { digest, server } = options
    const on = request.named({ ...options, skill }).pipe(
      Effect.andThen(wellPlaced(options)),
      Effect.andThen(locate(skill, options)),
      Effect.map(({ forget, topic }) => ({
        topic: server === undefined ? Topic.control(topic) : Topic.worker(topic, server),
        forget
      }))
    )
    const pin = digest === undefined ? {} : { digest }
    return ask({ ...options, skill, on }, (address) => control({ ...address, ...pin }), read)
  }

  const invoke: SkillClient.SkillClient["Service"]["invoke"] = (run) =>
    observed("invoke", skillOf(run), call(asRun(run), Answer.reply))

  const stream: SkillClient.SkillClient["Service"]["stream"] = (run) =>
    observedStream("stream", skillOf(run), (note) =>
      Effect.gen(function*() {
        yield* request.checked(run)
        const budget = yield* request.budget(run.timeout ?? timeout)
        const located = yield* request.within(locate(run.skill, run), budget)
        const { topic } = located
        const happening = yield* Streaming.make(deliveries, {
          asked: request.asked(run, topic, budget),
          budget,
          send: request.send(run, topic, budget, { accept: streamed, leaseMs, window }),
          maxBuffered,
          window,
          onEnd: (reason) => note(reason?._tag ?? "Success")
        })
        return Stream.tapError(happening, forgetIfContradicted(located))
      }))

  const survey = observed(
    "catalog",
    undefined,
    Effect.map(catalog.survey, ({ answered, servers, skills }) => ({ skills, answered, servers }))
  )

  return {
    invoke,
    invokeAll: (requests, options) =>
      Effect.forEach(requests, (run) => Effect.result(invoke(run)), {
        concurrency: options?.concurrency ?? defaultConcurrency
      }),
    invokeSequential: (requests) =>
      Effect.forEach(
        requests,
        (run, index) =>
          Effect.mapError(invoke(run), ({ reason }) =>
            new ClientError.ClientError({ operation: "invokeSequential", skill: skillOf(run), index, reason }))
      ),
    run: (run) => observed("run", skillOf(run), call(run, Answer.runResult)),
    stream,
    catalog: Effect.map(survey, ({ skills }) => skills),
    survey,
    changes: Stream.mapError(Following.make(connection, catalog), failed("catalog", undefined)),
    describe: (skill, options = {}) =>
      observed(
        "describe",
        skill,
        askServer(
          skill,
          options,
          (address) => ({ kind: "describe", ...address, skill }),
          (response) => pinned(decodeSkill(response), (reply) => reply.skill.digest, options.digest)
        )
      ),
    resource: (skill, path, options = {}) =>
      observed(
        "resource",
        skill,
        askServer(
          skill,
          { ...options, path },
          (address) => ({ kind: "resource", ...address, skill, path }),
          (response) =>
            Result.map(pinned(decodeResource(response), ({ digest }) => digest, options.digest), ({ data }) => data)
        )
      ),
    topology: observed(
      "topology",
      undefined,
      ask(
        { skill: "", topic: Topic.proxy, timeout: topologyTimeout, on: Effect.succeed(named(Topic.proxy)) },
        (address) => ({ kind: "topology", ...address }),
        decodeTopology
      )
    ),
    pending: Effect.sync(connection.pendingCount)
  }
}
