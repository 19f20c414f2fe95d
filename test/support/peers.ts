import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { existsSync } from "node:fs"
import * as Path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
const python = Path.join(root, ".setup/venv/bin/python3")

/** A language in which independent version 1 peers are written, and how to run them. */
export interface Language {
  readonly name: string
  readonly available: boolean
  readonly command: (program: "client" | "server") => ReadonlyArray<string>
}

export const languages: ReadonlyArray<Language> = [
  {
    name: "zeromq.js",
    available: true,
    command: (program) => [process.execPath, Path.join(root, `test/v1/${program}.mjs`)]
  },
  {
    name: "pyzmq",
    available: existsSync(python),
    command: (program) => [python, Path.join(root, `test/v1/${program}.py`)]
  }
]

/** What a version 1 client printed and how it ended. */
export interface Ended {
  readonly code: number | null
  readonly reply: Readonly<Record<string, unknown>>
  readonly stderr: string
}

/** Runs a version 1 client to its end. */
export const runClient = (language: Language, args: ReadonlyArray<string>): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const [command = "", ...rest] = language.command("client")
    const child = ChildProcess.spawn(command, [...rest, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    const stdout: Array<Buffer> = []
    const stderr: Array<Buffer> = []
    child.stdout.on("data", (data: Buffer) => stdout.push(data))
    child.stderr.on("data", (data: Buffer) => stderr.push(data))
    child.on("close", (code) => {
      const text = Buffer.concat(stdout).toString()
      const reply: Readonly<Record<string, unknown>> = text === "" ? {} : JSON.parse(text)
      resume(Effect.succeed({ code, reply, stderr: Buffer.concat(stderr).toString() }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Runs a version 1 server for as long as the scope lives; it is ready when the effect returns. */
export const startServer = (language: Language, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.callback<ChildProcess.ChildProcess>((resume) => {
      const [command = "", ...rest] = language.command("server")
      const child = ChildProcess.spawn(command, [...rest, ...args], { stdio: ["ignore", "pipe", "inherit"] })
      createInterface({ input: child.stdout }).once("line", () => resume(Effect.succeed(child)))
      child.once("exit", (code) => resume(Effect.die(new Error(`the version 1 server ended with ${code}`))))
    }),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGTERM")
      })
  )
