/**
 * Whether calls to a topic are worth sending, as a state machine. Pure but for its own state; `deliveries.ts` gives each topic
 * one.
 *
 * Closed, it lets every call through. After so many failures in a row it opens, and refuses all of them for a period. Then
 * it is half-open and lets one call through as a trial: a success closes it, and a failure opens it for a period twice as
 * long. What became of a call that began before the last change tells nothing any more.
 */
import type * as Protocol from "@skillscale/core/Protocol"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as ClientError from "../ClientError.ts"

export type State = "Closed" | "HalfOpen" | "Open"

/** What the end of a call tells of its topic's servers. */
export type Outcome = "Success" | "Failure" | "Neither"

export interface Settings {
  /** After so many failures in a row it opens. */
  readonly failures: number
  readonly periodMs: number
  readonly longestPeriodMs: number
}

export interface Options extends Settings {
  /** From 0 to less than 1. */
  readonly random: () => number
  readonly onChange: (from: State, to: State) => void
}

/** What a call was let through with. */
export type Pass = number

export interface Circuit {
  readonly state: () => State
  /** Whether `enter` would refuse a call. */
  readonly refuses: (now: number) => boolean
  /** Lets a call through, or refuses it. Whoever was let through has to tell the end. */
  readonly enter: (now: number) => Pass | undefined
  /** How long after a refusal it may be worth to ask again. */
  readonly retryAfterMs: (now: number) => number
  /** A server has the call, which may take its time: if it is the trial, another one may be. */
  readonly onTaken: (pass: Pass) => void
  readonly onEnd: (pass: Pass, outcome: Outcome, now: number) => void
  /** Nobody is to be told of it any more. */
  readonly forget: () => void
}

export const make = ({ failures, longestPeriodMs, onChange, periodMs, random }: Options): Circuit => {
  let state: State = "Closed"
  let isForgotten = false
  let failed = 0
  let period = periodMs
  let openUntil = 0
  let lastPass: Pass = 0
  /** Passes below were given before the last change. */
  let firstPass: Pass = 0
  let trial: { readonly pass: Pass; readonly until: number } | undefined

  const change = (to: State): void => {
    const from = state
    state = to
    if (!isForgotten) onChange(from, to)
  }

  const open = (now: number): void => {
    firstPass = ++lastPass
    trial = undefined
    openUntil = now + period * (0.5 + random() / 2)
    change("Open")
  }

  const close = (): void => {
    firstPass = ++lastPass
    trial = undefined
    failed = 0
    period = periodMs
    change("Closed")
  }

  const onFailure = (now: number): void => {
    if (state === "HalfOpen") {
      period = Math.min(longestPeriodMs, period * 2)
      open(now)
    } else if (++failed >= failures) {
      open(now)
    }
  }

  const onSuccess = (): void => {
    failed = 0
    if (state === "HalfOpen") close()
  }

  const refuses = (now: number): boolean => {
    if (state === "Open") return now < openUntil
    // One that is lost and has no limit would keep everybody out for good.
    return trial !== undefined && now < trial.until
  }

  return {
    state: () => state,
    refuses,
    enter: (now) => {
      if (state === "Closed") return firstPass
      if (refuses(now)) return undefined
      if (state === "Open") change("HalfOpen")
      trial = { pass: ++lastPass, until: now + longestPeriodMs }
      return trial.pass
    },
    retryAfterMs: (now) => {
      const until = trial === undefined ? openUntil : Math.min(trial.until, now + periodMs)
      return Math.max(1, Math.ceil(until - now))
    },
    onTaken: (pass) => {
      if (trial?.pass === pass) trial = undefined
    },
    onEnd: (pass, outcome, now) => {
      if (pass < firstPass) return
      if (trial?.pass === pass) trial = undefined
      if (outcome === "Failure") onFailure(now)
      else if (outcome === "Success") onSuccess()
    },
    forget: () => {
      if (state !== "Closed" && !isForgotten) onChange(state, "Closed")
      isForgotten = true
    }
  }
}

const outcomeOfResponse = ({ code, status }: Protocol.Response): Outcome => {
  if (status === "success") return "Success"
  switch (code) {
    case "NoServer":
    case "Overloaded":
    case "ShuttingDown":
      return "Failure"
    case "TimedOut":
      return "Neither"
    default:
      return "Success"
  }
}

const outcomeOfReason = ({ _tag }: ClientError.Reason): Outcome => {
  switch (_tag) {
    case "ReplicaLost":
    case "Unreachable":
      return "Failure"
    // Somebody answered, however badly.
    case "ProtocolError":
      return "Success"
    // The request was never sent, or the client is closed.
    default:
      return "Neither"
  }
}

/** Tells what the end of a call means. One that is interrupted ended for its time if `isLate`, and else for its caller. */
export const outcomeOf = (
  exit: Exit.Exit<Protocol.Response, ClientError.Reason>,
  { isLate, isTaken }: { readonly isLate: boolean; readonly isTaken: boolean }
): Outcome => {
  if (Exit.isSuccess(exit)) return outcomeOfResponse(exit.value)
  const reason = Cause.findErrorOption(exit.cause)
  if (Option.isSome(reason)) return outcomeOfReason(reason.value)
  return Cause.hasInterrupts(exit.cause) && isLate && !isTaken ? "Failure" : "Neither"
}
