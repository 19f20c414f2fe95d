/** Runs a call of a skill that is a tool: arguments in, what the tool answers out. */
import type { CallToolResult } from "@modelcontextprotocol/client"
import * as Monotonic from "@skillscale/core/Monotonic"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as Executor from "@skillscale/server/Executor"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { isUtf8 } from "node:buffer"
import * as MountContent from "./mountContent.ts"
import * as MountFailure from "./mountFailure.ts"
import type { Keeper } from "./mountKeeper.ts"
import * as MountSkills from "./mountSkills.ts"

export interface Options {
  readonly name: string
  readonly keeper: Keeper
  /** Takes secrets out of what the server says of failures. */
  readonly redact: (text: string) => string
}

type Reason = SkillRunner.SkillRunError["reason"]

/** How much of what is said of the progress is kept as standard error, in bytes. */
const maxStderr = 1024 * 1024
/** How many words of progress may wait for the caller; of more the oldest are left out. */
const maxWaiting = 64

const badCall = (detail: string) => new SkillRunner.BadCall({ detail })

const what = "give the arguments as one JSON object, as data or standard input"

const refused = ({ args = [], env = {}, files = {}, script }: SkillRunner.Call): Reason | undefined => {
  const isOther = script !== undefined && script !== MountSkills.entry
  if (isOther) {
    return badCall(`the skill is a tool of an MCP server and has no scripts; leave the script out and ${what}`)
  }
  if (args.length > 0) return badCall(`the skill is a tool of an MCP server and takes no args; ${what}`)
  if (Object.keys(files).length > 0) {
    return badCall(
      `the skill is a tool of an MCP server and takes no files; put what it needs into its arguments: ${what}`
    )
  }
  if (Object.keys(env).length > 0) {
    return badCall(`the skill is a tool of an MCP server, which runs already and takes no env; ${what}`)
  }
  return undefined
}

/** What nothing stands for. */
const noArguments = Buffer.from("{}")

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const argumentsOf = (stdin: Uint8Array | undefined): Effect.Effect<Readonly<Record<string, unknown>>, Reason> => {
  const text = stdin === undefined ? "" : Buffer.from(stdin).toString("utf8").trim()
  if (text === "") return Effect.succeed({})
  if (stdin !== undefined && !isUtf8(stdin)) return Effect.fail(badCall(`the data is not UTF-8; ${what}`))
  try {
    const value: unknown = JSON.parse(text)
    if (isRecord(value)) return Effect.succeed(value)
    return Effect.fail(badCall(`the data is JSON, but not an object; ${what}`))
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 200) : String(error)
    return Effect.fail(badCall(`the data is no JSON (${why}); ${what}`))
  }
}

const executorError = (file: string, reason: Executor.Reason, stderr: string) =>
  new Executor.ExecutorError({ file, reason, stderr: Buffer.from(stderr) })

/** JSON-RPC's code for arguments that do not fit. */
const invalidParams = -32_602

/** A piece of output as it goes to the caller, in bytes. */
const pieceBytes = 64 * 1024

const tellAll = <E>(
  { onOutput }: SkillRunner.Hooks<E>,
  tag: SkillRunner.Output["_tag"],
  data: Uint8Array
): Effect.Effect<void> => {
  if (onOutput === undefined) return Effect.void
  const pieces = Array.from(
    { length: Math.ceil(data.byteLength / pieceBytes) },
    (_, index) => data.subarray(index * pieceBytes, (index + 1) * pieceBytes)
  )
  return Effect.forEach(pieces, (piece) => onOutput({ _tag: tag, data: piece }), { discard: true })
}

/** Tells the caller of the progress, in the form in which scripts tell it. */
const progress = Effect.fnUntraced(function*<E>(hooks: SkillRunner.Hooks<E>) {
  const queue = yield* Queue.make<string, Cause.Done>({ capacity: maxWaiting, strategy: "sliding" })
  let said = ""
  const tell = (text: string) =>
    Effect.suspend(() => {
      if (said.length + text.length > maxStderr) return Effect.void
      said += text
      return tellAll(hooks, "Stderr", Buffer.from(text))
    })
  const teller = yield* Effect.forkScoped(Stream.runForEach(Stream.fromQueue(queue), tell))
  return {
    onProgress: (text: string) => void Queue.offerUnsafe(queue, `::progress:: ${text.slice(0, 1000)}\n`),
    said: () => said,
    /** Waits until the caller has all that was said. */
    settle: Effect.andThen(Queue.end(queue), Fiber.await(teller))
  }
})

/** One call, on its way. */
interface Asking<E> {
  readonly beforeStart: Effect.Effect<void, E> | undefined
  readonly given: Readonly<Record<string, unknown>>
  readonly timeoutMs: number
  readonly told: Effect.Success<ReturnType<typeof progress>>
}

/** How long it takes at least until there may be another connection. */
const againAfter = "100 millis"

/** The server was gone before the call. */
const isUnheard = (error: unknown): boolean => error instanceof MountFailure.Lost && error.isUnsent && error.isGone

/** It heard the call, and may have done it. */
const failed = (detail: string) =>
  new SkillRunner.Unavailable({ detail: `the MCP server failed: ${detail}`, mayRepeat: false })

const failureOf = ({ redact }: Options, failure: MountFailure.Failure, idempotent: boolean): Reason => {
  const detail = redact(failure.message)
  if (failure._tag === "Lost") {
    const mayRepeat = failure.isUnsent || idempotent
    const began = failure.isUnsent ? "could not be asked" : "was lost during the call, which may have been done"
    return new SkillRunner.Unavailable({ detail: `the MCP server ${began}: ${detail}`, mayRepeat })
  }
  return failure.code === invalidParams
    ? badCall(`the MCP server refused the arguments: ${detail}`)
    : failed(detail)
}

const usage = (wallMs: number): Executor.Usage => ({ wallMs, userMs: 0, systemMs: 0, maxRssBytes: 0 })

/** Makes the service. */
export const make = (options: Options): SkillRunner.SkillRunner["Service"] => {
  const { keeper, name } = options

  const find = (skill: SkillDiscovery.Skill) =>
    Effect.map(SubscriptionRef.get(keeper.mounts), ({ byName }) => byName.get(skill.name))

  /** The tool as it is now, which must be what the caller saw. */
  const toolOf = Effect.fnUntraced(function*(skill: SkillDiscovery.Skill, call: SkillRunner.Call) {
    const mounted = yield* find(skill)
    const actual = mounted?.skill.digest ?? "gone"
    const expected = call.digest ?? skill.digest
    if (mounted === undefined || actual !== expected) return yield* new SkillRunner.SkillChanged({ expected, actual })
    return mounted
  })

  const resultOf = (
    mounted: MountSkills.Mounted,
    answer: CallToolResult,
    said: string,
    wallMs: number
  ): Effect.Effect<SkillRunner.RunResult, Reason> => {
    const { outputSchema } = mounted.tool
    if (outputSchema !== undefined && answer.isError !== true && answer.structuredContent === undefined) {
      return Effect.fail(failed("it answered without the structured content that the tool's outputSchema promises"))
    }
    const left = MountContent.read(answer, outputSchema !== undefined)
    if (left === MountContent.tooLarge) {
      const reason = new Executor.OutputLimit({ stream: "stdout", limitBytes: MountContent.maxOutputBytes })
      return Effect.fail(executorError(mounted.tool.name, reason, said))
    }
    return Effect.succeed({
      ...left,
      signal: "",
      stderr: Buffer.from(`${said}${left.stderr}`).subarray(0, maxStderr),
      stderrTruncated: Buffer.byteLength(said) + Buffer.byteLength(left.stderr) > maxStderr,
      usage: usage(wallMs),
      // The server ran before the call came.
      warm: true
    })
  }

  const hints = (skill: SkillDiscovery.Skill) => {
    const { byName } = SubscriptionRef.getUnsafe(keeper.mounts)
    return byName.get(skill.name)?.hints ?? MountSkills.unknownHints
  }

  /** Asks the server, and the next one when that was gone before it could hear of it. */
  const ask = Effect.fnUntraced(function*<E>(
    skill: SkillDiscovery.Skill,
    call: SkillRunner.Call,
    { beforeStart = Effect.void, given, timeoutMs, told }: Asking<E>
  ) {
    let isAsked = false
    let isStarted = false
    const fail = (reason: Reason) => new SkillRunner.SkillRunError({ skill: skill.name, reason })
    const traceparent = Option.getOrUndefined(yield* Telemetry.traceparent)
    const attempt = Effect.gen(function*() {
      const link = yield* keeper.link
      const mounted = yield* Effect.mapError(toolOf(skill, call), fail)
      if (!isStarted) yield* beforeStart
      isStarted = true
      isAsked = true
      const { onProgress } = told
      const answer = yield* link.call({ tool: mounted.tool, arguments: given, traceparent, onProgress }).pipe(
        Effect.tapError((error) => Effect.sync(() => isAsked = !isUnheard(error)))
      )
      return { answer, mounted }
    }).pipe(
      Effect.retry({ while: isUnheard, schedule: Schedule.spaced(againAfter) }),
      Effect.mapError((error) =>
        error instanceof MountFailure.Lost || error instanceof MountFailure.Refused
          ? fail(failureOf(options, error, hints(skill).idempotent))
          : error
      )
    )
    const late = Effect.suspend(() =>
      Effect.fail(fail(
        isAsked
          ? executorError(skill.name, new Executor.TimedOut({ timeoutMs }), told.said())
          : new SkillRunner.Unavailable({
            detail: `the MCP server ${name} is away and did not come back in time; try again later`,
            mayRepeat: true
          })
      ))
    )
    return yield* Number.isFinite(timeoutMs)
      ? Effect.timeoutOrElse(attempt, { duration: timeoutMs, orElse: () => late })
      : attempt
  })

  const run = Effect.fnUntraced(function*<E>(
    skill: SkillDiscovery.Skill,
    call: SkillRunner.Call,
    hooks: SkillRunner.Hooks<E>
  ) {
    const fail = (reason: Reason) => new SkillRunner.SkillRunError({ skill: skill.name, reason })
    const began = yield* Monotonic.millis
    const timeoutMs = call.timeout === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(call.timeout)
    const problem = refused(call)
    if (problem !== undefined) return yield* fail(problem)
    const given = yield* Effect.mapError(argumentsOf(call.stdin), fail)
    const told = yield* progress(hooks)
    const asking = { beforeStart: hooks.beforeStart, given, timeoutMs, told }
    const { answer, mounted } = yield* ask(skill, call, asking)
    yield* told.settle
    const ended = yield* Monotonic.millis
    const result = yield* Effect.mapError(resultOf(mounted, answer, told.said(), ended - began), fail)
    yield* tellAll(hooks, "Stdout", result.stdout)
    yield* tellAll(hooks, "Stderr", result.stderr.subarray(Buffer.byteLength(told.said())))
    return result
  }, Effect.scoped)

  return SkillRunner.SkillRunner.of({
    hints,
    isIdempotent: (skill) => hints(skill).idempotent,
    emptyInput: () => noArguments,
    run: (skill, call, hooks = {}) =>
      run(skill, call, hooks).pipe(
        Effect.withSpan("SkillRunner.run", { attributes: { skill: skill.name, digest: skill.digest } }, {
          captureStackTrace: false
        })
      )
  })
}
