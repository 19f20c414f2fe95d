/**
 * Skills for simulated servers, which note every run: `pure` may run twice for one call, `once` must not. What a run writes
 * tells which run it is, so that the output of two runs cannot pass for that of one.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Executor from "@skillscale/server/Executor"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

export const topic = "TOPIC_SIMULATED"

export const names = ["pure", "once"] as const

export type Name = typeof names[number]

/** What a call asks for. */
export interface Spec {
  /** Of the call; begins with the name of its skill. */
  readonly name: string
  /** How long it takes when nobody holds it up, in milliseconds. */
  readonly ms: number
  /** How many pieces of standard output it writes, each followed by a line of progress. */
  readonly pieces: number
  /** The size of each. */
  readonly bytes: number
}

export interface Run {
  /** Counts the runs of one call. */
  readonly number: number
  readonly spec: Spec
  readonly startedAt: number
  endedAt: number | undefined
  /** What was taken of its output, as its reader counts it. */
  written: number
  /** How much of that at most its reader had not read yet, while it had a reader. */
  ahead: number
}

/** All runs, by the name of the call. */
export type Runs = Map<string, Array<Run>>

export const dataOf = ({ bytes, ms, name, pieces }: Spec): string => [name, ms, pieces, bytes].join(" ")

export const specOf = (data: string): Spec => {
  const [name = "", ms, pieces, bytes] = data.split(" ")
  return { name, ms: Number(ms), pieces: Number(pieces), bytes: Number(bytes) }
}

const head = (name: string, number: number) => `${name}#${number}\n`

const pieceOf = ({ bytes, name }: Spec, number: number, index: number): string =>
  `${index === 0 ? head(name, number) : ""}${number}.${index} `.padEnd(bytes, ".")

/** What a run says of its progress. */
export const progressOf = (number: number, index: number): string => `${number}.${index}`

/** Enough for an answer in parts. */
const filler = ".".repeat(150)

/** All that a run prints. */
export const outputOf = (spec: Spec, number: number): string =>
  spec.pieces === 0
    ? `${head(spec.name, number)}${filler}`
    : Array.from({ length: spec.pieces }, (_, index) => pieceOf(spec, number, index)).join("")

const lineOf = (number: number, index: number): string => `::progress:: ${progressOf(number, index)}\n`

/** All that a run writes to standard error. */
export const errorsOf = (spec: Spec, number: number): string =>
  Array.from({ length: spec.pieces }, (_, index) => lineOf(number, index)).join("")

/** Which run printed this, from its beginning. */
export const numberOf = (output: string): number => Number(/^[^#]*#(\d+)\n/.exec(output)?.[1])

/** What a piece of output costs its reader's window. */
export const chargeOf = (piece: Uint8Array | string): number => Protocol.chargeOf(Buffer.byteLength(piece))

const catalog: SkillDiscovery.Catalog = {
  skills: names.map((name) => ({
    name,
    description: `Runs ${name}.`,
    category: "simulated",
    topic,
    root: `/skills/${name}`,
    file: `/skills/${name}/SKILL.md`,
    manifest: { name, description: `Runs ${name}.`, metadata: {}, extra: {} } as never,
    digest: `sha256:${"0".repeat(64)}`,
    files: [],
    entry: Option.some("scripts/run.sh"),
    scripts: ["scripts/run.sh"],
    input: Option.none(),
    output: Option.none(),
    refusal: Option.none(),
    diagnostics: []
  })),
  diagnostics: []
}

const discovery = Layer.succeed(SkillDiscovery.SkillDiscovery, {
  catalog: Effect.succeed(catalog),
  find: () => Effect.succeed(Option.none()),
  changes: Stream.never,
  refresh: Effect.succeed(catalog),
  document: (skill) =>
    Effect.succeed({ frontMatter: {}, instructions: `instructions of ${skill.name}`, size: 0, sha256: "0".repeat(64) }),
  instructions: (skill) => Effect.succeed(`instructions of ${skill.name}`),
  resources: () => [],
  resource: () => Effect.succeed(new Uint8Array())
})

const executor = Layer.succeed(Executor.Executor, {
  capabilities: {
    name: "none",
    limits: false,
    wholeTree: false,
    outlivesNothing: false,
    usage: false,
    confines: false
  },
  run: () => Effect.never,
  stream: () => Stream.never,
  canOverlay: () => false
} as never)

const timedOut = (skill: string, timeoutMs: number) =>
  new SkillRunner.SkillRunError({
    skill,
    reason: new Executor.ExecutorError({
      file: "run.sh",
      reason: new Executor.TimedOut({ timeoutMs }),
      stderr: new Uint8Array()
    })
  })

/** Writes piece by piece, and waits for whoever takes them, as a script does at its pipe. */
const write = Effect.fnUntraced(function*(
  run: Run,
  take: (output: SkillRunner.Output) => Effect.Effect<void>,
  readOf: (name: string) => number | undefined
) {
  const { number, spec } = run
  const count = (charge: number): void => {
    run.written += charge
    run.ahead = Math.max(run.ahead, run.written - (readOf(spec.name) ?? run.written))
  }
  const stderr: Array<Uint8Array> = []
  for (let index = 0; index < spec.pieces; index++) {
    const stdout = Buffer.from(pieceOf(spec, number, index))
    const line = Buffer.from(lineOf(number, index))
    stderr.push(line)
    yield* take({ _tag: "Stdout", data: stdout })
    count(chargeOf(stdout))
    yield* take({ _tag: "Stderr", data: line })
    count(chargeOf(line) + chargeOf(progressOf(number, index)))
    yield* Effect.sleep(Duration.millis(Math.ceil(spec.ms / spec.pieces)))
  }
  if (spec.pieces === 0) yield* Effect.sleep(Duration.millis(spec.ms))
  return Buffer.concat(stderr)
})

const runnerOf = (runs: Runs, random: () => number, readOf: (name: string) => number | undefined) =>
  Layer.succeed(SkillRunner.SkillRunner, {
    hints: (skill) => ({ readOnly: true, destructive: false, idempotent: skill.name === "pure", openWorld: false }),
    isIdempotent: (skill) => skill.name === "pure",
    run: (skill, call, hooks) =>
      Effect.gen(function*() {
        const spec = specOf(Buffer.from(call.stdin ?? []).toString())
        const startedBefore = () => runs.get(spec.name) ?? []
        yield* Effect.sleep(Duration.millis(Math.ceil(random() * 20)))
        yield* hooks?.beforeStart ?? Effect.void
        const number = startedBefore().length
        const run: Run = {
          number,
          spec,
          startedAt: yield* Clock.currentTimeMillis,
          endedAt: undefined,
          written: 0,
          ahead: 0
        }
        runs.set(spec.name, [...startedBefore(), run])
        const stderr = yield* write(run, hooks?.onOutput ?? (() => Effect.void), readOf).pipe(
          Effect.ensuring(Effect.map(Clock.currentTimeMillis, (now) => run.endedAt = now))
        )
        return {
          exitCode: 0,
          signal: "",
          stdout: Buffer.from(outputOf(spec, number)),
          stderr,
          stdoutTruncated: false,
          stderrTruncated: false,
          artifacts: [],
          artifactsTruncated: false,
          warm: false,
          usage: { wallMs: 1, userMs: 1, systemMs: 0, maxRssBytes: 1 }
        } as never
      }).pipe(Effect.timeoutOrElse({
        duration: call.timeout ?? "1 hour",
        orElse: () => Effect.fail(timedOut(skill.name, Duration.toMillis(Duration.fromInputUnsafe(call.timeout ?? 0))))
      }))
  })

/** What a server needs besides its bus. `readOf` tells how much of a call's output was read, if somebody reads it. */
export const layer = (runs: Runs, random: () => number, readOf: (name: string) => number | undefined) =>
  Layer.mergeAll(discovery, executor, runnerOf(runs, random, readOf))
