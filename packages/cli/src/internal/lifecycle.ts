import * as Context from "effect/Context"
import { constants } from "node:os"

/** How long after the first signal another one counts as the same: npm and terminals both deliver one Ctrl-C. */
const sameMs = 500

/** A signal that tells the process to end. A terminal that closes sends SIGHUP. */
type Signal = "SIGHUP" | "SIGINT" | "SIGTERM"

/** How the process is told to end. */
export interface State {
  /** The signal that ends the process is the ordinary end of the command. */
  serves: boolean
  /** The first signal that came. */
  signal: Signal | undefined
}

/** The state of this process. */
export const Lifecycle = Context.Reference<State>("@skillscale/cli/Lifecycle", {
  defaultValue: () => ({ serves: false, signal: undefined })
})

const codeOfSignal = (signal: Signal): number => 128 + constants.signals[signal]

/** The exit code of a command that was interrupted: 0 when it serves, otherwise that of the signal. */
export const interruptedCode = ({ serves, signal }: State): number => serves ? 0 : codeOfSignal(signal ?? "SIGINT")

/** Notes the first signal, which `NodeRuntime` turns into an interruption; a later one ends the process at once. */
export const listen = (lifecycle: State): void => {
  let first = 0
  const onSignal = (signal: Signal) => {
    if (lifecycle.signal === undefined) {
      lifecycle.signal = signal
      first = performance.now()
    } else if (performance.now() - first > sameMs) {
      process.exit(codeOfSignal(signal))
    }
  }
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
  process.on("SIGHUP", () => {
    onSignal("SIGHUP")
    // The one that `NodeRuntime` listens to.
    process.emit("SIGTERM", "SIGTERM")
  })
}
