/**
 * Ends computations that take too long, which nothing in JavaScript does: V8 interrupts a script of its own context, and with it
 * what that calls, in the middle of a regular expression, too. It watches from a thread, which costs 0.15 ms.
 */
import * as Vm from "node:vm"

export const exceeded: unique symbol = Symbol("exceeded")

const script = new Vm.Script("compute()")
let context: Vm.Context | undefined

const isTimeout = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ERR_SCRIPT_EXECUTION_TIMEOUT"

/**
 * Computes within so many whole milliseconds. What is interrupted is left as it is at that moment: the computation must not
 * change what outlives it.
 */
export const within = <A>(limitMs: number, compute: () => A): A | typeof exceeded => {
  context ??= Vm.createContext({}, { codeGeneration: { strings: false, wasm: false } })
  let result: A | typeof exceeded = exceeded
  context["compute"] = () => {
    result = compute()
  }
  try {
    script.runInContext(context, { timeout: limitMs })
    return result
  } catch (cause) {
    if (isTimeout(cause)) return exceeded
    throw cause
  } finally {
    context["compute"] = undefined
  }
}

/** A thread that has the processor for less than this part of its time has not had its time. */
const fairShare = 0.7
/** It has so many times as much then, at most. */
const maxPatience = 10

const busyMs = (): number => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1000
}

/** Computes as `within`, and once more when a machine that is busy otherwise gave it too little of the time, so that it is that long. */
export const fairlyWithin = <A>(limitMs: number, compute: () => A): A | typeof exceeded => {
  const before = busyMs()
  const result = within(limitMs, compute)
  if (result !== exceeded) return result
  const share = (busyMs() - before) / limitMs
  return share >= fairShare ? exceeded : within(Math.ceil(limitMs * Math.min(1 / share, maxPatience)), compute)
}
