import { describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { compile, noCompiler, succeeds, temporaryFolder, timeout } from "./programs.ts"

describe.skipIf(noCompiler)("who shares the memory of a process", () => {
  it("is told also when its main thread has ended", () => {
    const folder = temporaryFolder()
    try {
      const program = Path.join(folder, "check")
      compile("process_tree", program, ["-g", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-pthread"])
      succeeds(program, [])
    } finally {
      Fs.rmSync(folder, { recursive: true, force: true })
    }
  }, timeout)
})
