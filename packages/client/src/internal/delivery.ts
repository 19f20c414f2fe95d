/**
 * What happens to one call between its request and its final answer, as a state machine: who has it, whether that replica is
 * still there, and what to send next. Pure but for its own state; `deliveries.ts` gives it time and a bus.
 *
 * Without an answer in time the request is sent again, once a server of its topic acknowledged anything since it was sent: the
 * same request twice is one call for those that do, and the proxy gave it to one of them. A replica that acknowledged it holds it, and is silent for no longer than its lease; then it is
 * asked once, and is lost when it does not answer. What it held is sent again, to whoever is there, unless it was granted: a
 * call that must not run twice is granted to one replica only, and is lost with it.
 */
import type * as Protocol from "@skillscale/core/Protocol"
import * as Result from "effect/Result"
import * as ClientError from "../ClientError.ts"
import * as Parts from "./parts.ts"

/** What to do next. */
export type Step =
  | { readonly _tag: "Send"; readonly attempt: number }
  /** Find out whether servers of the topic are there that acknowledge requests; a tick follows when they are. */
  | { readonly _tag: "Ping" }
  | { readonly _tag: "Renew"; readonly server: string }
  | { readonly _tag: "Grant"; readonly server: string; readonly offer: number }
  /** So many parts of the final response came in a row. */
  | { readonly _tag: "Received"; readonly server: string; readonly attempt: number; readonly parts: number }
  /** To a replica other than the one that has the call. What is sent after this attempt is not meant. */
  | { readonly _tag: "Cancel"; readonly server: string; readonly attempt: number }
  /** To all servers of the topic, one of which may have it besides the one that answered. */
  | { readonly _tag: "Recall" }
  /** Take a turn after this time, in milliseconds. `isFull` tells that it is because a server was full. */
  | { readonly _tag: "Wait"; readonly ms: number; readonly isFull: boolean }
  | { readonly _tag: "Event"; readonly response: Protocol.Response }
  | { readonly _tag: "Finish"; readonly response: Protocol.Response }
  | { readonly _tag: "Fail"; readonly reason: ClientError.Reason }

/** What is known of a topic's servers, shared by all calls to it. */
export interface Habits {
  /** Whether they acknowledge requests; undefined when that is not known. */
  acknowledges: boolean | undefined
  /**
   * When one of them acknowledged anything last, or nobody was there who could have a request. What was sent before that can be
   * sent again: none that acknowledges nothing has it.
   */
  clearAt: number
}

export interface Options {
  readonly topic: string
  /** In milliseconds of the same clock as every `now`. */
  readonly deadline: number
  readonly ackMs: number
  readonly habits: Habits
  /** When output or parts of final responses came last, of any call: from this replica, or from any. */
  readonly bulkAt?: ((server?: string) => number) | undefined
  /** From 0 to less than 1. */
  readonly random: () => number
}

export interface Delivery {
  readonly begin: (now: number) => ReadonlyArray<Step>
  /** What was to be sent has left this process, so many bytes of it. */
  readonly onSent: (bytes: number, now: number) => void
  readonly onResponse: (response: Protocol.Response, now: number) => ReadonlyArray<Step>
  readonly onTick: (now: number) => ReadonlyArray<Step>
  /** The wait is over. */
  readonly onTurn: (now: number) => ReadonlyArray<Step>
  /** Messages may have been lost, in both directions. */
  readonly onRestored: (now: number) => ReadonlyArray<Step>
}

/** How long a replica that fell silent has to answer when it is asked. */
export const renewMs = 250
/**
 * How long it has when the call cannot be sent to another: nothing is won by giving it up soon, and a replica that encodes a large
 * answer on a busy machine may be silent for longer than its lease.
 */
export const patienceMs = 5000
/** How long it has while output or parts of answers arrive, behind which its answer may be. */
const busyRenewMs = 500
/** How long after such a message more of them may be on their way. */
const bulkMs = 1000
/** How long a topic that was served may be without a server, so that one that restarts loses no call. */
export const absenceMs = 2000
/**
 * How many bytes of a request are given a millisecond more on their way to a replica, and twice as long each time: sent again too
 * soon over a slow connection, a large one would only hold itself up.
 */
const bytesPerMs = 4000
/** The lease of a replica that did not say it yet. */
const firstLeaseMs = 1000
const longestAckMs = 2000
const firstBackoffMs = 20
const longestBackoffMs = 1000

interface Holder {
  readonly server: string
  leaseMs: number
  heardAt: number
  /** Since when it is asked whether it still has the call. */
  askedAt: number | undefined
  /** When it was asked last. */
  renewedAt: number
  /** Whether the caller was told of it. */
  isTold: boolean
}

const refusals: ReadonlySet<string | undefined> = new Set(["Overloaded", "ShuttingDown", "NotGranted", "Cancelled"])

export const make = (
  { ackMs, bulkAt = () => Number.NEGATIVE_INFINITY, deadline, habits, random, topic }: Options
): Delivery => {
  let attempt = 0
  let sentAt = 0
  let transitMs = 0
  /** How often in a row it was sent again since nobody said anything of it. */
  let misses = 0
  /** It was sent again although it was not refused, so that somebody may have it of whom nothing was heard. */
  let isAstray = false
  let refused = 0
  /** Why it is to be sent again as soon as that can be. */
  let overdue: "Unheard" | "Restored" | undefined
  /** Nothing was sent yet, or nothing is to be sent before its turn. */
  let isWaiting = true
  /** The first and the last time that nobody served the topic. */
  let absent: { readonly since: number; readonly last: number } | undefined
  let holder: Holder | undefined
  let granted: { readonly server: string; offer: number } | undefined
  /** Which run's output, if that says so, was passed on in part, which a second run would repeat. */
  let told: { readonly server: string | undefined; readonly attempt: number | undefined } | undefined
  /** Replicas that were sent a cancellation, and the last attempt that it meant: what they say of that may be over. */
  const cancelled = new Map<string, number>()
  let parts: Parts.Parts | undefined
  let isOver = false

  const finish = (response: Protocol.Response, ...others: ReadonlyArray<Step>): ReadonlyArray<Step> => {
    isOver = true
    return [...others, ...isAstray ? [{ _tag: "Recall" } as const] : [], { _tag: "Finish", response }]
  }

  const send = (now: number): ReadonlyArray<Step> => {
    attempt += 1
    sentAt = now
    overdue = undefined
    isWaiting = false
    holder = undefined
    return [{ _tag: "Send", attempt }]
  }

  const retryLater = (now: number, response: Protocol.Response): ReadonlyArray<Step> => {
    const { settleMs = Number.POSITIVE_INFINITY } = response
    const most = Math.min(longestBackoffMs, firstBackoffMs * 2 ** Math.min(refused++, 10))
    const ms = Math.min(most * (0.5 + random() / 2), settleMs)
    if (now + ms >= deadline) return finish(response)
    holder = undefined
    isWaiting = true
    return [{ _tag: "Wait", ms, isFull: response.code === "Overloaded" }]
  }

  /** Whether what a replica said was said before it offered what it was granted. */
  const isStale = (server: string, { offer = 0 }: Protocol.Response): boolean =>
    granted?.server === server && offer <= granted.offer

  const mayRepeat = (): boolean => granted === undefined && told === undefined

  const isToldElsewhere = (server: string | undefined): boolean =>
    told?.server !== undefined && server !== undefined && told.server !== server

  /** Whether this is said of a run that was told to end. One that does not say which it is is the last. */
  const isCancelled = (server: string, { attempt: of = attempt }: Protocol.Response): boolean =>
    of <= (cancelled.get(server) ?? -1)

  /** By how much later a run this is said of than that which was passed on, of the same replica. */
  const laterThanTold = (server: string | undefined, { attempt: of }: Protocol.Response): number =>
    server === undefined || told?.server !== server || of === undefined ? 0 : of - (told.attempt ?? of)

  /** Whether this replica cannot have the call any more. */
  const isOut = (server: string, response: Protocol.Response): boolean =>
    isCancelled(server, response) || granted !== undefined && granted.server !== server ||
    isToldElsewhere(server)

  const cancel = (server: string): Step => {
    cancelled.set(server, attempt)
    return { _tag: "Cancel", server, attempt }
  }

  const lost = (now: number, server: string): ReadonlyArray<Step> => {
    misses = 0
    isAstray = true
    if (mayRepeat()) return send(now)
    isOver = true
    return [{ _tag: "Fail", reason: new ClientError.ReplicaLost({ server, topic }) }]
  }

  const alive = (server: string, now: number, leaseMs: number | undefined): void => {
    if (holder?.server !== server) return
    holder.heardAt = now
    holder.askedAt = undefined
    holder.leaseMs = leaseMs ?? holder.leaseMs
  }

  /** Lets a replica have the call, or tells it to end it when another has it. */
  const holdBy = (response: Protocol.Response, server: string, now: number): ReadonlyArray<Step> => {
    if (holder?.server === server) {
      alive(server, now, response.leaseMs)
      return []
    }
    // Whoever has it already keeps it, unless it is silent and may be gone.
    const keeps = holder !== undefined && holder.askedAt === undefined
    if (keeps || isOut(server, response)) return [cancel(server)]
    const silent = holder?.server
    const { leaseMs = Number.POSITIVE_INFINITY } = response
    holder = { server, leaseMs, heardAt: now, askedAt: undefined, renewedAt: 0, isTold: false }
    isWaiting = false
    return silent === undefined ? [] : [cancel(silent)]
  }

  /** A replica says that it has the call. */
  const onHeld = (response: Protocol.Response, server: string, now: number): ReadonlyArray<Step> => {
    const steps = holdBy(response, server, now)
    if (holder?.server !== server || holder.isTold) return steps
    holder.isTold = true
    return [...steps, { _tag: "Event", response }]
  }

  /** A replica asks whether the call, which may run twice, is still waited for. */
  const onQuestion = (response: Protocol.Response, server: string, now: number): ReadonlyArray<Step> => {
    const steps = holdBy(response, server, now)
    return holder?.server === server ? [...steps, { _tag: "Grant", server, offer: response.offer ?? 0 }] : steps
  }

  const onOffer = (response: Protocol.Response, server: string, now: number): ReadonlyArray<Step> => {
    if (isOut(server, response)) return [cancel(server)]
    // It was sent before the output.
    if (told !== undefined) return []
    const { offer = 0 } = response
    const former = holder?.server
    if (former !== server) {
      const leaseMs = Number.POSITIVE_INFINITY
      holder = { server, leaseMs, heardAt: now, askedAt: undefined, renewedAt: 0, isTold: false }
      isWaiting = false
    }
    alive(server, now, response.leaseMs)
    granted = { server, offer: Math.max(offer, granted?.offer ?? 0) }
    const grant: Step = { _tag: "Grant", server, offer }
    return former === undefined || former === server ? [grant] : [grant, cancel(former)]
  }

  const onOutput = (response: Protocol.Response, server: string | undefined, now: number): ReadonlyArray<Step> => {
    // Without its beginning it binds the call to nobody.
    const isAhead = told === undefined && (response.seq ?? 0) > 0
    if (server !== undefined) {
      if (isOut(server, response) || holder !== undefined && holder.server !== server) return []
      // What says that it has the call may come later, or never.
      holder ??= { server, leaseMs: firstLeaseMs, heardAt: now, askedAt: undefined, renewedAt: 0, isTold: !isAhead }
      isWaiting = false
      alive(server, now, undefined)
    }
    if (isAhead) return []
    if (response.event === "chunk" || response.event === "progress" || response.seq === 0) {
      told ??= { server, attempt: response.attempt }
    }
    return [{ _tag: "Event", response }]
  }

  const onPart = (response: Protocol.Response, server: string, now: number): ReadonlyArray<Step> => {
    const { attempt: of = 0 } = response
    if (isOut(server, response) || holder !== undefined && holder.server !== server) return []
    holder ??= { server, leaseMs: firstLeaseMs, heardAt: now, askedAt: undefined, renewedAt: 0, isTold: true }
    isWaiting = false
    alive(server, now, undefined)
    if (parts === undefined || parts.server !== server || parts.attempt < of) parts = Parts.make(server, of)
    if (parts.attempt > of) return []
    const taken = Parts.take(parts, response)
    if (Result.isFailure(taken)) {
      isOver = true
      return [{ _tag: "Fail", reason: taken.failure }, { _tag: "Cancel", server, attempt }]
    }
    const received: Step = { _tag: "Received", server, attempt: of, parts: parts.texts.length }
    return taken.success === undefined
      ? [received]
      : [received, ...onFinal({ ...taken.success, attempt: of }, now)]
  }

  const onFinal = (response: Protocol.Response, now: number): ReadonlyArray<Step> => {
    const { code, server } = response
    // It is of another run than what was passed on.
    if (isToldElsewhere(server)) return []
    const fromHolder = holder === undefined || server === undefined || holder.server === server
    if (code === "NoServer" && server === undefined) {
      // The proxy's answer to a request that was sent again while somebody has the call.
      if (holder !== undefined) return []
      // Servers may be on their way back to it.
      if (response.settleMs !== undefined) return retryLater(now, response)
      absent = { since: absent === undefined || now - absent.last > absenceMs / 2 ? now : absent.since, last: now }
      const waits = habits.acknowledges === true && now - absent.since < absenceMs
      return waits ? retryLater(now, response) : finish(response)
    }
    if (refusals.has(code) && response.retryable !== false) {
      if (!fromHolder || server !== undefined && (isStale(server, response) || isCancelled(server, response))) return []
      if (told !== undefined) return finish(response)
      granted = undefined
      return retryLater(now, response)
    }
    return fromHolder || holder === undefined
      ? finish(response)
      : finish(response, cancel(holder.server))
  }

  const onResponse = (response: Protocol.Response, now: number): ReadonlyArray<Step> => {
    const { event, server } = response
    if (server !== undefined) {
      absent = undefined
      misses = 0
    }
    if (response.leaseMs !== undefined) {
      habits.acknowledges = true
      habits.clearAt = now
    }
    const later = laterThanTold(server, response)
    if (later < 0) return []
    // The run that was passed on is over.
    if (later > 0 && server !== undefined) return [cancel(server), ...lost(now, server)]
    switch (event) {
      case undefined:
        return onFinal(response, now)
      case "accepted":
      case "alive":
        if (server === undefined) return []
        return onHeld(response, server, now)
      case "offer":
        if (server === undefined) return []
        return response.retryable === true ? onQuestion(response, server, now) : onOffer(response, server, now)
      case "part":
        return server === undefined ? [] : onPart(response, server, now)
      case "unknown":
        return server === undefined || holder?.server !== server || isStale(server, response) ? [] : lost(now, server)
      case "fanout": {
        // Nobody heard the question, which went to one replica.
        const isGone = holder?.askedAt !== undefined && response.content === "0"
        return holder !== undefined && isGone ? lost(now, holder.server) : []
      }
      default:
        return onOutput(response, server, now)
    }
  }

  const onSilence = (holder: Holder, now: number): ReadonlyArray<Step> => {
    // What it says of this call may be behind what it sends of others.
    const bulkOfItsOwn = bulkAt(holder.server)
    if (holder.askedAt === undefined) {
      if (now - Math.max(holder.heardAt, bulkOfItsOwn) < holder.leaseMs) return []
      holder.askedAt = now
    } else {
      const patience = !mayRepeat() ? patienceMs : now - bulkAt() < bulkMs ? busyRenewMs : renewMs
      if (now - Math.max(holder.askedAt, bulkOfItsOwn) >= patience) return lost(now, holder.server)
      if (now - holder.renewedAt < 2 * renewMs) return []
    }
    holder.renewedAt = now
    return [{ _tag: "Renew", server: holder.server }]
  }

  const sendAgain = (now: number, why: "Unheard" | "Restored"): ReadonlyArray<Step> => {
    if (!mayRepeat()) return []
    overdue = why
    if (habits.acknowledges === false) return []
    if (habits.clearAt <= sentAt) return [{ _tag: "Ping" }]
    // Else it was not the servers that said nothing.
    misses = why === "Unheard" ? misses + 1 : 0
    isAstray = true
    return send(now)
  }

  return {
    begin: (now) => {
      sentAt = now
      isWaiting = false
      return [{ _tag: "Send", attempt }]
    },
    onSent: (bytes, now) => {
      sentAt = Math.max(sentAt, now)
      transitMs = bytes / bytesPerMs
    },
    onTurn: (now) => isOver || !isWaiting ? [] : send(now),
    onResponse: (response, now) => isOver ? [] : onResponse(response, now),
    onTick: (now) => {
      if (isOver) return []
      if (holder !== undefined) return onSilence(holder, now)
      if (isWaiting) return []
      const doubled = 2 ** Math.min(misses, 4)
      const ms = Math.min(longestAckMs, ackMs * doubled) + transitMs * doubled
      return overdue === undefined && now - sentAt < ms ? [] : sendAgain(now, overdue ?? "Unheard")
    },
    onRestored: (now) => {
      if (isOver || isWaiting) return []
      if (holder === undefined) return sendAgain(now, "Restored")
      // It was not the replica that was silent.
      holder.heardAt = now
      holder.askedAt = undefined
      return [{ _tag: "Renew", server: holder.server }]
    }
  }
}
