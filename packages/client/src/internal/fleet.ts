/**
 * What is known of the servers while the catalog is followed: what each announced last, and the catalog that it told. Decides whom
 * to ask, and when; asks nobody itself.
 */
import * as Announcement from "@skillscale/core/Announcement"
import type * as Control from "@skillscale/core/Control"
import type * as SkillClient from "../SkillClient.ts"
import type * as Catalog from "./catalog.ts"
import * as CatalogAnswers from "./catalogAnswers.ts"

/** A server that was not heard for so long may be gone. */
const silentMs = 3 * Announcement.intervalMs
/** How often everybody is asked at least. */
const surveyMs = 60_000
/** How long nobody is asked again when not everybody answered. */
const surveyPauseMs = 5000
/** How long a server that did not answer is not asked again, at first; then twice as long each time, up to `silentMs`. */
const pauseMs = 250
/** Further servers that announce themselves are known by surveys alone. */
const maxServers = 4096

/** A server that announced itself. */
export interface Member {
  readonly key: string
  readonly server: string
  readonly topic: string
  /** What it announced last. */
  revision: string
  /** When it was heard last. */
  heardAt: number
  /** When it may be asked. */
  askAt: number
  /** How often it did not answer in a row. */
  failures: number
}

export interface Fleet {
  /** Takes in what a server announces, and tells whether there may be something to do. */
  readonly hear: (announcement: Announcement.Announcement) => boolean
  /** Messages may have been lost: everybody is to be asked. */
  readonly doubt: () => void
  /** Takes in the answer of one server, unless that took leave meanwhile. */
  readonly answer: (member: Member, reply: Control.CatalogReply | undefined) => void
  /** Takes in a survey that began at a time, or that there was none. */
  readonly survey: (began: number, survey: Catalog.Survey | undefined) => void
  /** Those who may be asked now, since they announced another catalog; the ones that were there before come first. */
  readonly stale: () => ReadonlyArray<Member>
  readonly isKnown: (key: string) => boolean
  /** When everybody is to be asked. */
  readonly surveyAt: () => number
  /** When there is something to do that nobody tells. */
  readonly dueAt: () => number
  /** Differs when the catalog does. */
  readonly revision: () => string
  readonly entries: () => ReadonlyArray<SkillClient.CatalogEntry>
}

export const make = (now: () => number): Fleet => {
  const members = new Map<string, Member>()
  const known = new Map<string, Control.CatalogReply>()
  let surveyedAt = Number.NEGATIVE_INFINITY
  let isComplete = false

  const drop = (key: string): boolean => {
    const wasMember = members.delete(key)
    return known.delete(key) || wasMember
  }

  const take = (key: string, reply: Control.CatalogReply): void => {
    known.set(key, reply)
    const member = members.get(key)
    if (member === undefined) return
    Object.assign(member, { revision: reply.revision ?? member.revision, heardAt: now(), failures: 0 })
  }

  const isSilent = ({ heardAt }: Member): boolean => heardAt + silentMs <= now()
  /** Those that announced themselves and never told a catalog. */
  const forgetSilent = (): void => {
    for (const member of members.values()) if (!known.has(member.key) && isSilent(member)) members.delete(member.key)
  }
  const isStale = ({ key, revision }: Member): boolean => known.get(key)?.revision !== revision

  const surveyAt = (): number => {
    let at = surveyedAt + (isComplete ? surveyMs : surveyPauseMs)
    for (const { heardAt, key } of members.values()) {
      if (known.has(key)) at = Math.min(at, Math.max(heardAt + silentMs, surveyedAt + surveyPauseMs))
    }
    return at
  }

  return {
    hear: (announcement) => {
      const { revision, server, topic } = announcement
      const key = CatalogAnswers.serverOf(announcement)
      if (revision === undefined) return drop(key)
      const member = members.get(key)
      if (member !== undefined) {
        Object.assign(member, { revision, heardAt: now() })
        return isStale(member)
      }
      if (members.size >= maxServers) forgetSilent()
      if (members.size >= maxServers) return false
      members.set(key, { key, server, topic, revision, heardAt: now(), askAt: 0, failures: 0 })
      return true
    },
    doubt: () => {
      surveyedAt = Number.NEGATIVE_INFINITY
    },
    answer: (member, reply) => {
      if (members.get(member.key) !== member) return
      if (reply !== undefined) return take(member.key, reply)
      member.failures += 1
      member.askAt = now() + Math.min(silentMs, pauseMs * 2 ** (member.failures - 1))
    },
    survey: (began, survey) => {
      surveyedAt = now()
      isComplete = false
      if (survey === undefined) return
      const { answered, replies, servers } = survey
      for (const reply of replies) take(CatalogAnswers.serverOf(reply), reply)
      isComplete = servers === undefined ? answered > 0 : answered >= servers
      if (!isComplete) return
      const there = new Set(replies.map(CatalogAnswers.serverOf))
      // Where nobody counts the servers, one may have answered too late.
      const heardBefore = servers === undefined ? began - silentMs : began
      for (const key of known.keys()) {
        const heardAt = members.get(key)?.heardAt ?? Number.NEGATIVE_INFINITY
        if (!there.has(key) && heardAt < heardBefore) drop(key)
      }
    },
    stale: () =>
      Array.from(members.values())
        .filter((member) => isStale(member) && member.askAt <= now())
        .sort((one, other) => Number(known.has(other.key)) - Number(known.has(one.key))),
    isKnown: (key) => known.has(key),
    surveyAt,
    dueAt: () => {
      const later = Array.from(members.values()).filter((member) => isStale(member) && member.askAt > now())
      return Math.min(surveyAt(), ...later.map(({ askAt }) => askAt))
    },
    revision: () => JSON.stringify(Array.from(known, ([key, reply]) => [key, reply.revision ?? reply.skills]).sort()),
    entries: () => CatalogAnswers.merge(known.values())
  }
}
