import * as SandboxSupport from "@skillscale/server/SandboxSupport"
import * as Effect from "effect/Effect"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

const row = (cells: ReadonlyArray<string>, widths: ReadonlyArray<number>): string =>
  `| ${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(" | ")} |`

/** A table that is readable on a terminal and as Markdown. */
const table = (mechanisms: ReadonlyArray<SandboxSupport.Mechanism>): ReadonlyArray<string> => {
  const head = ["mechanism", "", "the kernel says", "protects", "without it"]
  const rows = mechanisms.map(({ answer, isRequired, isThere, name, protects, without }) => [
    name,
    isThere ? "yes" : isRequired ? "NO" : "no",
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

/** Prints the table. Fails with exit code 1 where `--require-sandbox` would refuse to start. */
export const doctor = Effect.fnUntraced(function*(input: { readonly json: boolean }) {
  const mechanisms = yield* Effect.mapError(SandboxSupport.probe(), Exit.unavailable)
  if (input.json) yield* Io.line(JSON.stringify(mechanisms, null, 2))
  else for (const line of table(mechanisms)) yield* Io.line(line)
  const missing = mechanisms.filter(({ isRequired, isThere }) => isRequired && !isThere)
  if (missing.length === 0) {
    const optional = mechanisms.filter(({ isThere }) => !isThere).map(({ name }) => name)
    return yield* Io.note(
      optional.length === 0
        ? "skills are confined with everything that SkillScale has"
        : `skills are confined; what would help, and is not required: ${optional.join(", ")}`
    )
  }
  const names = missing.map(({ name }) => name).join(", ")
  return yield* new Exit.Failed({
    code: 1,
    message: `this machine lacks what --require-sandbox asks for: ${names}`
  })
})
