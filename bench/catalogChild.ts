/** The agent whose catalog `catalog.ts` measures. */
import { connect as connectClient } from "@skillscale/client/PromiseClient"
import { connect } from "@skillscale/tools/PromiseTools"

/** What it tells: times in milliseconds, and what its memory grew by. */
export interface Measured {
  readonly list: ReadonlyArray<number>
  readonly search: ReadonlyArray<number>
  readonly prompt: ReadonlyArray<number>
  readonly tools: ReadonlyArray<number>
  readonly bytes: number
}

const [xsub = "", xpub = "", queries = "[]"] = process.argv.slice(2)
const rounds = 50

const held = async (): Promise<number> => {
  for (let time = 0; time < 4; time++) {
    globalThis.gc?.()
    await new Promise(setImmediate)
  }
  const { arrayBuffers, external, heapUsed } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

const times = async (count: number, work: (index: number) => unknown): Promise<ReadonlyArray<number>> => {
  const taken: Array<number> = []
  for (let index = 0; index < count; index++) {
    const began = performance.now()
    await work(index)
    taken.push(performance.now() - began)
  }
  return taken
}

const client = await connectClient({ xsub, xpub })
await client.topology()
const before = await held()
const skills = await connect({ xsub, xpub, maxSkillTools: 10_000 })
await skills.indexed()
const after = await held()
const asked: ReadonlyArray<string> = JSON.parse(queries)
const measured: Measured = {
  bytes: after - before,
  list: await times(rounds, () => skills.call("list_skills", { limit: 1000 })),
  search: await times(asked.length, (index) => skills.call("search_skills", { query: asked[index] })),
  prompt: await times(rounds, () => skills.prompt()),
  tools: await times(
    rounds,
    () => JSON.stringify(skills.tools().map(({ inputSchema, name }) => ({ name, inputSchema })))
  )
}
await skills.close()
await client.close()
process.send?.(measured)
process.disconnect?.()
