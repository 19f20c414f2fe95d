import { assert, describe, it } from "@effect/vitest"
import * as Pages from "../src/internal/pages.ts"

const all = (items: ReadonlyArray<string>, size: number): ReadonlyArray<ReadonlyArray<string>> => {
  const pages: Array<ReadonlyArray<string>> = []
  let cursor: string | undefined
  do {
    const page = Pages.page(items, cursor, size, (item) => item)
    if (page === undefined) throw new Error("the cursor is refused")
    pages.push(page.items)
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return pages
}

describe("pages", () => {
  it("have every item once", () => {
    assert.deepStrictEqual(all(["a", "b", "c", "d", "e"], 2), [["a", "b"], ["c", "d"], ["e"]])
    assert.deepStrictEqual(all(["a", "b"], 2), [["a", "b"]])
    assert.deepStrictEqual(all([], 2), [[]])
  })

  it("go on where they were, whatever came and went", () => {
    const cursor = Pages.page(["a", "b", "c"], undefined, 2, (item) => item)?.nextCursor
    assert.deepStrictEqual(Pages.page(["a", "aa", "c", "d"], cursor, 2, (item) => item)?.items, ["c", "d"])
    assert.deepStrictEqual(Pages.page(["a"], cursor, 2, (item) => item), { items: [], nextCursor: undefined })
  })

  it("are not begun by a cursor of others", () => {
    for (const cursor of ["", "nonsense", "x".repeat(10_000), Buffer.from("before:a").toString("base64url")]) {
      assert.isUndefined(Pages.page(["a"], cursor, 2, (item) => item))
    }
  })
})
