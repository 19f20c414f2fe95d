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
