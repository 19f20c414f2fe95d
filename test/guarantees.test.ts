/** `docs/protocol.md` says what is guaranteed over which transport, and which test proves it. All of these are there. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Documented from "./support/documentedTests.ts"

const transports = ["in memory", "one proxy", "several proxies", "libzmq's proxy"]
const head = ["of", "guarantee", ...transports, "test"]
const subjects = ["delivery", "ordering", "duplication", "deadlines", "cancellation", "backpressure"]
/** Is run once per transport. */
const suite = "callSuite.test.ts"
const isKept = (cell: string) => /^yes\b/.test(cell)

const table = Documented.tablesOf("docs/protocol.md").find((table) => table.head[1] === "guarantee")
const rows = (table?.rows ?? []).map(({ cells, line }) => ({
  line,
  subject: cells[0] ?? "",
  guarantee: cells[1] ?? "",
  kept: new Map(transports.map((transport, index) => [transport, cells[index + 2] ?? ""])),
  tests: Documented.codeIn(cells.at(-1) ?? "")
}))

const titles = Effect.suspend(() => {
  const files = Documented.testFiles()
  const named = new Set(rows.flatMap(({ tests }) => tests.map(Documented.fileOf)))
  for (const file of named) assert.isTrue(files.has(file), `there is no ${file}`)
  return Documented.titlesOf(Array.from(named, (file) => files.get(file) ?? file))
})

/** The tests of a row, those of the suite with the transports over which they are run. */
const over = (test: string, transport: string) =>
  test.startsWith(`${suite} > `) ? test.replace(`${suite} > `, `${suite} > ${transport}: `) : test

describe("the guarantees of docs/protocol.md", () => {
  it("are of every subject, say something of every transport, and name a test where they hold", () => {
    assert.deepStrictEqual(table?.head, head)
    assert.deepStrictEqual([...new Set(rows.map(({ subject }) => subject))], subjects)
    for (const { guarantee, kept, line, tests } of rows) {
      assert.isNotEmpty(guarantee, `line ${line} says nothing`)
      for (const [transport, cell] of kept) {
        assert.match(cell, /^(?:yes|no|has none|not tested)(?:: .+)?$/, `line ${line}, ${transport}`)
      }
      assert.strictEqual(tests.length > 0, [...kept.values()].some(isKept), `line ${line}`)
    }
  })

  it.live("hold where their tests are run, and name tests that exist", () =>
    Effect.gen(function*() {
      const found = yield* titles
      const wrong = rows.flatMap(({ kept, line, tests }) =>
        tests.flatMap((test) =>
          [...kept].filter(([transport, cell]) =>
            test.startsWith(`${suite} > `)
              ? found.has(over(test, transport)) !== isKept(cell)
              : isKept(cell) && !found.has(test)
          ).map(([transport]) => `line ${line}: ${over(test, transport)}`)
        )
      )
      assert.deepStrictEqual(wrong, [])
      const told = new Set(rows.flatMap(({ tests }) => tests.flatMap((test) => transports.map((to) => over(test, to)))))
      const untold = [...found].filter((title) => title.startsWith(`${suite} > `) && !told.has(title))
      assert.deepStrictEqual(untold, [], "tests of the suite that the table does not name")
    }), 120_000)
})
