/**
 * Looks whether a JSON value is a JSON Schema that can be checked against, and makes of it what the interpreter takes: a copy without
 * what is annotation only, in which every reference leads to a schema of the document, and to no circle that data cannot end.
 */
import { dereference, type Schema as Node, type SchemaDraft } from "@cfworker/json-schema"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"

export interface Form {
  readonly root: Node
  readonly draft: SchemaDraft
  /** Every schema of the document by its address. */
  readonly lookup: Readonly<Record<string, Node | boolean>>
}

export const maxBytes = 16_384
export const maxDepth = 64

class Malformed extends Error {}

const drafts: ReadonlyArray<readonly [RegExp, SchemaDraft]> = [
  [/^https?:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/, "2020-12"],
  [/^https?:\/\/json-schema\.org\/draft\/2019-09\/schema#?$/, "2019-09"],
  [/^https?:\/\/json-schema\.org\/draft-07\/schema#?$/, "7"]
]

const draftOf = (uri: unknown): SchemaDraft => {
  if (uri === undefined) return "2020-12"
  const known = drafts.find(([pattern]) => typeof uri === "string" && pattern.test(uri))
  if (known !== undefined) return known[1]
  throw new Malformed(`$schema is ${JSON.stringify(uri)}: expected that of draft 2020-12, 2019-09 or 07`)
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Tells what a keyword's value should be, when it is not. */
type Expectation = (value: unknown, draft: SchemaDraft) => string | undefined

const expecting = (what: string, holds: (value: unknown) => boolean): Expectation => (value) =>
  holds(value) ? undefined : what

const isText = (value: unknown): value is string => typeof value === "string"
const types = new Set<unknown>(["array", "boolean", "integer", "null", "number", "object", "string"])
const text = expecting("text", isText)
const flag = expecting("true or false", (value) => typeof value === "boolean")
const number = expecting("a number", (value) => typeof value === "number")
const count = expecting("a whole number of 0 or more", (value) => Number.isInteger(value) && Number(value) >= 0)
const list = expecting("a list", Array.isArray)
const names = expecting("a list of names", (value) => Array.isArray(value) && value.every(isText))

const regularExpression: Expectation = (value) => {
  if (!isText(value)) return "a regular expression"
  try {
    void new RegExp(value, "u")
    return undefined
  } catch (cause) {
    return `a regular expression (${cause instanceof Error ? cause.message : String(cause)})`
  }
}

const plain: Readonly<Record<string, Expectation>> = {
  $id: text,
  $ref: text,
  $anchor: text,
  $recursiveRef: expecting("\"#\"", (value) => value === "#"),
  $recursiveAnchor: flag,
  type: expecting(
    "one of array, boolean, integer, null, number, object, string, or a list of them",
    (value) => Array.isArray(value) ? value.length > 0 && value.every((type) => types.has(type)) : types.has(value)
  ),
  enum: list,
  required: names,
  pattern: regularExpression,
  uniqueItems: flag,
  multipleOf: expecting("a number above 0", (value) => typeof value === "number" && value > 0),
  dependentRequired: expecting(
    "lists of names",
    (value) => isRecord(value) && Object.values(value).every((needed) => Array.isArray(needed) && needed.every(isText))
  ),
  ...Object.fromEntries(
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].map((keyword) => [keyword, number])
  ),
  ...Object.fromEntries(
    ["Length", "Items", "Properties", "Contains"].flatMap((what) => [[`min${what}`, count], [`max${what}`, count]])
  )
}

/** Keywords that have a schema, by what else it is applied to: the same value, or a part of it. */
const same = new Set(["not", "if", "then", "else"])
const parts = new Set([
  ...["additionalItems", "unevaluatedItems", "contains", "items"],
  ...["additionalProperties", "unevaluatedProperties", "propertyNames"]
])
const sameLists = new Set(["allOf", "anyOf", "oneOf"])
const maps = new Set(["$defs", "definitions", "properties", "patternProperties", "dependentSchemas"])

interface Reference {
  readonly from: Node
  readonly at: string
}

const fail = (at: string, expected: string): never => {
  throw new Malformed(`at ${at === "" ? "its root" : at}: expected ${expected}`)
}

const escaped = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1")

/** Says of each dependency what kind it is, in keywords that are one each. */
const split = (node: Node, at: string): void => {
  const { dependencies } = node
  if (dependencies === undefined) return
  if (!isRecord(dependencies)) return fail(`${at}/dependencies`, "names with schemas or lists of names")
  const entries = Object.entries(dependencies)
  delete node.dependencies
  const lists = entries.filter(([, value]) => Array.isArray(value))
  const schemas = entries.filter(([, value]) => !Array.isArray(value))
  const both = [
    ...(lists.length === 0 ? [] : [{ dependentRequired: Object.fromEntries(lists) }]),
    ...(schemas.length === 0 ? [] : [{ dependentSchemas: Object.fromEntries(schemas) }])
  ]
  if (both.length > 0) node.allOf = [...(node.allOf ?? []), ...both] as Array<Node>
}

/** Goes through all schemas of a document. */
const walker = (draft: SchemaDraft) => {
  const seen = new Set<Node>()
  const references: Array<Reference> = []

  const visitAll = (values: unknown, at: string): void => {
    if (!Array.isArray(values) || values.length === 0) return fail(at, "a list of schemas")
    values.forEach((value, index) => visit(value, `${at}/${index}`))
  }

  const visitMap = (values: unknown, at: string, keys: Expectation | undefined): void => {
    if (!isRecord(values)) return fail(at, "names with schemas")
    for (const [name, value] of Object.entries(values)) {
      const expected = keys?.(name, draft)
      if (expected !== undefined) fail(at, expected)
      visit(value, `${at}/${escaped(name)}`)
    }
  }

  const visitKeyword = (node: Node, keyword: string, at: string): void => {
    const value: unknown = node[keyword]
    if (keyword === "$dynamicRef") throw new Malformed(`at ${at}: $dynamicRef is not supported; use $ref`)
    // What the interpreter notes in a schema.
    if (keyword.startsWith("__absolute_")) throw new Malformed(`at ${at}: the name is reserved`)
    const expected = Object.hasOwn(plain, keyword) ? plain[keyword]?.(value, draft) : undefined
    if (expected !== undefined) fail(at, expected)
    if (keyword === "$ref") references.push({ from: node, at })
    if (keyword === "items" && Array.isArray(value)) {
      if (draft === "2020-12") fail(at, "a schema; a list of them is prefixItems in draft 2020-12")
      visitAll(value, at)
    } else if (same.has(keyword) || parts.has(keyword)) visit(value, at)
    else if (sameLists.has(keyword) || keyword === "prefixItems") visitAll(value, at)
    else if (maps.has(keyword)) visitMap(value, at, keyword === "patternProperties" ? regularExpression : undefined)
  }

  const visit = (value: unknown, at: string): void => {
    if (typeof value === "boolean") return
    if (!isRecord(value)) return fail(at, "a schema, which is an object, true or false")
    const node: Node = value
    if (seen.has(node)) return
    seen.add(node)
    // An annotation here, which the interpreter would assert.
    delete node.format
    // A keyword of older drafts only, which the interpreter takes for $id.
    delete node["id"]
    split(node, at)
    for (const keyword of Object.keys(node)) visitKeyword(node, keyword, `${at}/${escaped(keyword)}`)
  }

  return { seen, references, visit }
}

/** The schemas that are applied to what a schema is applied to. */
const applied = (node: Node, { draft, lookup, root }: Form): ReadonlyArray<unknown> => {
  const target = node.$ref === undefined ? [] : [lookup[node.__absolute_ref__ ?? ""]]
  if (target.length > 0 && draft === "7") return target
  return [
    ...target,
    ...(node.$recursiveRef === undefined ? [] : [root]),
    ...Array.from(same, (keyword): unknown => node[keyword]),
    ...Array.from(sameLists, (keyword): unknown => node[keyword] ?? []).flat(),
    ...Object.values(node.dependentSchemas ?? {})
  ]
}

/** Fails for a schema that is applied anew to what it is applied to. */
const refuseCircles = (nodes: Iterable<Node>, form: Form): void => {
  const state = new Map<unknown, "open" | "done">()
  const follow = (value: unknown): void => {
    if (!isRecord(value) || state.get(value) === "done") return
    if (state.get(value) === "open") {
      throw new Malformed("its references lead in a circle that no data can end")
    }
    state.set(value, "open")
    applied(value, form).forEach(follow)
    state.set(value, "done")
  }
  for (const node of nodes) follow(node)
}

/** Without recursion, since it decides whether there may be any. */
const isDeep = (value: unknown): boolean => {
  let level: ReadonlyArray<unknown> = [value]
  for (let depth = 0; depth <= maxDepth; depth++) {
    level = level.flatMap((one) => typeof one === "object" && one !== null ? Object.values(one) : [])
    if (level.length === 0) return false
  }
  return true
}

const made = (value: Schema.JsonObject): Form => {
  if (isDeep(value)) throw new Malformed(`it is nested deeper than ${maxDepth} levels`)
  const json = JSON.stringify(value)
  const bytes = Buffer.byteLength(json)
  if (bytes > maxBytes) {
    throw new Malformed(
      `it has ${bytes} bytes without spaces, more than ${maxBytes}: leave out what callers need not know`
    )
  }
  const draft = draftOf(value["$schema"])
  const root: Node = JSON.parse(json)
  const { references, seen, visit } = walker(draft)
  visit(root, "")
  const form: Form = { root, draft, lookup: dereference(root) }
  for (const { at, from } of references) {
    const target = form.lookup[from.__absolute_ref__ ?? ""]
    if (target === undefined) {
      throw new Malformed(
        `at ${at}: ${JSON.stringify(from.$ref)} leads to no schema in the document, and none is fetched`
      )
    }
    // Others may have it below a keyword of their own; the references in it are looked at by and by.
    visit(target, at)
  }
  refuseCircles(seen, form)
  return form
}

/** Fails with what is wrong. */
export const form = (value: Schema.JsonObject): Result.Result<Form, string> => {
  try {
    return Result.succeed(made(value))
  } catch (cause) {
    return Result.fail(cause instanceof Error ? cause.message : String(cause))
  }
}
