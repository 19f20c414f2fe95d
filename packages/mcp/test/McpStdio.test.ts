import { overStdio } from "./support/mcp.ts"
import { suite } from "./mcpSuite.ts"

for (const era of ["2026-07-28", "2025-11-25"] as const) {
  suite(`${era} over standard input and output`, (world) => overStdio(era, world))
}
