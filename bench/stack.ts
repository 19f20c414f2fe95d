/** Starts the pieces of a stack as processes of their own, for the benches and for `chaos`. */
import * as ChildProcess from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

/** A piece that is ready, or was. */
export interface Started {
  /** What it said of its addresses when it was ready. */
  readonly address: (name: string) => string
  readonly signal: (signal: NodeJS.Signals) => void
  /** Kills it and waits until it is gone. */
  readonly kill: () => Promise<void>
  /** Lets it end in its own time, and kills it when that takes more than 20 s. */
  readonly stop: () => Promise<void>
}

const bin = fileURLToPath(new URL("../packages/cli/src/bin.ts", import.meta.url))
const maxKeptLines = 50
const stopMs = 20_000

/** Where a piece runs that is not to run here. */
export interface Place {
  /** What its command begins with. It becomes the piece, with the same process id. */
  readonly via: ReadonlyArray<string>
  readonly address: string
}

export const start = (args: ReadonlyArray<string>, readyMessage: string, place?: Place): Promise<Started> =>
  new Promise((resolve, reject) => {
    const [command = "", ...rest] = [...place?.via ?? [], process.execPath, "--conditions=skillscale", bin, ...args]
    const child = ChildProcess.spawn(command, rest, {
      stdio: ["ignore", "ignore", "pipe"]
    })
    const gone = new Promise<void>((done) => child.once("close", () => done()))
    const said: Array<string> = []
    const kill = () => {
      child.kill("SIGKILL")
      return gone
    }
    child.once("error", reject)
    void gone.then(() => reject(new Error(`skillscale ${args.join(" ")} ended early:\n${said.join("\n")}`)))
    createInterface({ input: child.stderr }).on("line", (line) => {
      if (said.length < maxKeptLines) said.push(line)
      if (!line.includes(`message=${readyMessage}`)) return
      resolve({
        address: (name) => new RegExp(` ${name}=(\\S+)`).exec(line)?.[1] ?? "",
        signal: (signal) => void child.kill(signal),
        kill,
        stop: async () => {
          child.kill("SIGCONT")
          child.kill("SIGTERM")
          const timer = setTimeout(kill, stopMs)
          await gone
          clearTimeout(timer)
        }
      })
    })
  })

/** A proxy, on free ports unless these are named, and its addresses. */
export const startProxy = async (
  ports: { readonly xsub: string; readonly xpub: string } = { xsub: "0", xpub: "0" },
  place?: Place
): Promise<Started & { readonly xsub: string; readonly xpub: string }> => {
  const args = ["proxy", "--xsub-port", ports.xsub, "--xpub-port", ports.xpub, "--metrics-port", "0"]
  const host = place === undefined ? [] : ["--host", place.address]
  const proxy = await start([...args, ...host], "\"proxy is ready\"", place)
  return { ...proxy, xsub: proxy.address("xsub"), xpub: proxy.address("xpub") }
}
