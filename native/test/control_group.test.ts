import { describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { compile, noCompiler, succeeds, temporaryFolder, timeout } from "./programs.ts"

describe.skipIf(noCompiler)("a control group", () => {
  it("writes its bounds, each once, and counts what the kernel ended", () => {
    const folder = temporaryFolder()
    try {
      const program = Path.join(folder, "check")
      const groups = Path.join(folder, "groups")
      Fs.mkdirSync(groups)
      compile("control_group", program, ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
      succeeds(program, [groups])
    } finally {
      Fs.rmSync(folder, { recursive: true, force: true })
    }
  }, timeout)
})
