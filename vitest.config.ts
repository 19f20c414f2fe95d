import * as Path from "node:path"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Not `source`, under which some packages of others name sources that Node does not load from `node_modules`. */
const conditions = ["skillscale", "node", "import", "default"]

/** The files that take more than a minute, longest first. One that began last would be what all others wait for. */
const long = [
  "packages/server/test/warmPython.test.ts",
  "test/callSuite.test.ts",
  "packages/server/test/SkillRunner.test.ts",
  "packages/server/test/warmNode.test.ts",
  "packages/server/test/escape.test.ts",
  "test/chaos.test.ts",
  "test/adversity.test.ts"
].map((file) => Path.join(import.meta.dirname, file))

class LongFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const isLong = ({ moduleId }: TestSpecification) => long.includes(moduleId)
    const begin = files.filter(isLong).sort((one, other) => long.indexOf(one.moduleId) - long.indexOf(other.moduleId))
    return [...begin, ...await super.sort(files.filter((file) => !isLong(file)))]
  }
}

/** Takes a gigabyte of Python packages: `npm run test:crewai` runs it, alone. */
const crewai = "packages/adapters/test/CrewAi.test.ts"
const isCrewai = process.env["SKILLSCALE_TEST"] === "crewai"

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: isCrewai ? [crewai] : ["packages/*/test/**/*.test.ts", "native/test/**/*.test.ts", "test/**/*.test.ts"],
    exclude: isCrewai ? [] : [crewai],
    execArgv: ["--conditions=skillscale"],
    globalSetup: ["test/support/passable.ts", "test/support/python.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    maxConcurrency: 2,
    sequence: { sequencer: LongFirst },
    silent: "passed-only"
  }
})
