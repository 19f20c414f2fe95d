/** Runs the storm and prints what became of it. Run: `npm run chaos [-- SECONDS [SEED [PROXIES]]]`. Exits 1 when a bar is missed. */
import { chaos } from "./chaos.ts"
import { openNetwork } from "./network.ts"
import { randomFrom } from "./random.ts"
import type { Spread, Tally } from "./report.ts"

const [seconds = 60, seed = Date.now() % 100_000, proxies = 2] = process.argv.slice(2).map(Number)
if (!(seconds > 0) || !Number.isInteger(seed) || !(Number.isInteger(proxies) && proxies > 0 && proxies < 10)) {
  process.stderr.write("usage: npm run chaos [-- SECONDS [SEED [PROXIES]]]\n")
  process.exit(2)
}

const listed = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ")
const calls = ({ calls, outcomes }: Tally): string => `${calls} calls: ${listed(outcomes)}`

process.stdout.write(`${seconds} s, seed ${seed}, ${proxies} ${proxies === 1 ? "proxy" : "proxies"}\n`)
const interrupted = new AbortController()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => interrupted.abort())

let cannotCut = ""
const network = await openNetwork().catch((error: Error) => {
  cannotCut = error.message
  return undefined
})
const began = performance.now()
const report = await chaos({
  seconds,
  proxies,
  replicas: 3,
  clients: 3,
  inFlight: 3,
  random: randomFrom(seed),
  network,
  signal: interrupted.signal,
  onFault: (what) => process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1)} s: ${what}\n`)
}).finally(() => network?.close()).catch((error: unknown) => {
  if (!interrupted.signal.aborted) throw error
  process.stderr.write("interrupted\n")
  return process.exit(130)
})

const times = ({ most, p50, p99 }: Spread) =>
  `${p99.toFixed(0)} ms (p50 ${p50.toFixed(0)} ms, most ${most.toFixed(0)} ms)`
const bars: ReadonlyArray<readonly [what: string, measured: string, bar: string, ok: boolean]> = [
  ["calls lost", String(report.lost), "0", report.lost === 0],
  ["calls that must not run twice and did", String(report.duplicated), "0", report.duplicated === 0],
  [
    `recovery of ${report.recovery.count} calls, p99`,
    times(report.recovery),
    "≤ 2000 ms",
    report.recovery.p99 <= 2000
  ],
  [
    `wait of ${report.meanwhile.count} calls that began while something was away, p99`,
    times(report.meanwhile),
    "≤ 2000 ms",
    report.meanwhile.p99 <= 2000
  ]
]
if (network === undefined) {
  process.stdout.write(`nothing was cut off, since there were no network namespaces: ${cannotCut}\n`)
}
process.stdout.write(
  `faults: ${listed(report.faults)}\nmay run twice: ${calls(report.tallies.pure)}\n` +
    `must not: ${calls(report.tallies.once)}\nread as they are written: ${calls(report.tallies.stream)}; recovery of ` +
    `${report.recoveryOfStreams.count}, p99: ${times(report.recoveryOfStreams)}\n` +
    `with an answer of 3 MiB: ${calls(report.tallies.large)}; recovery of ${report.recoveryOfLarge.count}, p99: ` +
    `${times(report.recoveryOfLarge)}\n\n` +
    `| what | measured | bar | |\n| --- | --- | --- | --- |\n` +
    bars.map(([what, measured, bar, ok]) => `| ${what} | ${measured} | ${bar} | ${ok ? "reached" : "MISSED"} |\n`).join(
      ""
    )
)
process.exitCode = bars.every(([, , , ok]) => ok) ? 0 : 1
