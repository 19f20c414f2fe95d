/** A warm skill behind a proxy and a server of their own, and calls of it by another way against those by the bus client, in turns. */
import * as ClientError from "@skillscale/client/ClientError"
import * as PromiseClient from "@skillscale/client/PromiseClient"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { median } from "./figure.ts"
import { start, startProxy } from "./stack.ts"

const topic = "TOPIC_DATA_PROCESSING"
const skills = fileURLToPath(new URL("../skills", import.meta.url))
// After so many calls a server is as fast as it gets; before, it is being compiled.
const warmUpCalls = 3000
/** Calls in a row of one way: as an agent makes them, which does not change its way with each. */
const turn = 50

export const skill = "csv-analyzer"
export const data = "city,people\nOslo,709000\nBergen,291000\nTrondheim,212000\n"

/** Calls the skill, and returns what came back in whatever form. */
export type Call = () => Promise<unknown>

/** Medians of calls, in milliseconds. */
export interface Times {
  readonly call: number
  readonly plain: number
  /** How much more a call took: of each two turns that follow each other the difference of their medians, and of these the median. */
  readonly more: number
}

export interface Warm {
  readonly addresses: { readonly xsub: string; readonly xpub: string }
  /** Calls in turns of 50 by `call` and by `plain`, by default the bus client. */
  readonly compare: (
    call: Call,
    rounds: { readonly warmUp: number; readonly counted: number },
    plain?: Call
  ) => Promise<Times>
}

/** A server says that it serves a moment before the proxy has heard of it, and this process is quick to call. */
const reached = async (call: Call): Promise<void> => {
  const until = performance.now() + 5000
  for (;;) {
    try {
      await call()
      return
    } catch (error) {
      const isEarly = error instanceof ClientError.ClientError && error.reason._tag === "NoServer"
      if (!isEarly || performance.now() > until) throw error
    }
  }
}

export const withWarmSkill = async <A>(use: (warm: Warm) => Promise<A>): Promise<A> => {
  const { xpub, xsub, ...proxy } = await startProxy()
  const at = ["--skills-dir", Fs.realpathSync(skills), "--proxy-xsub", xsub, "--proxy-xpub", xpub]
  const server = await start(["server", "--topic", topic, ...at], "serving")
  const client = await PromiseClient.connect({ xsub, xpub })
  const overBus = async () => (await client.invoke({ skill, topic, data })).content
  const compare: Warm["compare"] = async (call, { counted, warmUp }, plain = overBus) => {
    const takeTurn = async (work: Call): Promise<ReadonlyArray<number>> => {
      const times: Array<number> = []
      for (let one = 0; one < turn; one++) {
        const began = performance.now()
        const output = await work()
        times.push(performance.now() - began)
        if (!JSON.stringify(output).includes("CSV Analysis")) {
          throw new Error(`not an analysis: ${JSON.stringify(output)}`)
        }
      }
      return times
    }
    const turns: Array<{ readonly call: ReadonlyArray<number>; readonly plain: ReadonlyArray<number> }> = []
    for (let round = 0; round < warmUp + counted; round += turn) {
      const both = { call: await takeTurn(call), plain: await takeTurn(plain) }
      if (round >= warmUp) turns.push(both)
    }
    return {
      call: median(turns.flatMap(({ call }) => call)),
      plain: median(turns.flatMap(({ plain }) => plain)),
      more: median(turns.map(({ call, plain }) => median(call) - median(plain)))
    }
  }
  try {
    await reached(overBus)
    for (let call = 0; call < warmUpCalls; call++) await overBus()
    return await use({ addresses: { xsub, xpub }, compare })
  } finally {
    await client.close()
    await server.stop()
    await proxy.stop()
  }
}

/** How the time that `call` takes more is written. */
export const added = ({ call, more }: Times): string =>
  `${call.toFixed(2)} ms (${more < 0 ? "−" : "+"} ${Math.abs(more).toFixed(2)} ms)`
