/**
 * Writes requests that servers of both versions understand.
 *
 * Input that is valid UTF-8 travels once, as the intent's data; bytes that are not, and large text that is smaller so,
 * travel as `stdin`.
 */
import * as Control from "@skillscale/core/Control"
import * as Monotonic from "@skillscale/core/Monotonic"
import * as Protocol from "@skillscale/core/Protocol"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { isUtf8 } from "node:buffer"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import type * as Answer from "./answer.ts"
import type * as Circuit from "./circuit.ts"
import type * as Connection from "./connection.ts"

/** A span of time that ends at `deadline` (in ms, monotonic); infinite when the caller set no limit. */
export interface Budget {
  readonly timeoutMs: number
  readonly deadline: number
}

/** Reads a duration of 0 or more. */
export const duration = (input: Duration.Input): Effect.Effect<Duration.Duration, ClientError.Reason> => {
  const read = Duration.fromInput(input)
  if (Option.isSome(read) && Duration.toMillis(read.value) >= 0) return Effect.succeed(read.value)
  const detail = `${JSON.stringify(input)} is not a duration of 0 or more, such as 500 or "30 seconds"`
  return Effect.fail(new ClientError.BadRequest({ detail }))
}

/** Reads a bound. */
export const bound = (name: string, value: number): Effect.Effect<number, ClientError.Reason> =>
  Number.isSafeInteger(value) && value >= 1
    ? Effect.succeed(value)
    : Effect.fail(new ClientError.BadRequest({ detail: `${name} is ${value}; give a whole number of 1 or more` }))

/** Reads after how much silence of the client its calls may be ended, in milliseconds. */
export const lease = Effect.fnUntraced(function*(
  input: Duration.Input
): Effect.fn.Return<number, ClientError.Reason> {
  const leaseMs = Duration.toMillis(yield* duration(input))
  if (leaseMs >= 1000) return leaseMs
  return yield* new ClientError.BadRequest({ detail: `lease is ${leaseMs} ms; give 1 second or more` })
})

/** Reads when calls are refused; undefined for never. */
export const circuit = Effect.fnUntraced(function*(
  options: SkillClient.CircuitOptions | "off"
): Effect.fn.Return<Circuit.Settings | undefined, ClientError.Reason> {
  const refuse = (detail: string) => new ClientError.BadRequest({ detail })
  if (options === "off") return undefined
  if (typeof options !== "object" || options === null) {
    return yield* refuse(`circuit is ${options}; give an object, or "off"`)
  }
  const { failures = 20 } = options
  if (!Number.isSafeInteger(failures) || failures < 1) {
    return yield* refuse(`circuit.failures is ${failures}; give a whole number of 1 or more`)
  }
  const periodMs = Duration.toMillis(yield* duration(options.period ?? "1 second"))
  const longestPeriodMs = Duration.toMillis(yield* duration(options.longestPeriod ?? Math.max(30_000, periodMs)))
  if (longestPeriodMs < periodMs || longestPeriodMs === Infinity) {
    return yield* refuse(
      `circuit.period is ${periodMs} ms and circuit.longestPeriod ${longestPeriodMs} ms; give finite ones, the first not ` +
        "longer than the second"
    )
  }
  return { failures, periodMs, longestPeriodMs }
})

/** Starts the time of a call. */
export const budget = (timeout: Duration.Input): Effect.Effect<Budget, ClientError.Reason> =>
  Effect.zipWith(duration(timeout), Monotonic.millis, (allowed, now) => {
    const timeoutMs = Duration.toMillis(allowed)
    return { timeoutMs, deadline: now + timeoutMs }
  })

export const remaining = ({ deadline }: Budget): Effect.Effect<number> =>
  Effect.map(Monotonic.millis, (now) => Math.max(0, deadline - now))

/** Fails with `Timeout` when the time of the call ends first. */
export const within = <A, R>(
  effect: Effect.Effect<A, ClientError.Reason, R>,
  budget: Budget
): Effect.Effect<A, ClientError.Reason, R> => {
  const { timeoutMs } = budget
  const late = () => Effect.fail(new ClientError.Timeout({ timeoutMs, retryable: false }))
  return Effect.flatMap(remaining(budget), (left) => Effect.timeoutOrElse(effect, { duration: left, orElse: late }))
}

interface Input {
  readonly text: string
  readonly bytes: Uint8Array | undefined
}

const largeText = 8 * 1024 * 1024

/** As data in an intent every text is escaped twice; one that is large and full of escapes is smaller as bytes. */
const isDense = (text: string): boolean => text.length > largeText && JSON.stringify(text).length > text.length * 1.2

const textInput = (text: string): Input =>
  isDense(text) ? { text: "", bytes: Buffer.from(text) } : { text, bytes: undefined }

const inputOf = (input: string | Uint8Array | undefined): Input => {
  if (input === undefined) return { text: "", bytes: undefined }
  if (typeof input === "string") return textInput(input)
  if (!isUtf8(input)) return { text: "", bytes: input }
  return textInput(Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString("utf8"))
}

const isFilled = (value: object | undefined): boolean => value !== undefined && Object.keys(value).length > 0

export const asked = (request: SkillClient.RunRequest, topic: string, { timeoutMs }: Budget): Answer.Asked => ({
  skill: request.skill,
  topic,
  script: request.script ?? "",
  digest: request.digest ?? "",
  timeoutMs,
  fields: [
    ...(request.script === undefined ? [] : ["script"]),
    ...(isFilled(request.args) ? ["args"] : []),
    ...(inputOf(request.stdin).bytes === undefined ? [] : ["stdin"]),
    ...(isFilled(request.env) ? ["env"] : []),
    ...(isFilled(request.files) ? ["files"] : []),
    ...(request.digest === undefined ? [] : ["digest"])
  ]
})

/** What the caller asks of the server besides the run. */
export interface Terms {
  readonly accept: ReadonlyArray<Protocol.Event>
  /** After how much silence of the client the call may be ended, in milliseconds; infinite for never. */
  readonly leaseMs: number
  readonly window?: number | undefined
}

export const send = (
  request: SkillClient.RunRequest,
  topic: string,
  budget: Budget,
  { accept, leaseMs, window }: Terms
): Connection.Send => ({
  topic,
  cancelOn: topic,
  firstAttempt: request.attempt,
  deadline: budget.deadline,
  encode: Effect.fnUntraced(function*(address, attempt) {
    const { bytes, text } = inputOf(request.stdin)
    const traceparent = yield* Telemetry.traceparent
    const now = yield* Clock.currentTimeMillis
    return Protocol.encodeRequest({
      ...address,
      v: 2,
      skill: request.skill,
      intent: Protocol.makeIntent(request.skill, text),
      timestamp: now / 1000,
      ...(bytes === undefined ? {} : { stdin: bytes }),
      ...(request.script === undefined ? {} : { script: request.script }),
      ...(request.args === undefined ? {} : { args: request.args }),
      ...(request.env === undefined ? {} : { env: request.env }),
      ...(request.files === undefined ? {} : { files: request.files }),
      ...(request.digest === undefined ? {} : { digest: request.digest }),
      ...(request.attempt === undefined && attempt === 0 ? {} : { attempt: (request.attempt ?? 0) + attempt }),
      ...(budget.deadline === Infinity ? {} : { timeoutMs: yield* remaining(budget) }),
      accept,
      ...(leaseMs === Infinity ? {} : { leaseMs }),
      ...(window === undefined ? {} : { window }),
      ...(Option.isNone(traceparent) ? {} : { traceparent: traceparent.value })
    })
  })
})

export const command = (
  topic: string,
  make: (address: Connection.Address) => Control.Control,
  deadline?: number
): Connection.Send => ({
  topic,
  deadline,
  encode: (address) => Effect.succeed(Control.encode(make(address)))
})

/** Fails for what a program without types may pass. */
export const checked = (request: SkillClient.RunRequest): Effect.Effect<void, ClientError.Reason> =>
  orBadRequest(Result.flatMap(wellNamed(request), () => wellFormed(request)))

/** Checks what a program without types may get wrong about whom it asks. */
export const named = (request: SkillClient.CallOptions & { readonly skill: string }) => orBadRequest(wellNamed(request))

const orBadRequest = (checked: Result.Result<void, string>): Effect.Effect<void, ClientError.Reason> =>
  Result.match(checked, {
    onSuccess: () => Effect.void,
    onFailure: (detail) => Effect.fail(new ClientError.BadRequest({ detail }))
  })

const wellNamed = (request: SkillClient.CallOptions & { readonly skill: string }): Result.Result<void, string> => {
  if (typeof request !== "object" || request === null) return Result.fail("the request is not an object")
  const { skill, topic } = request
  if (typeof skill !== "string" || skill === "") return Result.fail("the request names no skill")
  return topic === undefined || typeof topic === "string" && topic !== ""
    ? Result.void
    : Result.fail("the topic is not a name such as TOPIC_DATA_PROCESSING")
}

const wellFormed = ({ stdin }: SkillClient.RunRequest): Result.Result<void, string> => {
  return stdin === undefined || typeof stdin === "string" || stdin instanceof Uint8Array
    ? Result.void
    : Result.fail("the data is neither a string nor a Uint8Array; encode it, for instance with JSON.stringify")
}
