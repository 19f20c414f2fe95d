/** Pages of lists that may change between them: a cursor says after which item to go on, so that none is told twice. */

export interface Page<A> {
  readonly items: ReadonlyArray<A>
  readonly nextCursor: string | undefined
}

const maxCursor = 4096

/** Keys have to increase from item to item. Undefined when the cursor is none of ours. */
export const page = <A>(
  items: ReadonlyArray<A>,
  cursor: string | undefined,
  size: number,
  keyOf: (item: A) => string
): Page<A> | undefined => {
  const after = cursor === undefined ? undefined : decode(cursor)
  if (cursor !== undefined && after === undefined) return undefined
  const found = after === undefined ? 0 : items.findIndex((item) => keyOf(item) > after)
  const from = found === -1 ? items.length : found
  const shown = items.slice(from, from + size)
  const last = shown.at(-1)
  return {
    items: shown,
    nextCursor: last === undefined || from + size >= items.length ? undefined : encode(keyOf(last))
  }
}

const encode = (key: string): string => Buffer.from(`after:${key}`).toString("base64url")

const decode = (cursor: string): string | undefined => {
  if (cursor.length > maxCursor) return undefined
  const text = Buffer.from(cursor, "base64url").toString("utf8")
  return text.startsWith("after:") ? text.slice("after:".length) : undefined
}
