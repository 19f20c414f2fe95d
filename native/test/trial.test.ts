import { describe, it } from "@effect/vitest"
import { fileURLToPath } from "node:url"
import { installed, skipped, succeeds, timeout } from "./programs.ts"

describe.skipIf(skipped(!installed("python3"), "the fork server needs python3"))(
  "what is done ahead for a script of Python",
  () => {
    it("is bounded", () => {
      succeeds("python3", [fileURLToPath(new URL("trial_check.py", import.meta.url))])
    }, timeout)
  }
)
