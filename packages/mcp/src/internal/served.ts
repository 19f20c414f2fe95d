/** What all handlers of one MCP server share. */
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { ProtocolError, ProtocolErrorCode, type ServerContext } from "@modelcontextprotocol/server"
import * as Effect from "effect/Effect"
import type * as Content from "./content.ts"
import * as Pages from "./pages.ts"
import type * as SkillEntries from "./skillEntries.ts"
import * as SkillUris from "./skillUris.ts"

export interface Served {
  readonly catalog: SkillCatalog.SkillCatalog["Service"]
  readonly tools: SkillTools.SkillTools["Service"]
  readonly entries: SkillEntries.SkillEntries
  readonly content: Content.Bounds
  readonly pageSize: number
  /** Runs an effect for a request: until it is cancelled, its connection ends, or the server does. */
  readonly run: <A>(effect: Effect.Effect<A, ProtocolError>, context: ServerContext) => Promise<A>
}

export const invalid = (message: string, data?: unknown): ProtocolError =>
  new ProtocolError(ProtocolErrorCode.InvalidParams, message, data)

export const internal = (message: string): ProtocolError => new ProtocolError(ProtocolErrorCode.InternalError, message)

export const ending = (): ProtocolError => new ProtocolError(-32000, "the server is ending; the request was cancelled")

/** One page of a list. */
export const page = <A>(
  items: ReadonlyArray<A>,
  cursor: string | undefined,
  size: number,
  keyOf: (item: A) => string
): Effect.Effect<{ readonly items: Array<A>; readonly next: { readonly nextCursor?: string } }, ProtocolError> => {
  const page = Pages.page(items, cursor, size, keyOf)
  return page === undefined ? Effect.fail(invalid("the cursor is none that this server gave")) : Effect.succeed({
    items: [...page.items],
    next: page.nextCursor === undefined ? {} : { nextCursor: page.nextCursor }
  })
}

const places = new WeakMap<ReadonlyArray<SkillCatalog.Skill>, ReadonlyMap<string, SkillCatalog.Skill>>()

/** The skill at a place. */
export const skillAt = (
  skills: ReadonlyArray<SkillCatalog.Skill>,
  { label, name }: Pick<SkillUris.Place, "label" | "name">
): SkillCatalog.Skill | undefined => {
  const known = places.get(skills) ??
    new Map(skills.map((skill) => [`${SkillUris.labelOf(skill.topic)}/${skill.name}`, skill]))
  places.set(skills, known)
  return known.get(`${label}/${name}`)
}

/** Orders skills as the catalog does. */
export const keyOf = ({ name, topic }: SkillCatalog.Skill): string => `${name}\u0000${topic}`
