/** Prints every figure that the README quotes, with the machine that it was measured on. Run: `npm run bench`. */
import * as Os from "node:os"
import { adaptersBench } from "./adapters.ts"
import { callBench } from "./call.ts"
import { catalogBench } from "./catalog.ts"
import { deliveryBench } from "./delivery.ts"
import { enduranceBench } from "./endurance.ts"
import { executorBench } from "./executor.ts"
import type { Figure } from "./figure.ts"
import { mcpBench } from "./mcp.ts"
import { proxyBench } from "./proxy.ts"
import { replicasBench } from "./replicas.ts"
import { warmBench } from "./warm.ts"
import { warmEnduranceBench } from "./warmEndurance.ts"

const machine = () => {
  const cpus = Os.cpus()
  const memory = Math.round(Os.totalmem() / 1024 ** 3)
  return `${cpus.length} × ${
    cpus[0]?.model.trim() ?? "unknown CPU"
  }, ${memory} GiB, Linux ${Os.release()}, Node ${process.versions.node}`
}

const benches: Readonly<Record<string, () => Promise<ReadonlyArray<Figure>>>> = {
  executor: executorBench,
  endurance: enduranceBench,
  call: callBench,
  delivery: deliveryBench,
  proxy: proxyBench,
  replicas: replicasBench,
  warm: warmBench,
  "warm-endurance": warmEnduranceBench,
  catalog: catalogBench,
  adapters: adaptersBench,
  mcp: mcpBench
}

const names = process.argv.slice(2)
const unknown = names.find((name) => !Object.hasOwn(benches, name))
if (unknown !== undefined) {
  process.stderr.write(`no bench ${unknown}; there are ${Object.keys(benches).join(", ")}\n`)
  process.exit(2)
}

process.stdout.write(`${machine()}\n\n| what | against | bar | measured | |\n| --- | --- | --- | --- | --- |\n`)
let missed = 0
for (const [name, bench] of Object.entries(benches)) {
  if (names.length > 0 && !names.includes(name)) continue
  for (const row of await bench()) {
    if (!row.ok) missed += 1
    const verdict = row.bar === "" ? "" : row.ok ? "reached" : "MISSED"
    process.stdout.write(`| ${row.what} | ${row.against} | ${row.bar} | ${row.measured} | ${verdict} |\n`)
  }
}
process.stdout.write(missed === 0 ? "\nevery bar reached\n" : `\n${missed} bars missed\n`)
