/**
 * What attempts to get out of a run have in common: a host with things that a run has no business with, and the ways to
 * run an attempt, as a run and as a process that no executor started.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as Dgram from "node:dgram"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Executor from "../src/Executor.ts"
import { carrying, eventually, marker, python as found, text } from "./executorKit.ts"

/** Behind a version manager's shim, which is a script of the user. */
export const python = execFileSync(found, ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim()
export const isRoot = process.getuid?.() === 0
/** One that a user other than root can start, too. */
export const anybodysPython = isRoot && Fs.existsSync("/usr/bin/python3") ? "/usr/bin/python3" : python
const secret = "the-secret-of-the-host-4711"
const nobody = 65_534
/** Whom confined runs are. */
const user = isRoot ? { uid: nobody, gid: nobody } : {}

/** What an attempt may want. */
export interface Host {
  readonly folder: string
  /** The skill of the run, and that of another one, where the run finds them. */
  readonly skill: string
  readonly sibling: string
  /** The file of the skill that nobody may change. */
  readonly original: string
  /** A process of the same user as confined runs. */
  readonly victim: number
  readonly tcp: number
  readonly udp: number
  readonly unix: string
  readonly abstract: string
  readonly shared: string
  /** In the environment of all processes of the attempt. */
  readonly marker: string
  readonly received: () => ReadonlyArray<string>
}

/** A way to get out: a Python program that prints `escaped` when it got what it wanted. */
export interface Attempt {
  readonly code: string
  /** Needs a server that is root to succeed without the sandbox. */
  readonly asRoot?: true
  /** Tells whether the host saw it, where the program cannot. */
  readonly seen?: (at: Host) => boolean
  /** What another run does meanwhile; it prints something when it is ready. */
  readonly beside?: string
  /** No executor lets it succeed: without the sandbox means as a process of its own. */
  readonly bare?: true
}

const removed = (path: string) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))

const listening = (server: Net.Server, where: Net.ListenOptions) =>
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      server.listen(where, () => resume(Effect.succeed(server)))
    }),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )

/** Sleeps with a secret in its environment, and says when somebody sent it a signal. */
const victim = `import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: (sys.stdout.write("signalled\\n"), sys.stdout.flush()))
print("up", flush=True)
while True: time.sleep(60)`

const startVictim = Effect.acquireRelease(
  Effect.callback<ChildProcess>((resume) => {
    const child = spawn(anybodysPython, ["-c", victim], {
      ...user,
      cwd: "/",
      env: { SECRET: secret },
      stdio: ["ignore", "pipe", "inherit"]
    })
    child.stdout?.once("data", () => resume(Effect.succeed(child)))
  }),
  (child) =>
    Effect.callback<void>((resume) => {
      if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
)

const writeSkill = (path: string) => {
  Fs.mkdirSync(path, { recursive: true })
  Fs.writeFileSync(Path.join(path, "SKILL.md"), "unchanged")
  Fs.writeFileSync(Path.join(path, "secret"), secret)
  Fs.writeFileSync(Path.join(path, "attempt.py"), "import sys\nexec(compile(sys.stdin.read(), 'attempt', 'exec'))")
}

/** Makes a file or folder that of the user whom confined runs are. */
const own = (path: string) => {
  if (!isRoot) return
  for (const item of Fs.statSync(path).isDirectory() ? Fs.readdirSync(path) : []) own(Path.join(path, item))
  Fs.chownSync(path, nobody, nobody)
}

/** A host with a server, which is this process, and everything else that an attempt may want. */
export const host = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "escape-")))),
    removed
  )
  const skill = Path.join(folder, "skills/own")
  const sibling = Path.join(folder, "skills/sibling")
  for (const path of [skill, sibling]) writeSkill(path)
  Fs.chmodSync(folder, 0o755)
  Fs.writeFileSync(Path.join(folder, "secret"), secret, { mode: 0o644 })
  Fs.writeFileSync(Path.join(folder, "of-its-user"), secret, { mode: 0o644 })
  own(Path.join(folder, "of-its-user"))
  const mark = marker()
  const shared = yield* Effect.acquireRelease(Effect.sync(() => `/dev/shm/${mark}`), removed)
  Fs.writeFileSync(shared, secret)
  own(shared)
  const received: Array<string> = []
  const accept = (name: string) =>
    Net.createServer((socket) => {
      received.push(name)
      socket.on("error", () => {}).end()
    })
  const tcp = yield* listening(accept("tcp"), { port: 0, host: "127.0.0.1" })
  const unix = Path.join(folder, "socket")
  yield* listening(accept("unix"), { path: unix })
  Fs.chmodSync(unix, 0o777)
  const abstract = `skillscale-escape-${mark}`
  yield* listening(accept("abstract"), { path: `\0${abstract}` })
  const udp = yield* Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket("udp4", () => received.push("udp"))
      socket.bind(0, "127.0.0.1", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  const child = yield* startVictim
  child.stdout?.on("data", (data: Buffer) => received.push(data.toString().trim()))
  child.once("exit", () => received.push("ended"))
  const address = tcp.address()
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const pid of carrying(mark)) process.kill(pid, "SIGKILL")
    })
  )
  const at: Host = {
    folder,
    skill,
    sibling,
    original: Path.join(skill, "SKILL.md"),
    victim: child.pid ?? 0,
    tcp: typeof address === "object" && address !== null ? address.port : 0,
    udp: udp.address().port,
    unix,
    abstract,
    shared,
    marker: mark,
    received: () => received
  }
  return at
})

/** The same host for a run that works in a copy of its skill, beside one that works in another. */
export const inCopies = (at: Host): Host => {
  const copies = { skill: Path.join(at.folder, "copies/1/own"), sibling: Path.join(at.folder, "copies/2/sibling") }
  for (const path of [copies.skill, copies.sibling]) {
    writeSkill(path)
    own(path)
    Fs.chmodSync(path, 0o700)
  }
  return { ...at, ...copies }
}

const prelude = (at: Host) =>
  `import ctypes, os, resource, signal, socket, subprocess, sys, tempfile, time
FOLDER, SKILL, SIBLING, SHARED, SECRET = ${JSON.stringify([at.folder, at.skill, at.sibling, at.shared, secret])}
SERVER, VICTIM, TCP, UDP = ${JSON.stringify([process.pid, at.victim, at.tcp, at.udp])}
UNIX, ABSTRACT = ${JSON.stringify([at.unix, at.abstract])}
PARENT = os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
def escaped(): print("escaped", flush=True)
print("tried", file=sys.stderr, flush=True)
def become_the_user():
    if os.getuid() == 0: os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
def read(path):
    with open(path, "rb") as file: return file.read()
def syscall(*arguments):
    result = libc.syscall(*arguments)
    if result < 0: raise OSError(ctypes.get_errno(), "system call")
    return result
`

const environment = (at: Host) => ({ PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8", MARKER: at.marker })

/** A run of a program in the skill of the host. */
export const specOf = (at: Host, code: string, more: Partial<Executor.Spec> = {}): Executor.Spec => ({
  file: python,
  args: [Path.join(at.skill, "attempt.py")],
  stdin: Buffer.from(prelude(at) + code),
  cwd: "/",
  env: environment(at),
  timeout: "20 seconds",
  ...more
})

export const run = (at: Host, code: string, more?: Partial<Executor.Spec>) =>
  Effect.flatMap(Executor.Executor, (executor) => executor.run(specOf(at, code, more)))

/** Runs a program where a fork server starts it. There is none where the last run used the network, so that others go before. */
export const runWarm = Effect.fnUntraced(function*(at: Host, code: string, more: Partial<Executor.Spec>) {
  for (let tries = 0; tries < 200; tries++) {
    if ((yield* run(at, "", more)).warm === true) {
      const execution = yield* run(at, code, more)
      if (execution.warm === true) return execution
    }
    yield* Effect.sleep(10)
  }
  return assert.fail("it never started warm")
})

export interface Ended {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program as a process that no executor started, with a descriptor of the host's secret. */
export const runBare = (at: Host, code: string): Effect.Effect<Ended> =>
  Effect.callback<Ended>((resume) => {
    const descriptor = Fs.openSync(Path.join(at.folder, "secret"), "r")
    const child = spawn(anybodysPython, [Path.join(at.skill, "attempt.py")], {
      cwd: "/",
      env: environment(at),
      stdio: ["pipe", "pipe", "pipe", descriptor]
    })
    Fs.closeSync(descriptor)
    const stdout: Array<Buffer> = []
    const stderr: Array<Buffer> = []
    child.stdout?.on("data", (data: Buffer) => stdout.push(data))
    child.stderr?.on("data", (data: Buffer) => stderr.push(data))
    child.once("close", () =>
      resume(Effect.succeed({ stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })))
    child.stdin?.end(prelude(at) + code)
    return Effect.sync(() =>
      void child.kill("SIGKILL")
    )
  })

/** Starts another run, of the other skill, and waits until it is ready. It ends with the scope. */
const startBeside = Effect.fnUntraced(function*(at: Host, code: string, more: Partial<Executor.Spec>) {
  const executor = yield* Executor.Executor
  const other: Host = { ...at, skill: at.sibling, sibling: at.skill }
  const ready = yield* Deferred.make<void>()
  yield* executor.stream(specOf(other, code, more)).pipe(
    Stream.runForEach((event) => event._tag === "Stdout" ? Deferred.succeed(ready, undefined) : Effect.void),
    Effect.ensuring(Deferred.succeed(ready, undefined)),
    Effect.forkScoped
  )
  yield* Deferred.await(ready)
})

/** How runs are held: what their specification has more, by the skill that they run in. */
export type Mode = (at: Host) => Partial<Executor.Spec>

const tried = (ended: Ended): Ended => {
  assert.include(ended.stderr, "tried", "the attempt did not even start")
  return ended
}

const attemptIn = Effect.fnUntraced(function*(attempt: Attempt, at: Host, mode: Mode, warm: boolean) {
  if (attempt.beside !== undefined) yield* startBeside(at, attempt.beside, mode({ ...at, skill: at.sibling }))
  const execution = yield* (warm ? runWarm : run)(at, attempt.code, mode(at))
  return tried({ stdout: text(execution.stdout), stderr: text(execution.stderr) })
}, Effect.scoped)

const succeeded = ({ seen }: Attempt, at: Host, { stdout }: Ended): boolean =>
  seen === undefined ? stdout.includes("escaped") : seen(at)

/** Makes an attempt outside, where it has to succeed. */
export const succeeds = Effect.fnUntraced(function*(attempt: Attempt) {
  const at = yield* host
  const outside = attempt.bare === true
    ? tried(yield* runBare(at, attempt.code))
    : yield* attemptIn(attempt, at, () => ({}), false)
  yield* eventually(
    `it does not work without the sandbox: ${outside.stderr}`,
    () => succeeded(attempt, at, outside),
    (value) => value
  )
})

/** Makes an attempt inside, where it has to fail. */
export const fails = Effect.fnUntraced(function*(attempt: Attempt, at: Host, mode: Mode, warm = false) {
  const inside = yield* attemptIn(attempt, at, mode, warm)
  const look = () => assert.isFalse(succeeded(attempt, at, inside), `${inside.stdout}\n${inside.stderr}`)
  look()
  if (attempt.seen === undefined) return
  // By the time that the same is seen of one outside, this one would have been seen, too.
  yield* succeeds(attempt)
  look()
})

/** Makes sure that a hole is open, by the assertion that fails, so that whoever closes it takes it out of the list. */
export const isOpen = <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<void, E, R> =>
  Effect.exit(test).pipe(Effect.flatMap((exit) => {
    if (Exit.isSuccess(exit)) return Effect.sync(() => assert.fail("this is closed: take it out of the list `open`"))
    const error = Cause.squash(exit.cause)
    return error instanceof Error && error.name === "AssertionError" ? Effect.void : Effect.failCause(exit.cause)
  }))
