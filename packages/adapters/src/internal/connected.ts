/** What every adapter gives besides its tools. */
import type { Toolbox } from "@skillscale/tools/PromiseTools"

export interface Connected extends AsyncDisposable {
  /** What to tell a model of the skills at first. */
  readonly prompt: Toolbox["prompt"]
  readonly toolbox: Toolbox
  /** Disconnects. Calls that still wait are cancelled on the server. */
  readonly close: () => Promise<void>
}

export const connected = (toolbox: Toolbox): Connected => ({
  prompt: toolbox.prompt,
  toolbox,
  close: toolbox.close,
  [Symbol.asyncDispose]: toolbox.close
})
