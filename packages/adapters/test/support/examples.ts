/** Runs an example as a user would: as a program, with what it needs to know in its environment. */
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import type { World } from "../frameworkSuite.ts"

const directory = Path.join(import.meta.dirname, "../../../../examples")

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `examples/<name>.ts` against the servers of a world. */
export const runExample = (
  name: string,
  { addresses }: Pick<World, "addresses">,
  env: Readonly<Record<string, string>>,
  args: ReadonlyArray<string> = []
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = ChildProcess.spawn(
      process.execPath,
      ["--conditions=skillscale", Path.join(directory, `${name}.ts`), ...args],
      {
        env: {
          PATH: process.env["PATH"],
          SKILLSCALE_PROXY_XSUB: addresses.xsub,
          SKILLSCALE_PROXY_XPUB: addresses.xpub,
          ...env
        },
        stdio: ["ignore", "pipe", "pipe"]
      }
    )
    const stdout: Array<Buffer> = []
    const stderr: Array<Buffer> = []
    child.stdout.on("data", (data: Buffer) => stdout.push(data))
    child.stderr.on("data", (data: Buffer) => stderr.push(data))
    child.on("error", reject)
    child.on("close", (code) =>
      resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }))
  })
