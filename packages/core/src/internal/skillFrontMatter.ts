import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Yaml from "yaml"
import { quotePlainValues } from "./skillRepair.ts"

export interface Position {
  readonly line: number
  readonly column: number
}

export type Value = Position & Node

export type Node =
  | { readonly kind: "scalar"; readonly value: string | number | boolean | null; readonly text: string }
  | { readonly kind: "list"; readonly items: ReadonlyArray<Value> }
  | { readonly kind: "map"; readonly entries: ReadonlyMap<string, Value> }

export interface Problem extends Position {
  readonly code: "NoFrontMatter" | "InvalidYaml" | "RepairedYaml" | "ReservedKey" | "TooLarge"
  readonly message: string
}

export interface FrontMatter {
  readonly line: number
  readonly entries: ReadonlyMap<string, Value>
  readonly body: string
  readonly bodyLine: number
  readonly problems: ReadonlyArray<Problem>
}

const maxValues = 10_000
/** Without aliases there are no more than the front matter has bytes. */
const maxCharacters = 262_144
const maxDepth = 32
const maxReported = 3

class Unreadable extends Error {
  readonly offset: number
  constructor(message: string, offset: number) {
    super(message)
    this.offset = offset
  }
}

const fence = /^---[ \t]*\r?(?:\n|$)/

export const read = (
  text: string,
  maxBytes: number
): Result.Result<FrontMatter, ReadonlyArray<Problem>> => {
  const source = text.startsWith("\uFEFF") ? text.slice(1) : text
  const opening = fence.exec(source)
  if (opening === null) {
    return Result.fail([{
      code: "NoFrontMatter",
      message: "expected front matter: the first line must be ---",
      line: 1,
      column: 1
    }])
  }
  const rest = source.slice(opening[0].length)
  // Not the flag m: it would take U+2028 and a lone carriage return for the end of a line.
  const closing = /(^|\n)---[ \t]*\r?(?:\n|$)/.exec(rest)
  if (closing === null) {
    return Result.fail([{
      code: "NoFrontMatter",
      message: "the front matter has no end: expected a second line of ---",
      line: 1,
      column: 1
    }])
  }
  const yaml = rest.slice(0, closing.index + (closing[1] ?? "").length)
  if (Buffer.byteLength(yaml) > maxBytes) {
    return Result.fail([{
      code: "TooLarge",
      message: `the front matter is larger than ${maxBytes} bytes: move text into the body`,
      line: 1,
      column: 1
    }])
  }
  return Result.map(readYaml(yaml), ({ entries, problems }) => ({
    line: 1,
    entries,
    problems,
    body: rest.slice(closing.index + closing[0].length),
    bodyLine: yaml.split("\n").length + 2
  }))
}

type Tree = Pick<FrontMatter, "entries" | "problems">

const readYaml = (yaml: string): Result.Result<Tree, ReadonlyArray<Problem>> => {
  const first = parse(yaml)
  if (Result.isSuccess(first)) {
    return first
  }
  const repair = quotePlainValues(yaml)
  return repair.lines.length === 0 ? first : Result.match(parse(repair.text), {
    onFailure: () => first,
    onSuccess: ({ entries, problems }) =>
      Result.succeed({
        entries,
        problems: [
          ...repair.lines.map((line): Problem => ({
            code: "RepairedYaml",
            message: "the value contains a colon that YAML takes for a nested mapping: put the value in quotes",
            line: line + 1,
            column: 1
          })),
          ...problems
        ]
      })
  })
}

const parse = (yaml: string): Result.Result<Tree, ReadonlyArray<Problem>> => {
  const counter = new Yaml.LineCounter()
  const at = (offset: number): Position => {
    const { col, line } = counter.linePos(offset)
    return { line: line + 1, column: Math.max(1, col) }
  }
  try {
    // Duplicates are found while reading the tree: the library compares every key with every other.
    const document = Yaml.parseDocument(yaml, {
      lineCounter: counter,
      logLevel: "error",
      prettyErrors: false,
      uniqueKeys: false
    })
    if (document.errors.length > 0) {
      return Result.fail(
        document.errors.slice(0, maxReported).map((error) => ({
          code: "InvalidYaml" as const,
          message: error.message,
          ...at(error.pos[0])
        }))
      )
    }
    const problems: Array<Problem> = []
    const root = toValue(document.contents, at, problems)
    return root.kind === "map"
      ? Result.succeed({ entries: root.entries, problems })
      : Result.fail([{
        code: "InvalidYaml",
        message: "expected fields such as name: and description:",
        line: root.line,
        column: root.column
      }])
  } catch (cause) {
    return Result.fail([{
      code: "InvalidYaml",
      message: cause instanceof RangeError
        ? "nested too deeply"
        : cause instanceof Error
        ? cause.message
        : String(cause),
      ...at(cause instanceof Unreadable ? cause.offset : 0)
    }])
  }
}

const toValue = (
  contents: unknown,
  at: (offset: number) => Position,
  problems: Array<Problem>
): Value => {
  const anchors = new Map<
    string,
    { readonly value: Value; readonly weight: number; readonly characters: number }
  >()
  let values = 0
  let characters = 0

  const count = (weight: number, length: number, offset: number): void => {
    values += weight
    characters += length
    if (values > maxValues) {
      throw new Unreadable(`more than ${maxValues} values, counting those that aliases repeat`, offset)
    }
    if (characters > maxCharacters) {
      throw new Unreadable(`more than ${maxCharacters} characters, counting those that aliases repeat`, offset)
    }
  }

  const visit = (node: unknown, offset: number, depth: number): Value => {
    if (depth > maxDepth) {
      throw new Unreadable(`nested deeper than ${maxDepth} levels`, offset)
    }
    if (Yaml.isAlias(node)) {
      const anchor = anchors.get(node.source)
      if (anchor === undefined) {
        throw new Unreadable(
          `the alias *${node.source} names no anchor before it; put it in quotes if it is text`,
          offset
        )
      }
      count(anchor.weight, anchor.characters, offset)
      return { ...anchor.value, ...at(offset) }
    }
    const before = { values, characters }
    const value = { ...visitNode(node, offset, depth), ...at(offset) }
    count(1, value.kind === "scalar" ? value.text.length : 0, offset)
    if (Yaml.isNode(node) && node.anchor !== undefined) {
      anchors.set(node.anchor, {
        value,
        weight: values - before.values,
        characters: characters - before.characters
      })
    }
    return value
  }

  const visitNode = (node: unknown, offset: number, depth: number): Node => {
    if (Yaml.isMap(node)) {
      return { kind: "map", entries: visitMap(node, offset, depth) }
    }
    return Yaml.isSeq(node)
      ? { kind: "list", items: node.items.map((item) => visit(item, offsetOf(item, offset), depth + 1)) }
      : scalar(node)
  }

  const visitMap = (node: Yaml.YAMLMap, offset: number, depth: number): ReadonlyMap<string, Value> => {
    const entries = new Map<string, Value>()
    for (const pair of node.items) {
      const start = offsetOf(pair.key, offset)
      const key = visit(pair.key, start, depth + 1)
      if (key.kind !== "scalar") {
        throw new Unreadable("a list or a mapping cannot be the name of a field", start)
      }
      if (entries.has(key.text)) {
        throw new Unreadable(`the field ${key.text} occurs twice`, start)
      }
      const value = visit(pair.value, start, depth + 1)
      if (key.text === "__proto__") {
        problems.push({ code: "ReservedKey", message: "the field __proto__ is left out", ...at(start) })
      } else {
        entries.set(key.text, value)
      }
    }
    return entries
  }

  return visit(contents, 0, 0)
}

const offsetOf = (node: unknown, fallback: number): number =>
  Yaml.isNode(node) && node.range !== undefined && node.range !== null ? node.range[0] : fallback

const scalar = (node: unknown): Extract<Node, { kind: "scalar" }> => {
  const value = Yaml.isScalar(node) ? node.value : null
  if (value === null || value === undefined) {
    return { kind: "scalar", value: null, text: "" }
  }
  const text = typeof value === "string"
    ? value
    : Yaml.isScalar(node) && node.source !== undefined
    ? node.source
    : String(value)
  return typeof value === "number" && Number.isFinite(value) || typeof value === "boolean"
    ? { kind: "scalar", value, text }
    : { kind: "scalar", value: text, text }
}

export const plain = (value: Value): Schema.Json => {
  switch (value.kind) {
    case "scalar":
      return value.value
    case "list":
      return value.items.map(plain)
    case "map":
      return plainFields(value.entries)
  }
}

export const plainFields = (entries: ReadonlyMap<string, Value>): Schema.JsonObject =>
  Object.fromEntries(Array.from(entries, ([key, entry]) => [key, plain(entry)]))
