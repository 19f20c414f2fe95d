/**
 * Runs an external server as a program of the executor, which ends its whole tree, also when this process is killed. The executor
 * gives a program all of its input at the start; so this one is started by a launcher that makes a named pipe its input.
 */
import type * as Executor from "@skillscale/server/Executor"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as MountFailure from "./mountFailure.ts"

/** What to run, and who hears what it writes. */
export interface Options {
  readonly executor: Executor.Executor["Service"]
  /** Absolute. */
  readonly file: string
  /** With the program's own name first. */
  readonly args: ReadonlyArray<string>
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** From the end of its input to SIGTERM, and from that to SIGKILL. */
  readonly grace: Duration.Input
  readonly onStdout: (data: Uint8Array) => void
  readonly onStderr: (data: Uint8Array) => void
}

/** A program that runs. */
export interface Running {
  /** Writes to its standard input. Fails when it is over, or does not read. */
  readonly write: (text: string) => Promise<void>
  /** How it ended. */
  readonly ended: Deferred.Deferred<string>
}

/** What may wait to be read by the program, in characters. */
const maxUnread = 128 * 1024 * 1024

const launcher = Path.join(import.meta.dirname, `mountLauncher${Path.extname(import.meta.filename)}`)

/** Everything is kept: what is not read would hold up the program. */
const unbounded = Number.MAX_SAFE_INTEGER

const failed = (detail: string) => (cause: unknown) => new MountFailure.NotStarted({ detail, cause })

const makePipe = Effect.acquireRelease(
  Effect.tryPromise({
    try: async () => {
      const folder = await Fs.promises.mkdtemp(Path.join(Os.tmpdir(), "skillscale-mount-"))
      const pipe = Path.join(folder, "stdin")
      await new Promise<void>((resolve, reject) => {
        execFile("mkfifo", ["-m", "600", pipe], (error) => error === null ? resolve() : reject(error))
      })
      return pipe
    },
    catch: failed("no named pipe could be made; is there a program mkfifo?")
  }),
  (pipe) => Effect.promise(() => Fs.promises.rm(Path.dirname(pipe), { recursive: true, force: true }))
)

/** The end that is written. It is open for reading, too, since it could not be opened before the program reads. */
const open = (pipe: string) =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const fd = Fs.openSync(pipe, Fs.constants.O_RDWR | Fs.constants.O_NONBLOCK)
        const socket = new Net.Socket({ fd, readable: false, writable: true })
        socket.on("error", () => undefined)
        return socket
      },
      catch: failed("the named pipe could not be opened")
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const endOf = (exit: Exit.Exit<string, Executor.ExecutorError>): string => {
  if (Exit.isSuccess(exit)) return exit.value
  const error = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
  return error === undefined ? "was ended" : error.message.slice(error.file.length + 1)
}

const run = ({ args, cwd, env, executor, file, grace, onStderr, onStdout }: Options, pipe: string) => {
  let how = "ended"
  return executor.stream({
    file: process.execPath,
    args: ["--disable-warning=ExperimentalWarning", launcher, pipe, file, ...args],
    cwd,
    env,
    grace,
    stdoutBytes: unbounded,
    stderrBytes: unbounded
  }).pipe(
    Stream.runForEach((event) =>
      Effect.sync(() => {
        switch (event._tag) {
          case "Stdout":
            return onStdout(event.data)
          case "Stderr":
            return onStderr(event.data)
          case "Exit": {
            const { exitCode, signal } = event.ended
            how = signal === "" ? `ended with exit code ${exitCode}` : `crashed with ${signal}`
          }
        }
      })
    ),
    Effect.map(() => how)
  )
}

/**
 * Starts the program. When the scope closes, its input ends; after the grace it gets SIGTERM, after another SIGKILL, with all that it
 * started. The scope is closed when all of that is gone.
 */
export const start = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Running, MountFailure.NotStarted, Scope.Scope> {
    const pipe = yield* makePipe
    const ended = Deferred.makeUnsafe<string>()
    const fiber = yield* Effect.acquireRelease(
      run(options, pipe).pipe(
        Effect.exit,
        Effect.flatMap((exit) => Deferred.succeed(ended, endOf(exit))),
        Effect.forkDetach
      ),
      (fiber) => Effect.andThen(Effect.timeoutOption(Deferred.await(ended), options.grace), Fiber.interrupt(fiber))
    )
    // Closed before that.
    const socket = yield* open(pipe)
    yield* Effect.forkScoped(Effect.andThen(Fiber.await(fiber), Effect.sync(() => socket.destroy())))
    const write = (text: string) =>
      new Promise<void>((resolve, reject) => {
        if (socket.destroyed) return reject(new Error("the process is gone"))
        if (socket.writableLength + text.length > maxUnread) {
          return reject(new Error("the process does not read its standard input"))
        }
        socket.write(text, (error) => error === null || error === undefined ? resolve() : reject(error))
      })
    return { write, ended }
  }
)
