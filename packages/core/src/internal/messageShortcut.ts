/**
 * Reads and writes the structs of messages whose fields are as they should be, several times faster than the parsers of
 * their schemas. Whatever is not is left to these, which know all rules and say what is wrong.
 */
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaParser from "effect/SchemaParser"
import * as Result from "effect/Result"

/** What a shortcut answers when the schema has to decide. */
export const undecided: unique symbol = Symbol("undecided")

type Step = (value: unknown) => unknown

/** How one value is read from the wire and written to it. Either may be `undecided`. */
export interface Shortcut {
  readonly decode: Step
  readonly encode: Step
}

type Guard = (value: unknown) => boolean

const passes = (checks: SchemaAST.Checks, value: unknown, ast: SchemaAST.AST): boolean =>
  checks.every((check) =>
    check._tag === "FilterGroup" ? passes(check.checks, value, ast) : check.run(value, ast, {}) === undefined
  )

const every = (guards: ReadonlyArray<Guard | undefined>): ReadonlyArray<Guard> | undefined => {
  const known = guards.filter((guard) => guard !== undefined)
  return known.length === guards.length ? known : undefined
}

const guardOfType = (ast: SchemaAST.AST): Guard | undefined => {
  if (SchemaAST.isString(ast)) return (value) => typeof value === "string"
  if (SchemaAST.isNumber(ast)) return (value) => typeof value === "number"
  if (SchemaAST.isBoolean(ast)) return (value) => typeof value === "boolean"
  if (SchemaAST.isLiteral(ast)) return (value) => value === ast.literal
  if (SchemaAST.isUnion(ast)) {
    const members = every(ast.types.map(guardOf))
    return members === undefined ? undefined : (value) => members.some((guard) => guard(value))
  }
  if (SchemaAST.isArrays(ast) && ast.elements.length === 0 && ast.rest.length === 1) {
    const [item] = every(ast.rest.map(guardOf)) ?? []
    return item === undefined
      ? undefined
      : (value) => Array.isArray(value) && value.findIndex((part) => !item(part)) === -1
  }
  return undefined
}

/** Tells of values that a schema takes and leaves as they are, in both directions. */
function guardOf(ast: SchemaAST.AST): Guard | undefined {
  const guard = ast.encoding === undefined ? guardOfType(ast) : undefined
  const { checks } = ast
  return guard === undefined || checks === undefined ? guard : (value) => guard(value) && passes(checks, value, ast)
}

/** Values for which the guard holds stay as they are. */
export const same = (guard: Guard): Shortcut => {
  const keep = (value: unknown) => guard(value) ? value : undecided
  return { decode: keep, encode: keep }
}

const parsed = (schema: Schema.Codec<unknown>): Shortcut => {
  const step = (parse: (value: unknown) => Result.Result<unknown, unknown>): Step => (value) => {
    const result = parse(value)
    return Result.isSuccess(result) ? result.success : undecided
  }
  return {
    decode: step(SchemaParser.decodeUnknownResult(schema)),
    encode: step(SchemaParser.encodeUnknownResult(schema))
  }
}

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value)

interface Field {
  readonly from: string
  readonly to: string
  readonly isOptional: boolean
  readonly step: Step
}

const struct = (fields: ReadonlyArray<Field>): Step => (value) => {
  if (!isObject(value)) return undecided
  const made: Record<string, unknown> = {}
  for (const { from, isOptional, step, to } of fields) {
    if (Object.hasOwn(value, from)) {
      const part = step(Reflect.get(value, from))
      if (part === undecided) return undecided
      made[to] = part
    } else if (!isOptional) {
      return undecided
    }
  }
  return made
}

/**
 * The shortcut of a struct. `keys` has the names on the wire that differ; `known` has shortcuts of fields for whose schemas
 * none follows, which otherwise go through their parsers.
 */
export const make = (
  fields: Readonly<Record<string, Schema.Codec<unknown>>>,
  keys: Readonly<Record<string, string | undefined>>,
  known: Readonly<Record<string, Shortcut | undefined>> = {}
): Shortcut => {
  const decoders: Array<Field> = []
  const encoders: Array<Field> = []
  for (const [name, schema] of Object.entries(fields)) {
    const guard = guardOf(schema.ast)
    const { decode, encode } = known[name] ?? (guard === undefined ? parsed(schema) : same(guard))
    const key = keys[name] ?? name
    const isOptional = SchemaAST.isOptional(schema.ast)
    decoders.push({ from: key, to: name, isOptional, step: decode })
    encoders.push({ from: name, to: key, isOptional, step: encode })
  }
  return { decode: struct(decoders), encode: struct(encoders) }
}
