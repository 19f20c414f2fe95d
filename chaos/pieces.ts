/** Proxies and servers as processes of their own, which can be killed, stopped and started again. */
import * as ChildProcess from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../packages/cli/src/bin.ts", import.meta.url))

/** A running piece, or one that was killed. */
export interface Piece {
  /** What it said of its addresses when it was ready. */
  readonly address: (name: string) => string
  readonly signal: (signal: NodeJS.Signals) => void
  /** Kills it and waits until it is gone. */
  readonly kill: () => Promise<void>
  /** Lets it end in its own time, and kills it when that takes more than 10 s. */
  readonly end: () => Promise<void>
}

export const start = (args: ReadonlyArray<string>, readyMessage: string): Promise<Piece> =>
  new Promise((resolve, reject) => {
    const child = ChildProcess.spawn(process.execPath, ["--conditions=source", bin, ...args], {
      stdio: ["ignore", "ignore", "pipe"]
    })
    const gone = new Promise<void>((done) => child.once("close", () => done()))
    const lines: Array<string> = []
    child.once("error", reject)
    void gone.then(() => reject(new Error(`skillscale ${args.join(" ")} ended early:\n${lines.join("\n")}`)))
    const kill = () => {
      child.kill("SIGKILL")
      return gone
    }
    createInterface({ input: child.stderr }).on("line", (line) => {
      if (lines.length < 50) lines.push(line)
      if (!line.includes(`message=${readyMessage}`)) return
      resolve({
        address: (name) => new RegExp(` ${name}=(\\S+)`).exec(line)?.[1] ?? "",
        signal: (signal) => void child.kill(signal),
        kill,
        end: async () => {
          child.kill("SIGCONT")
          child.kill("SIGTERM")
          const timer = setTimeout(kill, 10_000)
          await gone
          clearTimeout(timer)
        }
      })
    })
  })
