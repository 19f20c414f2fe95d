/**
 * What the servers said to one question for the catalog, as far as they were heard.
 *
 * When several topics have a skill, it is found in the first in the order of their names, whoever answered first.
 */
import type * as Control from "@skillscale/core/Control"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as SkillClient from "../SkillClient.ts"

export interface CatalogAnswers {
  /** Takes an answer and the time of its arrival; `undefined` is one that cannot be read. */
  readonly add: (reply: Control.CatalogReply | undefined, at: number) => void
  /** The question is asked again, so that those who cannot be understood are heard again. */
  readonly again: () => void
  /** How many servers answered, those included that cannot be understood. */
  readonly count: () => number
  /** Finds the topic of a skill: of the one with the digest, or of any of that name when none has it. */
  readonly topicOf: (skill: string, digest: string | undefined) => string | undefined
  /** Waits for the first answer that has the skill, with the digest when there is one, and tells when it arrived. */
  readonly heard: (skill: string, digest: string | undefined) => Effect.Effect<number>
  readonly replies: () => ReadonlyArray<Control.CatalogReply>
  readonly entries: () => ReadonlyArray<SkillClient.CatalogEntry>
}

interface Place {
  readonly topic: string
  /** When the first answer that has the skill arrived. */
  readonly at: number
}

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

const keyOf = (skill: string, digest: string | undefined): string => JSON.stringify([skill, digest])

/** One name for a replica. */
export const serverOf = ({ server, topic }: Pick<Control.CatalogReply, "server" | "topic">): string =>
  JSON.stringify([server, topic])

/** One entry per topic, name and digest, so that replicas with different versions stay visible. */
export const merge = (replies: Iterable<Control.CatalogReply>): ReadonlyArray<SkillClient.CatalogEntry> => {
  const entries = new Map<string, { readonly info: Control.SkillInfo; readonly servers: Set<string> }>()
  for (const { server, skills } of replies) {
    for (const info of skills) {
      const key = JSON.stringify([info.topic, info.name, info.digest])
      const entry = entries.get(key)
      if (entry === undefined) entries.set(key, { info, servers: new Set([server]) })
      else entry.servers.add(server)
    }
  }
  return Array.from(entries.values(), ({ info, servers }) => ({ ...info, servers: Array.from(servers).sort(compare) }))
    .sort((a, b) => compare(a.topic, b.topic) || compare(a.name, b.name) || compare(a.digest, b.digest))
}

export const make = (): CatalogAnswers => {
  const replies = new Map<string, Control.CatalogReply>()
  const places = new Map<string, Place>()
  const awaited = new Map<string, Deferred.Deferred<number>>()
  let unread = 0

  const found = (key: string, topic: string, at: number): void => {
    const known = places.get(key)
    if (known === undefined || topic < known.topic) places.set(key, { topic, at: known?.at ?? at })
    const waiting = awaited.get(key)
    if (waiting !== undefined && awaited.delete(key)) Deferred.doneUnsafe(waiting, Effect.succeed(at))
  }

  return {
    add: (reply, at) => {
      if (reply === undefined) {
        unread += 1
        return
      }
      const key = serverOf(reply)
      if (replies.has(key)) return
      replies.set(key, reply)
      for (const { digest, name, topic } of reply.skills) {
        found(keyOf(name, undefined), topic, at)
        found(keyOf(name, digest), topic, at)
      }
    },
    again: () => {
      unread = 0
    },
    count: () => replies.size + unread,
    topicOf: (skill, digest) => (places.get(keyOf(skill, digest)) ?? places.get(keyOf(skill, undefined)))?.topic,
    heard: (skill, digest) =>
      Effect.suspend(() => {
        const key = keyOf(skill, digest)
        const known = places.get(key)
        if (known !== undefined) return Effect.succeed(known.at)
        const waiting = awaited.get(key) ?? Deferred.makeUnsafe<number>()
        awaited.set(key, waiting)
        return Deferred.await(waiting)
      }),
    replies: () => Array.from(replies.values()),
    entries: () => merge(replies.values())
  }
}
