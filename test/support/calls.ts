/** Real clients, servers and processes for tests of calls, each on a `Wire` over whatever carries the messages. */
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as SkillServer from "@skillscale/server/SkillServer"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Stack from "./stack.ts"
import * as Wire from "./wire.ts"

/** What carries the messages of one test. */
export interface Net {
  readonly server: Effect.Effect<Bus.Bus["Service"], Bus.BusError, Scope.Scope>
  readonly client: Effect.Effect<Bus.Bus["Service"], Bus.BusError, Scope.Scope>
  /** Ends the proxy that the clients use. There is one again afterwards: the same, or another. */
  readonly disturb?: Effect.Effect<void, unknown> | undefined
}

export const topic = "TOPIC_TESTING"
/** For calls that must not be sent again on a busy machine. */
export const patient = { ackTimeout: "10 seconds" } as const
/** Short, so that losing a replica takes little. */
const leaseMs = 300

/** Tells of its run in a file, waits until the file named by its third argument exists, and answers. */
const told = `echo "$2 $$" >> "$1/runs"
if [ -n "$3" ]; then while ! [ -e "$1/$3" ]; do sleep 0.01; done; fi
echo "done $2"
`

/** What `flow` writes, in how many lines. */
export const pieces = 64
export const pieceBytes = 64 * 1024

/** All of it. */
export const flowed = Array.from(
  { length: pieces },
  (_, index) => `${String(index + 1).padStart(pieceBytes - 1, "0")}\n`
).join("")

/** Writes 4 MiB in numbered lines, tells of its progress, and counts in a file what it has written. */
const flowing = `for i in $(seq 1 ${pieces}); do
  printf '%0${pieceBytes - 1}d\\n' "$i"
  echo "::progress:: $i" >&2
  echo "$i" >> "$1/written"
done
`

const skill = (name: string, isIdempotent: boolean, script: string): Stack.Fixture => ({
  category: "testing",
  name,
  files: {
    "SKILL.md": `---\nname: ${name}\ndescription: Tests calls as ${name}.\nmetadata:\n` +
      `  skillscale.idempotent: "${isIdempotent}"\n---\nInstructions.\n`,
    "scripts/run.sh": script
  }
})

/** `pure` may run twice for one call, `once` must not. */
const skills = [skill("pure", true, told), skill("once", false, told), skill("flow", true, flowing)]
export type Skill = "pure" | "once"

export const eventually = (what: string, condition: () => boolean, ms = 15_000): Effect.Effect<void> =>
  Effect.sync(condition).pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("2 millis") }),
    Effect.timeoutOrElse({ duration: ms, orElse: () => Effect.die(new Error(`never: ${what}`)) }),
    Effect.asVoid
  )

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-calls-")))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

export const linesOf = (path: string): ReadonlyArray<string> =>
  Fs.existsSync(path) ? Fs.readFileSync(path, "utf8").split("\n").slice(0, -1) : []

export const isRunning = (pid: number): boolean => Fs.existsSync(`/proc/${pid}`)

export interface Replica {
  readonly id: string
  readonly wire: Wire.Wire
  readonly load: SkillServer.SkillServer["Service"]["load"]
  /** Ends it and its processes at once; nothing of that is heard. */
  readonly kill: Effect.Effect<void>
}

export interface Caller {
  readonly client: SkillClient.SkillClient["Service"]
  readonly wire: Wire.Wire
  readonly close: Effect.Effect<void>
}

export interface Options {
  readonly replicas?: number
  readonly server?: Partial<SkillServer.Options>
  readonly client?: SkillClient.Options
}

/** Servers that are ready, and a client that knows how they are. */
export const start = Effect.fnUntraced(function*(net: Net, options: Options = {}) {
  const directory = yield* folder
  const replicas = yield* Effect.forEach(
    Array.from({ length: options.replicas ?? 1 }, (_, index) => `r${index}`),
    Effect.fnUntraced(function*(id) {
      const scope = yield* Scope.make()
      yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
      const wire = yield* Wire.make(net.server)
      const server = yield* Stack.serverOn(
        Layer.succeed(Bus.Bus, wire.bus),
        skills,
        { topic, id, workers: 16, lease: leaseMs, drain: 0, ...options.server },
        { sandbox: "off" }
      ).pipe(Layer.buildWithScope(scope))
      const { load } = Context.get(server, SkillServer.SkillServer)
      const kill = Effect.andThen(wire.cut, Scope.close(scope, Exit.void))
      return { id, wire, load, kill } satisfies Replica
    })
  )
  const connect = Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const wire = yield* Wire.make(net.client)
    const client = yield* SkillClient.make({ timeout: "20 seconds", ...options.client }).pipe(
      Effect.provideService(Bus.Bus, wire.bus),
      Scope.provide(scope)
    )
    return { client, wire, close: Scope.close(scope, Exit.void) } satisfies Caller
  })
  const caller = yield* connect
  yield* Effect.map(
    caller.client.survey,
    ({ skills }) => new Set(skills.flatMap(({ servers }) => servers)).size === replicas.length
  ).pipe(
    Effect.repeat({ until: (areThere) => areThere, schedule: Schedule.spaced("20 millis") })
  )
  // So that the client knows what the servers of the topic do.
  yield* caller.client.run({ skill: "pure", topic, args: [directory, "warm-up"] })

  const gate = (name: string) => Path.join(directory, name)
  const runs = (name: string) => linesOf(gate("runs")).map((line) => line.split(" ")).filter(([run]) => run === name)
  const text = (result: SkillClient.RunResult) => Buffer.from(result.stdout).toString()
  const call = (name: string, more: { skill?: Skill; gate?: string; timeout?: number; by?: Caller } = {}) =>
    (more.by ?? caller).client.run({
      skill: more.skill ?? "pure",
      topic,
      args: [directory, name, more.gate ?? ""],
      ...(more.timeout === undefined ? {} : { timeout: more.timeout })
    })
  return {
    ...caller,
    caller,
    connect,
    directory,
    replicas,
    /** The processes that ran for a call. */
    runs: (name: string): ReadonlyArray<number> => runs(name).map(([, pid]) => Number(pid)),
    begun: (name: string, count = 1) => eventually(`${count} runs of ${name}`, () => runs(name).length >= count),
    open: (name: string) => Effect.sync(() => Fs.writeFileSync(gate(name), "")),
    run: call,
    /** Calls, and tells what was printed. */
    call: (...args: Parameters<typeof call>) => Effect.map(call(...args), text),
    /** Calls, and tells why that failed. */
    failure: (...args: Parameters<typeof call>) => Effect.map(Effect.flip(call(...args)), ({ reason }) => reason),
    by: (server: string | undefined) => replicas.find(({ id }) => id === server) ?? assert.fail(`no ${server}`)
  }
})

export const isRequest = ({ topic: to, way }: Wire.Passing) => way === "out" && to === topic
export const requests = ({ seen }: Wire.Wire) => seen.filter(isRequest).map(({ message }) => message)
/** What a client heard of a call: the names of events, and `final`. */
export const heard = ({ seen }: Wire.Wire, requestId: unknown) =>
  seen.filter(({ message: { calls, request_id }, way }) =>
    way === "in" && (request_id === requestId || Array.isArray(calls) && calls.includes(requestId))
  ).map(({ message: { event } }) => event ?? "final")
export const isFinal = ({ message: { event, request_id }, way }: Wire.Passing) =>
  way === "in" && event === undefined && request_id !== "probe"
/** Loses the first `count` messages of a kind. */
export const losing = (count: number, isOne: (passing: Wire.Passing) => boolean): Wire.Wire["rule"] => {
  let lost = 0
  return (passing) => isOne(passing) && lost++ < count ? 0 : 1
}
export const controlsOf = ({ seen }: Wire.Wire, kind: string) => seen.filter(({ message }) => message["kind"] === kind)

/** Waits until a replica has nothing in hand. */
export const idle = ({ id, load }: Replica) =>
  Effect.map(load, ({ queued, running }) => running + queued === 0).pipe(
    Effect.repeat({ until: (isIdle) => isIdle, schedule: Schedule.spaced("5 millis") }),
    Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error(`never: ${id} is idle`)) })
  )
