/** Puts what an external program writes beside the protocol into the log, within bounds. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as MountLines from "./mountLines.ts"

/** The longest line, in characters. */
const maxLine = 1000
/** The longest line that is read, in bytes. Of a longer one its beginning is told. */
const maxLineBytes = 64 * 1024
/** How many lines there may be in each interval. */
const maxLines = 100
const intervalMs = 1000

export interface MountLog {
  /** Takes pieces of standard error. */
  readonly stderr: (data: Uint8Array) => void
  readonly note: (text: string) => void
}

/** Makes a log that works until the scope closes. */
export const make = Effect.fnUntraced(
  function*(redact: (text: string) => string): Effect.fn.Return<MountLog, never, Scope.Scope> {
    const run = Effect.runForkWith(yield* Effect.context<never>())
    let from = 0
    let count = 0
    let left = 0

    const mayTell = (): boolean => {
      const now = performance.now()
      if (now - from >= intervalMs) {
        from = now
        count = 0
        if (left > 0) {
          run(Effect.annotateLogs(Effect.logWarning("left out lines of the external server"), { lines: left }))
        }
        left = 0
      }
      count += 1
      if (count > maxLines) left += 1
      return count <= maxLines
    }

    const tell = (line: Buffer): void => {
      const text = redact(line.toString("utf8").trim()).slice(0, maxLine)
      if (text === "" || !mayTell()) return
      run(Effect.annotateLogs(Effect.logInfo("the external server says"), { line: text }))
    }

    return {
      stderr: MountLines.make(maxLineBytes, { onLine: tell, onOverlong: (begin) => tell(begin) }),
      note: (text) =>
        void run(
          Effect.annotateLogs(Effect.logWarning("the external server breaks the protocol"), { what: redact(text) })
        )
    }
  }
)
