/**
 * Makes one JSON Schema a part of another, for tools that take or give objects, whatever a skill reads and writes.
 *
 * References from the root of the schema go on to mean that: they are rewritten, since much of what reads the schemas of tools
 * (models, and what frameworks make of schemas for them) knows of no base but the whole document, and of no definitions but those at its root.
 *
 * @since 0.1.0
 */
import type * as SkillTools from "./SkillTools.ts"

type Json = Readonly<Record<string, unknown>>

const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

/** What has data, and what has schemas by names that are no keywords. */
const data = new Set(["const", "default", "enum", "examples"])
const maps = new Set(["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"])

/** As deep as the schemas that a server takes. */
const maxDepth = 64

/** The URI that references in a schema start from, if it has one of its own. What begins with `#` is a name, in draft 07. */
const baseOf = ({ $id }: Json): string | undefined =>
  typeof $id === "string" && !$id.startsWith("#") ? $id.replace(/#$/, "") : undefined

/** Where the schema gets to, and which of its keywords become those of the whole. */
interface Place {
  readonly pointer: string
  readonly raised: ReadonlyArray<string>
}

/** Where a reference leads from then on; nothing for one that leaves the document. */
const moved = (reference: string, base: string | undefined, { pointer, raised }: Place): string | undefined => {
  const isOfBase = base !== undefined && (reference === base || reference.startsWith(`${base}#`))
  const fragment = isOfBase ? reference.slice(base.length) : reference
  if (fragment === "" || fragment === "#") return `#${pointer}`
  if (!fragment.startsWith("#/")) return fragment.startsWith("#") ? fragment : undefined
  const [, first = ""] = fragment.split("/")
  return raised.includes(first.replace(/^%24/, "$")) ? fragment : `#${pointer}${fragment.slice(1)}`
}

/** The schema for its place, without a base of its own; nothing where it, or a part of it, needs one. */
const placed = (root: Json, place: Place): Json | undefined => {
  const base = baseOf(root)
  let needsBase = false

  const entry = (key: string, value: unknown, depth: number): readonly [string, unknown] => {
    if (data.has(key)) return [key, value]
    if (maps.has(key) && isRecord(value)) {
      return [key, Object.fromEntries(Object.entries(value).map(([name, one]) => [name, visit(one, depth + 2)]))]
    }
    if ((key !== "$ref" && key !== "$dynamicRef") || typeof value !== "string") return [key, visit(value, depth + 1)]
    const reference = moved(value, base, place)
    needsBase ||= reference === undefined
    return [key, reference ?? value]
  }

  const fields = (schema: Json, depth: number): Json => {
    // In one document of one base, draft 2019-09 means its root by both.
    const { $recursiveAnchor: _, $recursiveRef, ...rest } = schema
    const written = Object.fromEntries(Object.entries(rest).map(([key, value]) => entry(key, value, depth)))
    if ($recursiveRef !== "#") return $recursiveRef === undefined ? written : { ...written, $recursiveRef }
    const self = { $ref: `#${place.pointer}` }
    if (!("$ref" in written)) return { ...written, ...self }
    return { ...written, allOf: [...Array.isArray(written["allOf"]) ? written["allOf"] : [], self] }
  }

  const visit = (value: unknown, depth: number): unknown => {
    if (depth > maxDepth) return value
    if (Array.isArray(value)) return value.map((one) => visit(one, depth + 1))
    if (!isRecord(value)) return value
    if (baseOf(value) === undefined) return fields(value, depth)
    needsBase = true
    return value
  }

  const whole = fields(root, 0)
  if (base === undefined) return whole
  if (needsBase) return undefined
  const { $id: _, ...rest } = whole
  return rest
}

/**
 * Adds a property to the schema of an object, of a schema of any kind, in which references go on to mean what they did. Its `$schema`,
 * `$defs` and `definitions` become those of the object, unless it has its own. A schema with an `$id` loses it, except where one of its
 * references, or a part with an `$id`, needs it: then it is left as it is.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withProperty = (
  around: SkillTools.ObjectSchema,
  key: string,
  { $schema, ...schema }: Json
): SkillTools.ObjectSchema => {
  const pointer = `/properties/${encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"))}`
  const raised = ["$defs", "definitions"].filter((name) => isRecord(schema[name]) && !(name in around))
  const property = placed(schema, { pointer, raised })
  const isRaised = ([name]: readonly [string, unknown]) => property !== undefined && raised.includes(name)
  const entries = Object.entries(property ?? schema)
  return {
    ...$schema === undefined ? {} : { $schema },
    ...around,
    properties: {
      ...Object(around["properties"]),
      [key]: Object.fromEntries(entries.filter((entry) => !isRaised(entry)))
    },
    ...Object.fromEntries(entries.filter(isRaised))
  }
}
