/** What the processes of a storm say to each other. */
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"

export const topic = "TOPIC_CHAOS"

/** Milliseconds on a clock that all processes of a machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/**
 * What is called: `pure` may run twice for one call, `once` must not. `stream` may, until a part of its output is there, which its
 * caller reads as it is written. `large` may, and answers with a few MiB.
 */
export type Skill = "pure" | "once" | "stream" | "large"

/** A call that an agent is to make. */
export interface Wanted {
  readonly skill: Skill
  readonly name: string
  readonly runMs: number
  readonly timeout: "60 seconds"
}

/** How many lines `stream` writes, each with as many bytes and a line of progress behind it. */
export const pieces = 10
export const pieceBytes = 8 * 1024
/** How many bytes `large` writes. */
export const largeBytes = 3 * 1024 * 1024

/** What the script of a call writes to standard output, and what to standard error. */
export const written = (
  { name, skill }: Pick<Wanted, "name" | "skill">
): { readonly stdout: string; readonly stderr: string } => {
  const numbers = Array.from({ length: pieces }, (_, index) => String(index + 1))
  switch (skill) {
    case "stream":
      return {
        stdout: `${numbers.map((number) => `${number.padStart(pieceBytes - 1, "0")}\n`).join("")}done ${name}\n`,
        stderr: numbers.map((number) => `::progress:: ${number}\n`).join("")
      }
    case "large":
      return { stdout: `${name}\n`.repeat(Math.ceil(largeBytes / (name.length + 1))).slice(0, largeBytes), stderr: "" }
    default:
      return { stdout: `done ${name}\n`, stderr: "" }
  }
}

/** What an agent says of a call: `done`, `differs` where it is not what the script wrote, or the reason of its failure. */
export interface Outcome {
  readonly name: string
  readonly outcome: string
  readonly began: number
  readonly ended: number
}

/** What the counter says of a run, before it lets it go on. */
export interface Counted {
  readonly counted: string
}

/** A process of the storm's own. */
export interface Peer {
  readonly send: (wanted: Wanted) => void
  readonly gone: Promise<void>
  /** Resolves once all that it said was heard. */
  readonly close: () => Promise<void>
}

/**
 * Starts `agent.ts` or `counter.ts`, where `via` tells, and resolves with the first that it says. It ends when this process
 * does.
 */
export const startPeer = (
  name: "agent" | "counter",
  args: ReadonlyArray<string>,
  via: ReadonlyArray<string>,
  onMessage: (message: unknown) => void
): Promise<Peer & { readonly first: unknown }> =>
  new Promise((resolve, reject) => {
    const script = fileURLToPath(new URL(`${name}.ts`, import.meta.url))
    const [command = "", ...rest] = [...via, process.execPath, "--conditions=skillscale", script, ...args]
    const child = ChildProcess.spawn(command, rest, { stdio: ["ignore", "ignore", "inherit", "ipc"] })
    child.once("error", reject)
    const gone = new Promise<void>((done) => child.once("exit", () => done()))
    const heard = new Promise<void>((done) => child.once("disconnect", () => done()))
    void gone.then(() => reject(new Error(`${name} ended early`)))
    child.once("message", (first) => {
      child.on("message", onMessage)
      resolve({
        first,
        gone,
        send: (wanted) => void (child.connected && child.send(wanted)),
        close: async () => {
          if (child.connected) child.send("close")
          await Promise.all([heard, gone])
        }
      })
    })
  })
