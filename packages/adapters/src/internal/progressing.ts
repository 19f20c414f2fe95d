/** A call as an async generator: yields what there is to show while the tool runs, and returns what it answers. */
import type { CallOptions } from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"

type Settled = { readonly output: SkillTools.Output } | { readonly error: unknown }

/** The script waits until each was taken. Leaving the loop, or the signal, ends the call also on the server. */
export async function* progressing<A>(
  call: (options: CallOptions) => Promise<SkillTools.Output>,
  show: (progress: SkillTools.Progress) => A | undefined,
  signal?: AbortSignal
): AsyncGenerator<A, SkillTools.Output> {
  const leaving = new AbortController()
  const pending: Array<{ readonly progress: SkillTools.Progress; readonly taken: () => void }> = []
  const state: { settled?: Settled; wake: () => void } = { wake: () => {} }
  const settle = (settled: Settled) => {
    state.settled = settled
    state.wake()
  }
  call({
    signal: signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]),
    onProgress: (progress) =>
      new Promise((taken) => {
        pending.push({ progress, taken })
        state.wake()
      })
  }).then((output) => settle({ output }), (error: unknown) => settle({ error }))
  try {
    while (true) {
      const next = pending.shift()
      if (next !== undefined) {
        const shown = show(next.progress)
        if (shown !== undefined) yield shown
        next.taken()
      } else if (state.settled === undefined) {
        await new Promise<void>((wake) => state.wake = wake)
      } else if ("error" in state.settled) {
        throw state.settled.error
      } else {
        return state.settled.output
      }
    }
  } finally {
    leaving.abort()
  }
}
