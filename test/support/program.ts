import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import { createInterface } from "node:readline"

const bin = Path.join(import.meta.dirname, "../../packages/cli/src/bin.ts")

/** Environment and standard input of a program. */
export interface Options {
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly stdin?: string | Uint8Array | undefined
  readonly cwd?: string | undefined
}

/** What a program printed and how it ended. */
export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const environment = (env: Options["env"]) => {
  const inherited = Object.entries(process.env).filter(([name]) =>
    !/^(SKILLSCALE_|OTEL_|NODE_OPTIONS|VITEST)/.test(name)
  )
  return { ...Object.fromEntries(inherited), ...env }
}

const spawn = (args: ReadonlyArray<string>, options: Options) =>
  ChildProcess.spawn(process.execPath, ["--conditions=skillscale", bin, ...args], {
    cwd: options.cwd,
    env: environment(options.env),
    stdio: ["pipe", "pipe", "pipe"]
  })

/** Runs the `skillscale` program to its end. */
export const run = (args: ReadonlyArray<string>, options: Options = {}): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const child = spawn(args, options)
    const stdout: Array<Buffer> = []
    const stderr: Array<Buffer> = []
    child.stdout.on("data", (data: Buffer) => stdout.push(data))
    child.stderr.on("data", (data: Buffer) => stderr.push(data))
    child.on("close", (code) =>
      resume(Effect.succeed({
        code,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString()
      })))
    child.stdin.on("error", () => undefined)
    child.stdin.end(options.stdin ?? "")
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** A program that keeps running. */
export interface Running {
  readonly pid: number
  /** The log line that said that it is ready. */
  readonly ready: string
  readonly log: () => string
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Completes with the exit code, or the signal's name. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
}

/** Starts the `skillscale` program and waits for a log line with `message`; it is killed when the scope closes. */
export const start = (args: ReadonlyArray<string>, message: string, options: Options = {}) =>
  Effect.acquireRelease(
    Effect.callback<Running>((resume) => {
      const child = spawn(args, options)
      const lines: Array<string> = []
      const exit = new Promise<number | NodeJS.Signals>((done) =>
        child.on("exit", (code, signal) => done(code ?? signal ?? "SIGKILL"))
      )
      child.stdin.end()
      child.stdout.resume()
      createInterface({ input: child.stderr }).on("line", (line) => {
        lines.push(line)
        if (!line.includes(message)) return
        resume(Effect.succeed({
          pid: child.pid ?? 0,
          ready: line,
          log: () => lines.join("\n"),
          signal: (signal) => Effect.sync(() => void child.kill(signal)),
          ended: Effect.promise(() => exit)
        }))
      })
      child.on("exit", (code) =>
        resume(Effect.die(new Error(`skillscale ${args.join(" ")} ended with ${code}:\n${lines.join("\n")}`))))
    }),
    (running) =>
      Effect.andThen(running.signal("SIGKILL"), running.ended)
  )

/** Starts a proxy on free ports and tells its addresses. */
export const startProxy = Effect.fnUntraced(function*(options?: Options) {
  const args = ["proxy", "--xsub-port", "0", "--xpub-port", "0", "--metrics-port", "0"]
  const running = yield* start(args, "proxy is ready", options)
  const find = (name: string) => new RegExp(` ${name}=(\\S+)`).exec(running.ready)?.[1] ?? ""
  const addresses = { SKILLSCALE_PROXY_XSUB: find("xsub"), SKILLSCALE_PROXY_XPUB: find("xpub") }
  return { ...running, addresses, http: find("http") }
})
