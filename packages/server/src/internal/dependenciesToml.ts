/**
 * Reads the keys at the top of a TOML document, which is where PEP 723 has `dependencies` and `requires-python`; what comes
 * after the first table belongs to tools and is not looked at. A date becomes NaN.
 */
export type Value = string | number | boolean | ReadonlyArray<Value> | { readonly [key: string]: Value }

/** The document cannot be read; the message names the line. */
export class Malformed extends Error {}

const escapes: Readonly<Record<string, string>> = {
  b: "\b",
  t: "\t",
  n: "\n",
  f: "\f",
  r: "\r",
  "\"": "\"",
  "\\": "\\"
}

const maxDepth = 16

const reader = (text: string) => {
  let at = 0

  const fail = (what: string): never => {
    throw new Malformed(`line ${text.slice(0, at).split("\n").length}: ${what}`)
  }

  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const matched = pattern.exec(text)?.[0]
    if (matched !== undefined) at += matched.length
    return matched
  }

  const skipBlank = () => take(/(?:[ \t\r\n]|#[^\n]*)*/y)

  const unescape = (body: string): string =>
    body.replaceAll(/\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|\r?\n\s*|[\s\S])/g, (_, escape: string) => {
      if (/^[uU]./.test(escape)) {
        const code = Number.parseInt(escape.slice(1), 16)
        return code <= 0x10ffff ? String.fromCodePoint(code) : fail("no such character")
      }
      return /^\s/.test(escape) ? "" : escapes[escape] ?? fail(`\\${escape} is no escape`)
    })

  const string = (): string | undefined => {
    const long = take(/"""(?:\\[\s\S]|(?!""")[^\\])*"""|'''(?:(?!''')[\s\S])*'''/y)
    if (long !== undefined) {
      const body = long.slice(3, -3).replace(/^\r?\n/, "")
      return long.startsWith("\"") ? unescape(body) : body
    }
    const short = take(/"(?:\\[^\n]|[^"\\\n])*"|'[^'\n]*'/y)
    if (short === undefined) return undefined
    return short.startsWith("\"") ? unescape(short.slice(1, -1)) : short.slice(1, -1)
  }

  const array = (depth: number): Value => {
    const values: Array<Value> = []
    for (;;) {
      skipBlank()
      if (take(/\]/y) !== undefined) return values
      values.push(value(depth + 1))
      skipBlank()
      if (take(/,/y) === undefined && text[at] !== "]") fail("expected , or ]")
    }
  }

  const table = (depth: number): Value => {
    const entries: Array<readonly [string, Value]> = []
    for (;;) {
      skipBlank()
      if (take(/\}/y) !== undefined) return Object.fromEntries(entries)
      entries.push(pair(depth + 1))
      skipBlank()
      if (take(/,/y) === undefined && text[at] !== "}") fail("expected , or }")
    }
  }

  const value = (depth: number): Value => {
    if (depth > maxDepth) fail("nested too deeply")
    const found = string()
    if (found !== undefined) return found
    if (take(/\[/y) !== undefined) return array(depth)
    if (take(/\{/y) !== undefined) return table(depth)
    const bare = take(/[^\s,[\]{}#"']+/y) ?? fail("expected a value")
    return bare === "true" || bare === "false" ? bare === "true" : Number(bare)
  }

  const pair = (depth: number): readonly [string, Value] => {
    const part = () => take(/[A-Za-z0-9_-]+/y) ?? string() ?? fail("expected a key")
    let key = part()
    while (take(/[ \t]*\.[ \t]*/y) !== undefined) key += `.${part()}`
    if (take(/[ \t]*=[ \t]*/y) === undefined) fail(`expected = after ${key}`)
    return [key, value(depth)]
  }

  return (): ReadonlyMap<string, Value> => {
    const found = new Map<string, Value>()
    for (;;) {
      skipBlank()
      if (at >= text.length || text[at] === "[") return found
      const [key, value] = pair(0)
      if (found.has(key)) fail(`${key} is there twice`)
      found.set(key, value)
      if (take(/[ \t]*(?:#[^\n]*)?(?:\r?\n|$)/y) === undefined) fail(`expected the end of the line after ${key}`)
    }
  }
}

/** Reads the keys before the first table. Throws `Malformed`. */
export const top = (text: string): ReadonlyMap<string, Value> => reader(text)()
