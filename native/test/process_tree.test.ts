import { describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { compile, noCompiler, succeeds, temporaryFolder, timeout } from "./programs.ts"

const checked = (name: string, others: ReadonlyArray<string> = []): void => {
  const folder = temporaryFolder()
  try {
    const program = Path.join(folder, "check")
    const flags = ["-g", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-pthread"]
    compile(name, program, flags, others)
    succeeds(program, [])
  } finally {
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

describe.skipIf(noCompiler)("who shares the memory of a process", () => {
  it("is told also when its main thread has ended", () => checked("process_tree"), timeout)
})

describe.skipIf(noCompiler)("the processor time of processes that nobody waited for", () => {
  it("is found, and no other is counted twice", () => checked("cpu_ledger"), timeout)
})
