/** Starts the pieces of a stack as processes of their own, and finds where they listen. */
import * as ChildProcess from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

export interface Started {
  readonly line: string
  readonly stop: () => Promise<void>
}

const bin = fileURLToPath(new URL("../packages/cli/src/bin.ts", import.meta.url))

export const start = (args: ReadonlyArray<string>, message: string): Promise<Started> =>
  new Promise((resolve, reject) => {
    const child = ChildProcess.spawn(process.execPath, ["--conditions=source", bin, ...args], {
      stdio: ["ignore", "ignore", "pipe"]
    })
    const exited = new Promise<void>((done) => child.on("exit", () => done()))
    const stop = () => {
      child.kill("SIGTERM")
      return exited
    }
    child.on("error", reject)
    child.on("exit", (code) => reject(new Error(`skillscale ${args.join(" ")} ended with ${code}`)))
    createInterface({ input: child.stderr }).on("line", (line) => {
      if (line.includes(`message=${message}`)) resolve({ line, stop })
    })
  })

export const address = (line: string, name: string) => new RegExp(` ${name}=(\\S+)`).exec(line)?.[1] ?? ""

/** A proxy on free ports, and its addresses. */
export const startProxy = async (): Promise<Started & { readonly xsub: string; readonly xpub: string }> => {
  const args = ["proxy", "--xsub-port", "0", "--xpub-port", "0", "--metrics-port", "0"]
  const proxy = await start(args, "\"proxy is ready\"")
  return { ...proxy, xsub: address(proxy.line, "xsub"), xpub: address(proxy.line, "xpub") }
}
