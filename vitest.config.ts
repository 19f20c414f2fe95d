import { defineConfig } from "vitest/config"

const conditions = ["source", "node", "import", "default"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "native/test/**/*.test.ts", "test/**/*.test.ts"],
    execArgv: ["--conditions=source"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    silent: "passed-only"
  }
})
