/** What becomes of a call whose caller is killed, and so cancels nothing. */
import * as Proxy from "@skillscale/proxy/Proxy"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Stack from "./support/stack.ts"

const endless: Stack.Fixture = {
  category: "testing",
  name: "endless",
  files: { "scripts/run.sh": "exec sleep \"$1\"\n" }
}

/** A time that nobody else sleeps. */
const seconds = `3600.${process.pid}`

const sleeps = (): boolean =>
  Fs.readdirSync("/proc").some((pid) => {
    try {
      return /^\d+$/.test(pid) && Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8") === `sleep\0${seconds}\0`
    } catch {
      return false
    }
  })

const eventually = (what: string, condition: () => boolean) =>
  Effect.suspend(() => condition() ? Effect.void : Effect.fail(what)).pipe(
    Effect.retry(Schedule.spaced("10 millis")),
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`never: ${what}`)) })
  )

it.live("its process ends soon after, and not before", () =>
  Effect.gen(function*() {
    const proxy = yield* Proxy.Proxy
    const program = fileURLToPath(new URL("killedCaller.ts", import.meta.url))
    const caller = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(
          process.execPath,
          ["--conditions=skillscale", program, proxy.xsub, proxy.xpub, endless.name, seconds],
          { stdio: "inherit" }
        )
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    yield* eventually("the call runs", sleeps)
    // Twice its lease: while it is there it says so.
    yield* Effect.sleep("2 seconds")
    assert.isTrue(sleeps())
    caller.kill("SIGKILL")
    yield* eventually("its process ends", () => !sleeps())
  }).pipe(Effect.provide(Stack.stack([endless])), Effect.scoped), 60_000)
