/**
 * Ranked text search over the skills. Names and descriptions are indexed before anybody hears of a skill; the instructions are read in the
 * background, a few at a time, and one is indexed in a turn of the event loop.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import MiniSearch from "minisearch"
import type * as SkillCatalog from "../SkillCatalog.ts"
import type { Live } from "./catalogLive.ts"

/** How much of the instructions is indexed, in characters: the words that tell what a skill is for come early. */
export const indexedCharacters = 8192
/** The longest query that is searched for, in characters. */
export const maxQuery = 1000
/** How many skills are read at a time. */
const concurrency = 4

interface Document {
  readonly id: string
  readonly name: string
  readonly description: string
  readonly body: string
}

const idOf = ({ name, topic }: SkillCatalog.Skill): string => JSON.stringify([name, topic])

/** Scripts that write no spaces between words. */
const unspaced =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u
const segmenter = new Intl.Segmenter("en", { granularity: "word" })

/** Words of letters and digits, those of names like `csvAnalyzer` apart. */
const words = (text: string): Array<string> =>
  text.replaceAll(/([\p{Ll}\d])(\p{Lu})/gu, "$1 $2").split(/[^\p{L}\p{M}\p{N}]+/u).flatMap((part) =>
    unspaced.test(part) ? Array.from(segmenter.segment(part), ({ segment }) => segment) : part === "" ? [] : [part]
  )

export const make = (describe: SkillCatalog.Source["describe"]) => {
  const index = new MiniSearch<Document>({
    fields: ["name", "description", "body"],
    tokenize: words,
    searchOptions: {
      boost: { name: 8, description: 4 },
      prefix: (term) => term.length > 2,
      fuzzy: (term) => term.length > 4 ? 0.2 : false
    }
  })
  /** What is indexed of each skill. */
  const known = new Map<string, { readonly skill: SkillCatalog.Skill; readonly hasBody: boolean }>()
  const isComplete = Latch.makeUnsafe(false)
  /** What was taken in last. */
  let latest: ReadonlyArray<SkillCatalog.Skill> = []

  const put = (skill: SkillCatalog.Skill, body: string | undefined): void => {
    const id = idOf(skill)
    const { description, name } = skill
    if (known.has(id)) index.discard(id)
    index.add({ id, name, description, body: (body ?? "").slice(0, indexedCharacters) })
    known.set(id, { skill, hasBody: body !== undefined })
  }

  const read = (skill: SkillCatalog.Skill) =>
    describe(skill).pipe(
      Effect.map(({ instructions }) => {
        if (known.get(idOf(skill))?.skill.digest === skill.digest) put(skill, instructions)
      }),
      // One that cannot be read is found by what the catalog tells, and read with the next change.
      Effect.ignore,
      Effect.andThen(Effect.yieldNow)
    )

  /** Takes in what the catalog tells. */
  const list = (skills: ReadonlyArray<SkillCatalog.Skill>): void => {
    isComplete.closeUnsafe()
    latest = skills
    const there = new Set(skills.map(idOf))
    for (const id of known.keys()) {
      if (there.has(id)) continue
      index.discard(id)
      known.delete(id)
    }
    for (const skill of skills) {
      const before = known.get(idOf(skill))
      if (before?.skill.digest === skill.digest) known.set(idOf(skill), { ...before, skill })
      else put(skill, undefined)
    }
  }

  const readAll = Effect.fnUntraced(function*(skills: ReadonlyArray<SkillCatalog.Skill>) {
    const unread = skills.filter((skill) => known.get(idOf(skill))?.hasBody === false)
    yield* Effect.forEach(unread, read, { concurrency, discard: true })
    if (skills === latest) isComplete.openUnsafe()
  })

  return {
    list,
    /** Reads the instructions of what was taken in. */
    follow: (live: Live) =>
      live.changes.pipe(
        Stream.switchMap((skills) => Stream.fromEffect(readAll(skills))),
        Stream.runDrain,
        Effect.forkScoped({ startImmediately: true })
      ),
    complete: isComplete.await,
    search: (query: string, limit: number): Effect.Effect<ReadonlyArray<SkillCatalog.Found>> =>
      Effect.sync(() =>
        index.search(query.slice(0, maxQuery))
          .flatMap(({ id, score }) => {
            const entry = known.get(String(id))
            return entry === undefined ? [] : [{ skill: entry.skill, score }]
          })
          .sort((a, b) => b.score - a.score || (idOf(a.skill) < idOf(b.skill) ? -1 : 1))
          .slice(0, Math.max(0, limit))
      )
  }
}
