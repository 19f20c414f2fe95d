/**
 * The replicas of one skill topic, and which of them gets the next request.
 *
 * A replica that tells its load counts as that load and what it was sent beyond what the load covers, by worker. One that
 * tells none gets its share in turn. One that told a load, and says nothing when it is sent something, or at the time of its
 * beat, is passed over: it is stopped or cut off, long before its connection ends. Where only some acknowledge requests, one whose
 * sender counts on that goes to one of these. Nothing here outlives the subscription of a replica.
 */
import type * as Load from "@skillscale/core/Load"

/** Who told a load. What was told is forgotten when it is gone, since later loads may have been lost with it. */
export interface Reporter {
  readonly isClosed: boolean
  /** When anything came from it last. */
  readonly heardAt: number
}

/** The most replicas that are compared for one request. */
export const maxCompared = 8

/** The part by which one load may exceed another and count as equal, so that messages in a row pass as one. */
export const indifference = 1 / 16

/** In what time the requests on their way are none once, when they are few. */
export const settleMs = 10_000

/** How soon a replica that was sent something says something, if only its load. */
export const silentMs = 250

/** How soon one tells it again that was seen to do so without a change, as ours do every second. */
export const maxBeatMs = 3000

/** So long a replica that did not is passed over, before it is tried with one request. */
export const distrustMs = 10_000

const isSame = (load: Load.Load, other: Load.Load | undefined): boolean =>
  other !== undefined && load.running === other.running && load.queued === other.queued &&
  load.workers === other.workers && load.received === other.received

export class Replica<S> {
  readonly subscriber: S
  reporter: Reporter | undefined
  #sent = 0
  /** What is in hand but for the requests sent, and the part that one of them takes. */
  #base = 0
  #share = 1
  #received: number | undefined
  /** How many more requests were sent than received when none was on its way: the least of this period and the last. */
  #lost = 0
  #nextLost = 0
  #since = 0
  /** When the first request was sent that nothing came after. */
  #owesSince = Number.NEGATIVE_INFINITY
  #told: Load.Load | undefined
  #toldAt = 0
  #hasBeat = false
  #triedAt = Number.NEGATIVE_INFINITY

  constructor(subscriber: S) {
    this.subscriber = subscriber
  }

  /** Whether there is a load to go by. */
  get tells(): boolean {
    return this.reporter !== undefined && !this.reporter.isClosed
  }

  /** Calls in hand and on their way for each worker. */
  get pressure(): number {
    return (this.#base + this.#sent) * this.#share
  }

  /** Whether it should have said something and did not, and is not to be tried yet. */
  isSilent(now: number): boolean {
    const since = this.#silentSince()
    return now >= since && now < Math.max(since, this.#triedAt) + distrustMs
  }

  get #heardAt(): number {
    return Math.max(this.#toldAt, this.reporter?.heardAt ?? 0)
  }

  #silentSince(): number {
    const heardAt = this.#heardAt
    const answerAt = this.#owesSince > heardAt ? this.#owesSince + silentMs : Number.POSITIVE_INFINITY
    return this.#hasBeat ? Math.min(answerAt, heardAt + maxBeatMs) : answerAt
  }

  send(now: number): void {
    this.#sent += 1
    if (this.reporter === undefined) {
      return
    }
    if (this.#owesSince <= this.#heardAt) {
      this.#owesSince = now
    }
    if (now >= this.#silentSince()) {
      this.#triedAt = now
    }
  }

  /** Takes a load in, unless somebody else told one who is still there. */
  tell(reporter: Reporter, load: Load.Load, now: number): void {
    if (this.reporter !== reporter && this.tells) {
      return
    }
    this.reporter = reporter
    this.#hasBeat ||= isSame(load, this.#told)
    this.#told = load
    this.#toldAt = now
    const covered = load.received === undefined ? this.#sent : this.#settle(load.received, now)
    this.#share = load.workers === 0 ? 1 : 1 / load.workers
    this.#base = load.workers === 0 ? Number.POSITIVE_INFINITY : load.running + load.queued - covered
  }

  /** How many of the requests sent a replica had that received so many, here or on earlier connections. */
  #settle(received: number, now: number): number {
    const missing = this.#sent - received
    if (this.#received === undefined || received < this.#received) {
      this.#lost = this.#nextLost = missing
      this.#since = now
    } else if (now - this.#since >= settleMs) {
      this.#lost = Math.min(this.#nextLost, missing)
      this.#nextLost = missing
      this.#since = now
    } else {
      this.#lost = Math.min(this.#lost, missing)
      this.#nextLost = Math.min(this.#nextLost, missing)
    }
    this.#received = received
    return received + this.#lost
  }
}

/** Replicas that take turns. */
class Ring<S> {
  readonly #members: Array<Replica<S>> = []
  #turn = 0
  /** The replica that gets the next requests, too, while its pressure is below the limit. */
  #current: Replica<S> | undefined
  #limit = 0

  get size(): number {
    return this.#members.length
  }

  add(replica: Replica<S>): void {
    this.#members.push(replica)
    this.#current = undefined
  }

  delete(replica: Replica<S>): void {
    const index = this.#members.indexOf(replica)
    if (index !== -1) {
      this.#members.splice(index, 1)
      this.#turn -= index < this.#turn ? 1 : 0
    }
    this.#current = undefined
  }

  /** Ends a row. */
  compare(): void {
    this.#current = undefined
  }

  /** Takes the replica that gets the next request, if one has room. */
  next(hasRoom: (subscriber: S) => boolean, now: number): S | undefined {
    const current = this.#current
    if (
      current !== undefined && current.pressure < this.#limit && current.tells && !current.isSilent(now) &&
      hasRoom(current.subscriber)
    ) {
      current.send(now)
      return current.subscriber
    }
    const members = this.#members
    const start = this.#turn < members.length ? this.#turn : 0
    this.#turn = start + 1
    let chosen = this.#leastLoaded(members, start, now)
    if (chosen !== undefined && !hasRoom(chosen.subscriber)) {
      const ring = [...members.slice(start), ...members.slice(0, start)]
      chosen = this.#leastLoaded(ring.filter(({ subscriber }) => hasRoom(subscriber)), 0, now)
    }
    chosen?.send(now)
    return chosen?.subscriber
  }

  /**
   * The replica at `start` when it tells no load, else the least loaded of those from there on that do; the first on a tie. A
   * silent one only when all that are compared are.
   */
  #leastLoaded(members: ReadonlyArray<Replica<S>>, start: number, now: number): Replica<S> | undefined {
    this.#current = undefined
    let best = members[start]
    if (best === undefined || !best.tells && !best.isSilent(now)) {
      return best
    }
    let least = best.pressure
    let isSilent = best.isSilent(now)
    let allTell = true
    const compared = Math.min(members.length, maxCompared)
    for (let tried = 1, at = start + 1; tried < compared; tried += 1, at += 1) {
      const other = members[at < members.length ? at : at - members.length]
      const otherIsSilent = other?.isSilent(now) === true
      if (other === undefined || !other.tells && !otherIsSilent) {
        allTell = false
        // Nothing is known of it, which is better.
        if (other !== undefined && isSilent) {
          best = other
          least = other.pressure
          isSilent = false
        }
      } else if (otherIsSilent === isSilent ? other.pressure < least : isSilent) {
        best = other
        least = other.pressure
        isSilent = otherIsSilent
      }
    }
    this.#current = allTell ? best : undefined
    this.#limit = least * (1 + indifference)
    return best
  }
}

export class ReplicaSet<S> {
  readonly #known = new Map<S, Replica<S>>()
  readonly #all = new Ring<S>()
  /** Those that acknowledge requests, which have turns of their own for these. */
  readonly #acknowledging = new Ring<S>()

  get size(): number {
    return this.#all.size
  }

  /** Whether some acknowledge requests, and some do not. */
  get isMixed(): boolean {
    return this.#acknowledging.size > 0 && this.#acknowledging.size < this.#all.size
  }

  has(subscriber: S): boolean {
    return this.#known.has(subscriber)
  }

  add(subscriber: S): void {
    const replica = new Replica(subscriber)
    this.#known.set(subscriber, replica)
    this.#all.add(replica)
  }

  delete(subscriber: S): void {
    const replica = this.#known.get(subscriber)
    if (replica !== undefined) {
      this.#known.delete(subscriber)
      this.#all.delete(replica)
      this.#acknowledging.delete(replica)
    }
  }

  /** Takes in whether a replica acknowledges requests. */
  acknowledges(subscriber: S, does: boolean): void {
    const replica = this.#known.get(subscriber)
    if (replica !== undefined) {
      this.#acknowledging.delete(replica)
      if (does) {
        this.#acknowledging.add(replica)
      }
    }
  }

  /** Takes in what a replica tells. */
  tell(subscriber: S, reporter: Reporter, load: Load.Load, now: number): void {
    this.#known.get(subscriber)?.tell(reporter, load, now)
    this.#all.compare()
    this.#acknowledging.compare()
  }

  /** Takes the replica that gets the next request, if one has room: where the set is mixed, one that acknowledges it when it `must`. */
  next(hasRoom: (subscriber: S) => boolean, now: number, must = false): S | undefined {
    return (must && this.isMixed ? this.#acknowledging : this.#all).next(hasRoom, now)
  }
}
