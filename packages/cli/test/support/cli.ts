import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import * as Path from "node:path"

const bin = Path.join(import.meta.dirname, "../../src/bin.ts")

/** Environment, standard input and folder of a program. */
export interface Options {
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly stdin?: string | Uint8Array | "inherit" | undefined
  readonly cwd?: string | undefined
}

/** What a program printed, to the byte, and how it ended. */
export interface Ended {
  readonly code: number | NodeJS.Signals | null
  readonly bytes: Buffer
  readonly stdout: string
  readonly stderr: string
}

/** A program that runs. */
export interface Launched {
  readonly pid: number
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** What it wrote to standard error so far. */
  readonly log: () => string
  readonly ended: Effect.Effect<Ended>
}

const environment = (env: Options["env"]) => {
  const inherited = Object.entries(process.env).filter(([name]) =>
    !/^(SKILLSCALE_|OTEL_|NODE_OPTIONS|VITEST|NO_COLOR|FORCE_COLOR)/.test(name)
  )
  return { ...Object.fromEntries(inherited), ...env }
}

const open = (command: string, args: ReadonlyArray<string>, options: Options): Launched => {
  const child = ChildProcess.spawn(command, [...args], {
    cwd: options.cwd,
    env: environment(options.env),
    stdio: ["pipe", "pipe", "pipe"]
  })
  const stdout: Array<Buffer> = []
  const stderr: Array<Buffer> = []
  child.stdout.on("data", (data: Buffer) => stdout.push(data))
  child.stderr.on("data", (data: Buffer) => stderr.push(data))
  child.stdin.on("error", () => undefined)
  if (options.stdin !== "inherit") child.stdin.end(options.stdin ?? "")
  const log = () => Buffer.concat(stderr).toString()
  const ended = new Promise<Ended>((resolve) =>
    child.on("close", (code, signal) => {
      const bytes = Buffer.concat(stdout)
      resolve({ code: code ?? signal, bytes, stdout: bytes.toString(), stderr: log() })
    })
  )
  return {
    pid: child.pid ?? 0,
    signal: (signal) => Effect.sync(() => void child.kill(signal)),
    log,
    ended: Effect.promise(() => ended)
  }
}

const scoped = (command: string, args: ReadonlyArray<string>, options: Options) =>
  Effect.acquireRelease(
    Effect.sync(() => open(command, args, options)),
    ({ ended, signal }) => Effect.andThen(signal("SIGKILL"), ended)
  )

const node = ["--conditions=skillscale", bin]

/** Starts `skillscale`; it is killed when the scope closes. With `stdin: "inherit"` its standard input stays open. */
export const launch = (args: ReadonlyArray<string>, options: Options = {}) =>
  scoped(process.execPath, [...node, ...args], options)

/** Runs `skillscale` to its end. */
export const run = (args: ReadonlyArray<string>, options: Options = {}) =>
  Effect.scoped(Effect.flatMap(launch(args, options), ({ ended }) => ended))

/** Runs a bash script in which `skillscale` is the program. */
export const shell = (script: string, options: Options = {}) => {
  const program = [process.execPath, ...node].map((word) => `'${word}'`).join(" ")
  const text = `skillscale() { ${program} "$@"; }\n${script}`
  return Effect.scoped(Effect.flatMap(scoped("bash", ["-c", text], options), ({ ended }) => ended))
}

/** Waits until something is there; the test's own deadline bounds it. */
export const until = <A>(probe: () => A | undefined): Effect.Effect<A> =>
  Effect.suspend(() => {
    const found = probe()
    return found === undefined ? Effect.andThen(Effect.sleep("20 millis"), until(probe)) : Effect.succeed(found)
  })

/** The process id that a script wrote to a file. */
export const pidIn = (file: string) =>
  until(() => {
    try {
      return Number(/^(\d+)\n/.exec(readFileSync(file, "utf8"))?.[1]) || undefined
    } catch {
      return undefined
    }
  })

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ")
  } catch {
    return false
  }
}

/** Waits until a process is gone. */
export const gone = (pid: number) => until(() => isAlive(pid) ? undefined : true)

/** Waits until a program has logged a text. */
export const logged = (program: Launched, text: string) =>
  until(() => program.log().split("\n").find((line) => line.includes(text)))

/** What lies in a folder, except what Node itself keeps there. */
export const listing = (folder: string) => readdirSync(folder).filter((name) => name !== "node-compile-cache")
