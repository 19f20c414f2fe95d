/**
 * Says in sentences that can be acted on where data does not fit a JSON Schema, from what the interpreter tells of every keyword that
 * does not hold. Of alternatives none of which fits it tells the one that came closest.
 */
import type { OutputUnit, Schema as Node } from "@cfworker/json-schema"
import type { Issue } from "../Protocol.ts"
import type { Form } from "./jsonSchemaForm.ts"

export const maxIssues = 20
const maxMessage = 300
const maxPath = 1024
const maxShown = 80

const clip = (text: string, length: number): string => text.length <= length ? text : `${text.slice(0, length - 1)}…`

const shown = (value: unknown): string => clip(JSON.stringify(value) ?? "nothing", maxShown)

const kindOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : typeof value === "number" && Number.isInteger(value)
    ? "integer"
    : typeof value

const got = (value: unknown): string =>
  typeof value === "object" && value !== null || value === null
    ? `got ${kindOf(value)}`
    : `got ${kindOf(value)} ${shown(value)}`

const namesIn = (pointer: string): ReadonlyArray<string> =>
  pointer.split("/").slice(1).map((part) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~"))

const memberOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined

/** As much of the place as may be told: from the whole on, name by name. */
const placeOf = (pointer: string): string => {
  const names = pointer.split("/").slice(1).map((part) => decodeURIComponent(part))
  let place = ""
  for (const name of names) {
    if (place.length + name.length >= maxPath) break
    place += `/${name}`
  }
  return place
}

/** The schema that has the keyword, following references as the interpreter did. */
const ownerOf = ({ lookup, root }: Form, keywordLocation: string): Node | undefined => {
  let node: unknown = root
  for (const name of namesIn(keywordLocation).slice(0, -1)) {
    if (name === "$ref") {
      const target = memberOf(node, "__absolute_ref__")
      node = typeof target === "string" ? lookup[target] : undefined
    } else node = memberOf(node, name)
  }
  return typeof node === "object" && node !== null ? node as Node : undefined
}

const listed = (values: ReadonlyArray<unknown>): string => values.map((value) => JSON.stringify(value)).join(", ")

/** Keywords that fail because another one below them does, which is told. */
const outer = new Set([
  ...["$ref", "$recursiveRef", "allOf", "if", "properties", "patternProperties", "additionalProperties", "items"],
  ...["unevaluatedProperties", "prefixItems", "additionalItems", "unevaluatedItems", "dependentSchemas"]
])

const messageOf = (unit: OutputUnit, owner: Node | undefined, value: unknown): string => {
  const { error, keyword } = unit
  const wanted: unknown = owner?.[keyword]
  const size = Array.isArray(value) ? value.length : Object.keys(Object(value)).length
  switch (wanted === undefined ? "" : keyword) {
    case "type":
      return `expected ${Array.isArray(wanted) ? wanted.join(" or ") : String(wanted)}, ${got(value)}`
    case "const":
      return `expected ${shown(wanted)}, ${got(value)}`
    case "enum":
      return Array.isArray(wanted) ? `expected one of ${clip(listed(wanted), 200)}, ${got(value)}` : error
    case "minimum":
      return `expected at least ${String(wanted)}, ${got(value)}`
    case "maximum":
      return `expected at most ${String(wanted)}, ${got(value)}`
    case "exclusiveMinimum":
      return `expected more than ${String(wanted)}, ${got(value)}`
    case "exclusiveMaximum":
      return `expected less than ${String(wanted)}, ${got(value)}`
    case "multipleOf":
      return `expected a multiple of ${String(wanted)}, ${got(value)}`
    case "minLength":
      return `expected at least ${String(wanted)} characters, ${got(value)}`
    case "maxLength":
      return `expected at most ${String(wanted)} characters, ${got(value)}`
    case "pattern":
      return `expected text that matches ${clip(String(wanted), 150)}, ${got(value)}`
    case "minItems":
      return `expected at least ${String(wanted)} items, got ${size}`
    case "maxItems":
      return `expected at most ${String(wanted)} items, got ${size}`
    case "minProperties":
      return `expected at least ${String(wanted)} properties, got ${size}`
    case "maxProperties":
      return `expected at most ${String(wanted)} properties, got ${size}`
    case "contains":
      return "expected an item that fits the schema of contains"
    case "not":
      return `must not fit ${shown(wanted)}`
    case "required":
      return error.replace(/^Instance does not have required property ([^]*)\.$/, "lacks the property $1")
    default:
      return error.replace(/^(?:Instance|Array|String) /, "").replace(/\.$/, "")
  }
}

const isBelow = (unit: OutputUnit, location: string): boolean =>
  unit.keyword === "false" || unit.keywordLocation.startsWith(`${location}/`)

/** How far from fitting an alternative is: the wrong type of all of it, then a wrong constant, which tells alternatives apart. */
const distance = (units: ReadonlyArray<OutputUnit>, place: string): number =>
  units.reduce((sum, { instanceLocation, keyword }) => {
    if (outer.has(keyword)) return sum
    if (keyword === "type" && instanceLocation === place) return sum + 10_000
    return sum + (keyword === "const" || keyword === "enum" ? 100 : 1)
  }, 0)

const closest = (units: ReadonlyArray<OutputUnit>, { instanceLocation, keywordLocation }: OutputUnit) => {
  const branches = new Map<string, Array<OutputUnit>>()
  let branch = ""
  for (const unit of units) {
    if (unit.keyword !== "false") branch = unit.keywordLocation.slice(keywordLocation.length + 1).split("/", 1)[0] ?? ""
    const known = branches.get(branch)
    if (known === undefined) branches.set(branch, [unit])
    else known.push(unit)
  }
  return Array.from(branches.values()).sort((one, other) =>
    distance(one, instanceLocation) - distance(other, instanceLocation)
  )[0] ?? []
}

/** What is wrong, without what follows from it. */
const collect = (units: ReadonlyArray<OutputUnit>, form: Form, data: unknown): Array<Issue> => {
  const issues: Array<Issue> = []
  const valueAt = (pointer: string) => namesIn(pointer).reduce(memberOf, data)
  // What single items lack is told before the keyword, and does not matter.
  const unneeded = units.flatMap(({ keyword, keywordLocation }) =>
    keyword === "minContains" || keyword === "maxContains"
      ? [`${keywordLocation.slice(0, -keyword.length)}contains/`]
      : []
  )
  for (let index = 0; index < units.length && issues.length < maxIssues; index++) {
    const unit = units[index]
    if (unit === undefined || outer.has(unit.keyword)) continue
    const { error, instanceLocation, keyword, keywordLocation } = unit
    if (unneeded.some((location) => keywordLocation.startsWith(location))) continue
    const owner = ownerOf(form, keywordLocation)
    const report = (message: string, at = instanceLocation) =>
      issues.push({ path: placeOf(at), message: clip(message, maxMessage) })
    const below = () => {
      const from = index + 1
      while (index + 1 < units.length && isBelow(units[index + 1] ?? unit, keywordLocation)) index += 1
      return units.slice(from, index + 1)
    }
    if (keyword === "false") report("is not allowed")
    else if (keyword === "anyOf" || keyword === "oneOf") {
      const alternatives = below()
      const fitting = /\((\d+) matches\)/.exec(error)?.[1]
      if (fitting !== undefined && fitting !== "0") {
        report(`fits ${fitting} of the alternatives of oneOf, and has to fit one`)
      } else {
        report(`fits none of the ${String(owner?.[keyword]?.length)} alternatives of ${keyword}; of the closest one:`)
        issues.push(...collect(closest(alternatives, unit), form, data))
      }
    } else if (keyword === "propertyNames") {
      const [first] = below()
      report("has a name that is not allowed", first?.instanceLocation)
    } else {
      if (keyword === "contains" || keyword === "not") below()
      report(messageOf(unit, owner, valueAt(instanceLocation)))
    }
  }
  return issues
}

const keyOf = ({ message, path }: Issue): string => `${path}\n${message}`

export const issuesOf = (units: ReadonlyArray<OutputUnit>, form: Form, data: unknown): ReadonlyArray<Issue> =>
  Array.from(new Map(collect(units, form, data).map((issue) => [keyOf(issue), issue])).values()).slice(0, maxIssues)
