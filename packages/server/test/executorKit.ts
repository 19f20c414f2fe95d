/** What the parts of the executor's conformance suite share: programs to run, and what is left of them. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Executor from "@skillscale/server/Executor"

const decoder = new TextDecoder()
export const text = (bytes: Uint8Array) => decoder.decode(bytes)
export const megabyte = 1024 * 1024

const which = (name: string): string => {
  for (const folder of (process.env["PATH"] ?? "").split(":")) {
    const path = Path.join(folder, name)
    if (Fs.existsSync(path)) return path
  }
  throw new Error(`${name} is not in PATH`)
}
export const python = which("python3")

let markers = 0
/** A value that no other process has in its environment; the processes of a run are found by it. */
export const marker = (): string => `m${process.pid}x${Date.now().toString(36)}x${markers++}`

const readOrEmpty = (path: string): string => {
  try {
    return Fs.readFileSync(path, "latin1")
  } catch {
    return ""
  }
}

/** Processes that carry the marker. */
export const carrying = (value: string): Array<number> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name) && readOrEmpty(`/proc/${name}/environ`).includes(value))
    .map(
      Number
    )

interface Stat {
  readonly pid: number
  readonly parent: number
  readonly state: string
  readonly name: string
}

const processes = (): Array<Stat> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    const match = /^(\d+) \((.*)\) (\S) (\d+)/s.exec(readOrEmpty(`/proc/${name}/stat`))
    return match === null
      ? []
      : [{ pid: Number(match[1]), name: match[2] ?? "", state: match[3] ?? "", parent: Number(match[4]) }]
  })

/** Zombies below this process, at any depth. */
export const zombies = (): Array<Stat> => {
  const all = processes()
  const below = new Set([process.pid])
  for (let size = 0; size !== below.size;) {
    size = below.size
    for (const { parent, pid } of all) if (below.has(parent)) below.add(pid)
  }
  return all.filter(({ pid, state }) => state === "Z" && below.has(pid))
}

export const descriptors = () => Fs.readdirSync("/proc/self/fd").length

/** Waits until a condition holds; fails with what was seen last. */
export const eventually = <A>(what: string, look: () => A, holds: (value: A) => boolean, ms = 10_000) =>
  Effect.gen(function*() {
    const until = performance.now() + ms
    let seen = look()
    while (!holds(seen)) {
      if (performance.now() > until) assert.fail(`${what}: ${JSON.stringify(seen)}`)
      yield* Effect.sleep(5)
      seen = look()
    }
    return seen
  })

export const gone = (value: string) =>
  eventually(`processes of ${value} are left`, () => carrying(value), (pids) => pids.length === 0)
export const running = (value: string, count = 1) =>
  eventually(`fewer than ${count} processes of ${value}`, () => carrying(value), (pids) => pids.length >= count)

export const sh = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  file: "/bin/sh",
  args: ["-c", script],
  cwd: "/",
  env: { PATH: "/usr/bin:/bin" },
  ...more
})

export const py = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  file: python,
  args: ["-c", script],
  cwd: "/",
  env: { PATH: "/usr/bin:/bin" },
  ...more
})

export const bash = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  ...sh(script, more),
  file: which("bash")
})

/** A program that has the file system as `Fs`. */
export const node = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  file: process.execPath,
  args: ["-e", `const Fs = require("node:fs"); ${script}`],
  cwd: "/",
  env: { PATH: "/usr/bin:/bin" },
  ...more
})

export const run = (spec: Executor.Spec) => Effect.flatMap(Executor.Executor, (executor) => executor.run(spec))
export const failure = (spec: Executor.Spec) => Effect.flip(run(spec))
export const reason = (spec: Executor.Spec) => Effect.map(failure(spec), (error) => error.reason)

export function assertTag<Tag extends Executor.Reason["_tag"]>(
  actual: Executor.Reason,
  tag: Tag
): asserts actual is Extract<Executor.Reason, { readonly _tag: Tag }> {
  assert.strictEqual(actual._tag, tag, JSON.stringify(actual))
}

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "executor-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

// Leaves a process in a session of its own whose parent is dead and whose descriptors are closed.
export const daemonize = (then: string) =>
  `import os, time, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(1000)
    os._exit(0)
os.wait()
${then}`

export type Run = (title: string, body: () => Effect.Effect<unknown, unknown, Executor.Executor | Scope.Scope>) => void

/** Runs a test, or skips it with a reason; under SKILLSCALE_MUST_RUN=1 a skip fails. */
export const skipUnless = (condition: boolean, why: string, title: string, register: (title: string) => void) => {
  if (condition) return register(title)
  if (process.env["SKILLSCALE_MUST_RUN"] === "1") {
    return it(title, () => assert.fail(`must run, but: ${why}`))
  }
  it.skip(`${title} (${why})`, () => {})
}

/** Registers tests for one implementation; `testWith` leaves out what its capabilities do not promise. */
export interface Harness {
  readonly capabilities: Executor.Capabilities
  readonly test: Run
  readonly testWith: (capability: "limits" | "wholeTree" | "usage") => Run
}

const timeout = 20_000

export const makeHarness = (
  layer: Layer.Layer<Executor.Executor, unknown>,
  capabilities: Executor.Capabilities
): Harness => {
  const test: Run = (title, body) =>
    it.live(title, () => Effect.scoped(body()).pipe(Effect.provide(layer)) as Effect.Effect<void>, timeout)
  return {
    capabilities,
    test,
    testWith: (capability) => capabilities[capability] ? test : () => undefined
  }
}
