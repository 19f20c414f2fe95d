import * as SandboxSupport from "@skillscale/server/SandboxSupport"
import * as Effect from "effect/Effect"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

const row = (cells: ReadonlyArray<string>, widths: ReadonlyArray<number>): string =>
  `| ${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(" | ")} |`

/** A table that is readable on a terminal and as Markdown. */
const table = (mechanisms: ReadonlyArray<SandboxSupport.Mechanism>): ReadonlyArray<string> => {
  const head = ["mechanism", "", "the kernel says", "protects", "without it"]
  const rows = mechanisms.map(({ answer, isThere, name, protects, without }) => [
    name,
    isThere ? "yes" : "NO",
    answer,
    protects,
    without
  ])
  const widths = head.map((title, index) => Math.max(title.length, ...rows.map((cells) => cells[index]?.length ?? 0)))
  return [
    row(head, widths),
    row(widths.map((width) => "-".repeat(width)), widths),
    ...rows.map((one) => row(one, widths))
  ]
}

export const doctor = Effect.fnUntraced(function*(input: { readonly json: boolean }) {
  const mechanisms = yield* Effect.mapError(SandboxSupport.probe(), Exit.unavailable)
  if (input.json) return yield* Io.line(JSON.stringify(mechanisms, null, 2))
  for (const line of table(mechanisms)) yield* Io.line(line)
  const missing = mechanisms.filter(({ isThere }) => !isThere)
  yield* Io.note(
    missing.length === 0
      ? "skills are confined with everything that SkillScale has"
      : `skills are confined without ${missing.map(({ name }) => name).join(", ")}`
  )
})
