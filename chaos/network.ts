/**
 * Hosts for the processes of a storm, and links between them that can be cut without a word to either side. `network.py` makes
 * them, in network namespaces of its own: they end with it and with what runs on them, and the machine's network is not touched.
 */
import * as ChildProcess from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

export interface Host {
  /** Names it in links. */
  readonly number: number
  /** What others reach it at, if they have a link to it. */
  readonly address: string
  /** What a command begins with that is to run there. Such a process is killed when this one ends. */
  readonly via: ReadonlyArray<string>
}

/** Lets nothing pass from the first host to the second. The other way stays. */
export type Cut = readonly [from: Host, to: Host]

export interface Network {
  /** A host, linked to others. */
  readonly host: (linkedTo: ReadonlyArray<Host>) => Promise<Host>
  readonly cut: (cuts: ReadonlyArray<Cut>) => Promise<void>
  readonly mend: (cuts: ReadonlyArray<Cut>) => Promise<void>
  /** What still runs on the hosts keeps its own. */
  readonly close: () => Promise<void>
}

interface Made {
  readonly number: number
  readonly address: string
  readonly namespace: number
}

const script = fileURLToPath(new URL("network.py", import.meta.url))

/** Rejects with the reason where the machine does not allow it: `python3` and root or user namespaces are needed. */
export const openNetwork = async (): Promise<Network> => {
  const holder = ChildProcess.spawn("python3", ["-IS", script, "hold"], { stdio: ["pipe", "pipe", "pipe"] })
  const waiting: Array<{ readonly resolve: (done: unknown) => void; readonly reject: (error: Error) => void }> = []
  const said: Array<string> = []
  createInterface({ input: holder.stderr }).on("line", (line) => said.push(line))
  const refuse = (why: string) => {
    for (const { reject } of waiting.splice(0)) reject(new Error(why))
  }
  const gone = new Promise<void>((resolve) => {
    holder.once("error", (error) => {
      refuse(error.message)
      resolve()
    })
    holder.once("close", () => {
      refuse(said.at(-1) ?? "network.py ended")
      resolve()
    })
  })
  holder.stdin.on("error", () => {})
  createInterface({ input: holder.stdout }).on("line", (line) => {
    const { done, failed } = JSON.parse(line)
    const answered = waiting.shift()
    if (failed === undefined) answered?.resolve(done)
    else answered?.reject(new Error(failed))
  })
  const next = () => new Promise<unknown>((resolve, reject) => waiting.push({ resolve, reject }))
  const ask = (work: string, ...args: ReadonlyArray<number>): Promise<unknown> => {
    if (!holder.stdin.writable) return Promise.reject(new Error("network.py has ended"))
    holder.stdin.write(`${JSON.stringify([work, ...args])}\n`)
    return next()
  }
  const each = async (work: string, cuts: ReadonlyArray<Cut>): Promise<void> => {
    await Promise.all(cuts.map(([from, to]) => ask(work, from.number, to.number)))
  }
  const { pid, python } = await next() as { readonly pid: number; readonly python: string }
  const enter = [python, "-IS", script, "enter", String(process.pid), String(pid)]
  return {
    host: async (linkedTo) => {
      const { address, namespace, number } = await ask("host") as Made
      await Promise.all(linkedTo.map((other) => ask("link", number, other.number)))
      return { number, address, via: [...enter, String(namespace)] }
    },
    cut: (cuts) => each("cut", cuts),
    mend: (cuts) => each("mend", cuts),
    close: () => {
      holder.stdin.end()
      return gone
    }
  }
}
