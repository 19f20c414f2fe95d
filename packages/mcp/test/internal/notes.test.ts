import { assert, describe, it } from "@effect/vitest"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import * as Effect from "effect/Effect"
import * as Notes from "../../src/internal/notes.ts"

interface Told {
  readonly progress: number
  readonly total?: number
  readonly message?: string
}

/** What a client with a token hears of these events. */
const heard = Effect.fnUntraced(function*(events: ReadonlyArray<SkillTools.Progress>) {
  const told: Array<Told> = []
  const notify = (
    { params: { progressToken: _, ...step } }: { readonly params: Told & { readonly progressToken: number } }
  ) => Promise.resolve(void told.push(step))
  const { onProgress } = Notes.of({ mcpReq: { _meta: { progressToken: 1 }, notify } } as never, "skill", undefined)
  for (const event of events) if (onProgress !== undefined) yield* onProgress(event)
  return told
})

const progress = (message: string): SkillTools.Progress => ({ _tag: "Progress", message })
const printed = (text: string, stream: "stderr" | "stdout" = "stderr"): SkillTools.Progress => ({
  _tag: "Output",
  stream,
  text
})

describe("progress of a call", () => {
  it.effect("has the numbers that the script gives, and always increases", () =>
    Effect.gen(function*() {
      const told = yield* heard([
        progress("starting"),
        progress("1/10 step one"),
        printed("one\n", "stdout"),
        progress("2.5/10"),
        progress("2.5/10 again"),
        progress("1/3 another phase"),
        progress("11/10 too far")
      ])
      assert.deepStrictEqual(
        told.map(({ message, progress, total }) => [Math.floor(progress * 10) / 10, total, message]),
        [
          [0, undefined, "starting"],
          [1, 10, "step one"],
          [1, 10, "one"],
          [2.5, 10, undefined],
          [2.5, 10, "again"],
          [2.5, 10, "1/3 another phase"],
          [2.5, 10, "11/10 too far"]
        ]
      )
      const steps = told.map(({ progress }) => progress)
      assert.isTrue(steps.every((step, index) => step > (steps[index - 1] ?? 0)), String(steps))
    }))

  it.effect("is not told a second time as what is printed", () =>
    Effect.gen(function*() {
      const told = yield* heard([
        printed("before\n::progress:: 1/2 one\nafter\n"),
        printed(":"),
        printed(":prog"),
        printed("ress:: 2/2"),
        printed(" two\nthen ::progress:: inside\n:"),
        printed(": other\n"),
        printed("::progress:: of the output\n", "stdout")
      ])
      assert.deepStrictEqual(told.map(({ message }) => message), [
        "before\nafter",
        "then ::progress:: inside",
        ":: other",
        "::progress:: of the output"
      ])
    }))
})
