/**
 * Random arguments for the addon, and random packets for the Python fork server: see `argumentsFuzz.ts` and
 * `zygote-garbage.py`. What they pass follows from a seed and the number of a round, which a failure names. Both run in a
 * process of their own, because what they look for would end this one.
 *
 * `SKILLSCALE_FUZZ` is how many times as many rounds to run (default: 1, some seconds), `SKILLSCALE_FUZZ_SEED` is the
 * seed (default: 1). One round again: `node --conditions=skillscale native/test/argumentsFuzz.ts SEED ROUND 1` and `python3
 * native/test/zygote-garbage.py native/zygote/zygote.py native/build/Release/skillscale-zygote.node SEED ROUND 1`.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Native from "@skillscale/native/native"

const times = Number(process.env["SKILLSCALE_FUZZ"] ?? 1)
const seed = Number(process.env["SKILLSCALE_FUZZ_SEED"] ?? 1)
/** Only outside a cell the library can have AddressSanitizer, which has to be preloaded. */
const library = process.env["SKILLSCALE_SANITIZED"] === "1" ? "skillscale-zygote-asan.node" : "skillscale-zygote.node"
const timeout = 60_000 * Math.max(1, times)
const beside = (name: string) => fileURLToPath(new URL(name, import.meta.url))

const landlock = (await Native.probe(Native.load().reaperPath, { uid: 65_534, gid: 65_534 }))
  .find(({ name }) => name === "landlock")

const skipped = (condition: boolean, why: string) => {
  if (condition && process.env["SKILLSCALE_MUST_RUN"] === "1") assert.fail(`must run, but: ${why}`)
  return condition
}

/** Runs a program and returns how often what happened, which is its last line. */
const fuzz = (file: string, args: ReadonlyArray<string>): Promise<Readonly<Record<string, number>>> =>
  new Promise((resolve, reject) => {
    ChildProcess.execFile(
      file,
      args,
      { timeout, killSignal: "SIGKILL", maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        const last = stdout.trimEnd().split("\n").at(-1) ?? ""
        if (error === null) return resolve(JSON.parse(last))
        const how = error.killed ? `did not end within ${timeout} ms` : `ended with ${error.code ?? error.signal}`
        reject(new Error(`seed ${seed}${last === "" ? "" : `, ${last}`}: ${how}\n${stderr}`))
      }
    )
  })

const sum = (tally: Readonly<Record<string, number>>, prefix: string) =>
  Object.entries(tally).reduce((total, [name, times]) => name.startsWith(prefix) ? total + times : total, 0)

describe("whatever is passed", () => {
  it("as arguments is refused with its name, or runs", async () => {
    const rounds = 1_000 * times
    const program = ["--conditions=skillscale", beside("./argumentsFuzz.ts"), String(seed), "0", String(rounds)]
    const tally = await fuzz(process.execPath, program)
    // Enough of either, so that the rounds try something.
    assert.isAbove(sum(tally, "accepted"), rounds / 4, JSON.stringify(tally))
    assert.isAbove(sum(tally, "ended"), rounds / 5, JSON.stringify(tally))
    for (
      const field of ["strings", "argc", "warmc", "input", "id", "supervisor", "paths", "minReapers", "memoryBytes"]
    ) {
      assert.isAbove(sum(tally, `refused ${field}`), 0, JSON.stringify(tally))
    }
  }, timeout)

  it.skipIf(skipped(landlock?.errno !== 0, "a run that a fork server starts is under Landlock"))(
    "as a packet to the fork server ends what got it, or is answered",
    async () => {
      const rounds = 150 * times
      const tally = await fuzz("python3", [
        beside("./zygote-garbage.py"),
        beside("../zygote/zygote.py"),
        Path.join(Native.directory(), library),
        String(seed),
        "0",
        String(rounds)
      ])
      for (
        const what of [
          "invalid runs",
          "valid runs",
          "invalid preparations",
          "valid preparations",
          "crowds",
          "abandoned"
        ]
      ) {
        assert.isAbove(sum(tally, what), 0, JSON.stringify(tally))
      }
    },
    timeout
  )
})
