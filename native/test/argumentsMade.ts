/** What `argumentsFuzz.ts` passes to the addon, and rules of its own that tell what of it is right. */
import * as assert from "node:assert/strict"
import { types } from "node:util"
import { options as validOptions, pool } from "./host.ts"

const payloadBytes = 16 * 1024 * 1024
const mostStrings = 2 ** 20
const heads = 5

/** Mulberry32. */
export const random = (state: number) => {
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  const chance = (part: number) => next() < part
  const of = <A>(values: ReadonlyArray<A>): A => {
    const value = values[below(values.length)]
    assert.ok(values.length > 0)
    return value as A
  }
  /** Small ones as often as large ones. */
  const whole = (): number => {
    const number = Math.floor(2 ** (next() * 53)) - 1
    return chance(0.1) ? of([0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) : number
  }
  const letters = ["a", "b", "Z", "0", " ", "\n", "=", "/", ".", "ü", "€", "😀", "\ud800", "\udfff", "\u0001", "\u2028"]
  const text = (most = 12): string => Array.from({ length: below(most) }, () => of(letters)).join("")
  return { below, chance, of, whole, text }
}

export type Random = ReturnType<typeof random>

export class Trap extends Error {}

const detached = (): Uint8Array => {
  const bytes = new Uint8Array(8)
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  return bytes
}

/** Of every type that there is, none of which fits a number, a string or a boolean by accident. */
export const strange = (from: Random): unknown =>
  from.of<() => unknown>([
    () => undefined,
    () => null,
    () => from.chance(0.5),
    () => -from.whole() - 1,
    () => from.whole() + 0.5,
    () => from.of([Number.NaN, Infinity, -Infinity, 2 ** 53, 2 ** 64, 1e308, -0.5, 5e-324]),
    () => BigInt(from.whole()),
    () => from.whole(),
    () => from.text(),
    () => String(from.whole()),
    () => `${from.text()}\0`,
    () => Symbol(from.text()),
    () => [],
    () => [from.whole()],
    () => ({}),
    () => new Number(from.whole()),
    () => new String(from.text()),
    () => new Boolean(true),
    () => () => from.whole(),
    () => new Date(0),
    () => /x/,
    () => new Map(),
    () => Promise.resolve(1),
    () => new Uint8Array(from.below(9)),
    () => Buffer.from(from.text()),
    () => detached(),
    () => new Uint8ClampedArray(3),
    () => new Float64Array(2),
    () => new ArrayBuffer(4),
    () => new SharedArrayBuffer(4),
    () => new DataView(new ArrayBuffer(2)),
    () => Object.create(null),
    () => ({ valueOf: () => from.whole(), toString: () => from.text() }),
    () =>
      new Proxy({}, {
        get: () => {
          throw new Trap()
        }
      }),
    () => new Proxy(new Uint8Array(3), {})
  ])()

export const isWhole = (value: unknown, minimum: number): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= minimum && value <= Number.MAX_SAFE_INTEGER

/** Names the fields of an object that are not what the base says, by their kind there. */
const wrongFields = (
  object: object,
  base: Readonly<Record<string, unknown>>,
  kinds: Readonly<Record<string, (value: unknown) => boolean>>
): Set<string> => {
  const wrong = new Set<string>()
  for (const [name, right] of Object.entries(base)) {
    const value: unknown = Reflect.get(object, name)
    const isRight = kinds[name] ??
      (right === null
        ? (value: unknown) => value === null || isWhole(value, 0)
        : typeof right === "number"
        ? (value: unknown) => isWhole(value, 0)
        : (value: unknown) => typeof value === typeof right)
    if (!isRight(value)) wrong.add(name)
  }
  return wrong
}

const endsOf = (text: string): number => text.split("\0").length - 1

export interface Verdict {
  /** Any of them may be named. */
  readonly wrong: ReadonlySet<string>
  /** More than a packet may have, which fails the run and not the call. */
  readonly oversized: boolean
}

const counts = ["argc", "envc", "writec", "readc", "warmc"]

export const judgeRun = (run: unknown): Verdict => {
  if (typeof run !== "object" || run === null) return { wrong: new Set(["options"]), oversized: false }
  const wrong = wrongFields(run, { ...validOptions(["x"], []) }, {
    argc: (value) => isWhole(value, 1),
    graceMs: (value) => value === null || isWhole(value, 0),
    interruptGraceMs: (value) => value === null || isWhole(value, 0)
  })
  if (wrong.has("strings") || counts.some((name) => wrong.has(name))) return { wrong, oversized: false }
  const strings = String(Reflect.get(run, "strings"))
  const numbers = counts.map((name) => Number(Reflect.get(run, name)))
  const oversized = Buffer.byteLength(strings) > payloadBytes || numbers.some((number) => number > mostStrings)
  const expected = numbers.reduce((sum, number) => sum + number, heads)
  if (!oversized && (!strings.endsWith("\0") || endsOf(strings) !== expected)) wrong.add("strings")
  return { wrong, oversized }
}

export const judgeInput = (input: unknown): boolean => input === null || types.isUint8Array(input)

export const judgePool = (object: unknown): ReadonlySet<string> => {
  if (typeof object !== "object" || object === null) return new Set(["options"])
  const wrong = wrongFields(object, { ...pool("x") }, {
    minReapers: (value) => isWhole(value, 1),
    maxReapers: (value) => {
      const minimum: unknown = Reflect.get(object, "minReapers")
      return isWhole(value, isWhole(minimum, 1) ? Math.min(minimum, 65_536) : 1)
    },
    reaperPath: (value) => typeof value === "string" && !value.includes("\0"),
    controlGroups: (value) => typeof value === "string" && !value.includes("\0")
  })
  if (wrong.has("paths") || wrong.has("readable") || wrong.has("skills")) return wrong.add("paths")
  const paths = String(Reflect.get(object, "paths"))
  const [readable, skills] = ["readable", "skills"].map((name) => Number(Reflect.get(object, name)))
  if (paths !== "" && !paths.endsWith("\0") || endsOf(paths) !== (readable ?? 0) + (skills ?? 0)) wrong.add("paths")
  else if (!wrong.has("open") && Number(Reflect.get(object, "open")) > (skills ?? 0)) wrong.add("open")
  return wrong
}

/** Changes some fields of an object, for each one way or another. */
export const mutate = (from: Random, object: Record<PropertyKey, unknown>, keep: (name: string) => boolean) => {
  const names = Object.keys(object).filter((name) => !keep(name))
  for (const name of new Set([from.of(names), from.of(names), from.of(names)])) {
    const way = from.below(10)
    const value = way < 2 ? object[name] : strange(from)
    if (way === 0) delete object[name]
    else if (way === 1) {
      const trap = from.chance(0.5)
      const get = () => {
        if (trap) throw new Trap()
        return value
      }
      Object.defineProperty(object, name, { configurable: true, enumerable: true, get })
    } else object[name] = value
  }
}

/** Changes strings and what they are counted by, so that they often do not match, and sometimes still do. */
export const miscount = (from: Random, run: Record<PropertyKey, unknown>) => {
  const strings = String(run["strings"])
  const at = from.below(strings.length + 1)
  const bump = (name: string, by: number) => {
    run[name] = Number(run[name]) + by
  }
  from.of<() => void>([
    () => void (run["strings"] = strings.slice(0, -1)),
    () => void (run["strings"] = strings.slice(0, at)),
    () => void (run["strings"] = `${strings.slice(0, at)}\0${strings.slice(at)}`),
    () => void (run["strings"] = strings.replace("\0", "")),
    () => void (run["strings"] = from.of(["", "\0", "\0\0\0\0\0\0", `${strings}x`, from.text(40)])),
    () => bump(from.of(counts), from.of([-1, 1, 2, 2 ** 20, 2 ** 32, 2 ** 32 - 1, 2 ** 40])),
    () => {
      bump(from.of(counts), 1)
      run["strings"] = `${strings}${from.text()}\0`
    },
    () => {
      // Their sum stays: what was meant to be one is then another.
      bump(from.of(counts), -1)
      bump(from.of(counts), 1)
    },
    () => void (run["strings"] = from.chance(0.1) ? `${strings.slice(0, -1)}${"x".repeat(payloadBytes)}\0` : strings)
  ])()
}

const limits = [
  "cpuSeconds",
  "memoryBytes",
  "fileBytes",
  "openFiles",
  "processes",
  "treeBytes",
  "treeTasks",
  "diskBytes"
]

/** Numbers that are right, whatever they do to the run. */
export const tune = (from: Random, run: Record<PropertyKey, unknown>) => {
  for (let changes = from.below(4); changes > 0; changes--) {
    const name = from.of([
      ...limits,
      "timeoutMs",
      "graceMs",
      "interruptGraceMs",
      "stdoutBytes",
      "stderrBytes",
      "windowBytes",
      "affinity",
      "epoch",
      "flags"
    ])
    run[name] = from.whole()
  }
  run["failOnOverflow"] = from.chance(0.5)
  if (from.chance(0.04)) run["kind"] = from.of([1, 2, 3, 2 ** 40])
}

const inputOf = (from: Random): Uint8Array => {
  const size = from.of([0, 1, 4096, 70_000])
  const buffer = from.of<() => ArrayBufferLike>([
    () => new ArrayBuffer(size + 7),
    () => new SharedArrayBuffer(size + 7),
    (): ArrayBuffer => Reflect.construct(ArrayBuffer, [size + 7, { maxByteLength: size + 100 }])
  ])()
  const bytes = from.of([
    () => new Uint8Array(buffer, 3, size),
    () => Buffer.from(buffer, 3, size),
    () => new Uint8Array(buffer)
  ])()
  return bytes.fill(97 + from.below(26))
}

/** Has a run in a cell, and names a fork server for it that will never be one. */
const confine = (from: Random, run: Record<PropertyKey, unknown>) => {
  const warm = from.chance(0.5) ? [] : ["key", from.of(["/bin/false", "/bin/echo", "/does/not/exist", ""]), from.text()]
  const parts = String(run["strings"]).split("\0")
  run["strings"] = parts.toSpliced(heads, 0, ...warm).join("\0")
  run["warmc"] = warm.length
  run["kind"] = 1 + from.below(2)
  run["flags"] = from.below(64)
}

/** A run of which all is right. */
export const plainRun = (from: Random, cells: boolean) => {
  const words = Array.from({ length: from.below(6) }, () => `w${from.text()}`)
  const env = Array.from({ length: from.below(4) }, (_, index) => `V${index}=${from.text()}`)
  const echoes = from.chance(0.5)
  const input = echoes ? null : inputOf(from)
  const expected = echoes ? Buffer.from(`${words.join(" ")}\n`) : Buffer.from(input ?? [])
  const run: Record<PropertyKey, unknown> = { ...validOptions(echoes ? ["/bin/echo", ...words] : ["/bin/cat"], env) }
  if (from.chance(0.3)) run["windowBytes"] = 1 + from.below(100_000)
  if (from.chance(0.1) && cells) confine(from, run)
  return { run, input, expected }
}
