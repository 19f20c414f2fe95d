/** Makes the transport to an external server, whichever kind it is: a program, which is started for it, or a URL. */
import type { Transport } from "@modelcontextprotocol/client"
import type * as Executor from "@skillscale/server/Executor"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as McpMount from "../McpMount.ts"
import * as MountFailure from "./mountFailure.ts"
import * as MountHttp from "./mountHttp.ts"
import * as MountLog from "./mountLog.ts"
import * as MountProcess from "./mountProcess.ts"
import * as MountStdio from "./mountStdio.ts"

/** A transport of one connection. */
export interface Opened {
  readonly transport: Transport
  /** Adds how the program ended to what is said of a failure. */
  readonly explain: Effect.Effect<string | undefined>
  /** Ends a session, which a server of the former generation keeps until it is told. */
  readonly farewell: Effect.Effect<void>
}

/** How to reach a server. */
export interface Target {
  readonly isHttp: boolean
  readonly open: Effect.Effect<Opened, MountFailure.NotStarted, Scope.Scope>
  /** Takes secrets out of what the server says. */
  readonly redact: (text: string) => string
}

const minSecret = 4

const redactor = (secrets: ReadonlyArray<Redacted.Redacted>) => {
  const values = secrets.map(Redacted.value).filter((value) => value.length >= minSecret)
  values.sort((one, other) => other.length - one.length)
  return (text: string) => values.reduce((rest, value) => rest.replaceAll(value, "[redacted]"), text)
}

const isProgram = (path: string): boolean => {
  try {
    Fs.accessSync(path, Fs.constants.X_OK)
    return Fs.statSync(path).isFile()
  } catch {
    return false
  }
}

/** Finds the program as a shell would. */
const find = (command: string, cwd: string, path: string | undefined): string | undefined => {
  if (command.includes("/")) {
    const file = Path.resolve(cwd, command)
    return isProgram(file) ? file : undefined
  }
  const folders = (path ?? "").split(Path.delimiter).filter((folder) => folder !== "")
  return folders.map((folder) => Path.resolve(cwd, folder, command)).find(isProgram)
}

/** A program that the executor runs. */
export const ofCommand = (command: McpMount.Command, executor: Executor.Executor["Service"], grace: Duration.Input) => {
  const secrets = Object.values(command.secrets ?? {})
  const redact = redactor(secrets)
  const cwd = command.cwd ?? process.cwd()
  const env = {
    ...command.env,
    ...Object.fromEntries(Object.entries(command.secrets ?? {}).map(([name, value]) => [name, Redacted.value(value)]))
  }
  const open = Effect.gen(function*() {
    const file = find(command.command, cwd, env["PATH"])
    if (file === undefined) {
      const detail = `there is no program ${JSON.stringify(command.command)} that can be run`
      return yield* new MountFailure.NotStarted({ detail, cause: undefined })
    }
    const log = yield* MountLog.make(redact)
    let write = (_text: string) => Promise.reject<void>(new Error("the process is not there yet"))
    const transport = MountStdio.make({ write: (text) => write(text), onNote: log.note })
    const running = yield* MountProcess.start({
      executor,
      file,
      args: [command.command, ...command.args],
      cwd,
      env,
      grace,
      onStdout: transport.onOutput,
      onStderr: log.stderr
    })
    write = running.write
    yield* Effect.forkScoped(Effect.andThen(Deferred.await(running.ended), Effect.sync(transport.onEnd)))
    // The connection may be found to be over a moment before it is known how the program ended.
    const explain = Effect.map(
      Effect.timeoutOption(Deferred.await(running.ended), "200 millis"),
      (how) => how._tag === "Some" ? how.value : undefined
    )
    return { transport, explain, farewell: Effect.void }
  })
  return { isHttp: false, open, redact } satisfies Target
}

/** A URL. */
export const ofUrl = (target: McpMount.Url): Target => ({
  isHttp: true,
  redact: redactor(Object.values(target.headers ?? {})),
  open: Effect.sync(() => {
    const transport = MountHttp.make({ url: target.url, headers: target.headers ?? {} })
    const farewell = Effect.ignore(Effect.timeout(Effect.tryPromise(() => transport.terminateSession()), "1 second"))
    return { transport, explain: Effect.undefined, farewell }
  })
})
