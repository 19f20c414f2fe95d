import { afterAll, beforeAll, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { compile, noCompiler, skipped, succeeds, temporaryFolder, timeout } from "./programs.ts"

const folder = temporaryFolder()
const builds: Record<string, ReadonlyArray<string>> = {
  plain: ["-O2"],
  sanitized: ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
}
const cases = {
  copies: "copies what a child was seen to write to, and no more",
  others: "leaves alone what is of a file, shared, wiped by a fork or hardly used",
  taken: "takes at most 16 MiB, in at most 256 pieces",
  gathered: "gathers at most 256 MiB",
  without: "does nothing without huge pages",
  later: "takes nothing when there are no huge pages any more"
}

const enabled = "/sys/kernel/mm/transparent_hugepage/enabled"
const noHugePages = skipped(
  !Fs.existsSync(enabled) || Fs.readFileSync(enabled, "utf8").includes("[never]"),
  "the kernel gives no huge pages"
)

describe.skipIf(noCompiler || noHugePages)("memory of its own", () => {
  beforeAll(() => {
    for (const [name, flags] of Object.entries(builds)) compile("own_memory", Path.join(folder, name), flags)
  }, timeout)
  afterAll(() => Fs.rmSync(folder, { recursive: true }))

  for (const build of Object.keys(builds)) {
    for (const [name, what] of Object.entries(cases)) {
      it(`${what} (${build})`, () => succeeds(Path.join(folder, build), [name]), timeout)
    }
  }
})
